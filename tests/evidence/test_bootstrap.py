import numpy as np
import pytest
from scipy import stats

from smidgen.evidence.statistics import (
    NUM_RESAMPLES,
    bca_interval,
    bca_of_mean,
    image_interval,
    resampled_means,
)


def _skewed(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, size=n)


@pytest.mark.parametrize("n", [3, 20, 100])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_bca_is_that_of_scipy_on_the_same_resamples(n: int, confidence: float) -> None:
    """Given SciPy's resampled means, both ends agree to 1e-9."""
    values = _skewed(n)
    oracle = stats.bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=2_000, method="BCa", rng=1
    )

    found = bca_interval(values, oracle.bootstrap_distribution, confidence)

    expected = oracle.confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_ties_count_half_as_in_scipy() -> None:
    """On counts of images, where resampled means tie with the mean, both ends still agree."""
    values = np.array([52.0, 55, 57, 57, 58, 60, 61, 64])
    oracle = stats.bootstrap((values,), np.mean, n_resamples=2_000, method="BCa", rng=1)

    found = bca_interval(values, oracle.bootstrap_distribution)

    expected = oracle.confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("n", [20, 200])
def test_own_resamples_agree_with_scipy_within_monte_carlo_error(n: int) -> None:
    """With other random numbers both ends agree to a twentieth of the width."""
    values = _skewed(n)
    oracle = stats.bootstrap((values,), np.mean, method="BCa", rng=1).confidence_interval

    found = bca_of_mean(values)

    width = found.high - found.low
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=width / 20)


@pytest.mark.parametrize("values", [np.arange(20.0), np.repeat([0.0, 0.05, 1.0], [900, 90, 10])])
def test_resampled_means_have_the_right_mean_and_spread(values: np.ndarray) -> None:
    """Few values one by one, many grouped by value: the mean's standard error comes out."""
    means = resampled_means(values)

    error = values.std() / np.sqrt(len(values))
    assert means.shape == (NUM_RESAMPLES,)
    assert means.mean() == pytest.approx(values.mean(), abs=5 * error / np.sqrt(NUM_RESAMPLES))
    assert means.std() == pytest.approx(error, rel=0.04)


def test_the_same_values_give_the_same_interval() -> None:
    """Resampling has a fixed key."""
    values = _skewed(20)

    assert bca_of_mean(values) == bca_of_mean(values.copy())


def test_equal_values_give_a_point() -> None:
    """Where there is no spread the interval is the value."""
    found = bca_of_mean([0.9941] * 20)

    assert found.low == found.high == pytest.approx(0.9941)


@pytest.mark.parametrize(("n", "least", "most"), [(20, 0.90, 0.95), (5, 0.78, 0.88)])
def test_bca_covers_less_than_it_says(n: int, least: float, most: float) -> None:
    """Of 1,000 normal sets about 93 % at 20 values and 83 % at 5 hold the mean: too few."""
    sets = np.random.default_rng(3).normal(size=(1_000, n))

    covered = np.mean([0.0 in bca_of_mean(values) for values in sets])

    assert least <= covered <= most


def test_the_image_interval_is_that_of_averaged_error_rates() -> None:
    """An interval over images is the BCa interval of each image's error rate over the runs."""
    wrong = np.random.default_rng(0).random((4, 300)) < 0.1

    found = image_interval(wrong)

    expected = bca_of_mean(wrong.mean(axis=0))
    assert found == expected
    assert wrong.mean() in found


def test_shared_errors_make_a_difference_certain() -> None:
    """Paired by image, errors that both sides share do not widen the interval."""
    shared = np.random.default_rng(0).random((4, 1_000)) < 0.1
    more = shared.copy()
    more[:, :5] = True

    paired = image_interval(more, shared)

    alone = image_interval(more)
    assert (paired.high - paired.low) < (alone.high - alone.low) / 3
    assert more.mean() - shared.mean() in paired


def test_many_distinct_values_are_drawn_in_parts() -> None:
    """A thousand distinct values exceed one chunk, and the interval stays that of a mean."""
    values = np.random.default_rng(0).normal(size=1_000)

    found = bca_of_mean(values)

    error = values.std() / np.sqrt(1_000)
    expected = (values.mean() - 1.96 * error, values.mean() + 1.96 * error)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.15 * error)

"""Formulas and resampling against references."""

import math

import numpy as np
import pytest
from scipy import stats

from smidgen.evidence.statistics import (
    EXACT_FLIPS,
    NUM_FLIPS,
    NUM_RESAMPLES,
    Interval,
    bca_interval,
    bca_of_mean,
    beta_cdf,
    beta_quantile,
    clopper_pearson,
    image_interval,
    noncentral_t_tail,
    normal_cdf,
    normal_quantile,
    paired_power,
    pairs_needed,
    proportion,
    resampled_means,
    sign_flip_test,
    standard_deviation,
    t_interval,
    t_quantile,
    t_tail,
    t_test_above,
    wilson,
)

SHAPES = [(0.5, 0.5), (1.0, 1.0), (3, 18), (20, 1), (1, 20), (9_940, 61), (100_000, 3)]
LEVELS = [1e-6, 0.025, 0.5, 0.975, 1 - 1e-6]
DEGREES = [1, 2, 3, 19, 99, 10_000]


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("p", LEVELS)
def test_the_beta_distribution_is_that_of_scipy(a: float, b: float, p: float) -> None:
    """Quantiles and probabilities of Beta agree to 1e-9, tails and large counts included."""
    x = float(stats.beta.ppf(p, a, b))

    assert beta_quantile(p, a, b) == pytest.approx(x, abs=1e-9)
    assert beta_cdf(x, a, b) == pytest.approx(p, abs=1e-9)


def test_the_beta_distribution_ends_at_zero_and_one() -> None:
    """Outside of (0, 1) the probability is 0 or 1."""
    assert (beta_cdf(-0.5, 2, 3), beta_cdf(0.0, 2, 3)) == (0.0, 0.0)
    assert (beta_cdf(1.0, 2, 3), beta_cdf(7.0, 2, 3)) == (1.0, 1.0)


@pytest.mark.parametrize("df", DEGREES)
@pytest.mark.parametrize("t", [-3.0, 0.0, 1e-9, 1e-4, 0.3, 2.09, 12.7, 100.0])
def test_the_tail_of_student_is_that_of_scipy(df: int, t: float) -> None:
    """P(T > t) agrees to 1e-9, for tiny t and one degree of freedom too."""
    assert t_tail(t, df) == pytest.approx(float(stats.t.sf(t, df)), abs=1e-9)


@pytest.mark.parametrize("df", DEGREES)
@pytest.mark.parametrize("p", [0.0005, 0.025, 0.5, 0.9, 0.975, 0.9995])
def test_the_quantile_of_student_is_that_of_scipy(df: int, p: float) -> None:
    """Quantiles of T agree to 1e-9 of their size."""
    expected = float(stats.t.ppf(p, df))

    assert t_quantile(p, df) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_tails_of_infinity() -> None:
    """Beyond infinity lies nothing, before it all."""
    assert (t_tail(float("inf"), 5), t_tail(float("-inf"), 5)) == (0.0, 1.0)


@pytest.mark.parametrize("df", DEGREES)
@pytest.mark.parametrize("shift", [-2.0, 0.0, 0.5, 2.0, 8.0])
@pytest.mark.parametrize("t", [0.5, 2.09, 12.7])
def test_the_noncentral_tail_is_that_of_scipy(df: int, shift: float, t: float) -> None:
    """The quadrature under every power agrees to 1e-9."""
    expected = float(stats.nct.sf(t, df, shift))

    assert noncentral_t_tail(t, df, shift) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("p", LEVELS)
def test_the_normal_distribution_is_that_of_scipy(p: float) -> None:
    """Quantiles and probabilities of the normal distribution agree to 1e-9."""
    x = float(stats.norm.ppf(p))

    assert normal_quantile(p) == pytest.approx(x, abs=1e-9)
    assert normal_cdf(x) == pytest.approx(p, abs=1e-9)


NUM_SETS = 10_000
COUNTS = [(0, 20), (1, 20), (13, 20), (20, 20), (1, 1), (9_940, 10_000), (3, 100_000)]


def _sets(n: int, sets: int = NUM_SETS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(sets, n))


@pytest.mark.parametrize("n", [2, 3, 20, 200])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_t_interval_is_that_of_scipy(n: int, confidence: float) -> None:
    """Both ends agree to 1e-9."""
    values = 0.994 + 0.0005 * _sets(n, 1)[0]
    error = stats.sem(values)
    low, high = stats.t.interval(confidence, n - 1, loc=values.mean(), scale=error)

    found = t_interval(values, confidence)

    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert found.confidence == confidence


def test_the_t_interval_covers_what_it_promises() -> None:
    """Of 10,000 sets of 20 normal values, 94 to 96 % have the true mean inside."""
    covered = np.mean([0.0 in t_interval(values) for values in _sets(20)])

    assert 0.94 <= covered <= 0.96


@pytest.mark.parametrize(("count", "total"), COUNTS)
def test_the_interval_of_clopper_and_pearson_is_that_of_scipy(count: int, total: int) -> None:
    """Both ends agree to 1e-9, at no and at all successes too."""
    expected = stats.binomtest(count, total).proportion_ci(0.95, "exact")

    found = clopper_pearson(count, total)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("count", "total"), COUNTS)
def test_the_interval_of_wilson_is_that_of_scipy(count: int, total: int) -> None:
    """Both ends agree to 1e-9, at no and at all successes too."""
    expected = stats.binomtest(count, total).proportion_ci(0.95, "wilson")

    found = wilson(count, total)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_the_interval_of_clopper_and_pearson_never_covers_less(n: int) -> None:
    """For every true share on a fine grid the exact coverage is at least 95 %."""
    shares = np.linspace(0.001, 0.999, 999)
    outcomes = np.arange(n + 1)
    intervals = [clopper_pearson(int(k), n) for k in outcomes]
    inside = np.array([[share in i for i in intervals] for share in shares])

    coverage = (stats.binom.pmf(outcomes, n, shares[:, None]) * inside).sum(axis=1)

    assert coverage.min() >= 0.95 - 1e-9


def test_the_interval_of_clopper_and_pearson_covers_in_simulation() -> None:
    """Of 10,000 draws of 20 with a true share of 0.8, at least 95 % have it inside."""
    counts = np.random.default_rng(0).binomial(20, 0.8, NUM_SETS)

    assert np.mean([0.8 in clopper_pearson(int(k), 20) for k in counts]) >= 0.95


def test_a_proportion_knows_its_share() -> None:
    """A count of a total has its share and the interval of Clopper and Pearson."""
    found = proportion(3, 4)

    assert (found.count, found.total, found.share) == (3, 4, 0.75)
    assert found.interval == clopper_pearson(3, 4)


@pytest.mark.parametrize("target", [-0.5, 0.0, 0.1, 3.0])
def test_the_test_against_a_target_is_that_of_scipy(target: float) -> None:
    """The one-sided p agrees to 1e-9."""
    values = _sets(20, 1)[0]

    expected = stats.ttest_1samp(values, target, alternative="greater").pvalue

    assert t_test_above(values, target) == pytest.approx(float(expected), abs=1e-9)


def test_equal_values_leave_no_doubt() -> None:
    """Without spread the p is 0 above the target and 1 at or below it."""
    values = [0.9941] * 5

    assert [t_test_above(values, target) for target in (0.994, 0.9941, 0.995)] == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("n", [2, 5, 12])
def test_exact_sign_flips_are_those_of_scipy(n: int) -> None:
    """Counting halves gives the p that SciPy gets from all 2^n patterns."""
    for seed in range(5):
        differences = _sets(n, 1, seed)[0] + 0.3
        expected = stats.permutation_test(
            (differences,), np.sum, permutation_type="samples", n_resamples=np.inf
        ).pvalue

        assert sign_flip_test(differences) == pytest.approx(float(expected), abs=1e-9)


def test_ties_in_sign_flips_count_as_extreme() -> None:
    """Differences that are counts of images tie often; all patterns by hand agree."""
    differences = np.array([3, 1, 0, -1, 2, 2, 0, -3, 5, 1]) / 10_000
    signs = np.array(np.meshgrid(*[[-1, 1]] * 10)).reshape(10, -1)
    sums = np.round(10_000 * differences @ signs)
    expected = np.mean(np.abs(sums) >= 10)

    assert sign_flip_test(differences) == pytest.approx(expected, abs=1e-12)


def test_no_difference_is_never_extreme() -> None:
    """All zeros, a sum of zero, or a single pair, give p = 1."""
    assert sign_flip_test([0.1]) == 1.0
    assert sign_flip_test([0.0] * 20) == 1.0
    assert sign_flip_test([0.1, -0.1, 0.2, -0.2]) == 1.0


def test_many_pairs_are_sampled() -> None:
    """Beyond 40 pairs random patterns give the p within Monte-Carlo error, always the same."""
    differences = _sets(EXACT_FLIPS + 10, 1)[0] + 0.25

    found = sign_flip_test(differences)

    # for so many normal values the permutation test is the z test to within a thousandth
    z = differences.sum() / math.sqrt((differences**2).sum())
    assert found == pytest.approx(2 * stats.norm.sf(z), abs=0.003)
    assert found == sign_flip_test(differences)


@pytest.mark.parametrize("num_better", [23, 26, 28, 33])
def test_ties_of_many_pairs_count_as_extreme(num_better: int) -> None:
    """Fifty differences of one image each: sums tie with every fifth pattern, and count."""
    differences = np.array([1] * num_better + [-1] * (50 - num_better)) / 10_000
    excess = abs(2 * num_better - 50)  # B better ones: |2 B - 50| is as large or larger
    expected = 2 * stats.binom.sf((50 + excess) // 2 - 1, 50, 0.5)
    without_ties = 2 * stats.binom.sf((50 + excess) // 2, 50, 0.5)

    found = sign_flip_test(differences)

    error = 4 * math.sqrt(expected * (1 - expected) / NUM_FLIPS)
    assert found == pytest.approx(expected, abs=error)
    assert expected - without_ties > 2 * error


@pytest.mark.parametrize("n", [2, 6, 20, 100])
@pytest.mark.parametrize("difference", [0.0002, -0.0005, 0.001])
def test_the_power_is_that_of_the_noncentral_distribution(n: int, difference: float) -> None:
    """The power of a paired t-test agrees with SciPy's noncentral t to 1e-9."""
    sd = 0.0006
    shift = difference / sd * math.sqrt(n)
    critical = stats.t.ppf(0.975, n - 1)
    expected = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)

    assert paired_power(n, difference, sd) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, 10), (0.5, 34), (0.1, 787)])
def test_the_needed_pairs_are_those_of_the_power_tables(ratio: float, expected: int) -> None:
    """Cohen's effect sizes 1, 0.5 and 0.1 need 10, 34 and 787 pairs; one fewer is too few."""
    assert pairs_needed(ratio * 0.0005, 0.0005) == expected
    assert paired_power(expected - 1, ratio, 1.0) < 0.8 <= paired_power(expected, ratio, 1.0)


@pytest.mark.parametrize(
    ("difference", "sd", "expected"),
    [(0.0, 0.1, None), (1.0, 0.0, 6), (9.0, 1.0, 6), (1e-9, 1.0, None)],
)
def test_the_needed_pairs_at_the_edges(difference: float, sd: float, expected: int | None) -> None:
    """No difference can be told by no number; the clearest one needs six pairs."""
    assert pairs_needed(difference, sd) == expected


def test_the_standard_deviation_divides_by_n_minus_one() -> None:
    """The values 1, 2 and 3 have a standard deviation of 1."""
    assert standard_deviation([1.0, 2.0, 3.0]) == pytest.approx(1.0)


def test_an_interval_holds_its_ends() -> None:
    """An interval is closed."""
    interval = Interval(0.1, 0.2)

    assert 0.1 in interval
    assert 0.2 in interval
    assert 0.3 not in interval


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

import pytest
from scipy import stats

from smidgen.evidence.statistics import (
    beta_cdf,
    beta_quantile,
    noncentral_t_tail,
    normal_cdf,
    normal_quantile,
    t_quantile,
    t_tail,
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

"""Numbers of several runs in, statements with their uncertainty out.

Everything here is a pure function on NumPy arrays: exact formulas, or resampling from
counter-based generators with fixed keys, so that the same numbers give the same statement.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from smidgen.randomness import generator

_NORMAL = NormalDist()
_TINY = 1e-300
_QUADRATURE_NODES = 240
_QUADRATURE_SDS = 12.0
"""Mass of a chi distribution further out than this is below 1e-25."""


def normal_cdf(x: float) -> float:
    """Return P(Z <= x) of the standard normal distribution."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def normal_quantile(p: float) -> float:
    """Return the x with P(Z <= x) = p; p in (0, 1)."""
    return _NORMAL.inv_cdf(p)


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return P(X <= x) of Beta(a, b): the regularized incomplete beta function.

    Source: Press et al., Numerical Recipes, 2007, section 6.4 (the continued fraction).
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    return _beta_cdf(x, 1.0 - x, a, b)


@lru_cache(maxsize=4096)
def beta_quantile(p: float, a: float, b: float) -> float:
    """Return the x with P(X <= x) = p of Beta(a, b); p in (0, 1)."""
    return _bisect(lambda x: beta_cdf(x, a, b) - p, 0.0, 1.0)


def t_tail(t: float, df: float) -> float:
    """Return P(T > t) of Student's distribution with `df` degrees of freedom."""
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    square = t * t
    # both shares are computed, since 1 - x would lose all digits of a small t
    tail = 0.5 * _beta_cdf(df / (df + square), square / (df + square), df / 2.0, 0.5)
    return tail if t >= 0 else 1.0 - tail


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: float) -> float:
    """Return the t with P(T <= t) = p of Student's distribution; p in (0, 1)."""
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    high = 1.0
    while t_tail(high, df) > 1.0 - p:
        high *= 2.0
    return _bisect(lambda t: (1.0 - p) - t_tail(t, df), 0.0, high)


def noncentral_t_tail(t: float, df: float, shift: float) -> float:
    """Return P(T > t) for T = (Z + shift) / S, Z standard normal, S = sqrt(chi2(df) / df).

    Integrates P(Z > t s - shift) over the density of S by Gauss and Legendre.
    """
    spread = _QUADRATURE_SDS / math.sqrt(2.0 * df)
    low, high = max(0.0, 1.0 - spread), 1.0 + spread
    nodes, weights = _legendre()
    s = low + (high - low) * (nodes + 1.0) / 2.0
    log_density = (
        math.log(2.0)
        + df / 2.0 * math.log(df / 2.0)
        - math.lgamma(df / 2.0)
        + (df - 1.0) * np.log(s)
        - df * s * s / 2.0
    )
    tails = np.array([normal_cdf(shift - t * each) for each in s])
    return float((weights * np.exp(log_density) * tails).sum() * (high - low) / 2.0)


@lru_cache(maxsize=1)
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(_QUADRATURE_NODES)


def _beta_cdf(x: float, y: float, a: float, b: float) -> float:
    """Return the regularized incomplete beta function at x = 1 - y, both given exactly."""
    if x <= 0.0 or y <= 0.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):  # the fraction converges fast only below the mean
        return 1.0 - _beta_cdf(y, x, b, a)
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * math.log(x) + b * math.log(y) - log_beta) / a
    return front * _continued_fraction(x, a, b)


def _continued_fraction(x: float, a: float, b: float) -> float:
    """Evaluate the fraction by Lentz's method, two terms a round."""
    c, d = 1.0, 1.0 / _off_zero(1.0 - (a + b) * x / (a + 1.0))
    product = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        before = product
        for term in (even, odd):
            d = 1.0 / _off_zero(1.0 + term * d)
            c = _off_zero(1.0 + term / c)
            product *= d * c
        if abs(product - before) <= 1e-16 * abs(product):
            break
    return product


def _off_zero(x: float) -> float:
    return x if abs(x) > _TINY else _TINY


def _bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    """Return the root of a rising function, to the last bit that doubles can tell."""
    while True:
        middle = (low + high) / 2.0
        if middle <= low or middle >= high:
            return middle
        if rising(middle) < 0.0:
            low = middle
        else:
            high = middle


CONFIDENCE = 0.95
POWER = 0.8
EXACT_FLIPS = 40
"""Up to so many pairs every one of the 2^n sign patterns is counted."""
NUM_FLIPS = 99_999
FEWEST_PAIRS = 6
"""With five pairs the smallest two-sided sign-flip p is 2 / 2^5 = 0.0625: no win is possible."""
_MOST_PAIRS = 1_000_000

Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, in the unit of what it is about."""

    low: float
    high: float
    confidence: float = CONFIDENCE

    def __contains__(self, x: float) -> bool:
        return self.low <= x <= self.high


@dataclass(frozen=True, slots=True)
class Proportion:
    """How many of how many: the share seen, and a Clopper-Pearson interval of the true one."""

    count: int
    total: int
    share: float
    interval: Interval


def proportion(count: int, total: int, confidence: float = CONFIDENCE) -> Proportion:
    """Return a count with its Clopper-Pearson interval; total at least 1."""
    return Proportion(count, total, count / total, clopper_pearson(count, total, confidence))


def standard_deviation(values: Numbers) -> float:
    """Return the standard deviation with n - 1 below the sum; n at least 2."""
    return float(np.std(np.asarray(values, np.float64), ddof=1))


def t_interval(values: Numbers, confidence: float = CONFIDENCE) -> Interval:
    """Return Student's interval of the mean; exact where the values are normal; n at least 2.

    Source: Student, The Probable Error of a Mean, 1908.
    """
    values = np.asarray(values, np.float64)
    n = len(values)
    mean = float(values.mean())
    half = t_quantile(0.5 + confidence / 2.0, n - 1) * standard_deviation(values) / math.sqrt(n)
    return Interval(mean - half, mean + half, confidence)


def clopper_pearson(count: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Return an interval of a share that covers at least `confidence`, for every true share.

    Source: Clopper and Pearson, The Use of Confidence or Fiducial Limits Illustrated in the
    Case of the Binomial, 1934.
    """
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else beta_quantile(tail, count, total - count + 1)
    high = 1.0 if count == total else beta_quantile(1.0 - tail, count + 1, total - count)
    return Interval(low, high, confidence)


def wilson(count: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Return an interval of a share that covers `confidence` on average; shorter than the exact.

    Right for the accuracy of one run on one test set: `count` right of `total` images.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.
    """
    z = normal_quantile(0.5 + confidence / 2.0)
    share, weight = count / total, z * z / total
    center = (share + weight / 2.0) / (1.0 + weight)
    half = z / (1.0 + weight) * math.sqrt(share * (1.0 - share) / total + weight / (4.0 * total))
    low = 0.0 if count == 0 else center - half
    high = 1.0 if count == total else center + half
    return Interval(low, high, confidence)


def t_test_above(values: Numbers, target: float) -> float:
    """Return the one-sided p of Student's test: how likely a mean this high if it were `target`.

    Small values speak for a mean above the target. Equal values leave no doubt: 0 or 1. n at
    least 2.
    """
    values = np.asarray(values, np.float64)
    excess = float(values.mean()) - target
    error = standard_deviation(values) / math.sqrt(len(values))
    if error <= 1e-15 * abs(target):  # the rounding of equal values is no spread
        return 0.0 if excess > 1e-15 * abs(target) else 1.0
    return t_tail(excess / error, len(values) - 1)


def sign_flip_test(differences: Numbers) -> float:
    """Return the two-sided p of a paired difference: how often random signs give one as large.

    Asks only that under "no difference" each pair's difference is as likely negative as
    positive. Exact up to 40 pairs, by 99,999 random patterns beyond (the observed one counts).

    Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    differences = np.asarray(differences, np.float64)
    # sums that are equal but for the order of addition must count as equal
    least = abs(float(differences.sum())) - 1e-12 * float(np.abs(differences).sum())
    if least <= 0.0:
        return 1.0
    if len(differences) > EXACT_FLIPS:
        return _random_flips(differences, least)
    middle = len(differences) // 2
    left, right = _signed_sums(differences[:middle]), np.sort(_signed_sums(differences[middle:]))
    num_above = (len(right) - np.searchsorted(right, least - left)).sum()
    return float(2.0 * num_above / (len(left) * len(right)))  # as many lie below -least


def _signed_sums(values: np.ndarray) -> np.ndarray:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def _random_flips(differences: np.ndarray, least: float) -> float:
    rng = generator(0, "sign flips")
    num_extreme, left = 0, NUM_FLIPS
    while left:
        count = min(left, 1_000_000 // len(differences) + 1)
        signs = rng.integers(0, 2, (count, len(differences)), np.int8)
        sums = (2.0 * signs - 1.0) @ differences
        num_extreme += int((np.abs(sums) >= least).sum())
        left -= count
    return (num_extreme + 1) / (NUM_FLIPS + 1)


def paired_power(num_pairs: int, difference: float, sd: float, alpha: float = 0.05) -> float:
    """Return how likely a two-sided paired t-test sees a true difference.

    Args:
        num_pairs: Pairs, such as seeds; at least 2.
        difference: The true mean difference.
        sd: Standard deviation of the paired differences, above 0.
        alpha: The accepted rate of false alarms.
    """
    shift = abs(difference) / sd * math.sqrt(num_pairs)
    critical = t_quantile(1.0 - alpha / 2.0, num_pairs - 1)
    upper = noncentral_t_tail(critical, num_pairs - 1, shift)
    return upper + noncentral_t_tail(critical, num_pairs - 1, -shift)


def pairs_needed(
    difference: float, sd: float, power: float = POWER, alpha: float = 0.05
) -> int | None:
    """Return how many pairs see a true difference with probability `power`.

    At least six (the fewest with which a sign-flip test can speak); None where the difference
    is 0 or more than a million would be needed.
    """
    if difference == 0.0:
        return None
    if sd == 0.0:
        return FEWEST_PAIRS
    normal = normal_quantile(1.0 - alpha / 2.0) + normal_quantile(power)
    at_least = (normal * sd / difference) ** 2  # as if the sd were known: never too many
    if at_least > _MOST_PAIRS:
        return None
    num_pairs = max(FEWEST_PAIRS, math.floor(at_least))
    while paired_power(num_pairs, difference, sd, alpha) < power:
        num_pairs += 1
    return num_pairs


NUM_RESAMPLES = 9_999
_MOST_TABLED = 64
"""Up to so many values the resamples are drawn once and kept: 64 x 9,999 counts are 5 MB."""
_CHUNK_CELLS = 4_000_000


def bca_of_mean(values: Numbers, confidence: float = CONFIDENCE) -> Interval:
    """Return the bias-corrected and accelerated bootstrap interval of a mean; n at least 2.

    Asks nothing of the distribution but is too short for few values: see
    `docs/evidence.md` for its measured coverage.
    """
    values = np.asarray(values, np.float64)
    return bca_interval(values, resampled_means(values), confidence)


def bca_interval(values: np.ndarray, means: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Return the BCa interval of the mean of `values` (n,) from resampled `means` (B,).

    Source: Efron, Better Bootstrap Confidence Intervals, 1987; the acceleration by the
    jackknife: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 14.3.
    """
    mean = float(values.mean())
    deviations = values - mean
    squares = float((deviations**2).sum())
    scale = float(np.abs(values).max())
    if squares <= len(values) * (1e-15 * scale) ** 2:  # all equal: there is nothing to resample
        return Interval(mean, mean, confidence)
    # accuracies are counts of images: resampled means that tie with the mean count half
    tied = np.abs(means - mean) <= 1e-13 * scale
    below = float(((means < mean) & ~tied).mean() + 0.5 * tied.mean())
    bias = normal_quantile(min(max(below, 0.5 / len(means)), 1.0 - 0.5 / len(means)))
    acceleration = float((deviations**3).sum()) / (6.0 * squares**1.5)
    ends = []
    for tail in ((1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0):
        z = bias + normal_quantile(tail)
        ends.append(normal_cdf(bias + z / (1.0 - acceleration * z)))
    low, high = np.quantile(means, ends)
    return Interval(float(low), float(high), confidence)


def resampled_means(values: np.ndarray) -> np.ndarray:
    """Return the means (9,999,) of as many samples drawn from `values` with replacement."""
    mean = values.mean()
    if len(values) <= _MOST_TABLED:
        return mean + _resamples(len(values)) @ (values - mean) / len(values)
    # Equal values need not be told apart: ten thousand images have a few dozen error rates.
    distinct, counts = np.unique(values, return_counts=True)
    rng = generator(0, f"bootstrap of {len(values)}")
    means = np.empty(NUM_RESAMPLES)
    step = max(1, _CHUNK_CELLS // len(distinct))
    for start in range(0, NUM_RESAMPLES, step):
        part = means[start : start + step]
        drawn = rng.multinomial(len(values), counts / len(values), len(part))
        part[:] = mean + drawn @ (distinct - mean) / len(values)
    return means


@lru_cache(maxsize=8)
def _resamples(n: int) -> np.ndarray:
    """Return how often each of n values is in each sample, float64 (9,999, n)."""
    rng = generator(0, f"bootstrap of {n}")
    return rng.multinomial(n, np.full(n, 1.0 / n), NUM_RESAMPLES).astype(np.float64)


def image_interval(
    wrong: np.ndarray, versus: np.ndarray | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """Return the interval of an error rate, had other images of the same kind been drawn.

    What is resampled is the images, each with its error rate averaged over the runs.

    Args:
        wrong: bool (runs, images), which run gets which image wrong.
        versus: The same of other runs on the same images; the interval is then that of the
            difference of the error rates, `wrong` minus `versus`.
        confidence: In (0, 1).
    """
    rates = wrong.mean(axis=0)
    return bca_of_mean(rates if versus is None else rates - versus.mean(axis=0), confidence)

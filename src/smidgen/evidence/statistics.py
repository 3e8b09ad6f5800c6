"""Numbers of several runs in, statements with their uncertainty out.

Everything here is a pure function on NumPy arrays: exact formulas, or resampling from
counter-based generators with fixed keys, so that the same numbers give the same statement.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smidgen.evidence.distributions import (
    beta_quantile,
    noncentral_t_tail,
    normal_quantile,
    t_quantile,
    t_tail,
)
from smidgen.randomness import generator

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

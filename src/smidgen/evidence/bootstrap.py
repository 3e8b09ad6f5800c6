"""Bootstrap intervals of means: over seeds, and over the images of a test set.

The resamples come from a counter-based generator with a fixed key, so the same numbers
always give the same interval. Their number, 9,999, moves an end by about a hundredth of the
interval's width.
"""

from functools import lru_cache

import numpy as np

from smidgen.evidence.distributions import normal_cdf, normal_quantile
from smidgen.evidence.statistics import CONFIDENCE, Interval, Numbers
from smidgen.randomness import generator

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

"""The beta, Student, noncentral Student and normal distributions, as far as intervals need them.

Within 1e-9 of SciPy (tested), which a run of the command line then need not import.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np

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

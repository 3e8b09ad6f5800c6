"""Mutations: a network and a random generator in, a different valid network out.

What may change stands in `smidgen.network.edits`; whether the result is a network is decided
where all networks are checked, in the constructor of `Network`. Images, classes and output stay
as they are.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from smidgen.errors import NetworkError
from smidgen.network.edits import EDITS
from smidgen.network.network import Network
from smidgen.network.trace import trace

_MOST_TRIES = 2000
"""A change that gives no valid network within the limits is drawn again, so many times."""


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """How large a network may be, each end included; None is no limit.

    Args:
        min_params: Parameters at least.
        max_params: Parameters at most.
        max_macs: Multiply-accumulates for one image at most.
    """

    min_params: int = 0
    max_params: int | None = None
    max_macs: int | None = None

    def __contains__(self, network: Network) -> bool:
        return self.distance(network) == 0.0

    def distance(self, network: Network) -> float:
        """Return how far a network is from being within: a sum of logarithms, 0 inside."""
        totals = trace(network).totals
        num_params, far = max(totals.num_params, 1), 0.0
        if num_params < self.min_params:
            far += math.log(self.min_params / num_params)
        if self.max_params is not None and num_params > self.max_params:
            far += math.log(num_params / self.max_params)
        if self.max_macs is not None and totals.num_macs > self.max_macs:
            far += math.log(totals.num_macs / self.max_macs)
        return far


NO_LIMITS = SizeLimits()


def mutate(network: Network, rng: np.random.Generator, limits: SizeLimits = NO_LIMITS) -> Network:
    """Change one thing about a network.

    The generator decides what: a width (of one layer, or of all that share it), a stage more or
    fewer, a kernel, a padding, a stride, the activation, where and how is pooled, separable or
    full, shared weights, parallel or residual paths, learned scales, the head. Equal generators
    give equal networks.

    Raises:
        NetworkError: 2,000 changes gave nothing within the limits.
    """
    for _ in range(_MOST_TRIES):
        changed = _changed(network, rng)
        if changed is not None and changed in limits:
            return changed
    raise NetworkError(
        f"No change of {_MOST_TRIES:,} gave a network within {_show(limits)}; this one has "
        f"{_show_size(network)}. Use wider limits."
    )


def fit(network: Network, rng: np.random.Generator, limits: SizeLimits) -> Network:
    """Mutate a network until it is within limits, each step nearer; one that is stays as it is.

    Raises:
        NetworkError: 2,000 changes did not get there.
    """
    fitted, far = network, limits.distance(network)
    for _ in range(_MOST_TRIES):
        if far == 0.0:
            return fitted
        changed = _changed(fitted, rng)
        if changed is not None and limits.distance(changed) < far:
            fitted, far = changed, limits.distance(changed)
    raise NetworkError(
        f"{_MOST_TRIES:,} changes did not bring {_show_size(network)} to {_show(limits)}, only "
        f"to {_show_size(fitted)}. Use wider limits or another network."
    )


def _changed(network: Network, rng: np.random.Generator) -> Network | None:
    """Return a different network, or None where this change is not possible."""
    layers = EDITS[rng.integers(len(EDITS))](network.layers, rng)
    if not layers or layers == network.layers:
        return None
    try:
        return replace(network, layers=layers)
    except NetworkError:
        return None


def _show(limits: SizeLimits) -> str:
    most = "any number of" if limits.max_params is None else f"{limits.max_params:,}"
    macs = "" if limits.max_macs is None else f" and at most {limits.max_macs:,} MACs"
    return f"{limits.min_params:,} to {most} parameters{macs}"


def _show_size(network: Network) -> str:
    totals = trace(network).totals
    return f"{totals.num_params:,} parameters and {totals.num_macs:,} MACs"

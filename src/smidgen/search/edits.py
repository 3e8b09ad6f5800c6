"""A network and a random generator in, a different valid network out.

An edit changes one thing about one sequence of layers, at any depth, or gives None where it
cannot; `mutate` draws edits until one gives a valid network, and `fit` brings it into its limits.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from smidgen.errors import NetworkError
from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    PReLU,
    ReLU,
    Repeat,
    Residual,
    SeparableConv,
)
from smidgen.network.network import Network
from smidgen.network.shapes import Padding, pair
from smidgen.network.trace import trace

T = TypeVar("T")
Layers = tuple[Layer, ...]
Change = Callable[[Layers, np.random.Generator], Layers | None]


def flat(layers: Layers) -> Iterator[Layer]:
    """Yield every layer at any depth, a block before what is inside it."""
    for layer in layers:
        yield layer
        for part in layer.paths:
            yield from flat(part)


def mapped(layers: Layers, change: Callable[[Layer], Layer]) -> Layers:
    """Return the layers with each one changed, in the order of `flat`."""
    changed = []
    for layer in layers:
        new = change(layer)
        inside = new.paths
        changed.append(new.with_paths([mapped(part, change) for part in inside]))
    return tuple(changed)


def edited_somewhere(change: Change) -> Change:
    """Return a change that happens in one sequence, at whatever depth, chosen at random."""

    def edited(layers: Layers, rng: np.random.Generator) -> Layers | None:
        chosen = int(rng.integers(_num_sequences(layers)))
        return _edited(layers, chosen, lambda found: change(found, rng))

    return edited


def stages(layers: Layers) -> list[slice]:
    """Return where each convolution stands with the norms, activations and the like behind it."""
    found = []
    for start, layer in enumerate(layers):
        if not isinstance(layer, Conv | SeparableConv):
            continue
        stop = start + 1
        while stop < len(layers) and layers[stop].follows:
            stop += 1
        found.append(slice(start, stop))
    return found


def with_layer(layers: Layers, where: int | slice, layer: Layer) -> Layers:
    """Return the layers with one in the place of another, or of several."""
    place = where if isinstance(where, slice) else slice(where, where + 1)
    return (*layers[: place.start], layer, *layers[place.stop :])


def without(layers: Layers, where: slice) -> Layers:
    """Return the layers but for some."""
    return (*layers[: where.start], *layers[where.stop :])


def pick(things: Sequence[T], rng: np.random.Generator) -> T | None:
    """Return one of the things, or None if there are none."""
    return things[int(rng.integers(len(things)))] if things else None


def _num_sequences(layers: Layers) -> int:
    return 1 + sum(_num_sequences(part) for layer in layers for part in layer.paths)


def _edited(
    layers: Layers, number: int, change: Callable[[Layers], Layers | None]
) -> Layers | None:
    """Change the sequence of this number: 0 is the outermost, then in the order of `flat`."""
    if number == 0:
        return change(layers)
    number -= 1
    for at, layer in enumerate(layers):
        inside = list(layer.paths)
        for place, part in enumerate(inside):
            size = _num_sequences(part)
            if number >= size:
                number -= size
                continue
            new = _edited(part, number, change)
            if not new:  # most paths must not be empty
                return None
            inside[place] = new
            return with_layer(layers, at, layer.with_paths(inside))
    return None


HEAD_FACTOR = 4.0
"""What a head without a dense layer multiplies its means with; alone they are too small scores."""
_ACTIVATIONS: tuple[Layer, ...] = (ReLU(), LeakyReLU(0.1), PReLU())


def _resize(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Make a layer, or all layers of its width, wider or narrower by up to a half."""
    wide = [layer for layer in flat(layers) if isinstance(layer, Conv | SeparableConv | Dense)]
    if not wide:
        return None
    chosen = int(rng.integers(len(wide)))
    width = _width(wide[chosen])
    step = max(1, round(width * rng.uniform(0.0, 0.5)))
    new = max(1, width + (step if rng.random() < 0.5 else -step))
    together, seen = rng.random() < 0.5, -1

    def resized(layer: Layer) -> Layer:
        nonlocal seen
        if not isinstance(layer, Conv | SeparableConv | Dense):
            return layer
        seen += 1
        is_meant = _width(layer) == width if together else seen == chosen
        return _with_width(layer, new) if is_meant else layer

    return mapped(layers, resized)


def _insert(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Put a copy of a stage behind it, with or without padding."""
    stage = pick(stages(layers), rng)
    if stage is None:
        return None
    first = layers[stage.start]
    assert isinstance(first, Conv | SeparableConv)
    padding = _centered(first.kernel_size) if rng.random() < 0.5 else 0
    copy = (replace(first, stride=1, padding=padding), *layers[stage.start + 1 : stage.stop])
    return (*layers[: stage.stop], *copy, *layers[stage.stop :])


def _remove(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Take out a stage, a pool, or a block of layers."""
    wholes = (MaxPool, AvgPool, Branches, Residual, Repeat)
    single = [slice(at, at + 1) for at, layer in enumerate(layers) if isinstance(layer, wholes)]
    chosen = pick([*stages(layers), *single], rng)
    return None if chosen is None else without(layers, chosen)


def _reshape(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Give a convolution another kernel, padding or stride."""
    at = _one_of(layers, rng, Conv, SeparableConv)
    if at is None:
        return None
    layer = layers[at]
    assert isinstance(layer, Conv | SeparableConv)
    match rng.integers(3):
        case 0:
            size = int(rng.choice([1, 2, 3, 3, 4, 5]))
            padding = _centered(size) if layer.padding else 0
            changed = replace(layer, kernel_size=size, padding=padding)
        case 1:
            padding = 0 if layer.padding else _centered(layer.kernel_size)
            changed = replace(layer, padding=padding)
        case _:
            changed = replace(layer, stride=2 if layer.stride == 1 else 1)
    return with_layer(layers, at, changed)


def _activate(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Give all activations another form."""
    new = _ACTIVATIONS[rng.integers(len(_ACTIVATIONS))]
    return mapped(layers, lambda layer: new if layer.role == "activation" else layer)


def _scale(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Let all batch norms learn their scale, or none.

    Before a (leaky) ReLU and a further convolution a scale is redundant: that layer absorbs it.
    """
    scale = bool(rng.random() < 0.5)
    return mapped(
        layers, lambda layer: replace(layer, scale=scale) if isinstance(layer, BatchNorm) else layer
    )


def _pool(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Pool behind a stage, move a pool over its neighbor stage, or pool the other way."""
    at = _one_of(layers, rng, MaxPool, AvgPool)
    if at is None or rng.random() < 0.3:
        stage = pick(stages(layers), rng)
        if stage is None:
            return None
        return (*layers[: stage.stop], MaxPool(2), *layers[stage.stop :])
    pool = layers[at]
    assert isinstance(pool, MaxPool | AvgPool)
    if rng.random() < 0.2:
        other = AvgPool if isinstance(pool, MaxPool) else MaxPool
        return with_layer(layers, at, other(pool.kernel_size, pool.stride, pool.padding))
    neighbors = [stage for stage in stages(layers) if at in (stage.stop, stage.start - 1)]
    stage = pick(neighbors, rng)
    if stage is None:
        return None
    if stage.stop == at:  # from behind the stage to before it
        return (*layers[: stage.start], pool, *layers[stage], *layers[at + 1 :])
    return (*layers[:at], *layers[stage], pool, *layers[stage.stop :])


def _separate(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Split a convolution into depthwise and pointwise, or make one of the two."""
    at = _one_of(layers, rng, Conv, SeparableConv)
    if at is None:
        return None
    layer = layers[at]
    assert isinstance(layer, Conv | SeparableConv)
    other = SeparableConv if isinstance(layer, Conv) else Conv
    changed = other(
        layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=layer.bias
    )
    return with_layer(layers, at, changed)


def _share(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Let a stage run twice, in the place of an equal one behind it if there is one; or undo it."""
    at = _one_of(layers, rng, Repeat)
    if at is not None and rng.random() < 0.5:
        repeat = layers[at]
        assert isinstance(repeat, Repeat)
        return (*layers[:at], *repeat.block * repeat.times, *layers[at + 1 :])
    stage = pick(stages(layers), rng)
    if stage is None:
        return None
    block, behind = layers[stage], layers[stage.stop :]
    if behind[: len(block)] == block:
        behind = behind[len(block) :]
    return (*layers[: stage.start], Repeat(block, 2), *behind)


def _branch(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Look through two kernels side by side, half of the channels each; or keep one of the two."""
    at = _one_of(layers, rng, Branches)
    if at is not None and rng.random() < 0.5:
        branches = layers[at]
        assert isinstance(branches, Branches)
        kept = branches.branches[rng.integers(len(branches.branches))]
        return (*layers[:at], *kept, *layers[at + 1 :])
    stage = pick(stages(layers), rng)
    if stage is None:
        return None
    first, rest = layers[stage.start], layers[stage.start + 1 : stage.stop]
    assert isinstance(first, Conv | SeparableConv)
    if first.out_channels < 2 or not isinstance(first.kernel_size, int):
        return None
    half, sides = first.out_channels // 2, first.padding
    narrow = replace(first, out_channels=first.out_channels - half)
    wide = replace(
        first,
        out_channels=half,
        kernel_size=first.kernel_size + 2,
        padding=sides + 1 if isinstance(sides, int) else sides,
    )
    return with_layer(layers, stage, Branches(((narrow, *rest), (wide, *rest))))


def _bypass(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Add a stage's input to its output, or leave that away."""
    at = _one_of(layers, rng, Residual)
    if at is not None and rng.random() < 0.5:
        residual = layers[at]
        assert isinstance(residual, Residual)
        return (*layers[:at], *residual.body, *layers[at + 1 :])
    stage = pick(stages(layers), rng)
    return None if stage is None else with_layer(layers, stage, Residual(layers[stage]))


def _head(layers: Layers, rng: np.random.Generator) -> Layers | None:
    """Leave the dense layer away and let the last stage give a map per class, or the reverse."""
    found = stages(layers)
    if not found:
        return None
    last = layers[found[-1].start]
    assert isinstance(last, Conv | SeparableConv)
    tail = layers[found[-1].stop :]
    if tail[:1] != (GlobalAvgPool(),) or Flatten() not in tail:
        return None
    body = layers[: found[-1].stop]
    if isinstance(tail[-1], Dense):
        scaled = mapped(body[found[-1].start :], _learning_scale)
        changed = with_layer(scaled, 0, _with_width(last, tail[-1].out_features))
        ending = (GlobalAvgPool(), Flatten(), Multiply(HEAD_FACTOR))
        return (*body[: found[-1].start], *changed, *ending)
    width = round(last.out_channels * rng.uniform(1.0, 2.0))
    wider = with_layer(body, found[-1].start, _with_width(last, width))
    return (*wider, GlobalAvgPool(), Flatten(), Dense(last.out_channels))


def _learning_scale(layer: Layer) -> Layer:
    """Return the layer; a norm that scales by itself, for no layer behind it can."""
    return replace(layer, scale=True) if isinstance(layer, BatchNorm) else layer


def _width(layer: Conv | SeparableConv | Dense) -> int:
    return layer.out_features if isinstance(layer, Dense) else layer.out_channels


def _with_width(layer: Conv | SeparableConv | Dense, width: int) -> Layer:
    if isinstance(layer, Dense):
        return replace(layer, out_features=width)
    return replace(layer, out_channels=width)


def _centered(size: int | tuple[int, int]) -> Padding:
    rows, columns = pair(size)
    return rows // 2 if rows == columns else (rows // 2, columns // 2)


def _one_of(layers: Layers, rng: np.random.Generator, *kinds: type) -> int | None:
    """Return the position of one layer of these kinds, if there is any."""
    return pick([at for at, layer in enumerate(layers) if isinstance(layer, kinds)], rng)


EDITS: tuple[Change, ...] = (
    _resize,
    _resize,
    _resize,
    _activate,
    _scale,
    _head,
    *(
        edited_somewhere(edit)
        for edit in (_insert, _remove, _reshape, _pool, _separate, _share, _branch, _bypass)
    ),
)
"""What can happen; widths three times as often, for there are most of them to get right."""


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

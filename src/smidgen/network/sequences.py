"""Sequences of layers at any depth: found, read and rebuilt with one of them changed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from smidgen.network.blocks import Branches, Layer, Repeat, Residual
from smidgen.network.layers import (
    BatchNorm,
    Conv,
    Dropout,
    LeakyReLU,
    Multiply,
    PReLU,
    ReLU,
    SampleNorm,
    SeparableConv,
)

T = TypeVar("T")
Layers = tuple[Layer, ...]
Change = Callable[[Layers, np.random.Generator], Layers | None]

_FOLLOWERS = (BatchNorm, SampleNorm, ReLU, LeakyReLU, PReLU, Dropout, Multiply)
"""What belongs to the convolution before it."""


def parts(layer: Layer) -> tuple[Layers, ...]:
    """Return the sequences inside a layer; none for a plain one."""
    match layer:
        case Branches():
            return layer.branches
        case Residual():
            return (layer.body, layer.shortcut)
        case Repeat():
            return (layer.block,)
    return ()


def with_parts(layer: Layer, new: Sequence[Layers]) -> Layer:
    """Return a layer with other sequences inside, in the order of `parts`."""
    match layer:
        case Branches():
            return replace(layer, branches=tuple(new))
        case Residual():
            return replace(layer, body=new[0], shortcut=new[1])
        case Repeat():
            return replace(layer, block=new[0])
    return layer


def flat(layers: Layers) -> Iterator[Layer]:
    """Yield every layer at any depth, a block before what is inside it."""
    for layer in layers:
        yield layer
        for part in parts(layer):
            yield from flat(part)


def mapped(layers: Layers, change: Callable[[Layer], Layer]) -> Layers:
    """Return the layers with each one changed, in the order of `flat`."""
    changed = []
    for layer in layers:
        new = change(layer)
        inside = parts(new)
        changed.append(with_parts(new, [mapped(part, change) for part in inside]))
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
        while stop < len(layers) and isinstance(layers[stop], _FOLLOWERS):
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
    return 1 + sum(_num_sequences(part) for layer in layers for part in parts(layer))


def _edited(
    layers: Layers, number: int, change: Callable[[Layers], Layers | None]
) -> Layers | None:
    """Change the sequence of this number: 0 is the outermost, then in the order of `flat`."""
    if number == 0:
        return change(layers)
    number -= 1
    for at, layer in enumerate(layers):
        inside = list(parts(layer))
        for place, part in enumerate(inside):
            size = _num_sequences(part)
            if number >= size:
                number -= size
                continue
            new = _edited(part, number, change)
            if not new:  # most paths must not be empty
                return None
            inside[place] = new
            return with_layer(layers, at, with_parts(layer, inside))
    return None

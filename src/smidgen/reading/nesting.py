"""From a list of operations to nested layers: chains, branches, residual sums, repeated blocks.

A traced forward pass is a graph in which every value may be read anywhere; a `Network` nests. The
two meet by dominators: all paths from the input to a join's operands pass one last common value,
so the join and everything between belongs into one `Branches` or `Residual` on that value.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from smidgen.errors import NetworkError
from smidgen.network.layers import (
    Branches,
    Layer,
    Multiply,
    Repeat,
    Residual,
)
from smidgen.network.network import INPUT

Join = Literal["concat", "add"]


@dataclass(frozen=True, slots=True)
class Step:
    """One operation; step `i` produces value `i`, and value -1 is the network's input.

    Args:
        inputs: The values it reads; earlier steps only.
        layer: What it does, or how it joins its inputs.
        where: The place in the original, for messages.
        owner: Whose tensors it applies; equal where they are the same, "" where there are none.
    """

    inputs: tuple[int, ...]
    layer: Layer | Join
    where: str
    owner: str = ""

    @property
    def is_own_each_time(self) -> bool:
        """Whether a repeated block has this layer anew each time."""
        return not isinstance(self.layer, str) and self.layer.is_own_each_time


@dataclass(frozen=True, slots=True)
class Nested:
    """The layers, and the steps they came from in the order in which `lower` lists them."""

    layers: tuple[Layer, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    kind: Literal["layer", "concat", "add", "repeat"]
    step: int = INPUT
    parts: tuple[tuple["_Item", ...], ...] = ()

    def steps(self) -> Iterator[int]:
        for part in self.parts:
            for item in part:
                yield from item.steps()
        if self.kind != "repeat":
            yield self.step


def nest(steps: Sequence[Step], output: int) -> Nested:
    """Nest the steps that `output` depends on.

    Raises:
        NetworkError: A value is read by paths that cross, which no nesting can say.
    """
    steps = _chained(steps)
    nester = _Nester(steps)
    items = nester.sequence(INPUT, output)
    order = tuple(step for item in items for step in item.steps())
    twice = [step for step, uses in Counter(order).items() if uses > 1]
    if twice:
        raise NetworkError(
            f"{steps[min(twice)].where}: its result is read by paths that cross each other, and a "
            "network nests: branches must meet before their value is used elsewhere."
        )
    return Nested(nester.layers(items), order)


def _chained(steps: Sequence[Step]) -> list[Step]:
    """Write concat(a, b, c) as concat(concat(a, b), c) where concat(a, b) exists (dense blocks)."""
    known: dict[tuple[int, ...], int] = {}
    changed = []
    for index, step in enumerate(steps):
        inputs = step.inputs
        if step.layer == "concat":
            lengths = range(len(inputs) - 1, 1, -1)
            begun = next((inputs[:length] for length in lengths if inputs[:length] in known), None)
            if begun is not None:
                step = replace(step, inputs=(known[begun], *inputs[len(begun) :]))
            known.setdefault(inputs, index)
        changed.append(step)
    return changed


class _Nester:
    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.depth = {INPUT: 0}
        self.dominator = {INPUT: INPUT}
        for index, step in enumerate(steps):
            self.dominator[index] = self.fork(step.inputs)
            self.depth[index] = self.depth[self.dominator[index]] + 1

    def fork(self, values: Sequence[int]) -> int:
        """Return the last value that every path from the input to these values passes."""
        found = values[0]
        for other in values[1:]:
            while found != other:
                if self.depth[found] < self.depth[other]:
                    other = self.dominator[other]
                else:
                    found = self.dominator[found]
        return found

    def sequence(self, start: int, end: int) -> tuple[_Item, ...]:
        """Return what leads from one value to another that it dominates."""
        items: list[_Item] = []
        while end != start:
            items.append(self.item(end))
            end = self.dominator[end]
        return self.folded(tuple(reversed(items)))

    def item(self, index: int) -> _Item:
        step = self.steps[index]
        if not isinstance(step.layer, str):
            return _Item("layer", index)
        fork = self.dominator[index]
        parts = tuple(self.sequence(fork, value) for value in step.inputs)
        if step.layer == "add":
            # an empty path is the shortcut; the sum is the same either way round
            parts = tuple(sorted(parts, key=lambda part: not part))
        return _Item(step.layer, index, parts)

    def folded(self, items: tuple[_Item, ...]) -> tuple[_Item, ...]:
        """Turn blocks that run several times in a row with the same tensors into one repeat."""
        for first, item in enumerate(items):
            again = (n for n in range(first + 1, len(items)) if self.same(item, items[n]))
            second = next(again, None)
            if second is None or not self.shares(item):
                continue
            period = second - first
            starts = range(first, max(first - period, -1), -1)
            start = max(starts, key=lambda start: self.times(items, start, period))
            times = self.times(items, start, period)
            if times > 1:
                ends = [start + period * n for n in range(times + 1)]
                blocks = tuple(items[a:b] for a, b in pairwise(ends))
                repeat = _Item("repeat", parts=blocks)
                return (*items[:start], repeat, *self.folded(items[ends[-1] :]))
        return items

    def times(self, items: tuple[_Item, ...], start: int, period: int) -> int:
        block = items[start : start + period]
        times = 1
        while len(block) == period:
            block = items[start + times * period : start + (times + 1) * period]
            pairs = zip(items[start:], block, strict=False)
            if len(block) < period or not all(self.same(a, b) for a, b in pairs):
                break
            times += 1
        return times

    def same(self, a: _Item, b: _Item) -> bool:
        """Whether two items apply the same layers with the same tensors, norms aside."""
        if a.kind != b.kind or len(a.parts) != len(b.parts):
            return False
        if a.kind == "layer":
            one, other = self.steps[a.step], self.steps[b.step]
            return one.layer == other.layer and (one.is_own_each_time or one.owner == other.owner)
        return all(
            len(p) == len(q) and all(self.same(x, y) for x, y in zip(p, q, strict=True))
            for p, q in zip(a.parts, b.parts, strict=True)
        )

    def shares(self, item: _Item) -> bool:
        """Whether an item that is the same as another has tensors in common with it."""
        return any(
            self.steps[step].owner and not self.steps[step].is_own_each_time
            for step in item.steps()
        )

    def layers(self, items: tuple[_Item, ...]) -> tuple[Layer, ...]:
        return tuple(self.layer(item) for item in items)

    def layer(self, item: _Item) -> Layer:
        match item.kind:
            case "repeat":
                return Repeat(self.layers(item.parts[0]), len(item.parts))
            case "concat":
                return Branches(tuple(self.layers(part) for part in item.parts))
            case "add" if not item.parts[0]:
                return Multiply(2.0)  # x + x
            case "add":
                return Residual(self.layers(item.parts[0]), self.layers(item.parts[1]))
        layer = self.steps[item.step].layer
        assert not isinstance(layer, str)
        return layer

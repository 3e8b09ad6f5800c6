"""Where every buffer lives: for the whole batch, or in scratch memory while it is needed."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from smidgen.lowering.operands import Buffer, Part


@dataclass(slots=True)
class MemoryPlan:
    """Offsets in vectors.

    Args:
        stored: Of the buffers that exist for every block of a batch; `stored_size` each.
        scratch: For each part, of the buffers that one thread uses within it.
    """

    stored: dict[str, int] = field(default_factory=dict)
    stored_size: int = 0
    scratch: list[dict[str, int]] = field(default_factory=list)
    scratch_size: int = 0


@dataclass(frozen=True, slots=True)
class _Life:
    name: str
    size: int
    first: int
    last: int


def plan_memory(parts: list[Part], stored_values: frozenset[str]) -> MemoryPlan:
    """Place all buffers.

    Args:
        parts: In the order in which they run.
        stored_values: Names of the values that are stored; other values live in scratch and
            are computed again in each part. Gradients are stored if two parts mention them.
    """
    buffers = {buffer.name: buffer for part in parts for call in part for buffer in call.buffers}
    in_parts: dict[str, set[int]] = {name: set() for name in buffers}
    times: dict[str, list[int]] = {name: [] for name in buffers}
    time = 0
    for number, part in enumerate(parts):
        for call in part:
            time += 1
            for buffer in call.buffers:
                in_parts[buffer.name].add(number)
                times[buffer.name].append(time)
    kept = {
        name
        for name, buffer in buffers.items()
        if (name in stored_values if buffer.is_value else len(in_parts[name]) > 1)
    }
    plan = MemoryPlan()
    plan.stored, plan.stored_size = _place(
        _Life(name, buffers[name].area.size, times[name][0], times[name][-1]) for name in kept
    )
    for part in parts:
        offsets, size = _place(_lives_within(part, kept))
        plan.scratch.append(offsets)
        plan.scratch_size = max(plan.scratch_size, size)
    return plan


def _lives_within(part: Part, kept: set[str]) -> list[_Life]:
    uses: dict[str, list[int]] = {}
    buffers: dict[str, Buffer] = {}
    for number, call in enumerate(part):
        for buffer in call.buffers:
            if buffer.name not in kept:
                uses.setdefault(buffer.name, []).append(number)
                buffers[buffer.name] = buffer
    return [_Life(name, buffers[name].area.size, at[0], at[-1]) for name, at in uses.items()]


def _place(lives: Iterable[_Life]) -> tuple[dict[str, int], int]:
    """Give each buffer the lowest place that is free for all its life; large ones choose first."""
    placed: list[tuple[_Life, int]] = []
    for life in sorted(lives, key=lambda life: (-life.size, life.name)):
        taken = sorted(
            (offset, offset + other.size)
            for other, offset in placed
            if other.first <= life.last and life.first <= other.last
        )
        start = 0
        for low, high in taken:
            if start + life.size <= low:
                break
            start = max(start, high)
        placed.append((life, start))
    size = max((start + life.size for life, start in placed), default=0)
    return {life.name: start for life, start in placed}, size

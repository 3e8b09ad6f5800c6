"""Where training has to wait: a batch norm needs its input for the whole batch.

Stages are numbered by how many batch norms lie before them on the longest path; all stages of
one number are a segment, which one thread runs for one block of images after the other. What
crosses from one segment to another is stored for the whole batch; everything else lives in
small scratch memory and is computed again where the backward pass needs it. Only convolutions
are too expensive for that: what they make is stored if it is needed again.
"""

from dataclasses import dataclass

from smidgen.lowering.stages import Convolve, Pointwise, Stage, Stages
from smidgen.network.network import INPUT


@dataclass(frozen=True, slots=True)
class Segments:
    """The stages of each segment, and what is known about each value.

    Args:
        stages: What is cut.
        parts: The stages of each segment, in the order they run.
        segment_of: The segment in which a value is made.
        stored: The values that are kept for the whole batch.
        learned: The values that depend on something learned and so need gradients.
    """

    stages: Stages
    parts: tuple[tuple[Stage, ...], ...]
    segment_of: dict[int, int]
    stored: frozenset[int]
    learned: frozenset[int]

    @property
    def last(self) -> int:
        """Number of the segment that ends in the loss."""
        return len(self.parts) - 1

    def again(self, segment: int) -> list[Stage]:
        """Return the stages that the backward pass of a segment computes once more."""
        needed = _needed_again(self, segment)
        return [
            stage
            for stage in self.parts[segment]
            if stage.output in needed and stage.output not in self.stored
        ]


def cut(stages: Stages) -> Segments:
    """Cut stages at their batch norms and decide what is stored."""
    segment_of = {INPUT: 0}
    learned: set[int] = set()
    for stage in stages.stages:
        before = max(segment_of[value] for value in stage.inputs)
        segment_of[stage.output] = before + int(_norm_of(stage))
        if stage.parameters or learned.intersection(stage.inputs):
            learned.add(stage.output)
    parts = tuple(
        tuple(stage for stage in stages.stages if segment_of[stage.output] == number)
        for number in range(max(segment_of.values()) + 1)
    )
    stored = {
        value
        for stage in stages.stages
        for value in stage.inputs
        if segment_of[value] < segment_of[stage.output]
    }
    # images are prepared once: doing it again would cost more than keeping them
    stored.add(INPUT)
    stored |= {
        stage.output
        for part in parts[:-1]
        for stage in part
        if _is_expensive(stage) and _is_read_backward(stages, stage.output)
    }
    return Segments(stages, parts, segment_of, frozenset(stored), frozenset(learned))


def _is_expensive(stage: Stage) -> bool:
    if not isinstance(stage, Convolve):
        return False
    is_depthwise = stage.groups > 1 and stage.groups == stage.node.input_shape[0]
    return not is_depthwise


def _norm_of(stage: Stage) -> bool:
    return isinstance(stage, Pointwise) and stage.norm is not None


def _is_read_backward(stages: Stages, value: int) -> bool:
    """Tell whether a value is read backward, or needed to compute such a value once more."""
    return any(
        value in stage.read_backward
        or (
            value in stage.inputs
            and not isinstance(stage, Convolve)
            and _is_read_backward(stages, stage.output)
        )
        for stage in stages.stages
    )


def _needed_again(segments: Segments, segment: int) -> set[int]:
    part = segments.parts[segment]
    needed = {
        value for stage in part if stage.output in segments.learned for value in stage.read_backward
    }
    for stage in reversed(part):
        if stage.output in needed and stage.output not in segments.stored:
            needed |= set(stage.inputs)
    return needed

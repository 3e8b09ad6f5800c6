"""A network in, its training and its evaluation out: parts of kernel calls and their memory."""

from dataclasses import dataclass

from smidgen.lowering.calls import Backward, Forward, clear_border, trained_name, whole
from smidgen.lowering.kernels import check_call
from smidgen.lowering.memory import MemoryPlan, plan_memory
from smidgen.lowering.numbers import (
    Folding,
    Layout,
    folding_of,
    statistics_layout,
    trained_layout,
)
from smidgen.lowering.operands import Call, Part, flat_map
from smidgen.lowering.segments import Segments, cut
from smidgen.lowering.stages import Pointwise, Stages, stages_of
from smidgen.network.network import INPUT, Network
from smidgen.network.shapes import Shape


@dataclass(frozen=True, slots=True)
class BatchNormalization:
    """What a batch norm does between two parts.

    Args:
        name: Its node's name.
        segment: The segment that its output belongs to.
        channels: How many it normalizes.
        first: The number of its first channel among those of all norms.
        positions: Values of a channel in one image.
        gain: Full name of gamma, or None where it is 1.
        shift: Full name of beta, or None where it is 0.
        is_unbiased: Whether the running variance is.
        eps: What is added to the variance.
        momentum: Share of the batch in the running statistics.
    """

    name: str
    segment: int
    channels: int
    first: int
    positions: int
    gain: str | None
    shift: str | None
    is_unbiased: bool
    eps: float
    momentum: float


@dataclass(frozen=True, slots=True)
class TrainingProgram:
    """One step of training.

    Args:
        forward: A part for each segment; the last one turns around at the loss.
        backward: The ways back of the other segments, from the last but one to the first.
        memory: Where each part's buffers are, in the order forward, then backward.
        norms: What is found in the batch between the parts.
        weights: Where the trained tensors stand.
        statistics: Where the running statistics stand.
        most_channels: Channels of the widest map.
    """

    forward: tuple[Part, ...]
    backward: tuple[Part, ...]
    memory: MemoryPlan
    norms: tuple[BatchNormalization, ...]
    weights: Layout
    statistics: Layout
    most_channels: int

    @property
    def parts(self) -> dict[str, Part]:
        """All parts by name, in the order in which they run."""
        named = {f"forward_{number}": part for number, part in enumerate(self.forward)}
        ways_back = zip(reversed(range(len(self.backward))), self.backward, strict=True)
        return named | {f"backward_{number}": part for number, part in ways_back}

    @property
    def norm_channels(self) -> int:
        """Channels of all batch norms together."""
        return sum(norm.channels for norm in self.norms)


@dataclass(frozen=True, slots=True)
class EvaluationProgram:
    """From a block of images to their scores.

    Args:
        part: Its calls.
        memory: Where its buffers are.
        stages: What it was made of.
        folding: Names and places of the numbers it reads.
    """

    part: Part
    memory: MemoryPlan
    stages: Stages
    folding: Folding


def training_program(network: Network) -> TrainingProgram:
    """Lower a network's training."""
    graph = network.graph
    segments = cut(stages_of(graph, training=True))
    forward, backward = _training_parts(segments, network.num_classes)
    stored = frozenset(f"value{value + 1}" for value in segments.stored)
    shapes = segments.stages.shapes
    _check([*forward, *backward])
    return TrainingProgram(
        forward=tuple(forward),
        backward=tuple(backward),
        memory=plan_memory([*forward, *backward], stored),
        norms=tuple(_norms(segments)),
        weights=trained_layout(graph),
        statistics=statistics_layout(graph),
        most_channels=max(flat_map(shape)[0] for shape in shapes.values()),
    )


def evaluation_program(network: Network) -> EvaluationProgram:
    """Lower a network's evaluation, with its batch norms folded into the convolutions."""
    stages = stages_of(network.graph, training=False)
    folding = folding_of(stages, network.graph)
    forward = Forward(stages, lambda stage, role: folding.names[stage.output, role], training=False)
    part = _load(forward)
    for stage in stages.stages:
        part += forward.calls(stage, takes_sums=False)
    scores = whole(forward.value(stages.output))
    part.append(Call("store_scores", {"scores": scores, "classes": network.num_classes}))
    _check([part])
    return EvaluationProgram(part, plan_memory([part], frozenset()), stages, folding)


def _training_parts(segments: Segments, num_classes: int) -> tuple[list[Part], list[Part]]:
    """Return the forward parts, the last one with its way back, and the others' ways back."""
    forward = Forward(segments.stages, trained_name, training=True)
    backward = Backward(segments, forward)
    parts = [
        [call for stage in stages for call in forward.calls(stage, takes_sums=True)]
        for stages in segments.parts
    ]
    parts[0] = _load(forward) + parts[0]
    scores, gradient = segments.stages.output, backward.gradient(segments.stages.output)
    backward.adds(gradient.name)
    places = {"scores": whole(forward.value(scores)), "gradient": whole(gradient)}
    parts[-1].append(Call("cross_entropy", {**places, "classes": num_classes}, kind="loss"))
    parts[-1] += backward.segment(segments.last)
    ways_back = []
    for number in reversed(range(segments.last)):
        again = [
            call
            for stage in segments.again(number)
            for call in forward.calls(stage, takes_sums=False)
        ]
        ways_back.append(again + backward.segment(number))
    return parts, ways_back


def _check(parts: list[Part]) -> None:
    for part in parts:
        for call in part:
            check_call(call)


def _load(forward: Forward) -> Part:
    images = forward.value(INPUT)
    load = Call("load_images", {"x": whole(images)}, kind="augmentation")
    return [*clear_border(images), load, *forward.sums(INPUT, were_taken=False)]


def _norms(segments: Segments) -> list[BatchNormalization]:
    return [
        _norm(stage, segments.segment_of[stage.output], segments.stages.shapes[stage.inputs[0]])
        for stage in segments.stages.stages
        if isinstance(stage, Pointwise) and stage.norm is not None
    ]


def _norm(stage: Pointwise, segment: int, shape: Shape) -> BatchNormalization:
    assert stage.norm is not None
    layer, name = stage.norm.layer, stage.norm.name
    channels, height, width = flat_map(shape)
    return BatchNormalization(
        name=name,
        segment=segment,
        channels=channels,
        first=stage.norm.first,
        positions=height * width,
        gain=f"{name}.weight" if layer.scale else None,
        shift=f"{name}.bias" if layer.shift else None,
        is_unbiased=layer.running_variance == "unbiased",
        eps=layer.eps,
        momentum=layer.momentum,
    )

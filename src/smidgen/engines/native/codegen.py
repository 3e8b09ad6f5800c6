"""A network in, one C file out: calls of the kernels with literal shapes, and nothing else."""

from dataclasses import dataclass

from smidgen.engines.native.backward import Backward
from smidgen.engines.native.calls import At, Call, Part
from smidgen.engines.native.forward import (
    EvaluationNumbers,
    Forward,
    TrainingNumbers,
    clear_border,
)
from smidgen.engines.native.fusing import stages_of
from smidgen.engines.native.layout import (
    EvaluationLayout,
    Layout,
    evaluation_layout,
    layout_of,
)
from smidgen.engines.native.memory import plan_memory
from smidgen.engines.native.printing import function_text, program_text, tables_text
from smidgen.engines.native.segments import Segments, cut
from smidgen.engines.native.stages import Stages, flat_map
from smidgen.network.network import INPUT, Network


@dataclass(frozen=True, slots=True)
class Program:
    """The C file of a network and what Python must know to call it.

    Args:
        source: The C file.
        lanes: Images side by side.
        layout: Where the trained tensors are.
        evaluation: The stages of an evaluation.
        evaluation_layout: Where the evaluation's numbers are.
        norm_channels: Channels of all batch norms together.
        stored_vectors: Vectors kept for each block of a batch.
        scratch_vectors: Vectors that each thread needs.
        training_calls: The calls of a training step, part after part.
    """

    source: str
    lanes: int
    layout: Layout
    evaluation: Stages
    evaluation_layout: EvaluationLayout
    norm_channels: int
    stored_vectors: int
    scratch_vectors: int
    training_calls: tuple[Call, ...]

    def working_bytes(self, batch_size: int, threads: int = 1) -> int:
        """Return the memory that training needs beside images, weights and moments."""
        blocks = -(-batch_size // self.lanes)
        per_block = 4 * self.lanes * self.stored_vectors + 4 * self.layout.num_weights
        return blocks * per_block + threads * 4 * self.lanes * self.scratch_vectors


def generate(network: Network, lanes: int, is_profiled: bool = False) -> Program:
    """Print the program that trains and evaluates a network.

    Args:
        network: What to train.
        lanes: Images side by side: 16, 8, 4 or 1.
        is_profiled: Whether the program measures the seconds of each call; they are in its
            array `smidgen_seconds`, in the order of `Program.training_calls`.
    """
    layout = layout_of(network.graph)
    segments = cut(stages_of(network.graph, training=True))
    training = Forward(segments.stages, TrainingNumbers(layout), lanes, training=True)
    forward, backward = _training_parts(segments, training, layout, network.num_classes)
    stored = frozenset(f"value{value + 1}" for value in segments.stored)
    plan = plan_memory([*forward, *backward], stored)

    evaluation = stages_of(network.graph, training=False)
    numbers = evaluation_layout(evaluation, network.graph)
    part = _evaluation_part(evaluation, numbers, lanes, network.num_classes)
    evaluation_plan = plan_memory([part], frozenset())

    scratch = max(plan.scratch_size, evaluation_plan.scratch_size)
    channels = max(flat_map(shape)[0] for shape in segments.stages.shapes.values())
    names = [f"forward_{number}" for number in range(len(forward))]
    names += [f"backward_{number}" for number in reversed(range(len(backward)))]
    functions, calls = [], []
    for name, training_part, scratch_plan in zip(
        names, [*forward, *backward], plan.scratch, strict=True
    ):
        timer = len(calls) if is_profiled else None
        functions.append(function_text(name, training_part, (plan.stored, scratch_plan), timer))
        calls += training_part
    places = (evaluation_plan.stored, evaluation_plan.scratch[0])
    functions.append(function_text("evaluate_block", part, places, None))
    tables = tables_text(segments, layout, (plan.stored_size, scratch, channels))
    num_timers = len(calls) if is_profiled else 0
    source = program_text(lanes, network.input_shape, num_timers, functions, tables)
    return Program(
        source,
        lanes,
        layout,
        evaluation,
        numbers,
        segments.stages.norm_channels,
        plan.stored_size,
        scratch + 4 * channels,
        tuple(calls),
    )


def _training_parts(
    segments: Segments, forward: Forward, layout: Layout, num_classes: int
) -> tuple[list[Part], list[Part]]:
    """Return the forward parts, the last one with its way back, and the others' ways back."""
    backward = Backward(segments, forward, layout)
    parts = [
        [call for stage in stages for call in forward.calls(stage, takes_sums=True)]
        for stages in segments.parts
    ]
    parts[0] = _load(forward) + parts[0]
    scores = segments.stages.output
    gradient = backward.gradient(scores)
    backward.started.add(gradient.name)
    places = (At(forward.value(scores)), At(gradient), str(num_classes))
    parts[-1].append(Call("cross_entropy", ("w", "block", *places), kind="loss"))
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


def _evaluation_part(
    stages: Stages, numbers: EvaluationLayout, lanes: int, num_classes: int
) -> Part:
    forward = Forward(stages, EvaluationNumbers(numbers), lanes, training=False)
    part = _load(forward)
    for stage in stages.stages:
        part += forward.calls(stage, takes_sums=False)
    scores = At(forward.value(stages.output))
    return [*part, Call("store_scores", ("w", "block", scores, str(num_classes)))]


def _load(forward: Forward) -> Part:
    images = forward.value(INPUT)
    load = Call("load_images", ("w", "block", At(images), str(images.area)), kind="augmentation")
    return [*clear_border(images), load, *forward.sums(INPUT, were_taken=False)]

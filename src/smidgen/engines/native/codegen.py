"""A network in, one C file out: calls of the kernels with literal shapes, and nothing else."""

import ctypes
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
from smidgen.engines.native.job import Job
from smidgen.engines.native.layout import (
    EvaluationLayout,
    Layout,
    evaluation_layout,
    layout_of,
)
from smidgen.engines.native.memory import plan_memory
from smidgen.engines.native.segments import Segments, cut
from smidgen.engines.native.stages import Stages, flat_map
from smidgen.network.network import INPUT, Network
from smidgen.network.shapes import Shape


def program_text(
    lanes: int, image_shape: Shape, num_timers: int, functions: list[str], tables: str
) -> str:
    """Return the whole file; with timers it measures the seconds of each call."""
    image = ", ".join(map(str, image_shape))
    timers = _TIMERS.format(count=num_timers) if num_timers else ""
    return "\n".join(
        [
            _HEAD.format(lanes=lanes, image=image, job_bytes=ctypes.sizeof(Job)),
            timers,
            *functions,
            tables,
            _TAIL,
        ]
    )


def function_text(
    name: str, part: Part, places: tuple[dict[str, int], dict[str, int]], timer: int | None
) -> str:
    """Return the function of a part; `places` are the offsets of stored and scratch buffers.

    Calls are timed if `timer` is the number of the first one's timer.
    """
    lines = [f"static void {name}(Worker *w, int64_t block) {{", _LOCALS]
    for number, call in enumerate(part):
        arguments = ", ".join(
            _place(argument, *places) if isinstance(argument, At) else argument
            for argument in call.arguments
        )
        note = f" /* {call.what}: {call.kind} */" if call.what else ""
        text = f"{call.function}({arguments});"
        lines.append(f"    {text if timer is None else f'TIMED({timer + number}, {text})'}{note}")
    return "\n".join([*lines, "}", ""])


def _place(at: At, stored: dict[str, int], scratch: dict[str, int]) -> str:
    name, inside = at.buffer.name, at.buffer.area.origin + at.offset
    if name in stored:
        return f"stored + {stored[name] + inside}"
    return f"scratch + {scratch[name] + inside}"


def tables_text(segments: Segments, layout: Layout, sizes: tuple[int, int, int]) -> str:
    """Return the norms and the program; sizes are stored and scratch vectors, most channels."""
    rows = []
    for norm in segments.stages.norms:
        layer, name = norm.layer, norm.name
        stage = next(s for s in segments.stages.stages if getattr(s, "norm", None) == norm)
        channels, height, width = flat_map(segments.stages.shapes[stage.inputs[0]])
        numbers = (
            segments.segment_of[stage.output],
            channels,
            norm.first,
            layout.weights.get(f"{name}.weight", -1),
            layout.weights.get(f"{name}.bias", -1),
            layout.statistics[f"{name}.running_mean"],
            height * width,
            int(layer.running_variance == "unbiased"),
        )
        rows.append(f"    {{{', '.join(map(str, numbers))}, {layer.eps!r}, {layer.momentum!r}}},")
    count = len(segments.parts)
    return _TABLES.format(
        norms="\n".join(rows) or "    {0},",
        forward=", ".join(f"forward_{number}" for number in range(count)),
        backward=", ".join(f"backward_{number}" for number in range(count - 1)) or "0",
        segments=count,
        num_norms=len(rows),
        norm_channels=segments.stages.norm_channels,
        num_weights=layout.num_weights,
        num_statistics=layout.num_statistics,
        stored=sizes[0],
        scratch=sizes[1],
        channels=sizes[2],
    )


_HEAD = """/* Generated from a network; the kernels that it calls are in the headers. */
#define LANES {lanes}
#define IMAGE {image}
#include "run.h"

/* job.py mirrors job.h by hand; a mismatch must not become a thread that waits for ever. */
_Static_assert(sizeof(void *) != 8 || sizeof(Job) == {job_bytes}, "job.py and job.h disagree");

static const Program program;
"""

_TIMERS = """#include <time.h>
EXPORT(smidgen_seconds) double smidgen_seconds[{count}];

static double now(void) {{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time); /* other programs' turns do not count */
    return time.tv_sec + 1e-9 * time.tv_nsec;
}}

#define TIMED(timer, call)                       \\
    {{                                            \\
        double before = now();                   \\
        call smidgen_seconds[timer] += now() - before; \\
    }}
"""

_LOCALS = """    V *stored = w->stored + block * program.stored, *scratch = w->scratch;
    float *gradient = w->job->block_gradients + block * program.num_weights;
    double *sums = sums_of(w->job, &program, block, 0);
    double *slopes = sums_of(w->job, &program, block, 1);
    const VI images = images_of(w, block);"""

_TABLES = """static const Norm norms[] = {{
{norms}
}};
static const Part forward_parts[] = {{{forward}}}, backward_parts[] = {{{backward}}};
static const Program program = {{
    .segments = {segments}, .num_norms = {num_norms}, .norm_channels = {norm_channels},
    .num_weights = {num_weights}, .num_statistics = {num_statistics},
    .stored = {stored}, .scratch = {scratch}, .max_channels = {channels},
    .forward = forward_parts, .backward = backward_parts,
    .evaluate = evaluate_block, .norms = norms,
}};
"""

_TAIL = """EXPORT(smidgen_train) void smidgen_train(Job *job, int thread) {
    train(job, &program, thread);
}
EXPORT(smidgen_evaluate) void smidgen_evaluate(Job *job, int thread) {
    evaluate(job, &program, thread);
}
EXPORT(smidgen_update) void smidgen_update(Job *job, int step) {
    update(job, job->schedule[step], 0, program.num_weights);
}
EXPORT(smidgen_prepare) void smidgen_prepare(Job *job, int step) {
    prepare_batch(job, step, IMAGE);
}
"""


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

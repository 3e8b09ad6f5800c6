"""The C text of a program: a function for each part, the tables, and what is the same in all."""

import ctypes

from smidgen.engines.native.calls import At, Part
from smidgen.engines.native.job import Job
from smidgen.engines.native.layout import Layout
from smidgen.engines.native.segments import Segments
from smidgen.engines.native.stages import flat_map
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

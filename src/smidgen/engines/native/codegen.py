"""A network in, one C file out: calls of the kernels with literal shapes, and nothing else.

What is called is decided in `smidgen.lowering`; here it is only written down, and here alone is C
text made. Tiles are chosen here, too, since they depend on the lanes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from smidgen.engines.native.tiles import Tile, row_tile, weight_tile
from smidgen.lowering.kernels import KERNELS, Parameter
from smidgen.lowering.operands import (
    Area,
    Call,
    Coefficient,
    Finish,
    Gradient,
    Operand,
    Part,
    Place,
    Steps,
    Sums,
    Tensor,
    flat_map,
)
from smidgen.lowering.program import (
    BatchNormalization,
    EvaluationProgram,
    TrainingProgram,
    evaluation_program,
    training_program,
)
from smidgen.network.network import Network
from smidgen.network.shapes import Shape, Window

ENTRIES = ("smidgen_train", "smidgen_evaluate", "smidgen_update", "smidgen_prepare")
"""The functions of every program."""
_WIDTH = 110
"""Longest line, as in the headers; a call that is longer gets a line for each operand."""


@dataclass(frozen=True, slots=True)
class Program:
    """The C file of a network and what Python must know to call it.

    Args:
        source: The C file.
        lanes: Images side by side.
        training: What it does in a step.
        evaluation: What it does to find scores.
    """

    source: str
    lanes: int
    training: TrainingProgram
    evaluation: EvaluationProgram

    @property
    def stored_vectors(self) -> int:
        """Vectors kept for each block of a batch."""
        return self.training.memory.stored_size

    @property
    def scratch_vectors(self) -> int:
        """Vectors that each thread needs, four for each channel of the widest map included."""
        return _scratch(self.training, self.evaluation) + 4 * self.training.most_channels

    @property
    def training_calls(self) -> list[Call]:
        """The calls of a training step, part after part."""
        return [call for part in self.training.parts.values() for call in part]

    def working_bytes(self, batch_size: int, threads: int = 1) -> int:
        """Return the memory that training needs beside images, weights and moments."""
        blocks = -(-batch_size // self.lanes)
        per_block = 4 * self.lanes * self.stored_vectors + 4 * self.training.weights.size
        return blocks * per_block + threads * 4 * self.lanes * self.scratch_vectors


def generate(network: Network, lanes: int, is_profiled: bool = False) -> Program:
    """Print the program that trains and evaluates a network.

    Args:
        network: What to train.
        lanes: Images side by side: 16, 8, 4 or 1.
        is_profiled: Whether the program measures the seconds of each call; they are in its
            array `smidgen_seconds`, in the order of `Program.training_calls`.
    """
    training, evaluation = training_program(network), evaluation_program(network)
    num_timers = sum(map(len, training.parts.values())) if is_profiled else 0
    printer = _Printer(lanes)
    functions, timer = [], 0
    for (name, part), scratch in zip(training.parts.items(), training.memory.scratch, strict=True):
        functions.append(printer.function(name, part, scratch, timer if is_profiled else None))
        timer += len(part)
    folded = _Printer(lanes, tensor_prefix="folded_")
    places = evaluation.memory.scratch[0]
    functions.append(folded.function("evaluate_block", evaluation.part, places, None))
    parts = [
        _head(lanes, network.input_shape, num_timers),
        _offsets(training, evaluation),
        *functions,
        _tables(training, evaluation),
        _TAIL,
    ]
    return Program("\n".join(parts), lanes, training, evaluation)


@dataclass(frozen=True, slots=True)
class _Printer:
    """Turns calls into C.

    Args:
        lanes: Images side by side.
        tensor_prefix: What the names of the tensors' offsets begin with.
    """

    lanes: int
    tensor_prefix: str = ""

    def function(self, name: str, part: Part, scratch: Mapping[str, int], timer: int | None) -> str:
        """Return the function of a part; `scratch` is where its own buffers lie.

        Calls are timed if `timer` is the number of the first one's timer.
        """
        calls = []
        for number, call in enumerate(part):
            text = self.call(call, scratch)
            calls.append(text if timer is None else f"TIMED({timer + number}, {text})")
        used = _used_locals(part, scratch)
        lines = [*_enumerated(scratch)]
        lines += [text for word, text in _LOCALS.items() if word in used]
        lines += "\n".join(calls).splitlines()
        body = "\n".join(f"    {line}" for line in lines)
        return f"static void {name}(Worker *w, int64_t block) {{\n{body}\n}}\n"

    def call(self, call: Call, scratch: Mapping[str, int]) -> str:
        """Return one call, on one line if it fits."""
        operands = [
            (parameter.name, self._argument(call, parameter, scratch))
            for parameter in KERNELS[call.kernel].parameters
        ]
        note = f" /* {call.layer}: {call.kind} */" if call.layer else ""
        short = f"{call.kernel}({', '.join(text for _, text in operands)});"
        if len(short) + len(note) + 4 <= _WIDTH:
            return short + note
        lines = [f"    /* {name} */ {text}" for name, text in operands]
        return f"{call.kernel}({note}\n" + ",\n".join(lines) + ");"

    def _argument(self, call: Call, parameter: Parameter, scratch: Mapping[str, int]) -> str:
        if parameter.kind == "own":
            return self._own(call, parameter.name)
        operand = call.operands[parameter.name]
        match operand:
            case Place():
                is_stored = operand.buffer.name not in scratch
                inside = operand.buffer.area.origin + operand.offset
                place = f"{'stored' if is_stored else 'scratch'} + {operand.buffer.name}"
                place += f" + {inside}" if inside else ""
                return f"{place}, {_map(operand.area)}" if parameter.kind == "map" else place
            case Tensor(name):
                return f"w->weights + {self.tensor_prefix}{_identifier(name)}"
            case Gradient(name):
                return f"gradient + {_identifier(name)}"
            case Coefficient(norm, kind):
                return f"w->{_COEFFICIENTS.get(kind, kind)} + {_identifier(norm)}"
            case Sums(norm, direction):
                return f"{_SUMS[direction]} + 2 * {_identifier(norm)}"
            case None:
                return "0, (Map){0}" if parameter.kind == "map" else "0"
        return _constant(operand)

    def _own(self, call: Call, name: str) -> str:
        match name:
            case "tile":
                tile = _tile(call, self.lanes)
                return f"(Tile){{{tile.outputs}, {tile.inputs}, {tile.rows}, {tile.columns}}}"
            case "keys":
                steps = cast(Steps, call.operands["steps"])
                drops = steps.threshold > 0
                return f"dropout_keys(w, block, {steps.dropout})" if drops else "(VU){0}"
        return _OWN[name]


_OWN = {"worker": "w", "block": "block", "totals": "w->totals", "images": "images"}
_COEFFICIENTS = {"mean": "means", "scale": "scales", "shift": "shifts"}
_SUMS = {"forward": "sums", "backward": "slopes"}

_LOCALS = {
    "stored": "V *const stored = w->stored + block * program.stored;",
    "scratch": "V *const scratch = w->scratch;",
    "gradient": "float *const gradient = w->job->block_gradients + block * program.num_weights;",
    "sums": "double *const sums = sums_of(w->job, &program, block, 0);",
    "slopes": "double *const slopes = sums_of(w->job, &program, block, 1);",
    "images": "const VI images = images_of(w, block);",
}


def _used_locals(part: Part, scratch: Mapping[str, int]) -> set[str]:
    """Return which of the locals a part's calls mention; any other would be unused in C."""
    used = set()
    for call in part:
        for parameter in KERNELS[call.kernel].parameters:
            match call.operands.get(parameter.name):
                case Place(buffer):
                    used.add("scratch" if buffer.name in scratch else "stored")
                case Gradient():
                    used.add("gradient")
                case Sums(_, direction):
                    used.add(_SUMS[direction])
            if parameter.name == "images":
                used.add("images")
    return used


def _tile(call: Call, lanes: int) -> Tile:
    """Return how much of a convolution is summed in registers at once."""
    window, groups = cast(Window, call.operands["window"]), cast(int, call.operands["groups"])
    columns, step = window.kernel[1], window.stride[1]
    if call.kernel == "conv_weight_gradient":
        outputs, _, _ = _shape(call.operands["dy"])
        inputs, _, _ = _shape(call.operands["x"])
        return weight_tile(outputs // groups, inputs // groups, *window.kernel, lanes)
    if call.kernel == "conv_forward":
        channels, _, width = _shape(call.operands["y"])
        outputs, wide = row_tile(channels // groups, width, columns, step, lanes)
        return Tile(outputs=outputs, columns=wide)
    # of an input gradient; its columns are a multiple of the stride
    channels, _, width = _shape(call.operands.get("dx") or call.operands["dz"])
    inputs, wide = row_tile(channels // groups, width, columns, 1, lanes, multiple=step)
    return Tile(inputs=inputs, columns=wide)


def _shape(operand: Operand) -> tuple[int, int, int]:
    return flat_map(cast(Place, operand).area.shape)


def _identifier(name: str) -> str:
    return name.replace(".", "_")


def _map(area: Area) -> str:
    channels, height, width = flat_map(area.shape)
    return f"(Map){{{channels}, {height}, {width}, {area.pitch}, {area.plane}}}"


def _constant(value: object) -> str:
    """Return a constant as C."""
    match value:
        case bool():
            return str(int(value))
        case float():
            # a literal that C reads back to the same single
            text = repr(value)
            return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
        case Window():
            numbers = (*value.kernel, *value.stride, *value.before, *value.dilation)
            return f"(Window){{{', '.join(map(str, numbers))}}}"
        case Finish():
            fields = (value.has_bias, value.activation, value.takes_sums, value.slope)
            return f"(Finish){{{', '.join(map(_constant, fields))}}}"
        case Steps():
            fields = (
                value.has_norm,
                value.activation,
                value.has_slopes,
                value.shares_slope,
                value.slope,
                value.factor,
                value.threshold,
                value.drops_channels,
            )
            return f"(Pointwise){{{', '.join(map(_constant, fields))}}}"
    return str(value)


def _enumerated(offsets: Mapping[str, int], prefix: str = "") -> Iterator[str]:
    """Go through the lines of an enumeration of offsets; none without any."""
    ordered = sorted(offsets.items(), key=lambda item: (item[1], item[0]))
    items = [f"{prefix}{_identifier(name)} = {offset}" for name, offset in ordered]
    if not items:
        return
    line = "enum { "
    for number, item in enumerate(items):
        end = ", " if number + 1 < len(items) else " };"
        if len(line) + len(item) + len(end) > _WIDTH - 4:
            yield line.rstrip()
            line = "    "
        line += item + end
    yield line.rstrip()


def _head(lanes: int, image_shape: Shape, num_timers: int) -> str:
    image = ", ".join(map(str, image_shape))
    timers = _TIMERS.format(count=num_timers) if num_timers else ""
    return _HEAD.format(lanes=lanes, image=image) + timers


def _offsets(training: TrainingProgram, evaluation: EvaluationProgram) -> str:
    """Return what the parts' operands are called."""
    firsts = {norm.name: norm.first for norm in training.norms}
    told: list[tuple[str, Mapping[str, int], str]] = [
        ("Trained numbers, and where their gradients go.", training.weights.offsets, ""),
        ("Running statistics.", training.statistics.offsets, ""),
        ("First channel of each batch norm among all.", firsts, ""),
        ("Maps kept for each block of a batch, in vectors.", training.memory.stored, ""),
        ("Numbers folded for evaluation.", evaluation.folding.layout.offsets, "folded_"),
    ]
    lines = []
    for what, offsets, prefix in told:
        if offsets:
            lines += [f"/* {what} */", *_enumerated(offsets, prefix)]
    return "\n".join([*lines, ""])


def _norm(norm: BatchNormalization) -> str:
    fields = {
        "segment": norm.segment,
        "channels": norm.channels,
        "first": _identifier(norm.name),
        "gamma": -1 if norm.gain is None else _identifier(norm.gain),
        "beta": -1 if norm.shift is None else _identifier(norm.shift),
        "running": f"{_identifier(norm.name)}_running_mean",
        "positions": norm.positions,
        "unbiased": int(norm.is_unbiased),
        "eps": repr(norm.eps),
        "momentum": repr(norm.momentum),
    }
    lines = [f"    .{name} = {value}," for name, value in fields.items()]
    return "\n".join(["    {", *(f"    {line}" for line in lines), "    },"])


def _scratch(training: TrainingProgram, evaluation: EvaluationProgram) -> int:
    return max(training.memory.scratch_size, evaluation.memory.scratch_size)


def _tables(training: TrainingProgram, evaluation: EvaluationProgram) -> str:
    """Return the norms and the program."""
    count = len(training.forward)
    return _TABLES.format(
        norms="\n".join(map(_norm, training.norms)) or "    {0},",
        forward=_listed(f"forward_{number}" for number in range(count)),
        backward=_listed(f"backward_{number}" for number in range(count - 1)) or "0",
        segments=count,
        num_norms=len(training.norms),
        norm_channels=training.norm_channels,
        num_weights=training.weights.size,
        num_statistics=training.statistics.size,
        stored=training.memory.stored_size,
        scratch=_scratch(training, evaluation),
        channels=training.most_channels,
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


_HEAD = """/* Generated from a network; the kernels that it calls are in the headers. */
#define LANES {lanes}
#define IMAGE {image}
#include "run.h"

static const Program program;
"""

_TIMERS = """
#include <time.h>
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

_TABLES = """static const Norm norms[] = {{
{norms}
}};
static const Part forward_parts[] = {{{forward}}};
static const Part backward_parts[] = {{{backward}}};
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

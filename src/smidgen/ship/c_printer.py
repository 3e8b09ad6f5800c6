"""An integer network as one C99 header: no library, no allocation, no runtime."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from smidgen.ship.arena import Arena, plan_arena
from smidgen.ship.c_fast import fast_text
from smidgen.ship.c_text import about_lines, array_text, resource, with_halves
from smidgen.ship.executor import scores_of
from smidgen.ship.integer import IMAGE, IntegerNetwork, Stage

_FAR = 0xFFFF
"""What stands for the image, or the scores, where a place in the arena is expected."""
_FLAGS = {
    "padded",
    "separable",
    "each",
    "sum",
    "pool_padded",
    "largest",
    "linear",
    "relu",
    "offset",
}
_FLAGS |= {"last"}
"""Fields that are asked for and never counted with: they share a byte."""
_TRAINED = {"shift_a", "depthwise_shift", "last_shift"}
"""Fields that training decides: they stay fields, so that flash is known before."""
_STAGE_BYTES = 24
"""Of a stage's row in the small form's table, at most."""
_RELU, _LINEAR, _SLOPES = "relu", "linear", "slopes"


@dataclass(frozen=True, slots=True)
class Tables:
    """A network's numbers in the order that the C code reads them.

    Args:
        weights: int8; of a separable stage first the depthwise ones.
        numbers: int16: for each output channel the bias, then the factor below 0 if the stage has
            slopes, then the offset if it has offsets.
        factors: For each output channel the factor and the shift; uint8 unless a factor is not.
        depthwise_bias: int32, one for each gathered channel, or empty where all are halves.
    """

    weights: tuple[int, ...]
    numbers: tuple[int, ...]
    factors: tuple[int, ...]
    depthwise_bias: tuple[int, ...]

    @property
    def factor_type(self) -> str:
        """The C type of the factors."""
        return "uint8_t" if all(0 <= factor <= 255 for factor in self.factors) else "int16_t"


def activation_of(stage: Stage) -> str:
    """Tell whether a stage has slopes of its own, or is a ReLU, or linear."""
    if stage.negative == stage.positive:
        return _LINEAR
    return _SLOPES if any(stage.negative) else _RELU


def tables_of(network: IntegerNetwork) -> Tables:
    """Lay out a network's numbers."""
    weights: list[int] = []
    numbers: list[int] = []
    factors: list[int] = []
    biases: list[int] = []
    for stage in network.stages:
        if stage.depthwise is not None:
            weights += stage.depthwise.weights
            biases += stage.depthwise.bias
        weights += stage.weights
        for channel in range(stage.out_channels):
            numbers.append(stage.bias[channel])
            if activation_of(stage) == _SLOPES:
                numbers.append(stage.negative[channel])
            if stage.offset:
                numbers.append(stage.offset[channel])
            factors += (stage.positive[channel], stage.shift[channel])
    halves = all(
        bias == 1 << stage.depthwise.shift >> 1
        for stage in network.stages
        if stage.depthwise is not None
        for bias in stage.depthwise.bias
    )
    return Tables(tuple(weights), tuple(numbers), tuple(factors), () if halves else tuple(biases))


def data_bytes(network: IntegerNetwork) -> int:
    """Return what the small form's tables take: weights, numbers, factors, stages."""
    tables = tables_of(network)
    factor_bytes = 1 if tables.factor_type == "uint8_t" else 2
    return (
        len(tables.weights)
        + 2 * len(tables.numbers)
        + factor_bytes * len(tables.factors)
        + 4 * len(tables.depthwise_bias)
        + _STAGE_BYTES * len(network.stages)
    )


def bytes_gathered(stage: Stage, network: IntegerNetwork) -> int:
    """Return the stack that the depthwise results of a stage take, int16."""
    if stage.depthwise is None:
        return 0
    fields = _pool_fields(stage, stage is network.last)
    return 2 * network.shape_of(stage.inputs[0])[0] * fields["pool_y"] * fields["pool_x"]


def stage_fields(network: IntegerNetwork, stage: Stage, arena: Arena) -> dict[str, int]:
    """Return what the kernels must know of a stage."""
    is_last = stage is network.last
    channels, height, width = network.shape_of(stage.inputs[0])
    places = [_FAR if index == IMAGE else arena.offsets[index] for index in stage.inputs]
    spatial = stage.kernel[0] * stage.kernel[1]
    taps = {"window": spatial * channels, "separable": channels, "each": spatial}
    activation = activation_of(stage)
    return {
        "from": places[0],
        "second": places[-1],
        "to": 0 if is_last else arena.offsets[stage.output] + stage.first_channel,
        "height": height,
        "width": width,
        "channels": channels,
        "outputs": stage.out_channels,
        "pixel": 0 if is_last else network.shapes[stage.output][0],
        "kernel_y": stage.kernel[0],
        "kernel_x": stage.kernel[1],
        "step": stage.stride[0],
        "before_y": stage.before[0],
        "before_x": stage.before[1],
        "padded": int(_reaches_out(stage, (height, width))),
        "taps": taps.get(stage.gather, len(stage.inputs)),
        "separable": int(stage.gather == "separable"),
        "each": int(stage.gather == "each"),
        "sum": int(stage.gather == "sum"),
        "depthwise_shift": stage.depthwise.shift if stage.depthwise else 0,
        "shift_a": stage.shift_a,
        "last_shift": stage.pool_shift,
        **_pool_fields(stage, is_last),
        "linear": int(activation == _LINEAR),
        "relu": int(activation == _RELU),
        "offset": int(bool(stage.offset)),
        "numbers": 1 + (activation == _SLOPES) + bool(stage.offset),
        "last": int(is_last),
        "image": int(stage.inputs[0] == IMAGE),
    }


def _pool_fields(stage: Stage, is_last: bool) -> dict[str, int]:
    pool = stage.pool
    if is_last and pool is not None and pool.kind == "sum":
        pool = None  # scores are sums over positions, whatever the order
    rows, columns = stage.positions if pool is None else stage.size
    return {
        "positions_y": stage.positions[0],
        "positions_x": stage.positions[1],
        "rows": rows,
        "columns": columns,
        "pool_y": pool.kernel[0] if pool else 1,
        "pool_x": pool.kernel[1] if pool else 1,
        "pool_step_y": pool.stride[0] if pool else 1,
        "pool_step_x": pool.stride[1] if pool else 1,
        "pool_before_y": pool.before[0] if pool else 0,
        "pool_before_x": pool.before[1] if pool else 0,
        "pool_padded": int(pool is not None and _pool_reaches_out(stage)),
        "largest": int(pool is not None and pool.kind == "max"),
    }


def _reaches_out(stage: Stage, size: tuple[int, int]) -> bool:
    return any(
        stage.before[axis] > 0
        or (stage.positions[axis] - 1) * stage.stride[axis] + stage.kernel[axis] > size[axis]
        for axis in range(2)
    )


def _pool_reaches_out(stage: Stage) -> bool:
    pool = stage.pool
    assert pool is not None
    return any(
        pool.before[axis] > 0
        or (stage.size[axis] - 1) * pool.stride[axis] + pool.kernel[axis] > stage.positions[axis]
        for axis in range(2)
    )


def header(
    network: IntegerNetwork, prefix: str, fast: bool = False, examples: np.ndarray | None = None
) -> str:
    """Print a network as one C header.

    Args:
        network: What to print.
        prefix: What all names begin with, as `digit` or `smidgen_500`.
        fast: Whether the code is laid out for speed and not for the smallest flash.
        examples: uint8 (N, C, H, W) images of the self-test, or None for no test.
    """
    arena = plan_arena(network)
    rows = [stage_fields(network, stage, arena) for stage in network.stages]
    gathered = max(
        (row["channels"] * row["pool_y"] * row["pool_x"] for row in rows if row["separable"]),
        default=1,
    )
    constants = {
        "ARENA_BYTES": max(arena.num_bytes, 1),
        "CLASSES": len(network.class_names),
        "CHANNELS": network.input_shape[0],
        "HEIGHT": network.input_shape[1],
        "WIDTH": network.input_shape[2],
        "NUM_STAGES": len(rows),
        "GATHERED": gathered,
        "PAD_BYTE": network.pad_byte,
        "IMAGE": f"0x{_FAR:x}",
    }
    parts = [
        _top(network),
        *(f"#define NAME_{name} {number}" for name, number in constants.items()),
        "",
        resource("frame.h"),
        fast_text(network.stages, rows) if fast else _small_form(network, rows),
        "" if examples is None else _self_test(network, examples),
        "#endif /* NAME_H */\n",
    ]
    return renamed("\n".join(parts), prefix)


def _self_test(network: IntegerNetwork, examples: np.ndarray) -> str:
    """Print images with all their scores, and what compares them."""
    pixels = examples.transpose(0, 2, 3, 1).reshape(-1).tolist()
    scores = scores_of(network, examples).reshape(-1).tolist()
    return "\n".join(
        [
            "#ifdef NAME_TEST",
            f"#define NAME_EXAMPLES {len(examples)}",
            array_text("uint8_t", "NAME_example_images", pixels).replace(" NAME_IN_FLASH", ""),
            array_text("int32_t", "NAME_example_scores", scores).replace(" NAME_IN_FLASH", ""),
            "/* How many scores of the examples are wrong: 0. */",
            "NAME_API int NAME_self_test(void) {",
            "    int32_t scores[NAME_CLASSES];",
            "    int example, number, wrong = 0;",
            "    for (example = 0; example < NAME_EXAMPLES; example++) {",
            "        NAME_classify(NAME_example_images + example * NAME_CHANNELS * NAME_HEIGHT *"
            " NAME_WIDTH, scores);",
            "        for (number = 0; number < NAME_CLASSES; number++)",
            "            wrong += scores[number] !="
            " NAME_example_scores[example * NAME_CLASSES + number];",
            "    }",
            "    return wrong;",
            "}",
            "#endif",
            "",
        ]
    )


def _small_form(network: IntegerNetwork, rows: Sequence[Mapping[str, int]]) -> str:
    tables = tables_of(network)
    starts = [array_text("int32_t", "NAME_starts", tables.depthwise_bias)]
    return "\n".join(
        [
            *(starts if tables.depthwise_bias else []),
            array_text("int8_t", "NAME_weights", tables.weights),
            array_text("int16_t", "NAME_numbers", tables.numbers),
            f"typedef {tables.factor_type} NAME_factor;",
            array_text("NAME_factor", "NAME_factors", tables.factors),
            _small(rows, not tables.depthwise_bias),
        ]
    )


def renamed(text: str, prefix: str) -> str:
    """Give all names of a text their prefix; macros get it in capitals."""
    text = re.sub(r"NAME(?=_[A-Z])", prefix.upper(), text)
    return text.replace("NAME", prefix)


def _top(network: IntegerNetwork) -> str:
    about = "\n   ".join(about_lines(network))
    return (
        f"/* An image classifier in plain integers.\n   {about} */\n"
        "#ifndef NAME_H\n#define NAME_H\n#include <stdint.h>\n"
    )


def _small(rows: Sequence[Mapping[str, int]], are_halves: bool) -> str:
    """Print the loop over stages, and their table.

    Fields that are equal in all stages become numbers, and fields that are equal to each other
    become one.
    """
    text = with_halves(resource("small.c"), are_halves, "NAME_starts")
    stands_for: dict[str, str] = {}
    fields: dict[object, str] = {}
    for key in dict.fromkeys(re.findall(r"@(\w+)", text)):
        column = tuple(row[key] for row in rows)
        if key in _TRAINED and any(column):
            stands_for[key] = fields[key] = key
        elif len(set(column)) == 1:
            stands_for[key] = str(column[0])
        else:
            stands_for[key] = fields.setdefault((key in _FLAGS, column), key)
    kept = list(fields.values())
    flags = [key for key in kept if key in _FLAGS]
    wide = [key for key in kept if max(row[key] for row in rows) > 255]
    plain = wide + [key for key in kept if key not in wide and key not in flags]

    def place(match: re.Match[str]) -> str:
        key = stands_for[match[1]]
        if key.isdigit():
            return key
        return f"(s->flags & {1 << flags.index(key)})" if key in flags else f"s->{key}"

    return _stage_table(rows, plain, wide, flags) + re.sub(r"@(\w+)", place, text)


def _stage_table(
    rows: Sequence[Mapping[str, int]], plain: list[str], wide: list[str], flags: list[str]
) -> str:
    """Print the structure of a stage and the table of all."""
    lines = ["typedef struct {"]
    lines += [f"    {'uint16_t' if key in wide else 'uint8_t'} {key};" for key in plain]
    if flags:
        legend = ", ".join(f"{1 << bit} {key}" for bit, key in enumerate(flags))
        lines.append(f"    {'uint8_t' if len(flags) <= 8 else 'uint16_t'} flags; /* {legend} */")
    lines += ["} NAME_stage;", ""]
    lines.append("static const NAME_stage NAME_stages[NAME_NUM_STAGES] NAME_IN_FLASH = {")
    for row in rows:
        values = [str(row[key]) for key in plain]
        values += [str(sum(row[key] << bit for bit, key in enumerate(flags)))] if flags else []
        lines.append(f"    {{{', '.join(values)}}},")
    copy = ["#ifdef NAME_COPIES_STAGES", "static NAME_stage NAME_now;", "#endif"]
    return "\n".join([*lines, "};", *copy, "", ""])

"""`IntegerNetwork`: a classifier in plain integers, with the proof that none of them overflows.

One operation does everything. For every position of its output a stage gathers int8 values (or
the bytes of the image), takes their dot product with int8 weights, multiplies once with a factor
that has the activation's slope in it, pools, shifts, and clamps to int8; the last stage adds up
int32 scores instead:

    accumulator = sum(weight * value)                  int8 or int16 values, int8 weights
    a = (accumulator >> shift_a) + bias                 int16 bias; rounding is part of it
    t = ((a * (negative if a < 0 else positive)) >> shift) + offset
    out = clamp((pooled t + half) >> pool_shift)        half = 1 << pool_shift >> 1, clamp to +-127
    score = pooled t                                    of the last stage

Every shift is to the right and rounds down; the last one gets its half first, so it rounds half
up. Every accumulator, product and sum is below 2^24 in size, so float32 holds it exactly, in any
order of summation: one meaning for Python, C, JavaScript and ONNX.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from smidgen.errors import NetworkError
from smidgen.values import from_json, to_json, value

LIMIT = 1 << 24
"""What no integer's size may reach: float32 holds all integers up to here."""
CLAMP = 127
IMAGE = -1
"""The value that stands for the image."""

Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Pair = tuple[Positive, Positive]
WholePair = tuple[Whole, Whole]
Map = tuple[Positive, Positive, Positive]
Integers = tuple[int, ...]
Shift = Annotated[int, Field(ge=0, le=23)]


@value(NetworkError)
class Depthwise:
    """What a separable convolution gathers: d = (sum(weight * value) + bias) >> shift, int16.

    Args:
        weights: int8, (channel, row, column).
        bias: One for each channel; the rounding half is part of it.
        shift: To the right, one for all channels.
    """

    weights: Integers
    bias: Integers
    shift: Shift


@value(NetworkError)
class Pool:
    """What happens to the t of several positions: the largest or the sum of each window.

    Padded positions never win and add nothing; `before` is their number above and left.
    """

    kind: Literal["max", "sum"]
    kernel: Pair
    stride: Pair
    before: WholePair = (0, 0)


@value(NetworkError)
class Stage:
    """One operation; see the module for its arithmetic.

    Args:
        name: The layers it stands for, for people.
        inputs: The values it reads; only `sum` reads several.
        output: The value it writes, or a part of its channels.
        first_channel: Where that part begins.
        gather: `window`: all channels below the kernel, weights (out, row, column, channel).
            `separable`: `depthwise`, then weights (out, channel). `each`: one channel below the
            kernel, weights (channel, row, column). `sum`: one channel of each input, weights
            (channel, input).
        kernel: Rows and columns.
        stride: Of the kernel.
        before: Padded rows above and columns left; padded cells are 0, or `pad_byte` for the image.
        positions: Rows and columns of the accumulators, before the pool.
        size: Rows and columns that it writes, behind the pool; cells of a pool's window beyond the
            positions are padding. (1, 1) in the last stage.
        out_channels: Channels that it writes.
        weights: int8.
        bias: int16, one for each output channel; added after `shift_a`.
        shift_a: To the right, one for all channels.
        positive: Factor of what is not negative, int16; 128 to 255 unless a norm behind the
            activation turns a sign.
        negative: Factor of what is negative, int16.
        shift: 0 to 23, one for each output channel.
        offset: int16 for each output channel, or empty for zeros.
        pool: What happens to neighboring t, or None.
        pool_shift: The last shift.
        depthwise: The first half of `separable`.
    """

    name: str
    inputs: Annotated[tuple[int, ...], Field(min_length=1)]
    output: Whole
    gather: Literal["window", "separable", "each", "sum"]
    positions: Pair
    size: Pair
    out_channels: Positive
    weights: Integers
    bias: Integers
    shift_a: Shift
    positive: Integers
    negative: Integers
    shift: Integers
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    before: WholePair = (0, 0)
    first_channel: Whole = 0
    offset: Integers = ()
    pool: Pool | None = None
    pool_shift: Shift = 4
    depthwise: Depthwise | None = None


@value(NetworkError)
class IntegerNetwork:
    """A classifier of byte images in integers; it proves its bounds when it is made.

    Args:
        name: What it is called in generated code.
        class_names: One for each score.
        input_shape: (channels, height, width) of the images.
        shapes: (channels, height, width) of each value between stages.
        stages: In the order they run; the last one makes the scores.
        score_scale: What one unit of a score is as a logit; for probabilities, never needed
            to tell the class.
        pad_byte: What stands around the image for convolutions that pad it: the byte nearest
            to the mean that training subtracted.
        source: Where it comes from, for people: recipe, seed, identity of the run.

    Raises:
        NetworkError: Parts that do not fit, or an integer that could reach 2^24.
    """

    name: str
    class_names: tuple[str, ...]
    input_shape: Map
    shapes: tuple[Map, ...]
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    score_scale: Annotated[float, Field(gt=0.0)]
    pad_byte: Annotated[int, Field(ge=0, le=255)] = 0
    source: dict[str, str] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        bounds_of(self)

    @property
    def last(self) -> Stage:
        """The stage that makes the scores."""
        return self.stages[-1]

    def shape_of(self, index: int) -> Map:
        """Return (channels, height, width) of a value, or of the image."""
        return self.input_shape if index == IMAGE else self.shapes[index]

    def to_json(self, indent: int | None = None) -> str:
        """Return the exchange form; `from_json` gives back an equal network."""
        return to_json(self, indent)

    @staticmethod
    def from_json(text: str | bytes, where: str = "") -> "IntegerNetwork":
        """Read a network back; raises NetworkError with the path of what is wrong."""
        return from_json(IntegerNetwork, text, NetworkError, where)


Interval = tuple[np.ndarray, np.ndarray]
"""Smallest and largest number of each channel, int64."""


@value(NetworkError)
class StageBounds:
    """The largest sizes that a stage's integers can have, over all images there could be."""

    accumulator: int
    product: int
    pooled: int
    depthwise: int


def bounds_of(network: IntegerNetwork) -> tuple[StageBounds, ...]:
    """Prove that no integer reaches 2^24, by intervals from the image's bytes onward.

    Returns:
        The largest sizes, stage by stage.

    Raises:
        NetworkError: Names the stage and what does not fit or could overflow.
    """
    byte = np.full(network.input_shape[0], 255)
    values: dict[int, Interval] = {IMAGE: (0 * byte, byte)}
    found = []
    for number, stage in enumerate(network.stages):
        _check_shape(network, stage, is_last=number == len(network.stages) - 1)
        bounds, interval = stage_bounds(stage, [values[index] for index in stage.inputs])
        found.append(bounds)
        _store(values, stage, interval, network.shapes)
    return tuple(found)


def stage_bounds(stage: Stage, inputs: Sequence[Interval]) -> tuple[StageBounds, Interval]:
    """Return the largest sizes of a stage's integers, and the interval of what it gives.

    Args:
        stage: The stage.
        inputs: Smallest and largest value of each channel of each input.

    Raises:
        NetworkError: A size reaches 2^24, or a depthwise result int16.
    """
    depthwise = 0
    low, high = accumulated(stage, inputs)
    if stage.depthwise is not None:
        d_low, d_high = depthwise_results(stage.depthwise, inputs[0])
        depthwise = _largest(d_low, d_high)
        if depthwise >= 1 << 15:
            raise NetworkError(f"{stage.name}: a depthwise result of {depthwise:,} is no int16.")
    accumulator = _largest(low, high)
    bias = np.array(stage.bias)
    low, high = (low >> stage.shift_a) + bias, (high >> stage.shift_a) + bias
    corners = _products(stage, low, high)
    product = max(_largest(*pair) for pair in corners)
    shift = np.array(stage.shift)
    offset = np.array(stage.offset or (0,))
    t_low = (np.minimum.reduce([a for a, _ in corners]) >> shift) + offset
    t_high = (np.maximum.reduce([b for _, b in corners]) >> shift) + offset
    cells = 1
    if stage.pool is not None and stage.pool.kind == "sum":
        cells = stage.pool.kernel[0] * stage.pool.kernel[1]
    pooled = cells * _largest(t_low, t_high) + (1 << stage.pool_shift >> 1)
    for what, size in (("accumulator", accumulator), ("product", product), ("sum", pooled)):
        if size >= LIMIT:
            raise NetworkError(
                f"{stage.name}: its {what} can reach {size:,}, and must stay below 2^24; "
                "quantize it anew."
            )
    half = 1 << stage.pool_shift >> 1
    out = tuple(
        np.clip((cells * t + half) >> stage.pool_shift, -CLAMP, CLAMP) for t in (t_low, t_high)
    )
    return StageBounds(accumulator, product, pooled, depthwise), (out[0], out[1])


def accumulated(stage: Stage, inputs: Sequence[Interval]) -> Interval:
    """Return the interval of each output channel's accumulator."""
    rows = weight_rows(stage)
    if stage.gather == "sum":
        low = np.stack([interval[0] for interval in inputs], axis=1)
        high = np.stack([interval[1] for interval in inputs], axis=1)
        return dot_interval(rows, low, high)
    low, high = inputs[0]
    if stage.depthwise is not None:
        low, high = depthwise_results(stage.depthwise, inputs[0])
        return dot_interval(rows, low, high)
    taps = stage.kernel[0] * stage.kernel[1]
    if stage.gather == "each":
        return dot_interval(rows, low[:, None], high[:, None])
    return dot_interval(rows, np.tile(low, taps), np.tile(high, taps))


def depthwise_results(part: Depthwise, given: Interval) -> Interval:
    """Return the interval of each channel's depthwise result."""
    weights = np.array(part.weights).reshape(len(given[0]), -1)
    low, high = dot_interval(weights, given[0][:, None], given[1][:, None])
    bias = np.array(part.bias)
    return (low + bias) >> part.shift, (high + bias) >> part.shift


def dot_interval(weights: np.ndarray, low: np.ndarray, high: np.ndarray) -> Interval:
    """Return the interval of sum(weights * x, axis 1) for any x; padded zeros are among them.

    Partial sums are in it, too.
    """
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    positive, negative = np.maximum(weights, 0), np.minimum(weights, 0)
    return (
        (positive * low + negative * high).sum(axis=1),
        (positive * high + negative * low).sum(axis=1),
    )


def weight_rows(stage: Stage) -> np.ndarray:
    """Return the weights as int64 (out channel, tap)."""
    return np.array(stage.weights, dtype=np.int64).reshape(stage.out_channels, -1)


def _products(stage: Stage, low: np.ndarray, high: np.ndarray) -> list[Interval]:
    """Return the intervals of a * factor where a is not negative, and where it is."""
    positive, negative = np.array(stage.positive), np.array(stage.negative)
    found = []
    for factor, a, b in (
        (positive, np.maximum(low, 0), np.maximum(high, 0)),
        (negative, np.minimum(low, 0), np.minimum(high, 0)),
    ):
        found.append((np.minimum(a * factor, b * factor), np.maximum(a * factor, b * factor)))
    return found


def _largest(low: np.ndarray, high: np.ndarray) -> int:
    return int(max(np.abs(low).max(), np.abs(high).max()))


def _store(
    values: dict[int, Interval], stage: Stage, interval: Interval, shapes: tuple[Map, ...]
) -> None:
    if stage.output >= len(shapes):
        return
    channels = shapes[stage.output][0]
    low, high = values.setdefault(
        stage.output, (np.zeros(channels, np.int64), np.zeros(channels, np.int64))
    )
    part = slice(stage.first_channel, stage.first_channel + stage.out_channels)
    low[part], high[part] = interval


def _check_shape(network: IntegerNetwork, stage: Stage, is_last: bool) -> None:
    """Refuse numbers that are missing, too many or out of their type's range."""
    channels = network.shape_of(stage.inputs[0])[0]
    taps = stage.kernel[0] * stage.kernel[1]
    columns = {"window": taps * channels, "separable": channels, "each": taps}
    counts = {
        "weights": stage.out_channels * columns.get(stage.gather, len(stage.inputs)),
        **dict.fromkeys(("bias", "positive", "negative", "shift"), stage.out_channels),
    }
    for what, count in counts.items():
        if len(getattr(stage, what)) != count:
            raise NetworkError(
                f"{stage.name}: `{what}` has {len(getattr(stage, what))} numbers, not {count}."
            )
    for what, (least, most) in _RANGES.items():
        numbers = getattr(stage, what)
        if numbers and not (least <= min(numbers) and max(numbers) <= most):
            raise NetworkError(f"{stage.name}: `{what}` must lie within {least} and {most}.")
    if (stage.gather == "separable") != (stage.depthwise is not None):
        raise NetworkError(f"{stage.name}: `separable` and `depthwise` go together.")
    if stage.depthwise is not None:
        sizes = len(stage.depthwise.weights), len(stage.depthwise.bias)
        if sizes != (channels * taps, channels):
            raise NetworkError(f"{stage.name}: `depthwise` needs {channels} channels of {taps}.")
    if is_last and (stage.size != (1, 1) or stage.out_channels != len(network.class_names)):
        raise NetworkError(
            f"{stage.name}: {stage.out_channels} scores in {stage.size[0]}x{stage.size[1]} "
            f"places, but {len(network.class_names)} classes."
        )


_INT16 = (-(1 << 15), (1 << 15) - 1)
_RANGES = {
    "weights": (-CLAMP, CLAMP),
    "shift": (0, 23),
    **dict.fromkeys(("bias", "positive", "negative", "offset"), _INT16),
}

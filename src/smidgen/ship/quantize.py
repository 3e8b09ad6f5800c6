"""Float stages and some training images in, an `IntegerNetwork` out.

Every value gets one scale for each channel, from its largest size on the calibration images: the
next stage takes the scales over into its weights, whatever it gathers. Weights get one scale for
each output channel, chosen so that the factor behind the sum is a whole number of 8 bits and
nothing is lost by rounding it. The results of a depthwise convolution keep 12 to 15 bits.

What was tried and lost stands in `docs/shipping.md`: shifts alone, 8 bits between depthwise and
pointwise, weights below 8 bits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from smidgen.errors import NetworkError
from smidgen.network.network import INPUT, Network
from smidgen.ship.executor import accumulators, outputs
from smidgen.ship.folding import FloatNetwork, FloatStage, fold
from smidgen.ship.integer import (
    CLAMP,
    LIMIT,
    Depthwise,
    IntegerNetwork,
    Interval,
    Pool,
    Stage,
    accumulated,
    depthwise_results,
    dot_interval,
    stage_bounds,
)

NUM_CALIBRATION = 1_000
"""Training images that decide the scales; more changed no error count by more than one."""

_EXTRA_BITS, _EXTRA_BITS_OF_SCORES = 4, 6
"""By how many bits t is finer than what it becomes; fewer where sums would grow too large."""
_BATCH = 250
_NUM_CORRECTING = 500
"""Calibration images whose integers correct the biases."""
_LARGEST_FACTOR = 255
_SLOPE_LIMIT = 64
"""Where the slope below 0 is so much larger than that above, it gets the 8 bits instead."""
_SMALLEST_SHARE = 2.0**-7
"""A channel that is dead in calibration gets this share of its layer's largest value."""


@dataclass(frozen=True, slots=True)
class Naming:
    """What an exported network is called and where it comes from."""

    name: str
    class_names: tuple[str, ...]
    source: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Sums:
    """The dot products of a stage, still in floats: one row for each output channel.

    Args:
        rows: (out, taps): how much one unit of each gathered integer adds.
        inputs: Interval of the gathered integers, as (out or 1, taps).
    """

    rows: np.ndarray
    inputs: Interval


_Choice = tuple[Depthwise | None, _Sums]


def quantize(folded: FloatNetwork, images: np.ndarray, naming: Naming) -> IntegerNetwork:
    """Turn float stages into integers.

    Args:
        folded: What `fold` gave.
        images: uint8 (N, C, H, W) training images that show how large values become.
        naming: Names for generated code.

    Raises:
        NetworkError: A stage that fits into no integers below 2^24; names it.
    """
    return _Quantizer(folded, images, naming).run()


def stand_in(
    network: Network, tensors: Mapping[str, np.ndarray], naming: Naming, mean: float = 0.0
) -> IntegerNetwork:
    """Return an integer network of the right form without calibration, to know its size by."""
    folded = fold(network, tensors, mean)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, *network.input_shape), dtype=np.uint8)
    return quantize(folded, images, naming)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the calibration images say of a stage: its largest outputs and its mean sums."""

    largest: np.ndarray
    mean: np.ndarray


def _observe(folded: FloatNetwork, images: np.ndarray) -> list[_Seen]:
    """Run the float stages over images; every number is one for each output channel, float64."""
    largest = [np.zeros(len(stage.bias)) for stage in folded.stages]
    sums = [np.zeros(len(stage.bias)) for stage in folded.stages]
    for at in range(0, len(images), _BATCH):
        for number, (z, made) in enumerate(folded.steps(images[at : at + _BATCH])):
            largest[number] = np.maximum(largest[number], np.abs(made).max(axis=(0, 1, 2)))
            sums[number] += z.mean(axis=(1, 2), dtype=np.float64).sum(axis=0)
    return [_Seen(a, b / len(images)) for a, b in zip(largest, sums, strict=True)]


class _Quantizer:
    def __init__(self, folded: FloatNetwork, images: np.ndarray, naming: Naming) -> None:
        self.folded, self.naming = folded, naming
        self.seen = _observe(folded, images)
        self.pad_byte = int(np.clip(np.floor(255 * folded.mean + 0.5), 0, 255))
        few = images[:_NUM_CORRECTING]
        self.values: dict[int, np.ndarray] = {INPUT: few.transpose(0, 2, 3, 1)}
        """What the integers make of some of the images, for each value."""
        channels = folded.input_shape[0]
        self.scales: dict[int, np.ndarray] = {INPUT: np.full(channels, 1 / (255 * folded.std))}
        self.intervals: dict[int, Interval] = {
            INPUT: (np.zeros(channels, np.int64), np.full(channels, 255, np.int64))
        }
        self.score_scale = 1.0
        used = [n for n, shape in enumerate(folded.shapes) if shape]
        used.remove(folded.stages[-1].output)
        self.numbers = {old: new for new, old in enumerate(used)}
        self.shapes = tuple(folded.shapes[old] for old in used)

    def run(self) -> IntegerNetwork:
        stages = []
        for number, stage in enumerate(self.folded.stages):
            is_last = number == len(self.folded.stages) - 1
            largest = np.maximum(self.seen[number].largest, 1e-12)
            largest = np.maximum(largest, _SMALLEST_SHARE * largest.max())
            largest = largest.max() + 0 * largest if is_last else largest
            stages.append(self.stage(stage, largest, self.seen[number].mean))
        return IntegerNetwork(
            name=self.naming.name,
            class_names=self.naming.class_names,
            input_shape=self.folded.input_shape,
            shapes=self.shapes,  # type: ignore[arg-type]  # maps, since used ones are not empty
            stages=tuple(stages),
            score_scale=float(self.score_scale),
            pad_byte=self.pad_byte,
            source=self.naming.source,
        )

    def stage(self, stage: FloatStage, largest: np.ndarray, mean: np.ndarray) -> Stage:
        is_last = stage is self.folded.stages[-1]
        most = _EXTRA_BITS_OF_SCORES if is_last else _EXTRA_BITS
        problem: NetworkError | None = None
        for extra_bits in range(most, -1, -1):
            for depthwise, sums in self.sums(stage):
                made, steps, unit = self.finish(stage, sums, largest / CLAMP, extra_bits)
                made = replace(made, depthwise=depthwise)
                total = accumulators(made, [self.values[i] for i in stage.inputs], self.pad_byte)
                # rounded weights shift the mean of a sum; the bias takes that back
                bias = mean / unit - total.mean(axis=(0, 1, 2), dtype=np.float64)
                inputs = [self.intervals[index] for index in stage.inputs]
                made = _with_bias(made, bias, inputs)
                try:
                    _, interval = stage_bounds(made, inputs)
                except NetworkError as error:
                    problem = error
                    continue
                self.keep(stage, made, interval, steps)
                self.write(stage, outputs(made, total, is_last))
                return made
        raise problem or NetworkError(f"{stage.name}: it does not fit into integers.")

    def keep(self, stage: FloatStage, made: Stage, interval: Interval, steps: np.ndarray) -> None:
        """Note scale and interval of what a stage writes."""
        if stage is self.folded.stages[-1]:
            cells = made.pool.kernel[0] * made.pool.kernel[1] if made.pool else 1
            averages = made.pool is not None and made.pool.kind == "sum"
            self.score_scale = self.folded.factor * steps[0] / (cells if averages else 1)
            return
        channels = self.folded.shapes[stage.output][0]
        part = slice(stage.first_channel, stage.first_channel + made.out_channels)
        scales = self.scales.setdefault(stage.output, np.ones(channels))
        scales[part] = steps
        low, high = self.intervals.setdefault(
            stage.output, (np.zeros(channels, np.int64), np.zeros(channels, np.int64))
        )
        low[part], high[part] = interval

    def write(self, stage: FloatStage, made: np.ndarray) -> None:
        """Note what the integers of a stage are on some images."""
        channels, rows, columns = self.folded.shapes[stage.output]
        value = self.values.setdefault(
            stage.output, np.zeros((len(made), rows, columns, channels), np.int32)
        )
        value[..., stage.first_channel : stage.first_channel + made.shape[3]] = made

    def sums(self, stage: FloatStage) -> Iterator[_Choice]:
        """Yield (depthwise part or None, dot products), the finest depthwise results first."""
        zero = -self.folded.mean / self.folded.std if stage.inputs[0] == INPUT else 0.0
        scale = self.scales[stage.inputs[0]]
        low, high = self.intervals[stage.inputs[0]]
        if stage.gather == "sum":
            scales = np.stack([self.scales[index] for index in stage.inputs], axis=1)
            lows = np.stack([self.intervals[index][0] for index in stage.inputs], axis=1)
            highs = np.stack([self.intervals[index][1] for index in stage.inputs], axis=1)
            yield None, _Sums(stage.weights * scales, (lows, highs))
        elif stage.gather == "each":
            rows = stage.weights.reshape(len(stage.bias), -1)
            inputs = (low[:, None], high[:, None])
            yield None, _Sums(rows * scale[:, None], inputs)
        elif stage.depthwise is None:
            taps = stage.kernel[0] * stage.kernel[1]
            rows = stage.weights.reshape(len(stage.bias), -1)
            inputs = (np.tile(low, taps)[None], np.tile(high, taps)[None])
            yield None, _Sums(rows * np.tile(scale, taps), inputs)
        else:
            yield from self.separable(stage, zero)

    def separable(self, stage: FloatStage, zero: float) -> Iterator[_Choice]:
        assert stage.depthwise is not None
        own, own_bias = stage.depthwise
        rows = own.reshape(len(own), -1)
        own_bias = own_bias + zero * rows.sum(axis=1)
        rows = rows * self.scales[stage.inputs[0]][:, None]
        steps = np.maximum(np.abs(rows).max(axis=1), 1e-12) / CLAMP
        weights = np.rint(rows / steps[:, None]).astype(np.int64)
        for shift in range(12):
            half = 1 << shift >> 1
            bias = np.rint(np.clip(own_bias / steps, -LIMIT, LIMIT)).astype(np.int64) + half
            part = Depthwise(_plain(weights), _plain(bias), shift)
            low, high = depthwise_results(part, self.intervals[stage.inputs[0]])
            if max(np.abs(low).max(), np.abs(high).max()) >= 1 << 15:
                continue
            yield part, _Sums(stage.weights * (steps * 2.0**shift), (low, high))

    def finish(
        self, stage: FloatStage, sums: _Sums, out_steps: np.ndarray, extra_bits: int
    ) -> tuple[Stage, np.ndarray, np.ndarray]:
        """Choose weights, factors and shifts.

        Returns:
            The stage, with `shift` still that of both shifts together and no bias; the step of
            what it writes; and the step of its sums.
        """
        pool, pool_bits, share = _pool_of(stage)
        is_last = stage is self.folded.stages[-1]
        steps = out_steps / 2.0**extra_bits * (1.0 if is_last else share)
        main = np.where(
            np.abs(stage.negative) <= _SLOPE_LIMIT * np.abs(stage.positive),
            stage.positive,
            stage.negative,
        )
        main = np.where(main == 0, 1.0, np.abs(main))
        weights, factor, shift, steps = _weights(sums, main, steps, is_last)
        positive = _int16(factor * stage.positive / main)
        negative = _int16(factor * stage.negative / main)
        unit = factor * steps / 2.0**shift / main
        offset = _int16(stage.offset / steps)
        made = Stage(
            name=stage.name,
            inputs=tuple(self.numbers.get(index, index) for index in stage.inputs),
            output=self.numbers.get(stage.output, len(self.shapes)),
            gather=stage.gather,
            positions=stage.positions,
            size=stage.size,
            out_channels=len(stage.bias),
            weights=_plain(weights),
            bias=_plain(0 * positive),
            shift_a=0,
            positive=_plain(positive),
            negative=_plain(negative),
            shift=_plain(shift),
            kernel=stage.kernel,
            stride=stage.stride,
            before=stage.before,
            first_channel=stage.first_channel,
            offset=_plain(offset) if offset.any() else (),
            pool=pool,
            pool_shift=0 if is_last else extra_bits + pool_bits,
            depthwise=None,
        )
        return made, steps if is_last else steps * 2.0**extra_bits / share, unit


def _weights(
    sums: _Sums, main: np.ndarray, steps: np.ndarray, is_last: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return int weights, the 8-bit factors, both shifts together, and the steps of t.

    The step of a channel's weights is *defined* by its factor, so that rounding the factor loses
    nothing; it is at most 1/128 coarser than it could be.
    """
    finest = np.maximum(np.abs(sums.rows).max(axis=1) / CLAMP, 1e-30)
    while True:
        steps = np.maximum(steps, finest * main / _LARGEST_FACTOR)
        steps = steps.max() + 0 * steps if is_last else steps
        ratio = finest * main / steps
        shift = np.clip(np.floor(np.log2(_LARGEST_FACTOR / ratio)), 0, 24).astype(np.int64)
        factor = np.clip(np.ceil(ratio * 2.0**shift), 128, _LARGEST_FACTOR)
        factor = np.where(shift == 0, np.clip(np.ceil(ratio), 1, _LARGEST_FACTOR), factor)
        unit = factor * steps / 2.0**shift / main
        weights = np.rint(sums.rows / unit[:, None]).astype(np.int64)
        low, high = dot_interval(weights, *sums.inputs)
        excess = np.maximum(np.abs(low), np.abs(high)) / (LIMIT - 1)
        if (excess <= 1).all():
            return weights, factor, shift, steps
        finest = np.where(excess > 1, finest * np.maximum(excess, 1.01), finest)


def _with_bias(stage: Stage, bias: np.ndarray, inputs: Sequence[Interval]) -> Stage:
    """Return a stage with biases, its shift cut in two: the first as small as products allow.

    A bias is rounded and makes up for the half that the first shift loses on average.

    Args:
        stage: With `shift` for both together.
        bias: In units of the accumulator.
        inputs: Intervals of what it reads.
    """
    low, high = accumulated(stage, inputs)
    factor = np.maximum(np.abs(stage.positive), np.abs(stage.negative))
    shift_a, own = 0, bias
    for shift_a in range(min(stage.shift) + 1):
        own = np.floor(np.clip(bias / 2.0**shift_a, -LIMIT, LIMIT) + 1 - 0.5 * 2.0**-shift_a)
        largest = np.maximum(np.abs((low >> shift_a) + own), np.abs((high >> shift_a) + own))
        if np.abs(own).max() < 1 << 15 and (largest * factor).max() < LIMIT:
            break
    shift = _plain(np.array(stage.shift) - shift_a)
    return replace(stage, shift_a=shift_a, shift=shift, bias=_plain(_int16(own)))


def _pool_of(stage: FloatStage) -> tuple[Pool | None, int, float]:
    """Return the pool, the bits by which its sums grow, and cells / 2^bits."""
    pool = stage.pool
    if pool is None:
        return None, 0, 1.0
    if pool.kind == "max":
        return Pool("max", pool.kernel, pool.stride, pool.before), 0, 1.0
    cells = pool.kernel[0] * pool.kernel[1]
    bits = (cells - 1).bit_length()
    return Pool("sum", pool.kernel, pool.stride, pool.before), bits, cells / 2.0**bits


def _int16(numbers: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(numbers), -32768, 32767).astype(np.int64)


def _plain(numbers: np.ndarray) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers.reshape(-1))

"""`IntegerNetwork` on NumPy: images in, int32 scores out. The oracle of every printed form.

Dot products run as float32 matrix products; they are exact, since no partial sum reaches 2^24.
"""

import numpy as np

from smidgen.errors import NetworkError
from smidgen.ship.gathering import channel_dots, dots, pooled, windows
from smidgen.ship.integer import CLAMP, IMAGE, IntegerNetwork, Stage, weight_rows

_BATCH = 250
"""Images at a time: the largest gathered array of the catalogue then is about 50 MB."""


def scores_of(network: IntegerNetwork, images: np.ndarray) -> np.ndarray:
    """Return int32 (N, classes) scores.

    Args:
        network: What to run.
        images: uint8 (N, C, H, W).

    Raises:
        NetworkError: Images of another shape or type.
    """
    if images.dtype != np.uint8 or images.shape[1:] != network.input_shape:
        raise NetworkError(
            f"Images must be uint8 of {network.input_shape}, not {images.dtype} of "
            f"{images.shape[1:]}."
        )
    parts = [
        _batch_scores(network, images[start : start + _BATCH])
        for start in range(0, len(images), _BATCH)
    ]
    empty = np.zeros((0, len(network.class_names)), np.int32)
    return np.concatenate([empty, *parts])


def values_of(network: IntegerNetwork, images: np.ndarray) -> list[np.ndarray]:
    """Return what every stage writes, int8 (N, rows, columns, channels); last the int32 scores.

    Args:
        network: What to run.
        images: uint8 (N, C, H, W), as many as fit into memory at once.
    """
    values: dict[int, np.ndarray] = {IMAGE: images.transpose(0, 2, 3, 1)}
    found = []
    for stage in network.stages:
        made = _run(network, stage, [values[index] for index in stage.inputs])
        if stage is network.last:
            return [*found, made.reshape(len(images), -1).astype(np.int32)]
        made = made.astype(np.int8)
        found.append(made)
        channels, rows, columns = network.shapes[stage.output]
        target = values.setdefault(
            stage.output, np.zeros((len(images), rows, columns, channels), np.int8)
        )
        target[..., stage.first_channel : stage.first_channel + stage.out_channels] = made
    raise AssertionError("a network has stages")


def _batch_scores(network: IntegerNetwork, images: np.ndarray) -> np.ndarray:
    return values_of(network, images)[-1]


def _run(network: IntegerNetwork, stage: Stage, inputs: list[np.ndarray]) -> np.ndarray:
    """Return what a stage writes as int32 (N, rows, columns, out channels)."""
    total = accumulators(stage, inputs, network.pad_byte)
    return outputs(stage, total, is_last=stage is network.last)


def outputs(stage: Stage, total: np.ndarray, is_last: bool) -> np.ndarray:
    """Return what a stage makes of its accumulators, int32 (N, rows, columns, out channels)."""
    a = (total >> stage.shift_a) + np.array(stage.bias, np.int32)
    positive, negative = np.array(stage.positive, np.int32), np.array(stage.negative, np.int32)
    t = (a * np.where(a < 0, negative, positive)) >> np.array(stage.shift, np.int32)
    if stage.offset:
        t += np.array(stage.offset, np.int32)
    pool = stage.pool
    if pool is not None:
        t = pooled(t, pool.kind, pool.kernel, pool.stride, pool.before, stage.size)
    if is_last:
        return t
    half = 1 << stage.pool_shift >> 1
    return np.clip((t + half) >> stage.pool_shift, -CLAMP, CLAMP)


def accumulators(stage: Stage, inputs: list[np.ndarray], pad_byte: int) -> np.ndarray:
    """Return a stage's accumulators as int32 (N, rows, columns, out channels)."""
    return _float_accumulators(stage, inputs, pad_byte).astype(np.int32)


def _float_accumulators(stage: Stage, inputs: list[np.ndarray], pad_byte: int) -> np.ndarray:
    rows = weight_rows(stage).astype(np.float32)
    if stage.gather == "sum":
        return sum(
            (x * rows[:, number] for number, x in enumerate(inputs)), np.zeros((), np.float32)
        )
    maps = inputs[0].astype(np.float32)
    fill = pad_byte if stage.inputs[0] == IMAGE else 0
    seen = windows(maps, stage.kernel, stage.stride, stage.before, stage.positions, fill)
    if stage.gather == "each":
        return channel_dots(seen, rows.reshape(-1, *stage.kernel))
    if stage.depthwise is None:
        return dots(seen, rows.reshape(len(rows), *stage.kernel, -1))
    part = stage.depthwise
    own = np.array(part.weights, np.float32).reshape(-1, *stage.kernel)
    d = (channel_dots(seen, own).astype(np.int32) + np.array(part.bias, np.int32)) >> part.shift
    return d.astype(np.float32) @ rows.T

"""The C structures `Job` and `Schedule` as ctypes, field by field as in `job.h`."""

import ctypes

import numpy as np

_POINTERS = (
    "images",
    "labels",
    "order",
    "affine",
    "elastic",
    "jitter",
    "boxes",
    "schedule",
    "weights",
    "statistics",
    "gradient",
    "first_moment",
    "second_moment",
    "average_weights",
    "average_statistics",
    "stored",
    "block_gradients",
    "block_sums",
    "block_losses",
    "scratch",
    "coefficients",
    "scores",
)
_LONGS = ("num_images", "batch_size", "num_steps")
_FLOATS = (
    "mean",
    "inverse_std",
    "fill",
    "level",
    "label_smoothing",
    "weight_decay",
    "beta2",
    "eps",
)
_INTS = ("nearest", "optimizer", "nesterov", "updates", "threads")
_SHARED = ("stop", "arrived", "phase", "ending", "broken")

SCHEDULE = np.dtype(
    [(name, np.float32) for name in ("lr", "momentum", "correction", "root_correction", "decay")]
)
"""One row per step."""


class Job(ctypes.Structure):
    """What C is told about an epoch or an evaluation; arrays must outlive the call."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in _LONGS),
        *((name, ctypes.c_float) for name in _FLOATS),
        *((name, ctypes.c_int32) for name in _INTS),
        ("dropout_key", ctypes.c_uint32),
        *((name, ctypes.c_int32) for name in _SHARED),
        ("steps_done", ctypes.c_int64),
        ("num_correct", ctypes.c_int64),
        ("loss", ctypes.c_double),
    )


def address(array: np.ndarray | None) -> int | None:
    """Return where an array's data are, or None for NULL."""
    if array is None:
        return None
    assert array.flags.c_contiguous
    return array.ctypes.data


def aligned(count: int, dtype: type[np.generic] | np.dtype[np.generic]) -> np.ndarray:
    """Return zeros that start at a multiple of 64 bytes, one cache line and the widest vector."""
    size = max(count, 1) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype)

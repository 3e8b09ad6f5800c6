"""The C structures `Job` and `Schedule` as ctypes, field by field as in `job.h`."""

import ctypes

import numpy as np

from smidgen.engines.contract import EpochPlan
from smidgen.errors import EngineError
from smidgen.network.shapes import Shape
from smidgen.recipes.parts import SGD
from smidgen.recipes.recipe import Recipe

_POINTERS = (
    "images",
    "labels",
    "order",
    "affine",
    "elastic",
    "jitter",
    "boxes",
    "targets",
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
_LONGS = ("num_images", "batch_size", "first_step", "num_steps")
_FLOATS = (
    "mean",
    "inverse_std",
    "fill",
    "level",
    "label_smoothing",
    "teachers_share",
    "temperature",
    "weight_decay",
    "beta2",
    "rest_beta2",
    "eps",
)
_INTS = ("nearest", "optimizer", "nesterov", "updates", "threads")
_SHARED = ("stop", "arrived", "phase", "ending", "broken")

OPTIMIZERS = {"sgd": 0, "adam": 1, "adamw": 2}
"""The C header's numbers."""

SCHEDULE = np.dtype(
    [
        (name, np.float32)
        for name in (
            "lr",
            "momentum",
            "rest_momentum",
            "correction",
            "root_correction",
            "rest_decay",
        )
    ]
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


def set_changes(
    job: Job, plan: EpochPlan, num_images: int, image_shape: Shape
) -> list[np.ndarray | None]:
    """Tell a job which images come and how they are changed.

    Returns:
        The arrays that must live as long as the job.

    Raises:
        EngineError: An image or a box that does not exist, which C would look for in memory.
    """
    geometry, erasing = plan.geometry, plan.erasing
    if len(plan.order) and not 0 <= plan.order.min() <= plan.order.max() < num_images:
        raise EngineError(f"The plan visits images beyond the {num_images} that there are.")
    if erasing is not None:
        ends = erasing.boxes[:, :2] + erasing.boxes[:, 2:]
        if erasing.boxes.min(initial=0) < 0 or np.any(ends > np.array(image_shape[1:])):
            raise EngineError("The plan erases a box that reaches beyond the image.")
        job.level = erasing.level
    if geometry is not None:
        job.fill, job.nearest = geometry.fill, int(geometry.interpolation == "nearest")
    arrays = {
        "order": np.ascontiguousarray(plan.order, dtype=np.int32),
        "affine": None if geometry is None else _floats(geometry.affine),
        "elastic": None if geometry is None else _floats(geometry.elastic),
        "jitter": _floats(plan.jitter),
        "boxes": None if erasing is None else np.ascontiguousarray(erasing.boxes, np.int32),
        "targets": _floats(plan.targets),
    }
    for name, array in arrays.items():
        setattr(job, name, address(array))
    return list(arrays.values())


def schedule_of(plan: EpochPlan, recipe: Recipe, steps_before: int) -> np.ndarray:
    """Return one row per step; Adam's corrections use that step's beta1, as PyTorch does."""
    steps = steps_before + np.arange(1, plan.num_steps + 1, dtype=np.float64)
    rows = np.zeros(plan.num_steps, dtype=SCHEDULE)
    rows["lr"], rows["momentum"] = plan.lr, plan.momentum
    rows["rest_momentum"] = 1.0 - plan.momentum
    if not isinstance(recipe.optimizer, SGD):
        rows["correction"] = 1.0 - plan.momentum**steps
        rows["root_correction"] = np.sqrt(1.0 - recipe.optimizer.beta2**steps)
    averaging = recipe.averaging
    if averaging is not None:
        warm = (1 + steps) / (10 + steps) if averaging.warmup else np.ones_like(steps)
        rows["rest_decay"] = 1.0 - np.minimum(averaging.decay, warm)
    return rows


def _floats(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else np.ascontiguousarray(array, dtype=np.float32)

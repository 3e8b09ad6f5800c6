"""What Python hands over to C, as one table: the structure `Job` here and the header `job.h`."""

import ctypes

import numpy as np

from smidgen.engines.contract import EpochPlan
from smidgen.errors import EngineError
from smidgen.network.shapes import Shape
from smidgen.recipes.parts import SGD
from smidgen.recipes.recipe import Recipe

OPTIMIZERS = {"sgd": 0, "adam": 1, "adamw": 2}
"""The numbers by which C knows them."""

_SCHEDULE = ("lr", "momentum", "rest_momentum", "correction", "root_correction", "rest_decay")
"""What is scheduled for one update. What is near 1 comes with its distance from 1, computed in
double: 1 - 0.999f is wrong by 5e-5. Adam's bias corrections are computed beforehand, too."""

SCHEDULE = np.dtype([(name, np.float32) for name in _SCHEDULE])
"""One row per step."""

_JOB: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "data and the plan's arrays; NULL where nothing is changed",
        (
            ("const uint8_t *", "images"),
            ("const int32_t *", "labels"),
            ("const int32_t *", "order"),
            ("const float *", "affine"),
            ("const float *", "elastic"),
            ("const float *", "jitter"),
            ("const int32_t *", "boxes"),
            ("const float *", "targets"),
            ("const Schedule *", "schedule"),
        ),
    ),
    (
        "the model's state, flat, in the network's order",
        tuple(
            ("float *", name)
            for name in (
                "weights",
                "statistics",
                "gradient",
                "first_moment",
                "second_moment",
                "average_weights",
                "average_statistics",
            )
        ),
    ),
    (
        "working memory: per block of a batch, then per thread; last, scores or a batch",
        (
            ("float *", "stored"),
            ("float *", "block_gradients"),
            ("double *", "block_sums"),
            ("double *", "block_losses"),
            ("float *", "scratch"),
            ("float *", "coefficients"),
            ("float *", "scores"),
        ),
    ),
    (
        "sizes and settings",
        (
            *(("int64_t ", n) for n in ("num_images", "batch_size", "first_step", "num_steps")),
            *(
                ("float ", name)
                for name in (
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
            ),
            *(("int32_t ", n) for n in ("nearest", "optimizer", "nesterov", "updates", "threads")),
            ("uint32_t ", "dropout_key"),
        ),
    ),
    (
        "shared between threads, and results",
        (
            *(("int32_t ", n) for n in ("stop", "arrived", "phase", "ending", "broken")),
            ("int64_t ", "steps_done"),
            ("int64_t ", "num_correct"),
            ("double ", "loss"),
        ),
    ),
)
"""What is handed over for an epoch or an evaluation: C types and names, in groups.

The C header and the Python structure are both made of this table.
"""

_CTYPES = {
    "int64_t ": ctypes.c_int64,
    "int32_t ": ctypes.c_int32,
    "uint32_t ": ctypes.c_uint32,
    "float ": ctypes.c_float,
    "double ": ctypes.c_double,
}


class Job(ctypes.Structure):
    """What C is told about an epoch or an evaluation; arrays must outlive the call."""

    _fields_ = tuple(
        (name, _CTYPES.get(c_type, ctypes.c_void_p)) for _, group in _JOB for c_type, name in group
    )


def job_header() -> str:
    """Return the C header `job.h`."""
    fields = []
    for what, group in _JOB:
        fields += [f"/* {what} */", *(f"{c_type}{name};" for c_type, name in group)]
    kinds = ", ".join(f"{name.upper()} = {number}" for name, number in OPTIMIZERS.items())
    return _HEADER.format(
        schedule=", ".join(_SCHEDULE),
        fields="\n".join(f"    {field}" for field in fields),
        optimizers=kinds,
    )


_HEADER = """/* What Python hands over for an epoch or an evaluation, from job.py's table. */
#ifndef SMIDGEN_JOB_H
#define SMIDGEN_JOB_H

#include <stdint.h>

/* What is scheduled for one update. */
typedef struct {{
    float {schedule};
}} Schedule;

typedef struct {{
{fields}
}} Job;

enum {{ {optimizers} }};

#endif
"""


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

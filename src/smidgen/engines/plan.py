"""`EpochPlan`: everything random and everything scheduled about one epoch, as arrays.

Two engines given one plan see the same images, changed in the same way, in the same order,
with the same learning rates and the same dropout. Row `i` of every per-image array belongs
to the `i`-th image visited, that is, to image `order[i]`.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

ELASTIC_GRID = 7
"""Rows and columns of an elastic displacement grid."""


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """One epoch of N images in S steps.

    Args:
        epoch: Number of the epoch, from 1.
        first_step: Steps taken before this epoch.
        batch_size: Images per step; the last step may have fewer.
        order: int32 (N,), which image comes when; images dropped with an incomplete batch are
            already left out.
        lr: float64 (S,), the learning rate of each step.
        momentum: float64 (S,), SGD's momentum or Adam's beta1 of each step.
        dropout_key: 32 bits that key the epoch's dropout (see `smidgen.engines.dropout`).
        geometry: How images are moved, or None where they are not.
        jitter: float32 (N, 2), factors of brightness and contrast, or None. Applied after
            geometry: clip(b * x), then clip(mean + c * (x - mean)), both to [0, 1], where mean
            is that image's after brightness.
        erasing: What is erased, or None. Applied last, before normalization.
        targets: float32 (N, classes), the class probabilities that the teachers of a recipe
            with distillation give the changed images; None without teachers.
    """

    epoch: int
    first_step: int
    batch_size: int
    order: np.ndarray
    lr: np.ndarray
    momentum: np.ndarray
    dropout_key: int
    geometry: "Geometry | None" = None
    jitter: np.ndarray | None = None
    erasing: "Erasures | None" = None
    targets: np.ndarray | None = None

    @property
    def num_steps(self) -> int:
        """Batches in the epoch."""
        return len(self.lr)

    def rows(self, step: int) -> slice:
        """Return which rows of the per-image arrays make up a batch."""
        start = step * self.batch_size
        return slice(start, min(start + self.batch_size, len(self.order)))

    def picked(self, which: slice | np.ndarray) -> "EpochPlan":
        """Return the plan with some rows of its per-image arrays; the schedule stays as it is."""
        geometry, erasing = self.geometry, self.erasing
        if geometry is not None:
            geometry = replace(
                geometry,
                affine=geometry.affine[which],
                elastic=None if geometry.elastic is None else geometry.elastic[which],
            )
        return replace(
            self,
            order=self.order[which],
            geometry=geometry,
            jitter=None if self.jitter is None else self.jitter[which],
            erasing=None if erasing is None else replace(erasing, boxes=erasing.boxes[which]),
            targets=None if self.targets is None else self.targets[which],
        )


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where each pixel of the changed image is read from.

    Output pixel (x, y) (column, row; the center of the first pixel is 0, 0) reads the input
    at u = a x + b y + c, v = d x + e y + f, plus the elastic displacement at (x, y).

    Args:
        affine: float32 (N, 6), the rows (a, b, c, d, e, f), in pixels.
        interpolation: "bilinear" mixes the four neighbors; "nearest" rounds to the nearest
            pixel, halves to the even one.
        fill: Grey level in [0, 1] that lies everywhere outside the image.
        elastic: float32 (N, 2, 7, 7) or None: displacements of u, then of v, in pixels, at a
            grid whose corners are the image's corner pixels; between them bilinear.
    """

    affine: np.ndarray
    interpolation: Literal["nearest", "bilinear"] = "bilinear"
    fill: float = 0.0
    elastic: np.ndarray | None = field(default=None)


@dataclass(frozen=True, slots=True)
class Erasures:
    """Rectangles set to one grey level.

    Args:
        boxes: int32 (N, 4), rows (top, left, height, width) in pixels, inside the image;
            height 0 where nothing is erased.
        level: The grey level (0 is black, 1 white; any float).
    """

    boxes: np.ndarray
    level: float = 0.0

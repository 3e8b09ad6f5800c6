"""What an engine is: the plan that it runs, one model's state, and what can be done with it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from smidgen.errors import EngineError
from smidgen.lowering.interpreter import train_step
from smidgen.lowering.program import training_program
from smidgen.network.layers import BatchNorm
from smidgen.network.shapes import num_elements
from smidgen.recipes.recipe import Recipe

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
        dropout_key: 32 bits that key the epoch's dropout (see `smidgen.lowering.dropout`).
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


State = dict[str, np.ndarray]
"""An engine's state by name: tensors as `conv1.weight`; the optimizer's moments as
`momentum/conv1.weight`, `exp_avg/conv1.weight` and `exp_avg_sq/conv1.weight`; the moving
average as `ema/conv1.weight` (running statistics too); and `step`, int64 (), the number of
updates made. All tensors are float32."""

SplitName = Literal["train", "eval"]
"""Which numbers of the recipe's normalization apply."""
WeightsName = Literal["raw", "ema"]


@dataclass(frozen=True, slots=True)
class EpochStats:
    """What an engine saw while it trained an epoch.

    Args:
        loss: Mean loss over the images, each measured before its batch's update.
        num_correct: Images classified right, in training mode, before the update.
        num_images: Images seen.
        stopped: Whether `should_stop` ended the epoch early; the state is then in between
            two epochs and should be discarded.
    """

    loss: float
    num_correct: int
    num_images: int
    stopped: bool = False

    @property
    def accuracy(self) -> float:
        """Share of images classified right."""
        return self.num_correct / max(self.num_images, 1)


class Engine(Protocol):
    """One model in training: built from (network, recipe, images, labels).

    `images` is uint8 (N, C, H, W) and `labels` int64 (N,): all there is to train on.
    """

    recipe: Recipe
    name: str
    """`torch` or `native`."""
    build: dict[str, str]
    """Of native machine code: `compiler`, as it tells its version, and `sha256`; else empty."""
    steps_done: int
    """Finished steps of the current epoch; `should_stop` may read it for a progress bar."""

    def train_epoch(self, plan: EpochPlan, should_stop: Callable[[], bool]) -> EpochStats:
        """Run the plan; `should_stop` is polled at every step.

        Raises:
            NonFiniteError: A loss or gradient was NaN or infinite. The state is that from
                before the step.
        """
        ...

    def logits(
        self, images: np.ndarray, split: SplitName = "eval", weights: WeightsName = "raw"
    ) -> np.ndarray:
        """Return float32 (N, classes) class scores of uint8 (N, C, H, W) in evaluation mode."""
        ...

    def planned_logits(self, plan: EpochPlan) -> np.ndarray:
        """Return float32 (N, classes) class scores of a plan's images, as a teacher gives them.

        The images are changed as the plan says and stand in its order; the network is in
        evaluation mode and reads them with the evaluation's normalization.
        """
        ...

    def batch(self, plan: EpochPlan, step: int) -> np.ndarray:
        """Return a batch as the network sees it: float32 (B, C, H, W), changed and normalized."""
        ...

    def first_not_finite(self, plan: EpochPlan, step: int) -> str:
        """Return what gave the first number that is not finite when a step is run from here.

        For the message of a `NonFiniteError`: an operation as "`conv2`", "the gradient at
        `conv2`", "the images" or "the loss"; "" where all are finite when run again.
        """
        ...

    def state(self) -> State:
        """Return a copy of everything that training changes."""
        ...

    def load_state(self, state: State) -> None:
        """Continue from a state; raises EngineError if names or shapes do not fit."""
        ...


def find_not_finite(engine: Engine, labels: np.ndarray, plan: EpochPlan, step: int) -> str:
    """Run a step's calls in NumPy; see `Engine.first_not_finite`. Teachers are left out.

    Args:
        engine: Its state is that from before the step.
        labels: int (N,), of all images there are.
        plan: The epoch's plan.
        step: Which step of it.
    """
    recipe = engine.recipe
    with np.errstate(all="ignore"):
        found = train_step(
            training_program(recipe.network),
            engine.state(),
            engine.batch(plan, step),
            labels[plan.order[plan.rows(step)]],
            label_smoothing=recipe.loss.label_smoothing,
            dropout=(plan.dropout_key, step),
            dtype=np.float32,
        )
    return found.first_not_finite


def check_plan(plan: EpochPlan, recipe: Recipe) -> None:
    """Refuse a plan that does not go with its recipe.

    Raises:
        EngineError: Targets without teachers, teachers without targets, or another shape; or a
            batch of one image from which a batch norm would get one value per channel.
    """
    _check_targets(plan, recipe)
    rows = plan.rows(max(plan.num_steps - 1, 0))  # no batch is smaller than the last
    for node in recipe.network.graph.nodes if rows.stop - rows.start == 1 else ():
        if isinstance(node.layer, BatchNorm) and num_elements(node.input_shape[1:]) == 1:
            raise EngineError(
                f"The epoch's last batch has one image, and of that `{node.name}` would see one "
                "value per channel, which has no variance. Set `drop_last` to true or choose "
                "another `batch_size`."
            )


def _check_targets(plan: EpochPlan, recipe: Recipe) -> None:
    if recipe.distillation is None:
        if plan.targets is not None:
            raise EngineError("The plan has teachers' targets, but the recipe has no teachers.")
        return
    expected = (len(plan.order), recipe.network.num_classes)
    if plan.targets is None:
        raise EngineError("The recipe learns from teachers, but the plan has no targets of theirs.")
    if plan.targets.shape != expected or plan.targets.dtype != np.float32:
        raise EngineError(
            f"The plan's targets are {plan.targets.dtype} {plan.targets.shape}; float32 "
            f"{expected} (images, classes) are needed."
        )

"""The settings that a search tries: around those of a recipe, in, another recipe out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from smidgen.network.layers import BatchNorm, Conv, Dense, Flatten, GlobalAvgPool, ReLU
from smidgen.network.network import Network
from smidgen.recipes.augmentation import (
    Augmentation,
    Elastic,
    Erasing,
    Jitter,
    ResizedCrop,
    Rotation,
    Scaling,
    Shear,
    Transform,
    Translation,
)
from smidgen.recipes.parts import (
    AdamW,
    Cosine,
    Linear,
    Loss,
    OneCycle,
    Plateau,
    Schedule,
    StepDecay,
    WeightAveraging,
)
from smidgen.recipes.recipe import Recipe
from smidgen.recipes.shared import MNIST_NORMALIZATION

T = TypeVar("T", str, bool, int, float)


class Suggests(Protocol):
    """Gives a value for a name; the same one whenever the same name is asked for."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """Return a whole number, both ends included."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number, evenly or, if `log`, evenly in its logarithm."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        ...


_LR_FACTOR = 3.0
_STRENGTHS = (0.5, 1.6)
_WARMUPS = (0.05, 0.4)
_SMOOTHINGS = [0.0, 0.02, 0.05]
_AVERAGING = WeightAveraging(0.99)

BASE = Recipe(
    name="search",
    network=Network(
        (Conv(8, 3), BatchNorm(), ReLU(), GlobalAvgPool(), Flatten(), Dense(10)),
    ),
    optimizer=AdamW(lr=0.03, beta2=0.99, weight_decay=1e-4),
    schedule=Linear(warmup_fraction=0.2),
    normalization=MNIST_NORMALIZATION,
    augmentation=Augmentation((Rotation(8.0), Scaling(0.9, 1.1), Translation(2.0))),
    clean_epochs=2,
    epochs=15,
    batch_size=256,
)
"""What a search starts from where no recipe is named; its network is replaced by the family's."""


def suggest_settings(trial: Suggests, base: Recipe, epochs: int) -> Recipe:
    """Ask for settings around those of a recipe.

    The learning rate goes from a third of the recipe's to three times as much, the batch from
    half to twice, the random changes to images from 0.5 to 1.6 times as strong, and up to a third
    of the epochs are clean. Moving averages and label smoothing are on or off; the schedule is
    linear, cosine, one cycle or, if it is none of those, the recipe's own.
    """
    lr = base.optimizer.lr
    found = trial.suggest_float("lr", lr / _LR_FACTOR, lr * _LR_FACTOR, log=True)
    batch = base.batch_size
    loss = base.loss
    smoothing = trial.suggest_categorical("label_smoothing", _SMOOTHINGS)
    augmentation = base.augmentation
    if augmentation.transforms:
        strength = trial.suggest_float("strength", *_STRENGTHS)
        augmentation = strengthened(augmentation, strength)
    averaged = trial.suggest_categorical("averaged", [False, True])
    return base.replace(
        optimizer=replace(base.optimizer, lr=_short(found)),
        schedule=_schedule(trial, base.schedule),
        batch_size=trial.suggest_categorical("batch_size", [max(1, batch // 2), batch, batch * 2]),
        loss=Loss(loss.name, smoothing),
        augmentation=augmentation,
        clean_epochs=trial.suggest_int("clean_epochs", 0, max(1, epochs // 3)),
        averaging=(base.averaging or _AVERAGING) if averaged else None,
        epochs=epochs,
    )


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """Return a recipe that runs its whole schedule in fewer epochs.

    Schedules end at a rate of (nearly) zero, and the last epochs are clean: the first quarter of
    a long run says little. So the schedule is compressed, not cut.
    """
    share = epochs / recipe.epochs
    schedule = recipe.schedule
    match schedule:
        case StepDecay():
            schedule = replace(schedule, step_epochs=max(1, round(schedule.step_epochs * share)))
        case Plateau():
            schedule = replace(schedule, first_epoch=max(1, round(schedule.first_epoch * share)))
    clean = recipe.clean_epochs
    if clean:  # at least one, and not all: both would be another kind of training
        clean = min(max(1, round(clean * share)), epochs - 1)
    return recipe.replace(epochs=epochs, schedule=schedule, clean_epochs=clean)


def strengthened(augmentation: Augmentation, factor: float) -> Augmentation:
    """Return the same random changes, each so many times as strong."""
    transforms = tuple(_strengthened(each, factor) for each in augmentation.transforms)
    return replace(augmentation, transforms=transforms)


def _strengthened(transform: Transform, factor: float) -> Transform:
    match transform:
        case Rotation():
            return Rotation(min(180.0, _short(transform.degrees * factor)))
        case Shear():
            return Shear(min(89.0, _short(transform.degrees * factor)))
        case Translation() | Elastic():
            return replace(transform, pixels=_short(transform.pixels * factor))
        case Scaling():
            smallest = 1.0 - (1.0 - transform.smallest) * factor
            largest = 1.0 + (transform.largest - 1.0) * factor
            return Scaling(max(0.1, _short(smallest)), _short(largest))
        case ResizedCrop():
            smallest = 1.0 - (1.0 - transform.smallest_area) * factor
            return replace(transform, smallest_area=max(0.05, _short(smallest)))
        case Jitter():
            brightness, contrast = transform.brightness * factor, transform.contrast * factor
            return Jitter(min(1.0, _short(brightness)), min(1.0, _short(contrast)))
        case Erasing():
            return replace(transform, probability=min(1.0, _short(transform.probability * factor)))


def _schedule(trial: Suggests, own: Schedule) -> Schedule:
    searched = isinstance(own, Linear | Cosine | OneCycle)
    kinds = ["linear", "cosine", "one_cycle", *([] if searched else ["own"])]
    kind = trial.suggest_categorical("schedule", kinds)
    if kind == "own":
        return own
    warmup = _short(trial.suggest_float("warmup_fraction", *_WARMUPS))
    match kind:
        case "linear":
            return Linear(warmup_fraction=warmup)
        case "cosine":
            return Cosine(warmup_fraction=warmup)
    return OneCycle(warmup_fraction=warmup, momentum=None)


def _short(number: float) -> float:
    """Return a number of three digits: recipes are read by people."""
    return float(f"{number:.3g}")

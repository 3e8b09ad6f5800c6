"""`plan`: draw everything random and look up everything scheduled about one epoch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, cos, pi

import numpy as np

from smidgen.engines.contract import ELASTIC_GRID, EpochPlan, Erasures, Geometry
from smidgen.randomness import generator, key32
from smidgen.recipes.augmentation import (
    Augmentation,
    Elastic,
    Erasing,
    Jitter,
    Position,
    ResizedCrop,
    Rotation,
    Scaling,
    Shear,
    Translation,
)
from smidgen.recipes.parts import (
    SGD,
    Constant,
    Cosine,
    Linear,
    Normalization,
    OneCycle,
    Plateau,
    StepDecay,
)
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord


@dataclass(frozen=True, slots=True)
class Rates:
    """float64 (steps,) each: learning rate, and SGD's momentum or Adam's beta1."""

    lr: np.ndarray
    momentum: np.ndarray


def rates(recipe: Recipe, epoch: int, steps_per_epoch: int, history: Sequence[float]) -> Rates:
    """Return the rates of one epoch.

    Args:
        recipe: Holds optimizer and schedule.
        epoch: From 1.
        steps_per_epoch: Batches in each epoch.
        history: Accuracy after each earlier epoch, as shares; only the plateau rule reads it.
    """
    optimizer, schedule = recipe.optimizer, recipe.schedule
    lr = optimizer.lr
    usual = optimizer.momentum if isinstance(optimizer, SGD) else optimizer.beta1
    per_step = getattr(schedule, "every", "epoch") == "step"
    unit = steps_per_epoch if per_step else 1
    total = recipe.epochs * unit
    times = [(epoch - 1) * unit + step for step in range(unit)]
    momentum = [usual] * unit
    match schedule:
        case Constant():
            values = [lr]
        case StepDecay(step_epochs=size, gamma=gamma):
            values = [lr * gamma ** ((epoch - 1) // size)]
        case OneCycle():
            values = [_one_cycle(schedule, lr, t, total) for t in times]
            if schedule.momentum is not None:
                low, high = schedule.momentum
                momentum = [_cycled(schedule, t, total, (high, low, high)) for t in times]
        case Cosine() | Linear():
            values = [_decay(schedule, lr, t, total) for t in times]
        case Plateau():
            values = [_plateau(schedule, lr, history[: epoch - 1])]
    repeat = steps_per_epoch // unit
    return Rates(
        np.repeat(np.array(values, dtype=np.float64), repeat),
        np.repeat(np.array(momentum, dtype=np.float64), repeat),
    )


def _one_cycle(schedule: OneCycle, lr: float, time: int, total: int) -> float:
    first = lr / schedule.start_divisor
    return _cycled(schedule, time, total, (first, lr, first / schedule.final_divisor))


def _cycled(schedule: OneCycle, time: int, total: int, points: tuple[float, float, float]) -> float:
    """Run from the first point through the second, at the end of the warm-up, to the third."""
    peak = schedule.warmup_fraction * total - 1
    start, middle, end = points
    if time <= peak:
        return _anneal(schedule, start, middle, time / peak if peak > 0 else 1.0)
    return _anneal(schedule, middle, end, (time - peak) / (total - 1 - peak))


def _anneal(schedule: OneCycle, start: float, end: float, share: float) -> float:
    if schedule.anneal == "linear":
        return (end - start) * share + start
    return end + (start - end) / 2.0 * (1 + cos(pi * share))


def _decay(schedule: Cosine | Linear, lr: float, time: int, total: int) -> float:
    # the warm-up's first step is already above zero and its last one below the peak
    warmup = round(schedule.warmup_fraction * total)
    if time < warmup:
        return lr * (time + 1) / (warmup + 1)
    share = (time - warmup) / (total - warmup)
    left = 1 - share if isinstance(schedule, Linear) else (1 + cos(pi * share)) / 2
    return schedule.final_lr + (lr - schedule.final_lr) * left


def _plateau(schedule: Plateau, lr: float, history: Sequence[float]) -> float:
    last_reduction = 0
    for epoch in range(max(schedule.first_epoch, schedule.window_epochs + 1), len(history) + 1):
        gain = history[epoch - 1] - history[epoch - 1 - schedule.window_epochs]
        if gain < schedule.min_gain and epoch - last_reduction > schedule.cooldown_epochs:
            lr = max(lr / schedule.divisor, schedule.min_lr)
            last_reduction = epoch
    return lr


_BANK_SEED = 0
"""Draws the changes that every seed of a recipe with a bank shares."""
_TINY = 100.0
"""A rate that never comes within this factor of the optimizer's is an accident of the schedule."""
_ATTEMPTS = 10
"""How often a random rectangle is drawn before giving up, as the field's libraries do."""


def plan(
    recipe: Recipe, seed: int, epoch: int, history: Sequence[float], num_images: int
) -> EpochPlan:
    """Fill the plan of one epoch; it depends on nothing but the arguments.

    Args:
        recipe: What is trained.
        seed: The run's random seed.
        epoch: From 1.
        history: Accuracy after each earlier epoch, as shares; only the plateau rule reads it.
        num_images: How many images there are to train on.
    """
    order = generator(seed, "order", epoch).permutation(num_images).astype(np.int32)
    num_steps = steps_per_epoch(recipe, num_images)
    order = order[: num_steps * recipe.batch_size]
    scheduled = rates(recipe, epoch, num_steps, history)
    shared = shared_images(recipe, epoch, num_images)
    drawn = _images(recipe, seed, epoch, order) if shared is None else shared.picked(order)
    return replace(
        drawn,
        first_step=(epoch - 1) * num_steps,
        lr=scheduled.lr,
        momentum=scheduled.momentum,
        dropout_key=key32(seed, "dropout", epoch),
    )


def steps_per_epoch(recipe: Recipe, num_images: int) -> int:
    """Return the steps of an epoch on so many images; all are in one, or in none at the end."""
    whole = num_images // recipe.batch_size
    return whole if recipe.drop_last and whole else ceil(num_images / recipe.batch_size)


def history_of(epochs: Sequence[EpochRecord]) -> list[float]:
    """Return what the plateau rule reads of the epochs so far: accuracy, but never on test."""
    return [e.train_accuracy if e.split == "test" else e.eval_accuracy for e in epochs]


def tiny_rates(recipe: Recipe, num_images: int) -> list[str]:
    """Return a line if no step of a run comes near the optimizer's learning rate."""
    num_steps, highest = steps_per_epoch(recipe, num_images), 0.0
    if isinstance(recipe.schedule, Plateau):  # which begins with it
        return []
    for epoch in range(1, recipe.epochs + 1):
        highest = max(highest, float(rates(recipe, epoch, num_steps, ()).lr.max()))
        if highest >= recipe.optimizer.lr / _TINY:
            return []
    share = f"1/{recipe.optimizer.lr / highest:,.0f} of" if highest else "nothing beside"
    return [
        f"The learning rate never comes above {highest:g}, {share} `optimizer.lr` "
        f"{recipe.optimizer.lr:g}: that is what `schedule` comes to in {recipe.epochs} "
        f"epoch{'s' if recipe.epochs > 1 else ''}. Train more epochs or set another `schedule`."
    ]


def shared_images(recipe: Recipe, epoch: int, num_images: int) -> EpochPlan | None:
    """Return a plan of all images, in their own order, if every seed sees them changed alike.

    That is so in clean epochs, and in every epoch if the distillation has a bank. The plan has
    no steps; epochs whose images are changed alike have equal arrays.
    """
    order = np.arange(num_images, dtype=np.int32)
    if _is_clean(recipe, epoch):
        return _images(recipe, _BANK_SEED, epoch, order)
    if recipe.distillation is None or recipe.distillation.bank_epochs is None:
        return None
    in_bank = 1 + (epoch - 1) % recipe.distillation.bank_epochs
    return replace(_images(recipe, _BANK_SEED, in_bank, order), epoch=epoch)


def _is_clean(recipe: Recipe, epoch: int) -> bool:
    return epoch > recipe.epochs - recipe.clean_epochs


def _images(recipe: Recipe, seed: int, epoch: int, order: np.ndarray) -> EpochPlan:
    """Return a plan without steps: which image comes when, and how each is changed."""
    augmentation = Augmentation() if _is_clean(recipe, epoch) else recipe.augmentation
    size = recipe.network.input_shape[1:]
    return EpochPlan(
        epoch=epoch,
        first_step=0,
        batch_size=recipe.batch_size,
        order=order,
        lr=np.zeros(0),
        momentum=np.zeros(0),
        dropout_key=0,
        geometry=_geometry(augmentation, recipe.normalization, seed, epoch, len(order), size),
        jitter=_jitter(augmentation, seed, epoch, len(order)),
        erasing=_erasing(augmentation, recipe.normalization, seed, epoch, len(order), size),
    )


def _geometry(
    augmentation: Augmentation,
    normalization: Normalization,
    seed: int,
    epoch: int,
    count: int,
    size: tuple[int, int],
) -> Geometry | None:
    matrices = np.broadcast_to(np.eye(3), (count, 3, 3))
    elastic = None
    moved = False
    for number, transform in enumerate(augmentation.transforms):
        rng = generator(seed, f"augmentation {number} {transform.kind}", epoch)
        if isinstance(transform, Elastic):
            grid = (count, 2, ELASTIC_GRID, ELASTIC_GRID)
            elastic = rng.normal(0.0, transform.pixels, grid).astype(np.float32)
        elif not isinstance(transform, Jitter | Erasing):
            matrices = matrices @ _inverse(transform, rng, count, size)
            moved = True
    if not moved and elastic is None:
        return None
    return Geometry(
        affine=np.ascontiguousarray(matrices[:, :2].reshape(count, 6), dtype=np.float32),
        interpolation=augmentation.interpolation,
        fill=_grey(augmentation.fill, augmentation.position, normalization),
        elastic=elastic,
    )


def _inverse(
    transform: Rotation | Translation | Scaling | Shear | ResizedCrop,
    rng: np.random.Generator,
    count: int,
    size: tuple[int, int],
) -> np.ndarray:
    """Return (count, 3, 3): for each image, where a pixel of the result is read from."""
    matrices = np.zeros((count, 3, 3))
    matrices[:] = np.eye(3)
    match transform:
        case Rotation(degrees=degrees):
            angle = np.radians(rng.uniform(-degrees, degrees, count))
            matrices[:, 0, 0] = matrices[:, 1, 1] = np.cos(angle)
            matrices[:, 0, 1], matrices[:, 1, 0] = np.sin(angle), -np.sin(angle)
        case Translation(pixels=pixels, whole_pixels=whole):
            shift = rng.uniform(-pixels, pixels, (count, 2))
            matrices[:, :2, 2] = np.round(shift) if whole else shift
            return matrices
        case Scaling(smallest=smallest, largest=largest):
            zoom = 1.0 / rng.uniform(smallest, largest, count)
            matrices[:, 0, 0] = matrices[:, 1, 1] = zoom
        case Shear(degrees=degrees):
            matrices[:, 0, 1] = np.tan(np.radians(rng.uniform(-degrees, degrees, count)))
        case ResizedCrop():
            return _crops(transform, rng, count, size)
    center = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    matrices[:, :2, 2] = center - matrices[:, :2, :2] @ center
    return matrices


def _crops(
    crop: ResizedCrop, rng: np.random.Generator, count: int, size: tuple[int, int]
) -> np.ndarray:
    area = rng.uniform(crop.smallest_area, 1.0, (count, _ATTEMPTS)) * size[0] * size[1]
    limit = np.log(crop.largest_aspect)
    aspect = np.exp(rng.uniform(-limit, limit, (count, _ATTEMPTS)))
    sides = np.stack([np.sqrt(area / aspect), np.sqrt(area * aspect)], axis=2)
    box = _first_that_fits(sides, np.array(size), strictly=False)
    box = np.where(box == 0, np.array(size), box)  # none fits: the whole image
    corner = np.floor(rng.uniform(0.0, 1.0, (count, 2)) * (np.array(size) - box + 1))
    scale = box / np.array(size)
    matrices = np.zeros((count, 3, 3))
    matrices[:, 2, 2] = 1.0
    for axis, row in ((1, 0), (0, 1)):  # columns are x, rows are y
        matrices[:, row, row] = scale[:, axis]
        matrices[:, row, 2] = 0.5 * scale[:, axis] - 0.5 + corner[:, axis]
    return matrices


def _first_that_fits(sides: np.ndarray, size: np.ndarray, strictly: bool) -> np.ndarray:
    """Return (count, 2): the first attempt's rounded (height, width) inside `size`, or zeros."""
    rounded = np.round(sides)
    small_enough = rounded < size if strictly else rounded <= size
    fits = np.all(small_enough & (rounded > 0), axis=2)
    first = np.argmax(fits, axis=1)
    chosen = rounded[np.arange(len(rounded)), first]
    return np.where(fits.any(axis=1)[:, None], chosen, 0.0)


def _jitter(augmentation: Augmentation, seed: int, epoch: int, count: int) -> np.ndarray | None:
    for number, transform in enumerate(augmentation.transforms):
        if isinstance(transform, Jitter):
            rng = generator(seed, f"augmentation {number} {transform.kind}", epoch)
            spread = np.array([transform.brightness, transform.contrast])
            return (1.0 + spread * rng.uniform(-1.0, 1.0, (count, 2))).astype(np.float32)
    return None


def _erasing(
    augmentation: Augmentation,
    normalization: Normalization,
    seed: int,
    epoch: int,
    count: int,
    size: tuple[int, int],
) -> Erasures | None:
    for number, transform in enumerate(augmentation.transforms):
        if isinstance(transform, Erasing):
            rng = generator(seed, f"augmentation {number} {transform.kind}", epoch)
            level = _grey(transform.level, transform.position, normalization)
            return Erasures(_boxes(transform, rng, count, size), level)
    return None


def _boxes(
    erasing: Erasing, rng: np.random.Generator, count: int, size: tuple[int, int]
) -> np.ndarray:
    chosen = rng.uniform(0.0, 1.0, count) < erasing.probability
    shape = (count, _ATTEMPTS)
    area = rng.uniform(erasing.smallest_area, erasing.largest_area, shape) * size[0] * size[1]
    limits = np.log([erasing.smallest_aspect, erasing.largest_aspect])
    aspect = np.exp(rng.uniform(limits[0], limits[1], shape))
    sides = np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], axis=2)
    box = _first_that_fits(sides, np.array(size), strictly=True) * chosen[:, None]
    corner = np.floor(rng.uniform(0.0, 1.0, (count, 2)) * (np.array(size) - box + 1))
    return np.concatenate([corner * (box > 0), box], axis=1).astype(np.int32)


def _grey(level: float, position: Position, normalization: Normalization) -> float:
    if position == "before_normalization":
        return level
    return level * normalization.train_std + normalization.train_mean

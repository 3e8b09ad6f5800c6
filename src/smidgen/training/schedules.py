"""Learning rate and momentum of every step of an epoch, as functions of numbers.

Each rule equals PyTorch's scheduler of that name to 1e-12.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi

import numpy as np

from smidgen.recipes.parts import (
    SGD,
    Constant,
    Cosine,
    Linear,
    OneCycle,
    Plateau,
    StepDecay,
)
from smidgen.recipes.recipe import Recipe


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

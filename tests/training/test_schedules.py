import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from smidgen.recipes.catalogue import get_recipe
from smidgen.recipes.parts import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Linear,
    OneCycle,
    Plateau,
    StepDecay,
)
from smidgen.recipes.recipe import Recipe
from smidgen.training.schedules import rates

STEPS = 7
EPOCHS = 12


def all_rates(recipe: Recipe) -> np.ndarray:
    """Return our learning rates and momenta of every step, float64 (steps, 2)."""
    each = [rates(recipe, epoch, STEPS, []) for epoch in range(1, recipe.epochs + 1)]
    lr = np.concatenate([one.lr for one in each])
    return np.stack([lr, np.concatenate([one.momentum for one in each])], axis=1)


def torch_rates(optimizer: torch.optim.Optimizer, scheduler: Any, per_step: bool) -> np.ndarray:
    """Return what PyTorch's scheduler sets, in the same form."""
    seen = []
    for step in range(EPOCHS * STEPS):
        group = optimizer.param_groups[0]
        momentum = group["betas"][0] if "betas" in group else group["momentum"]
        seen.append((float(group["lr"]), float(momentum)))
        optimizer.step()
        if per_step or step % STEPS == STEPS - 1:
            with warnings.catch_warnings():
                # one step past the last is asked for, and SequentialLR passes an epoch number
                warnings.simplefilter("ignore")
                if step < EPOCHS * STEPS - 1:
                    scheduler.step()
    return np.array(seen)


def parameter() -> list[torch.nn.Parameter]:
    """Return something for PyTorch to optimize."""
    return [torch.nn.Parameter(torch.zeros(1))]


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize("every", ["step", "epoch"])
@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.3, 1.0])
@pytest.mark.parametrize("momentum", [(0.85, 0.95), None])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_one_cycle_is_pytorchs(
    tiny_recipe: Recipe,
    anneal: Any,
    every: Any,
    warmup: float,
    momentum: tuple[float, float] | None,
    kind: str,
) -> None:
    """OneCycle equals OneCycleLR per batch and per epoch, with the momentum or beta1 it cycles."""
    ours = SGD(0.03, momentum=0.9) if kind == "sgd" else Adam(0.03)
    schedule = OneCycle(warmup, 10.0, 100.0, anneal, momentum, every)
    optimizer = (
        torch.optim.SGD(parameter(), lr=0.5, momentum=0.9)
        if kind == "sgd"
        else torch.optim.Adam(parameter(), lr=0.5)
    )
    low, high = momentum or (0.85, 0.95)
    scheduler = lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.03,
        total_steps=EPOCHS * (STEPS if every == "step" else 1),
        pct_start=warmup,
        anneal_strategy="cos" if anneal == "cosine" else "linear",
        cycle_momentum=momentum is not None,
        base_momentum=low,
        max_momentum=high,
        div_factor=10.0,
        final_div_factor=100.0,
    )

    found = all_rates(tiny_recipe.replace(optimizer=ours, schedule=schedule, epochs=EPOCHS))

    expected = torch_rates(optimizer, scheduler, every == "step")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert (np.ptp(found[:, 1]) > 0) == (momentum is not None)


@pytest.mark.parametrize(("size", "gamma"), [(1, 0.9), (5, 0.15), (7, 0.1), (20, 0.5)])
def test_step_decay_is_pytorchs(tiny_recipe: Recipe, size: int, gamma: float) -> None:
    """StepDecay equals StepLR stepped once per epoch."""
    optimizer = torch.optim.SGD(parameter(), lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, size, gamma)
    recipe = tiny_recipe.replace(
        optimizer=SGD(0.1, momentum=0.9), schedule=StepDecay(size, gamma), epochs=EPOCHS
    )

    found = all_rates(recipe)

    np.testing.assert_allclose(found, torch_rates(optimizer, scheduler, False), rtol=0, atol=1e-12)


@pytest.mark.parametrize("every", ["step", "epoch"])
@pytest.mark.parametrize("final", [0.0, 0.004])
@pytest.mark.parametrize("warmup", [0.0, 0.25])
@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_decays_are_pytorchs(
    tiny_recipe: Recipe, every: Any, final: float, warmup: float, shape: str
) -> None:
    """Cosine and Linear equal CosineAnnealingLR and LinearLR, after LinearLR's warm-up."""
    total = EPOCHS * (STEPS if every == "step" else 1)
    rising = round(warmup * total)
    optimizer = torch.optim.AdamW(parameter(), lr=0.02)
    falling: Any = (
        lr_scheduler.CosineAnnealingLR(optimizer, total - rising, eta_min=final)
        if shape == "cosine"
        else lr_scheduler.LinearLR(optimizer, 1.0, final / 0.02, total - rising)
    )
    if rising:
        climb = lr_scheduler.LinearLR(optimizer, 1 / (rising + 1), 1.0, rising)
        falling = lr_scheduler.SequentialLR(optimizer, [climb, falling], [rising])
    schedule = (Cosine if shape == "cosine" else Linear)(final, warmup, every)

    found = all_rates(tiny_recipe.replace(optimizer=AdamW(0.02), schedule=schedule, epochs=EPOCHS))

    expected = torch_rates(optimizer, falling, every == "step")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_constant_is_constant(tiny_recipe: Recipe) -> None:
    """Without a schedule every step has the optimizer's learning rate and momentum."""
    recipe = tiny_recipe.replace(optimizer=SGD(0.1, momentum=0.9), schedule=Constant())

    found = all_rates(recipe)

    assert found.shape == (3 * STEPS, 2)
    assert (found == (0.1, 0.9)).all()


def test_mnist_99_4_starts_its_epochs_as_its_source_does() -> None:
    """The one-cycle rate at the start of each of the 19 epochs is the one the source's has."""
    expected = (
        "3.00e-4 7.36e-4 1.76e-3 2.72e-3 3.00e-3 2.95e-3 2.85e-3 2.68e-3 2.47e-3 2.21e-3 "
        "1.93e-3 1.62e-3 1.32e-3 1.01e-3 7.34e-4 4.86e-4 2.82e-4 1.29e-4 3.48e-5"
    )

    found = [rates(get_recipe("mnist-99-4"), epoch, 469, []).lr[0] for epoch in range(1, 20)]

    np.testing.assert_allclose(found, [float(text) for text in expected.split()], rtol=5e-3)


def reductions(schedule: Plateau, recipe: Recipe, log: Sequence[float]) -> list[int]:
    """Return after which epochs the rate is lower than before, on a log of percentages."""
    plateau = recipe.replace(schedule=schedule, epochs=len(log))
    history = [percent / 100 for percent in log]
    lr = [rates(plateau, e, STEPS, history[: e - 1]).lr for e in range(1, len(log) + 2)]
    assert all(np.ptp(values) == 0 and len(values) == STEPS for values in lr)
    return [epoch for epoch in range(1, len(log) + 1) if lr[epoch][0] < lr[epoch - 1][0]]


@pytest.mark.parametrize(
    ("name", "fires"), [("conv", [5, 8]), ("separable", [4, 7, 10]), ("inception", [5, 8])]
)
def test_plateau_fires_where_the_source_did(name: str, fires: list[int]) -> None:
    """With a divisor that acts, the rule fires after the epochs that the origin's log shows."""
    recipe = get_recipe(f"mnist-challenge/{name}")
    claim = recipe.about.claim
    assert claim is not None

    found = reductions(Plateau(divisor=2.0), recipe, claim.test_log)

    assert found == fires


def test_plateau_halves_down_to_its_floor(tiny_recipe: Recipe) -> None:
    """Each reduction divides the rate once, and never below `min_lr`."""
    schedule = Plateau(divisor=2.0, min_lr=0.004)
    recipe = tiny_recipe.replace(optimizer=SGD(0.02), schedule=schedule, epochs=20)

    found = [rates(recipe, epoch, 1, [0.9] * 19).lr[0] for epoch in range(1, 21)]

    steps = [0.02] * 4 + [0.01] * 3 + [0.005] * 3 + [0.004] * 10
    np.testing.assert_allclose(found, steps, rtol=1e-12)


def test_plateau_with_the_sources_divisor_never_acts() -> None:
    """Dividing by 1, as the source does, leaves the rate alone."""
    recipe = get_recipe("mnist-challenge/conv")

    assert reductions(Plateau(divisor=1.0), recipe, [98.0] * 10) == []


def test_plateau_ignores_what_comes_later(tiny_recipe: Recipe) -> None:
    """The rate of an epoch depends on the epochs before it alone."""
    recipe = tiny_recipe.replace(schedule=Plateau(divisor=2.0), epochs=20)
    history = [0.5, 0.6, 0.6, 0.6, 0.6, 0.9, 0.9, 0.9, 0.9]

    for epoch in range(1, 10):
        known = rates(recipe, epoch, 1, history[: epoch - 1]).lr[0]
        assert rates(recipe, epoch, 1, history).lr[0] == known

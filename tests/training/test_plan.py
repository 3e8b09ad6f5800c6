import hashlib
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from smidgen.engines.contract import EpochPlan
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
from smidgen.recipes.catalogue import RECIPES, get_recipe
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.parts import (
    SGD,
    Adam,
    AdamW,
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
from smidgen.training.plan import history_of, plan, rates, shared_images, tiny_rates

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


CENTER = 13.5
MANY = 4000
EVERYTHING = (
    Rotation(10.0),
    Translation(2.0),
    Scaling(0.9, 1.1),
    Shear(5.0),
    ResizedCrop(0.8),
    Elastic(0.5),
    Jitter(0.2, 0.2),
    Erasing(0.5),
)


def digest(value: object) -> str:
    """Return a hash over every array and number of a plan."""
    if is_dataclass(value):
        inner = "".join(digest(getattr(value, item.name)) for item in fields(value))
        return hashlib.sha256(inner.encode()).hexdigest()
    if isinstance(value, np.ndarray):
        return hashlib.sha256(f"{value.dtype}{value.shape}".encode() + value.tobytes()).hexdigest()
    return repr(value)


def planned(
    recipe: Recipe, transforms: Sequence[Transform], count: int = MANY, seed: int = 1
) -> EpochPlan:
    """Return the first epoch of a recipe with these transforms."""
    changed = recipe.replace(augmentation=Augmentation(tuple(transforms)), clean_epochs=0)
    return plan(changed, seed, 1, [], count)


def affine(recipe: Recipe, *transforms: Transform) -> np.ndarray:
    """Return the (N, 2, 3) maps of a plan with these transforms."""
    geometry = planned(recipe, transforms).geometry
    assert geometry is not None
    assert geometry.affine.dtype == np.float32
    return geometry.affine.reshape(-1, 2, 3).astype(np.float64)


def keeps_the_center(maps: np.ndarray) -> bool:
    """Return whether every map leaves the middle of the image where it is."""
    moved = maps @ np.array([CENTER, CENTER, 1.0])
    return bool(np.allclose(moved, CENTER, atol=1e-5))


def fills(values: np.ndarray, low: float, high: float) -> bool:
    """Return whether values look uniform in [low, high]: inside, and each tenth of it is met."""
    assert values.min() >= low - 1e-6
    assert values.max() <= high + 1e-6
    shares = np.histogram(values, bins=10, range=(low, high))[0] / len(values)
    return bool((np.abs(shares - 0.1) < 0.025).all())  # over 5 standard deviations at 4,000


def test_same_arguments_give_the_same_bytes(tiny_recipe: Recipe) -> None:
    """A plan depends on recipe, seed, epoch and number of images, and on nothing else."""
    first = digest(planned(tiny_recipe, EVERYTHING, 50))
    np.random.seed(7)  # the global generator must not matter

    assert digest(planned(tiny_recipe, EVERYTHING, 50)) == first
    assert digest(planned(tiny_recipe, EVERYTHING, 50, seed=2)) != first
    assert digest(planned(tiny_recipe, EVERYTHING, 51)) != first


def test_a_fresh_process_draws_the_same_plan() -> None:
    """Another process, with another hash seed, draws the same bytes."""
    script = (
        "from smidgen.recipes.catalogue import get_recipe\n"
        "from smidgen.training.plan import plan\n"
        "p = plan(get_recipe('assignment7/3'), 3, 2, [], 60)\n"
        "import hashlib, sys\n"
        "parts = [p.order, p.lr, p.momentum, p.geometry.affine, p.erasing.boxes]\n"
        "print(hashlib.sha256(b''.join(a.tobytes() for a in parts)).hexdigest(), p.dropout_key)\n"
        "assert 'torch' not in sys.modules\n"
    )
    here = plan(get_recipe("assignment7/3"), 3, 2, [], 60)
    assert here.geometry is not None
    assert here.erasing is not None

    found = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONHASHSEED": "99"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    parts = [here.order, here.lr, here.momentum, here.geometry.affine, here.erasing.boxes]
    expected = hashlib.sha256(b"".join(array.tobytes() for array in parts)).hexdigest()
    assert found.stdout.split() == [expected, str(here.dropout_key)]


def test_epochs_and_seeds_share_nothing(tiny_recipe: Recipe) -> None:
    """Order, geometry, erasing and dropout key all change with the epoch and with the seed."""
    recipe = tiny_recipe.replace(augmentation=Augmentation(EVERYTHING), epochs=9)

    found = [plan(recipe, seed, epoch, [], 64) for seed, epoch in ((1, 1), (1, 2), (2, 1))]

    for pick in (
        lambda p: p.order,
        lambda p: p.geometry.affine,
        lambda p: p.geometry.elastic,
        lambda p: p.jitter,
        lambda p: p.erasing.boxes,
        lambda p: p.dropout_key,
    ):
        assert len({digest(pick(one)) for one in found}) == 3


def test_purposes_are_independent(tiny_recipe: Recipe) -> None:
    """Adding a transform changes neither the order nor what earlier transforms draw."""
    alone = planned(tiny_recipe, [Rotation(10.0)], 64)
    more = planned(tiny_recipe, [Rotation(10.0), Erasing(1.0), Jitter(0.2)], 64)

    assert (alone.order == more.order).all()
    assert alone.dropout_key == more.dropout_key
    assert alone.geometry is not None
    assert more.geometry is not None
    assert (alone.geometry.affine == more.geometry.affine).all()


def test_two_transforms_of_one_kind_draw_differently(tiny_recipe: Recipe) -> None:
    """A second rotation is not the first one again."""
    once, twice = (
        affine(tiny_recipe, Rotation(10.0)),
        affine(tiny_recipe, Rotation(10.0), Rotation(10.0)),
    )

    first = np.arctan2(once[:, 0, 1], once[:, 0, 0])
    second = np.arctan2(twice[:, 0, 1], twice[:, 0, 0]) - first

    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
    assert not np.allclose(first, second)


@pytest.mark.parametrize(("count", "batch"), [(120, 32), (128, 32), (20, 32), (1, 1)])
def test_every_image_comes_once(tiny_recipe: Recipe, count: int, batch: int) -> None:
    """The order is a permutation of all images; the last batch may be smaller."""
    found = plan(tiny_recipe.replace(batch_size=batch), 1, 2, [], count)

    assert sorted(found.order.tolist()) == list(range(count))
    assert found.order.dtype == np.int32
    assert found.num_steps == -(-count // batch) == len(found.momentum)
    assert found.first_step == found.num_steps
    rows = [found.rows(step) for step in range(found.num_steps)]
    assert [index for row in rows for index in range(row.start, row.stop)] == list(range(count))


@pytest.mark.parametrize(("count", "kept"), [(120, 96), (128, 128), (31, 31), (33, 32)])
def test_incomplete_batches_are_dropped(tiny_recipe: Recipe, count: int, kept: int) -> None:
    """With `drop_last` the rest is left out, unless there is no complete batch at all."""
    found = plan(tiny_recipe.replace(drop_last=True), 1, 1, [], count)

    assert len(set(found.order.tolist())) == kept
    assert found.geometry is not None
    assert len(found.geometry.affine) == kept


def test_dropped_images_differ_between_epochs(tiny_recipe: Recipe) -> None:
    """What `drop_last` leaves out is chosen by lot in each epoch."""
    recipe = tiny_recipe.replace(drop_last=True)

    left_out = {frozenset(range(40)) - set(plan(recipe, 1, e, [], 40).order) for e in (1, 2, 3)}

    assert len(left_out) == 3


@pytest.mark.parametrize(
    ("epochs", "clean", "changed"),
    [(4, 0, [1, 2, 3, 4]), (4, 1, [1, 2, 3]), (4, 4, []), (2, 3, []), (3, 1, [1, 2])],
)
def test_the_last_epochs_are_clean(
    tiny_recipe: Recipe, epochs: int, clean: int, changed: list[int]
) -> None:
    """The last `clean_epochs` go without augmentation; all do, if fewer epochs are run."""
    recipe = tiny_recipe.replace(
        epochs=epochs, clean_epochs=clean, augmentation=Augmentation(EVERYTHING)
    )

    found = [plan(recipe, 1, epoch, [], 8) for epoch in range(1, epochs + 1)]

    assert [p.epoch for p in found if p.geometry is not None] == changed
    assert [p.epoch for p in found if p.erasing is not None] == changed
    assert [p.epoch for p in found if p.jitter is not None] == changed


def test_no_transform_means_no_arrays(tiny_recipe: Recipe) -> None:
    """A recipe without augmentation makes a plan without per-image numbers."""
    found = planned(tiny_recipe, [])

    assert (found.geometry, found.jitter, found.erasing) == (None, None, None)


def test_rotations_turn_about_the_center(tiny_recipe: Recipe) -> None:
    """Angles are uniform in +-degrees, lengths stay, the center does not move."""
    maps = affine(tiny_recipe, Rotation(30.0))
    turn = maps[:, :, :2]

    assert fills(np.degrees(np.arctan2(turn[:, 0, 1], turn[:, 0, 0])), -30, 30)
    np.testing.assert_allclose(
        turn @ turn.transpose(0, 2, 1), np.eye(2)[None] + 0 * turn, atol=1e-6
    )
    assert np.allclose(np.linalg.det(turn), 1, atol=1e-6)
    assert keeps_the_center(maps)


def test_translations_shift_both_axes(tiny_recipe: Recipe) -> None:
    """Shifts are uniform in +-pixels on each axis, independently, and nothing else changes."""
    maps = affine(tiny_recipe, Translation(3.0))

    assert (maps[:, :, :2] == np.eye(2)).all()
    assert fills(maps[:, 0, 2], -3, 3)
    assert fills(maps[:, 1, 2], -3, 3)
    assert abs(np.corrcoef(maps[:, 0, 2], maps[:, 1, 2])[0, 1]) < 0.1


def test_whole_pixels_are_whole(tiny_recipe: Recipe) -> None:
    """Rounded shifts of up to 2.8 pixels take the seven whole values from -3 to 3."""
    shifts = affine(tiny_recipe, Translation(2.8, whole_pixels=True))[:, :, 2]

    assert sorted(set(shifts.ravel())) == [-3, -2, -1, 0, 1, 2, 3]
    share_of_three = np.mean(shifts == 3)
    assert abs(share_of_three - 0.3 / 5.6) < 0.015  # 2.5 to 2.8 of -2.8 to 2.8


def test_scaling_zooms_about_the_center(tiny_recipe: Recipe) -> None:
    """A zoom by f reads at 1 / f of the distance from the center, on both axes alike."""
    maps = affine(tiny_recipe, Scaling(0.8, 1.3))

    assert fills(1 / maps[:, 0, 0], 0.8, 1.3)
    assert (maps[:, 0, 0] == maps[:, 1, 1]).all()
    assert (maps[:, 0, 1] == 0).all()
    assert keeps_the_center(maps)


def test_shear_moves_rows_sideways(tiny_recipe: Recipe) -> None:
    """A shear changes where columns are read from, in proportion to the row."""
    maps = affine(tiny_recipe, Shear(20.0))

    assert fills(np.degrees(np.arctan(maps[:, 0, 1])), -20, 20)
    assert (maps[:, 1] == [0, 1, 0]).all()
    assert (maps[:, 0, 0] == 1).all()
    assert keeps_the_center(maps)


def test_transforms_compose_in_the_order_given(tiny_recipe: Recipe) -> None:
    """The last transform is undone first when a pixel looks for its origin."""
    both = affine(tiny_recipe, Rotation(30.0), Translation(3.0))
    turn = affine(tiny_recipe, Rotation(30.0))
    shift = affine(tiny_recipe, Scaling(1.0, 1.0), Translation(3.0))
    point = np.array([5.0, 20.0, 1.0])

    moved_back = np.concatenate([shift @ point, np.ones((MANY, 1))], axis=1)

    expected = np.einsum("nij,nj->ni", turn, moved_back)
    np.testing.assert_allclose(both @ point, expected, atol=1e-4)


def crop_boxes(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners and sides, (N, 2) as (row, column), that crops read."""
    sides = np.stack([maps[:, 1, 1], maps[:, 0, 0]], axis=1) * 28
    start = np.stack([maps[:, 1, 2], maps[:, 0, 2]], axis=1) + 0.5 - sides / 56
    return start, sides


def test_resized_crops_lie_inside(tiny_recipe: Recipe) -> None:
    """Crops are whole-pixel rectangles inside the image, with the origin's areas and aspects."""
    crop = ResizedCrop(0.3)

    start, sides = crop_boxes(affine(tiny_recipe, crop))

    np.testing.assert_allclose(sides, np.round(sides), atol=1e-4)
    np.testing.assert_allclose(start, np.round(start), atol=1e-4)
    assert start.min() > -1e-4
    assert (start + sides).max() < 28 + 1e-4
    aspect = sides[:, 1] / sides[:, 0]
    assert 1.45 > aspect.max() > 1.25  # 4 / 3 and what rounding to pixels adds
    assert 1 / 1.45 < aspect.min() < 1 / 1.25
    area = sides.prod(axis=1) / 784
    assert 0.27 < area.min() < 0.33
    assert abs(np.median(aspect) - 1) < 0.03


def reference_boxes(
    rng: np.random.Generator, areas: tuple[float, float], aspects: tuple[float, float], strict: bool
) -> np.ndarray:
    """Draw (height, width) one image at a time, as the field's library describes it."""
    found = []
    for _ in range(MANY):
        box = (0, 0)
        for _ in range(10):
            area = 784 * rng.uniform(*areas)
            aspect = np.exp(rng.uniform(*np.log(aspects)))
            box = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if min(box) > 0 and (max(box) < 28 if strict else max(box) <= 28):
                break
        else:
            box = (0, 0) if strict else (28, 28)
        found.append(box)
    return np.array(found)


@pytest.mark.parametrize("smallest", [0.08, 0.5])
def test_crop_sizes_are_distributed_as_the_fields(tiny_recipe: Recipe, smallest: float) -> None:
    """Heights and widths have the distribution of ten attempts drawn one by one."""
    _, sides = crop_boxes(affine(tiny_recipe, ResizedCrop(smallest)))
    rng = np.random.default_rng(5)

    expected = reference_boxes(rng, (smallest, 1.0), (3 / 4, 4 / 3), strict=False)

    for axis in range(2):
        assert same_distribution(np.round(sides[:, axis]), expected[:, axis])


def same_distribution(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two samples pass the Kolmogorov-Smirnov test at a millionth."""
    values = np.union1d(a, b)
    gap = np.abs(
        np.searchsorted(np.sort(a), values, "right") / len(a)
        - np.searchsorted(np.sort(b), values, "right") / len(b)
    ).max()
    return bool(gap < 2.7 * np.sqrt(1 / len(a) + 1 / len(b)))


@pytest.mark.parametrize("erasing", [Erasing(1.0), Erasing(0.3), Erasing(1.0, 0.02, 0.1, 0.5, 2.0)])
def test_erasing_boxes_lie_inside(tiny_recipe: Recipe, erasing: Erasing) -> None:
    """Boxes are whole pixels inside the image, with the origin's sizes, as often as asked."""
    found = planned(tiny_recipe, [erasing]).erasing
    assert found is not None
    boxes = found.boxes
    erased = boxes[boxes[:, 2] > 0]

    expected = reference_boxes(
        np.random.default_rng(6),
        (erasing.smallest_area, erasing.largest_area),
        (erasing.smallest_aspect, erasing.largest_aspect),
        strict=True,
    )
    expected = expected[expected[:, 0] > 0]

    assert boxes.dtype == np.int32
    assert boxes.min() >= 0
    assert (boxes[:, 0] + boxes[:, 2]).max() <= 28
    assert (boxes[:, 1] + boxes[:, 3]).max() <= 28
    assert abs(len(erased) / MANY - erasing.probability * len(expected) / MANY) < 0.04
    assert same_distribution(erased[:, 2], expected[:, 0])
    assert same_distribution(erased[:, 3], expected[:, 1])
    corners = (erased[:, :2] / (28 - erased[:, 2:] + 1)).ravel()  # uniform in [0, 1) if fair
    assert abs(corners.mean() - 0.5 * (1 - 1 / 16)) < 0.06
    assert (boxes[boxes[:, 2] == 0] == 0).all()


def test_jitter_factors(tiny_recipe: Recipe) -> None:
    """Brightness and contrast factors are uniform in 1 +- their spread."""
    found = planned(tiny_recipe, [Jitter(0.4, 0.1)]).jitter
    assert found is not None

    assert found.dtype == np.float32
    assert fills(found[:, 0], 0.6, 1.4)
    assert fills(found[:, 1], 0.9, 1.1)


def test_elastic_displacements(tiny_recipe: Recipe) -> None:
    """Displacements are normal with the standard deviation asked for, on a 7x7 grid each way."""
    geometry = planned(tiny_recipe, [Elastic(0.7)], 400).geometry
    assert geometry is not None
    assert geometry.elastic is not None

    assert geometry.elastic.shape == (400, 2, 7, 7)
    assert geometry.elastic.dtype == np.float32
    assert abs(geometry.elastic.std() - 0.7) < 0.02
    assert abs(geometry.elastic.mean()) < 0.02
    assert (geometry.affine == [1, 0, 0, 0, 1, 0]).all()


def test_levels_after_normalization_become_grey_levels(tiny_recipe: Recipe) -> None:
    """Fill and erasing levels given in normalized units come out as grey levels."""
    recipe = tiny_recipe.replace(
        normalization=Normalization(0.1307, 0.3081, 0.2, 0.4),
        augmentation=Augmentation(
            (Rotation(5.0), Erasing(1.0, level=0.5)), fill=1.0, position="after_normalization"
        ),
    )

    found = plan(recipe, 1, 1, [], 4)

    assert found.geometry is not None
    assert found.erasing is not None
    assert found.geometry.fill == pytest.approx(1.0 * 0.3081 + 0.1307)
    assert found.erasing.level == pytest.approx(0.5 * 0.3081 + 0.1307)


def test_levels_before_normalization_stay(tiny_recipe: Recipe) -> None:
    """Fill and erasing levels given as grey levels are handed on as they are."""
    recipe = tiny_recipe.replace(
        normalization=Normalization(0.1307, 0.3081, 0.1307, 0.3081),
        augmentation=Augmentation(
            (Rotation(5.0), Erasing(1.0, level=0.5, position="before_normalization")),
            interpolation="nearest",
            fill=1 / 255,
        ),
    )

    found = plan(recipe, 1, 1, [], 4)

    assert found.geometry is not None
    assert found.erasing is not None
    assert (found.geometry.fill, found.erasing.level) == (1 / 255, 0.5)
    assert found.geometry.interpolation == "nearest"


def banked(recipe: Recipe, bank_epochs: int | None) -> Recipe:
    """Return a recipe that changes images in every way, with a teacher and perhaps a bank."""
    changing = recipe.replace(
        augmentation=Augmentation(EVERYTHING), epochs=6, clean_epochs=1, drop_last=True
    )
    taught = Distillation((Teacher(recipe),), bank_epochs=bank_epochs)
    return changing.replace(distillation=taught)


def changes_by_image(drawn: EpochPlan) -> EpochPlan:
    """Return a plan in the order of its images."""
    return drawn.picked(np.argsort(drawn.order))


def images_of(drawn: EpochPlan) -> str:
    """Return a hash over how images are changed."""
    return digest([digest(part) for part in (drawn.geometry, drawn.jitter, drawn.erasing)])


def test_a_bank_changes_images_alike_for_every_seed(tiny_recipe: Recipe) -> None:
    """Seeds visit images in orders of their own, but each image is changed alike."""
    recipe = banked(tiny_recipe, 2).replace(drop_last=False)
    first, second = (plan(recipe, seed, 1, [], 70) for seed in (1, 2))

    assert first.order.tolist() != second.order.tolist()
    assert images_of(changes_by_image(first)) == images_of(changes_by_image(second))
    shared = shared_images(recipe, 1, 70)
    assert shared is not None
    assert shared.order.tolist() == list(range(70))
    assert images_of(shared) == images_of(changes_by_image(first))


def test_a_bank_is_gone_through_in_turn(tiny_recipe: Recipe) -> None:
    """Epochs 1, 3, 5 of a bank of two show one set of changes, 2 and 4 another, the last none."""
    recipe = banked(tiny_recipe, 2)
    found = [shared_images(recipe, epoch, 70) for epoch in range(1, 7)]

    hashes = [images_of(each) for each in found if each is not None]
    assert len(hashes) == 6
    assert hashes[0] == hashes[2] == hashes[4] != hashes[1] == hashes[3]
    assert [each.geometry is None for each in found if each is not None] == [False] * 5 + [True]


def test_a_plan_takes_its_own_rows_from_the_bank(tiny_recipe: Recipe) -> None:
    """With images left out at an epoch's end, the others still have their own changes."""
    recipe = banked(tiny_recipe, 1)
    drawn, shared = plan(recipe, 1, 1, [], 70), shared_images(recipe, 1, 70)

    assert len(drawn.order) == 64
    assert shared is not None
    assert images_of(drawn) == images_of(shared.picked(drawn.order))


def test_without_a_bank_only_clean_images_are_shared(tiny_recipe: Recipe) -> None:
    """Teachers alone change no plan: every seed and epoch draws its own changes."""
    recipe = banked(tiny_recipe, None)

    shared = [shared_images(recipe, epoch, 70) for epoch in (1, 5, 6)]

    assert [each is None for each in shared] == [True, True, False]
    for epoch in (1, 6):
        alone = plan(recipe.replace(distillation=None), 3, epoch, [], 70)
        assert digest(plan(recipe, 3, epoch, [], 70)) == digest(alone)


def test_a_schedule_that_never_comes_near_its_rate_is_told() -> None:
    """An epoch-wise cycle over a single epoch trains at a four-hundred-thousandth of its rate."""
    whole = RECIPES["anchors/9994"]

    (line,) = tiny_rates(whole.replace(epochs=1), 60_000)

    assert "in 1 epoch." in line
    assert "of `optimizer.lr`" in line
    assert tiny_rates(whole, 60_000) == []


def test_no_recipe_of_the_catalogue_has_tiny_rates() -> None:
    """The note is for accidents."""
    assert [name for name, recipe in RECIPES.items() if tiny_rates(recipe, 60_000)] == []


def test_the_plateau_rule_never_reads_the_test_set() -> None:
    """It reads training accuracy where epochs are measured on test, else the valid accuracy."""
    on_test = EpochRecord(1, 0.5, 0.9, "test", 0.4, 0.8, 8, 1.0, 1.0, 1.0, 0.1, 0.1)

    assert history_of([on_test, replace(on_test, epoch=2, split="valid")]) == [0.9, 0.8]

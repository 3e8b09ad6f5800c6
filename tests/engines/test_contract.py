"""What an engine runs: plans, and which of them belong to a recipe."""

from dataclasses import replace

import numpy as np
import pytest

from smidgen.engines.contract import EpochPlan, EpochStats, Erasures, Geometry, check_plan
from smidgen.errors import EngineError
from smidgen.network.layers import BatchNorm, Conv, Flatten, GlobalAvgPool
from smidgen.network.network import Network
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.recipe import Recipe


@pytest.mark.parametrize(
    ("count", "batch", "expected"),
    [(10, 4, [(0, 4), (4, 8), (8, 10)]), (8, 4, [(0, 4), (4, 8)]), (3, 4, [(0, 3)])],
)
def test_rows_cover_every_image_once(
    count: int, batch: int, expected: list[tuple[int, int]]
) -> None:
    """Batches follow each other without gap or overlap, and the last may be smaller."""
    steps = len(expected)
    plan = EpochPlan(
        epoch=1,
        first_step=0,
        batch_size=batch,
        order=np.arange(count, dtype=np.int32),
        lr=np.zeros(steps),
        momentum=np.zeros(steps),
        dropout_key=0,
    )

    found = [(plan.rows(step).start, plan.rows(step).stop) for step in range(plan.num_steps)]

    assert found == expected


def test_picked_keeps_each_images_own_changes() -> None:
    """Images picked in another order come with their own rows of every array."""
    numbers = np.arange(4, dtype=np.float32)
    plan = EpochPlan(
        epoch=3,
        first_step=8,
        batch_size=2,
        order=np.array([40, 41, 42, 43], dtype=np.int32),
        lr=np.array([0.1, 0.2]),
        momentum=np.zeros(2),
        dropout_key=7,
        geometry=Geometry(
            np.outer(numbers, np.ones(6)), fill=0.5, elastic=np.zeros((4, 2, 7, 7)) + numbers[0]
        ),
        jitter=np.outer(numbers, np.ones(2)),
        erasing=Erasures(np.outer(numbers, np.ones(4)).astype(np.int32), 0.3),
        targets=np.outer(numbers, np.ones(10)),
    )

    picked = plan.picked(np.array([2, 0, 2]))

    assert picked.order.tolist() == [42, 40, 42]
    assert picked.geometry is not None
    assert picked.erasing is not None
    assert picked.geometry.elastic is not None
    assert picked.geometry.elastic.shape == (3, 2, 7, 7)
    assert (picked.geometry.fill, picked.erasing.level) == (0.5, 0.3)
    for array in (picked.geometry.affine, picked.jitter, picked.erasing.boxes, picked.targets):
        assert array is not None
        assert array[:, 0].tolist() == [2, 0, 2]
    assert (picked.epoch, picked.first_step, picked.lr.tolist()) == (3, 8, [0.1, 0.2])


def test_picked_of_a_plan_that_changes_nothing() -> None:
    """What a plan does not have, its parts do not have either."""
    plan = EpochPlan(1, 0, 2, np.arange(4, dtype=np.int32), np.zeros(2), np.zeros(2), 0)

    part = plan.picked(slice(1, 3))

    assert part.order.tolist() == [1, 2]
    assert (part.geometry, part.jitter, part.erasing, part.targets) == (None,) * 4


def test_accuracy_is_a_share() -> None:
    """Accuracy is right answers over images, and 0 where no image was seen."""
    assert EpochStats(0.5, 3, 4).accuracy == 0.75
    assert EpochStats(float("nan"), 0, 0, stopped=True).accuracy == 0.0


@pytest.mark.parametrize(
    ("has_teachers", "targets", "message"),
    [
        (False, None, None),
        (True, np.zeros((4, 10), np.float32), None),
        (
            False,
            np.zeros((4, 10), np.float32),
            "The plan has teachers' targets, but the recipe has no teachers.",
        ),
        (
            True,
            None,
            "The recipe learns from teachers, but the plan has no targets of theirs.",
        ),
        (
            True,
            np.zeros((10, 4), np.float32),
            "The plan's targets are float32 (10, 4); float32 (4, 10) (images, classes) are needed.",
        ),
        (
            True,
            np.zeros((4, 10)),
            "The plan's targets are float64 (4, 10); float32 (4, 10) (images, classes) are needed.",
        ),
    ],
)
def test_targets_go_with_teachers(
    has_teachers: bool, targets: np.ndarray | None, message: str | None, tiny_recipe: Recipe
) -> None:
    """A recipe with teachers needs targets of its shape, one without refuses them."""
    plan = EpochPlan(1, 0, 2, np.arange(4, dtype=np.int32), np.zeros(2), np.zeros(2), 0)
    recipe = tiny_recipe
    if has_teachers:
        recipe = recipe.replace(distillation=Distillation((Teacher(tiny_recipe),)))

    if message is None:
        check_plan(replace(plan, targets=targets), recipe)
        return
    with pytest.raises(EngineError) as caught:
        check_plan(replace(plan, targets=targets), recipe)

    assert str(caught.value) == message


def test_one_value_is_never_normalized(tiny_recipe: Recipe) -> None:
    """A last batch of one image is refused where a batch norm has a single position, only there."""
    late = Network((Conv(10, 3), GlobalAvgPool(), BatchNorm(), Flatten()))
    flat = Network((Conv(10, 3), GlobalAvgPool(), Flatten(), BatchNorm()))
    early = Network((Conv(10, 3), BatchNorm(), GlobalAvgPool(), Flatten()))

    def check(network: Network, num_images: int) -> None:
        rates = np.zeros(-(-num_images // 4))
        plan = EpochPlan(1, 0, 4, np.arange(num_images, dtype=np.int32), rates, rates, 0)
        check_plan(plan, tiny_recipe.replace(network=network))

    for network in (late, flat, early):
        for num_images in (0, 4, 6):
            check(network, num_images)
    check(early, 5)
    for network in (late, flat):
        with pytest.raises(EngineError) as caught:
            check(network, 5)
        assert str(caught.value) == (
            "The epoch's last batch has one image, and of that `batchnorm1` would see one value "
            "per channel, which has no variance. Set `drop_last` to true or choose another "
            "`batch_size`."
        )

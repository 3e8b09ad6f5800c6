from dataclasses import replace

import numpy as np
import pytest

from smidgen.engines.contract import EpochStats, check_plan
from smidgen.engines.plan import EpochPlan
from smidgen.errors import EngineError
from smidgen.network.layers import BatchNorm, Conv, Flatten, GlobalAvgPool
from smidgen.network.network import Network
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.recipe import Recipe


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

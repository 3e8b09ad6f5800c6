import pytest

from smidgen.data import Dataset
from smidgen.errors import DataError
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.recipe import Recipe
from smidgen.training.profiling import profile_recipe


@pytest.mark.parametrize("is_taught", [False, True])
def test_a_profile_shows_every_kind_of_work(
    is_taught: bool, tiny_recipe: Recipe, stripes: Dataset
) -> None:
    """Each convolution has its three kinds of work; a student is profiled without its teachers."""
    taught = Distillation((Teacher(tiny_recipe),)) if is_taught else None

    rows = profile_recipe(tiny_recipe.replace(distillation=taught), stripes, 64)

    kinds = {(row.layer, row.kind) for row in rows}
    assert {("conv2", "forward"), ("conv2", "input gradient"), ("conv2", "weight gradient")} < kinds
    assert all(row.seconds >= 0.0 for row in rows)


def test_a_profile_needs_images(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """No images are refused."""
    with pytest.raises(DataError) as caught:
        profile_recipe(tiny_recipe, stripes, 0)

    assert str(caught.value) == "`num_images` must be at least 1, not 0."

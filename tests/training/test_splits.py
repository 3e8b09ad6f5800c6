import dataclasses
from typing import Any

import numpy as np
import pytest

from smidgen.data import Dataset, Split, assemble, draw_stripes
from smidgen.errors import DataError, RecipeError
from smidgen.recipes.parts import OriginProtocol
from smidgen.recipes.recipe import Recipe
from smidgen.training.splits import splits_for


class SealedDataset:
    """A data set whose test images must not be touched."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if name == "test":
            raise AssertionError("the test images were opened")
        return getattr(self._dataset, name)


def images(split: Split) -> set[bytes]:
    """Return the images of a split as a set."""
    return {image.tobytes() for image in split.images}


def test_tune_never_opens_the_test_images(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """Tuning trains on five sixths and measures on the held out sixth, each image once."""
    sealed: Any = SealedDataset(stripes)

    found = splits_for("tune", tiny_recipe, sealed)

    assert (found.each_epoch_name, found.end_name) == ("valid", "valid")
    assert found.end is found.each_epoch
    assert (len(found.train), len(found.end), found.num_valid) == (100, 20, 20)
    assert images(found.train) | images(found.end) == images(stripes.train)
    assert not images(found.train) & images(found.end)
    assert np.bincount(found.end.labels, minlength=10).tolist() == [2] * 10
    assert not found.selects_on_test


def test_final_trains_on_everything(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """The final protocol trains on all training images and measures `test`; it selects nothing."""
    found = splits_for("final", tiny_recipe, stripes)

    assert found.train is stripes.train
    assert found.each_epoch is found.end is stripes.test
    assert (found.each_epoch_name, found.end_name, found.num_valid) == ("test", "test", 0)
    assert not found.selects_on_test


ORIGINS = [
    (OriginProtocol(None, "best_on_test"), 120, "test", 0, True),
    (OriginProtocol(None, "last"), 120, "test", 0, False),
    (OriginProtocol(90, "last"), 90, "valid", 30, False),
    (OriginProtocol(90, "best_on_test"), 90, "test", 0, True),
]


@pytest.mark.parametrize(("origin", "num_train", "each", "num_valid", "selects"), ORIGINS)
def test_origin_does_as_the_source(
    tiny_recipe: Recipe,
    stripes: Dataset,
    origin: OriginProtocol,
    num_train: int,
    each: str,
    num_valid: int,
    selects: bool,
) -> None:
    """The origin's first images are trained on, its rest validates, and `test` ends the run."""
    found = splits_for("origin", tiny_recipe.replace(origin=origin), stripes)

    assert (found.train.images == stripes.train.images[:num_train]).all()
    assert found.each_epoch_name == each
    assert found.num_valid == num_valid
    assert found.selects_on_test == selects
    assert found.end is stripes.test
    if each == "valid":
        assert (found.each_epoch.labels == stripes.train.labels[num_train:]).all()


@pytest.mark.parametrize("num_train", [120, 54_000])
def test_an_origin_too_large_is_one_line(
    tiny_recipe: Recipe, stripes: Dataset, num_train: int
) -> None:
    """A training part that leaves no image to validate on is refused."""
    recipe = tiny_recipe.replace(origin=OriginProtocol(num_train, "last"))

    with pytest.raises(RecipeError) as caught:
        splits_for("origin", recipe, stripes)

    assert str(caught.value) == (
        f"`origin.num_train` {num_train:,} leaves nothing to validate on: "
        "`stripes` has 120 training images."
    )


def test_images_that_do_not_fit_are_one_line(tiny_recipe: Recipe) -> None:
    """Images of another shape than the network's are refused with both shapes."""
    split = Split(np.zeros((4, 3, 8, 8), np.uint8), np.zeros(4, np.int64))
    names = tuple("0123456789")

    with pytest.raises(DataError) as caught:
        splits_for("final", tiny_recipe, assemble("small", split, split, names))

    assert str(caught.value) == (
        "`small` has images of (3, 8, 8) and the network takes (1, 28, 28) "
        "(channels, height, width)."
    )


def test_classes_that_do_not_fit_are_one_line(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """Another number of classes than the network's is refused with both numbers."""
    other = dataclasses.replace(stripes, class_names=(*stripes.class_names, "more"))

    with pytest.raises(DataError) as caught:
        splits_for("final", tiny_recipe, other)

    assert str(caught.value) == (
        "`stripes` has 11 classes and the network tells 10 apart. "
        "Change `network.num_classes` and the last layer."
    )


def test_valid_does_not_depend_on_the_test_images(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """Another test set leaves the validation images where they are."""
    other = dataclasses.replace(stripes, test=draw_stripes(20, 30, seed=9).test)

    first, second = (splits_for("tune", tiny_recipe, d).end for d in (stripes, other))

    assert (first.images == second.images).all()

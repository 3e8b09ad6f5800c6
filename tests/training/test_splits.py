import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from smidgen.data import Dataset, Split, assemble, draw_stripes
from smidgen.errors import DataError, RecipeError
from smidgen.recipes.parts import OriginProtocol
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord
from smidgen.training.splits import Evaluation, best_index, evaluate, result_of, splits_for


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


def test_loss_and_errors_are_pytorchs() -> None:
    """Loss is the mean cross-entropy of the scores, and errors are wrong answers."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (200, 7)).astype(np.float32)
    labels = rng.integers(0, 7, 200)

    found = evaluate(logits, labels)

    scores, target = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    assert found.loss == pytest.approx(float(F.cross_entropy(scores, target)), rel=1e-12)
    assert found.num_errors == int((scores.argmax(1) != target).sum())
    assert found.num_images == 200


def test_huge_scores_are_no_trouble() -> None:
    """Scores of any finite size give a finite loss and no warning."""
    logits = np.array([[3e38, -3e38], [-3e38, 3e38]], np.float32)

    found = evaluate(logits, np.array([0, 0]))

    assert found.num_errors == 1
    assert found.loss == pytest.approx(3e38, rel=1e-6)


def test_a_tie_goes_to_the_lower_class() -> None:
    """Equal scores count for the first of them."""
    logits = np.zeros((2, 3), np.float32)

    assert evaluate(logits, np.array([0, 2])).num_errors == 1


@pytest.mark.parametrize("errors", [0, 1, 7, 58, 60, 9999, 10000])
def test_accuracy_is_the_nearest_share(errors: int) -> None:
    """The share is right / all, rounded once: 58 errors of 10,000 are exactly 0.9942."""
    assert Evaluation(0.0, errors, 10_000).accuracy == (10_000 - errors) / 10_000
    assert f"{Evaluation(0.0, 58, 10_000).accuracy}" == "0.9942"


def epochs_of(errors: Sequence[int]) -> tuple[EpochRecord, ...]:
    """Return epochs with so many errors in 40 images."""
    return tuple(
        EpochRecord(i, 0.5, 0.9, "test", 0.4, (40 - n) / 40, n, 1.0, 1.0, 1.0, 0.1, 0.1)
        for i, n in enumerate(errors, start=1)
    )


@pytest.mark.parametrize(
    ("errors", "best"), [([5], 0), ([5, 4, 3], 2), ([5, 3, 3, 4], 1), ([3, 4, 5], 0)]
)
def test_the_first_of_equals_is_the_best(errors: list[int], best: int) -> None:
    """The best epoch is the first with the fewest errors."""
    assert best_index(epochs_of(errors)) == best


def test_a_final_result_is_the_last_epochs(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """The final protocol reports the last epoch; the best is a mere observation beside it."""
    splits = splits_for("final", tiny_recipe, stripes)

    found = result_of(epochs_of([9, 1, 2, 3, 4, 5]), splits, 5, Evaluation(0.1, 5, 40))

    assert (found.split, found.accuracy, found.num_errors, found.epoch) == ("test", 0.875, 5, 6)
    assert found.selection == "last epoch"
    assert found.last_accuracy == 0.875
    assert found.mean_of_last_five == pytest.approx(1 - 15 / 200)
    assert (found.best_accuracy, found.best_epoch) == (0.975, 2)


def test_an_origins_result_says_how_it_was_selected(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """A result chosen by its test accuracy carries the words, and last and mean beside it."""
    recipe = tiny_recipe.replace(origin=OriginProtocol(None, "best_on_test"))
    splits = splits_for("origin", recipe, stripes)

    found = result_of(epochs_of([9, 1, 2]), splits, 1, Evaluation(0.1, 1, 40))

    assert found.selection == "selected on the test set"
    assert (found.accuracy, found.epoch) == (0.975, 2)
    assert found.last_accuracy == 0.95
    assert found.mean_of_last_five == pytest.approx(1 - 12 / 120)

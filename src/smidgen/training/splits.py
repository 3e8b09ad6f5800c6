"""Which images each protocol trains on, looks at after each epoch, and ends with."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from smidgen.data.dataset import Dataset, Split, split_valid
from smidgen.errors import DataError, RecipeError
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import Protocol


@dataclass(frozen=True, slots=True)
class ProtocolSplits:
    """The images of one run.

    Args:
        train: Trained on.
        each_epoch: Measured after every epoch.
        each_epoch_name: `valid` or `test`.
        end: Measured once, with the weights that the run ends with.
        end_name: `valid` or `test`.
        num_valid: Images held out of training, to be measured on.
        selects_on_test: Whether the run ends with the epoch that was best on `test`, which
            is then measured after every epoch.
    """

    train: Split
    each_epoch: Split
    each_epoch_name: Literal["valid", "test"]
    end: Split
    end_name: Literal["valid", "test"]
    num_valid: int
    selects_on_test: bool = False


def splits_for(protocol: Protocol, recipe: Recipe, dataset: Dataset) -> ProtocolSplits:
    """Cut a data set as a protocol says.

    `tune` holds a fixed, stratified part of the training images out and never touches the test
    images; `final` trains on all; `origin` does as the recipe's source did.

    Raises:
        DataError: Images or classes that do not fit the recipe's network.
        RecipeError: The origin's training part is larger than the data set.
    """
    _check_fit(recipe, dataset)
    if protocol == "tune":
        kept, held_out = split_valid(dataset.train.labels)
        valid = _part(dataset.train, held_out)
        part = _part(dataset.train, kept)
        return ProtocolSplits(part, valid, "valid", valid, "valid", len(valid))
    if protocol == "origin":
        return _origin_splits(recipe, dataset)
    return ProtocolSplits(dataset.train, dataset.test, "test", dataset.test, "test", 0)


def _origin_splits(recipe: Recipe, dataset: Dataset) -> ProtocolSplits:
    train, test = dataset.train, dataset.test
    selects = recipe.origin.selection == "best_on_test"
    num_train = recipe.origin.num_train
    if num_train is None:
        return ProtocolSplits(train, test, "test", test, "test", 0, selects)
    if num_train >= len(train):
        raise RecipeError(
            f"`origin.num_train` {num_train:,} leaves nothing to validate on: "
            f"`{dataset.name}` has {len(train):,} training images."
        )
    part, rest = _part(train, slice(num_train)), _part(train, slice(num_train, None))
    if selects:
        return ProtocolSplits(part, test, "test", test, "test", 0, selects)
    return ProtocolSplits(part, rest, "valid", test, "test", len(rest))


def _part(split: Split, chosen: np.ndarray | slice) -> Split:
    return Split(split.images[chosen], split.labels[chosen])


def _check_fit(recipe: Recipe, dataset: Dataset) -> None:
    network = recipe.network
    if dataset.image_shape != network.input_shape:
        raise DataError(
            f"`{dataset.name}` has images of {dataset.image_shape} and the network takes "
            f"{network.input_shape} (channels, height, width)."
        )
    if dataset.num_classes != network.num_classes:
        raise DataError(
            f"`{dataset.name}` has {dataset.num_classes} classes and the network tells "
            f"{network.num_classes} apart. Change `network.num_classes` and the last layer."
        )

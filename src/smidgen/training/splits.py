"""Which images each protocol trains on and measures, and what a run reached on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from smidgen.data.dataset import Dataset, Split, split_valid
from smidgen.data.specs import FOLDER_NAME
from smidgen.errors import DataError, RecipeError
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import ON_TEST, EpochRecord, Protocol, Result


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a model did on a split: mean cross-entropy and the number of wrong answers."""

    loss: float
    num_errors: int
    num_images: int

    @property
    def accuracy(self) -> float:
        """Share of images classified right."""
        return (self.num_images - self.num_errors) / self.num_images


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return probabilities, float64 (N, classes), of class scores of that shape."""
    exact = scores.astype(np.float64)
    shares = np.exp(exact - exact.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def evaluate(logits: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Compare class scores, (N, classes), with labels, (N,); a tie goes to the lower class."""
    scores = logits.astype(np.float64)
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    losses = log_sum - shifted[np.arange(len(labels)), labels]
    num_errors = int((scores.argmax(axis=1) != labels).sum())
    return Evaluation(float(losses.mean()), num_errors, len(labels))


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
        # published data sets keep the split that their proofs were made on
        images = dataset.train.images if dataset.name == FOLDER_NAME else None
        kept, held_out = split_valid(dataset.train.labels, images=images)
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


def best_index(epochs: Sequence[EpochRecord]) -> int:
    """Return the place of the first epoch with the fewest errors."""
    return min(range(len(epochs)), key=lambda index: epochs[index].eval_num_errors)


def result_of(
    epochs: Sequence[EpochRecord], splits: ProtocolSplits, chosen: int, measured: Evaluation
) -> Result:
    """Return what a run reached.

    Args:
        epochs: All epochs, in order.
        splits: The protocol's splits.
        chosen: Place of the epoch whose weights were measured.
        measured: How they did on the split that the protocol ends with.
    """
    accuracies = [epoch.eval_accuracy for epoch in epochs]
    best = best_index(epochs)
    tail = accuracies[-5:]
    return Result(
        split=splits.end_name,
        accuracy=measured.accuracy,
        num_errors=measured.num_errors,
        num_images=measured.num_images,
        epoch=chosen + 1,
        selection=ON_TEST if splits.selects_on_test else "last epoch",
        last_accuracy=accuracies[-1],
        mean_of_last_five=sum(tail) / len(tail),
        best_accuracy=accuracies[best],
        best_epoch=best + 1,
    )

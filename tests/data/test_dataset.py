import dataclasses
from typing import Any

import numpy as np
import pytest

from smidgen.data import Split, assemble
from smidgen.errors import DataError


def split(count: int = 4, side: int = 2) -> Split:
    """Return black images with labels 0, 1, 0, 1."""
    images = np.zeros((count, 1, side, side), np.uint8)
    return Split(images, np.arange(count, dtype=np.int64) % 2)


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (
            np.zeros((2, 3, 3), np.uint8),
            np.zeros(2, np.int64),
            "Images must be uint8 with shape (N, C, H, W), not uint8 (2, 3, 3).",
        ),
        (
            np.zeros((2, 1, 3, 3), np.float32),
            np.zeros(2, np.int64),
            "Images must be uint8 with shape (N, C, H, W), not float32 (2, 1, 3, 3).",
        ),
        (
            np.zeros((2, 1, 3, 3), np.uint8),
            np.zeros(2, np.uint8),
            "Labels must be int64 with shape (N,), not uint8 (2,).",
        ),
        (
            np.zeros((2, 1, 3, 3), np.uint8),
            np.zeros(3, np.int64),
            "There are 2 images but 3 labels; every image needs exactly one.",
        ),
    ],
)
def test_a_split_checks_its_arrays(images: np.ndarray, labels: np.ndarray, text: str) -> None:
    """Types, shapes and counts are checked when the value is made."""
    with pytest.raises(DataError) as caught:
        Split(images, labels)

    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("train", "test", "names", "text"),
    [
        (
            split(),
            split(side=3),
            ("a", "b"),
            "The training images of `mine` are 1x2x2 but its test images 1x3x3; "
            "both must have one shape.",
        ),
        (split(), split(0), ("a", "b"), "`mine` has no test images; at least 1 is needed."),
        (
            split(),
            split(),
            ("a",),
            "Label 1 at position 1 of the training labels of `mine` is out of range; "
            "1 classes have labels 0 to 0.",
        ),
    ],
)
def test_assemble_checks_splits_against_each_other(
    train: Split, test: Split, names: tuple[str, ...], text: str
) -> None:
    """Shapes, emptiness and label ranges are checked."""
    with pytest.raises(DataError) as caught:
        assemble("mine", train, test, names)

    assert str(caught.value) == text


def test_the_hash_knows_every_content_and_not_the_name() -> None:
    """A changed pixel, label, class name, shape or side of the split changes the hash."""
    train, test, names = split(), split(2), ("a", "b")
    pixels = train.images.copy()
    pixels[1, 0, 1, 1] = 1
    tall = Split(train.images.reshape(4, 1, 4, 1), train.labels)
    variants: list[tuple[Any, Any, tuple[str, ...]]] = [
        (train, test, names),
        (Split(pixels, train.labels), test, names),
        (Split(train.images, 1 - train.labels), test, names),
        (train, test, ("a", "c")),
        (train, test, ("a", "b", "")),
        (tall, Split(test.images.reshape(2, 1, 4, 1), test.labels), names),
        (test, train, names),
    ]

    hashes = [assemble("mine", *variant).sha256 for variant in variants]

    assert len(set(hashes)) == len(variants)
    assert assemble("other", train, test, names).sha256 == hashes[0]
    assert hashes[0] == "351e608b1780ebb2cc0d9ee518da1d0fd5e1c74bc363eb363b00c9aa31efb6ff"


def test_a_data_set_knows_its_shape_and_cannot_be_changed() -> None:
    """Shape and number of classes follow from the arrays."""
    dataset = assemble("mine", split(), split(2), ("a", "b"))

    assert (dataset.num_classes, dataset.image_shape) == (2, (1, 2, 2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "other"  # type: ignore[misc]

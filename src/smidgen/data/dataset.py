"""Arrays in, a `Dataset` out: checked once, hashed once, then passed around as a value."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from smidgen.data.fit import Fit, Invert
from smidgen.errors import DataError

Progress = Callable[[str, int, int], None]
"""Told (what, done, total): bytes of a file while fetching, images while reading a folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images with their labels.

    Args:
        images: uint8 (N, C, H, W), 0 to 255, contiguous.
        labels: int64 (N,), indices into the data set's class names.

    Raises:
        DataError: Wrong type, wrong number of dimensions, or counts that differ.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4:
            raise DataError(
                f"Images must be uint8 with shape (N, C, H, W), not {images.dtype} {images.shape}."
            )
        if labels.dtype != np.int64 or labels.ndim != 1:
            raise DataError(
                f"Labels must be int64 with shape (N,), not {labels.dtype} {labels.shape}."
            )
        if len(images) != len(labels):
            raise DataError(
                f"There are {len(images):,} images but {len(labels):,} labels; "
                "every image needs exactly one."
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A training and a test split over the same classes.

    Args:
        name: What the data set is called in recipes and on the command line.
        train: Images to learn from.
        test: Images to be measured on; same (C, H, W) as `train`.
        class_names: One name per class; labels are indices into it.
        sha256: 64 hexadecimal digits over pixels, labels, shapes and class names, not over
            `name`; part of a run's identity. `assemble` computes it.
        invert: Of a folder of images, how they were read: see `read_images`.
        fit: The same.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    sha256: str
    invert: Invert = "auto"
    fit: Fit = "resize"

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width


def assemble(name: str, train: Split, test: Split, class_names: tuple[str, ...]) -> Dataset:
    """Check two splits against each other and hash them into a data set.

    Raises:
        DataError: Splits of different image shapes, an empty split, or a label out of range.
    """
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"The training images of `{name}` are {_by(train)} but its test images {_by(test)}; "
            "both must have one shape."
        )
    for title, split in (("training", train), ("test", test)):
        if len(split) == 0:
            raise DataError(f"`{name}` has no {title} images; at least 1 is needed.")
        check_labels(split.labels, len(class_names), f"the {title} labels of `{name}`")
    digest = _hash_contents(train, test, class_names)
    return Dataset(name, train, test, class_names, digest)


def check_labels(labels: np.ndarray, num_classes: int, where: str) -> None:
    """Refuse labels outside 0 to `num_classes` - 1.

    Raises:
        DataError: Names the first such label and its position.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"Label {int(labels[first])} at position {first:,} of {where} is out of range; "
            f"{num_classes} classes have labels 0 to {num_classes - 1}."
        )


def _by(split: Split) -> str:
    return "x".join(str(side) for side in split.images.shape[1:])


def _hash_contents(train: Split, test: Split, class_names: tuple[str, ...]) -> str:
    digest = hashlib.sha256(b"smidgen data set 1\n")
    digest.update("".join(f"{len(name)}:{name}\n" for name in class_names).encode())
    for split in (train, test):
        digest.update(f"{split.images.shape}\n".encode())
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
    return digest.hexdigest()

"""Arrays in, a `Dataset` out: checked once, hashed once, then passed around as a value."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from smidgen.data.images import Fit, Invert
from smidgen.errors import DataError

Progress = Callable[[str, int, int], None]
"""Told (what, done, total): bytes of a file while fetching, images while reading a folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images with their labels.

    Args:
        images: uint8 (N, C, H, W), 0 to 255, contiguous.
        labels: int64 (N,), indices into the data set's class names.
        files: The file of each image, where it has one of its own.

    Raises:
        DataError: Wrong type, wrong number of dimensions, or counts that differ.
    """

    images: np.ndarray
    labels: np.ndarray
    files: tuple[str, ...] = ()

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


DEFAULT_NUM_VALID = 5000
_MAX_VALID_FRACTION = 6  # never more than one image in six
_KEY = 0x736D696467656E  # "smidgen"; a constant, so that no run's seed moves the split


def split_valid(
    labels: np.ndarray, num_valid: int = DEFAULT_NUM_VALID, images: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a validation set that has the classes in the training set's proportions.

    The same labels (and images, where given) always give the same split, whatever the seed of
    a run.

    Args:
        labels: int (N,), N at least 6.
        num_valid: Images to hold out, at least 1; at most a sixth of all are.
        images: uint8 (N, ...). With them copies of one picture stay on one side; where there
            are none, the split is the same as without.

    Returns:
        Two sorted int64 arrays of indices, training and validation, which together are
        0 to N - 1. Each class gets its share of the validation set rounded down or up, and
        less where copies could not be cut.

    Raises:
        DataError: Fewer than 6 labels, or `num_valid` below 1.
    """
    total = len(labels)
    if total < _MAX_VALID_FRACTION:
        raise DataError(
            f"{total} images are too few to hold out a validation set; "
            f"at least {_MAX_VALID_FRACTION} are needed."
        )
    if num_valid < 1:
        raise DataError(f"`num_valid` must be at least 1, not {num_valid}.")
    num_valid = min(num_valid, total // _MAX_VALID_FRACTION)
    classes, counts = np.unique(labels, return_counts=True)
    shares = _shares(counts, num_valid)
    ranks = np.random.Philox(key=_KEY).random_raw(total)
    first = np.arange(total) if images is None else first_alike(images)
    ranks = ranks[first]
    held_out: list[np.ndarray] = []
    for label, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels == label)
        held_out.append(members[np.argsort(ranks[members], kind="stable")[:share]])
    is_train = np.ones(total, bool)
    is_train[np.concatenate(held_out)] = False
    is_train |= np.isin(first, first[is_train])  # a copy in training takes all of them there
    return np.flatnonzero(is_train), np.flatnonzero(~is_train)


def first_alike(images: np.ndarray) -> np.ndarray:
    """Return for each image (N, ...) the index of the first with the same pixels, int64 (N,)."""
    seen: dict[bytes, int] = {}
    return np.array(
        [seen.setdefault(key, index) for index, key in enumerate(pixel_keys(images))], np.int64
    )


def pixel_keys(images: np.ndarray) -> list[bytes]:
    """Return 16 bytes for each image (N, ...) that only equal pixels share."""
    return [hashlib.blake2b(np.ascontiguousarray(i).data, digest_size=16).digest() for i in images]


def _shares(counts: np.ndarray, num_valid: int) -> np.ndarray:
    """Share `num_valid` among the classes by largest remainder, in whole numbers."""
    exact = counts.astype(np.int64) * num_valid
    shares, remainders = np.divmod(exact, counts.sum())
    first = np.argsort(-remainders, kind="stable")[: num_valid - shares.sum()]
    shares[first] += 1
    return shares


_CHUNK_IMAGES = 4096  # bounds the copy that counting makes to 26 MB for 28x28


@dataclass(frozen=True, slots=True)
class SplitStats:
    """Numbers of one split; pixels as shares of 255.

    Args:
        num_images: Images in the split.
        class_counts: Images per class.
        mean: Mean over all pixels, in [0, 1].
        std: Standard deviation over all pixels (dividing by their number).
        minimum: Smallest pixel.
        maximum: Largest pixel.
    """

    num_images: int
    class_counts: tuple[int, ...]
    mean: float
    std: float
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class DatasetStats:
    """Numbers of a data set.

    Args:
        name: The data set's name.
        sha256: Hash of its contents.
        image_shape: Channels, height, width.
        class_names: One name per class.
        train: Numbers of the training split.
        test: Numbers of the test split.
    """

    name: str
    sha256: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train: SplitStats
    test: SplitStats

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with the fields' names as keys, ready for JSON."""
        return asdict(self)


def dataset_stats(dataset: Dataset) -> DatasetStats:
    """Count classes and measure pixels of both splits, exactly, in whole numbers."""
    return DatasetStats(
        name=dataset.name,
        sha256=dataset.sha256,
        image_shape=dataset.image_shape,
        class_names=dataset.class_names,
        train=_split_stats(dataset.train, dataset.num_classes),
        test=_split_stats(dataset.test, dataset.num_classes),
    )


def _split_stats(split: Split, num_classes: int) -> SplitStats:
    histogram = np.zeros(256, np.int64)
    for start in range(0, len(split), _CHUNK_IMAGES):
        pixels = split.images[start : start + _CHUNK_IMAGES].reshape(-1)
        histogram += np.bincount(pixels, minlength=256)
    levels = np.arange(256)
    num_pixels = int(histogram.sum())
    first = int(histogram @ levels)
    second = int(histogram @ levels**2)
    variance = (num_pixels * second - first**2) / num_pixels**2
    present = np.flatnonzero(histogram)
    return SplitStats(
        num_images=len(split),
        class_counts=tuple(np.bincount(split.labels, minlength=num_classes).tolist()),
        mean=first / num_pixels / 255,
        std=variance**0.5 / 255,
        minimum=int(present[0]) / 255,
        maximum=int(present[-1]) / 255,
    )

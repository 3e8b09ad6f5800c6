"""A data set in, the numbers one wants to know before training on it out."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from smidgen.data.dataset import Dataset, Split

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

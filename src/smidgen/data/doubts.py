"""A data set in, what makes numbers measured on it doubtful out: copies and empty pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from smidgen.data.dataset import Dataset, Split, pixel_keys

_FEWEST_LEVELS = 8
"""Pictures whose pixels differ by less, of 255, show nothing: a drawing has over 100."""
_NEAR_LEVELS = 6.0
"""Pictures that differ by less (root of the mean square, of 255) are told as nearly alike.

Saving MNIST's images as JPEG changes them by 2.3 (quality 90) and 5.4 (75) at the median, those of
`stripes` by 3.9 and 9.8; the nearest pair across MNIST's splits differs by 7.5.
"""
_MORE = "`smidgen data check` lists all."
_BLOCK = 512  # pictures compared with all others at a time: 512 x 60,000 floats are 123 MB


class Place(NamedTuple):
    """A picture of a data set: `train` or `test`, and its position there."""

    part: str
    position: int


@dataclass(frozen=True, slots=True)
class Doubts:
    """What is doubtful about a data set.

    Args:
        leaked: Test pictures with the pixels of a training picture, and the first such one.
        relabelled: Pictures with the pixels of an earlier one of another class, and that one.
        repeated: How many training pictures repeat an earlier one of their class.
        empty: Pictures that are (nearly) of one grey.
        near: Test pictures nearly alike to a training picture, and it; None if not looked for.
    """

    leaked: tuple[tuple[Place, Place], ...]
    relabelled: tuple[tuple[Place, Place], ...]
    repeated: int
    empty: tuple[Place, ...]
    near: tuple[tuple[Place, Place], ...] | None = None

    def to_dict(self, dataset: Dataset) -> dict[str, Any]:
        """Return plain data, pictures by name, ready for JSON."""

        def pairs(found: Sequence[tuple[Place, Place]]) -> list[list[str]]:
            return [[name_of(dataset, one), name_of(dataset, other)] for one, other in found]

        return {
            "name": dataset.name,
            "sha256": dataset.sha256,
            "test_images": len(dataset.test),
            "test_in_train": pairs(self.leaked),
            "two_labels": pairs(self.relabelled),
            "repeated_in_train": self.repeated,
            "empty": [name_of(dataset, place) for place in self.empty],
            "nearly_in_train": None if self.near is None else pairs(self.near),
        }


def find_doubts(dataset: Dataset, near: bool = False) -> Doubts:
    """Look for copies across splits and labels, and for pictures that show nothing.

    Args:
        dataset: Compared as networks see it, after resizing; 70,000 images take half a second.
        near: Whether to look for test pictures nearly alike to training pictures as well, which
            compares each with each.
    """
    first: dict[bytes, Place] = {}
    leaked, relabelled, repeated = [], [], 0
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        for index, key in enumerate(pixel_keys(split.images)):
            place = Place(part, index)
            before = first.setdefault(key, place)
            if before == place:
                continue
            if part == "test" and before.part == "train":
                leaked.append((place, before))
            if split.labels[index] != _part(dataset, before).labels[before.position]:
                relabelled.append((place, before))
            elif part == "train":
                repeated += 1
    empty = [
        Place(part, int(index))
        for part, split in (("train", dataset.train), ("test", dataset.test))
        for index in np.flatnonzero(is_empty(split.images))
    ]
    found = _near(dataset, {place.position for place, _ in leaked}) if near else None
    return Doubts(tuple(leaked), tuple(relabelled), repeated, tuple(empty), found)


def is_empty(images: np.ndarray) -> np.ndarray:
    """Return bool (N,): which images, uint8 (N, C, H, W), are (nearly) of one color."""
    flat = images.reshape(*images.shape[:2], -1)
    spread = flat.max(axis=2).astype(np.int16) - flat.min(axis=2)
    return (spread < _FEWEST_LEVELS).all(axis=1)


def name_of(dataset: Dataset, place: Place) -> str:
    """Return a picture's file, or its split and index where it has none."""
    files = _part(dataset, place).files
    return files[place.position] if files else f"{place.part} image {place.position:,}"


def notes_on(dataset: Dataset, doubts: Doubts) -> list[str]:
    """Say each kind of doubt in one line, with an example; nothing where there is none."""

    def named(place: Place) -> str:
        return f"`{name_of(dataset, place)}`"

    notes = []
    if doubts.leaked:
        test, train = doubts.leaked[0]
        notes.append(
            f"{len(doubts.leaked):,} of {len(dataset.test):,} test images are training images too, "
            f"as {named(test)} is {named(train)}: accuracy on them is memory. {_MORE}"
        )
    if doubts.relabelled:
        one, other = doubts.relabelled[0]
        classes = [dataset.class_names[_part(dataset, p).labels[p.position]] for p in (one, other)]
        count = len(doubts.relabelled)
        notes.append(
            f"{count:,} {'picture stands' if count == 1 else 'pictures stand'} under two labels, "
            f"as {named(one)} (`{classes[0]}`) and {named(other)} (`{classes[1]}`). {_MORE}"
        )
    if doubts.empty:
        count, total = len(doubts.empty), len(dataset.train) + len(dataset.test)
        notes.append(
            f"{count:,} of {total:,} images {'shows' if count == 1 else 'show'} nothing, as "
            f"{named(doubts.empty[0])}: all pixels are (nearly) alike. Look at the file: fully "
            "transparent, or of a range that no screen shows?"
        )
    if doubts.near:
        test, train = doubts.near[0]
        notes.append(
            f"{len(doubts.near):,} of {len(dataset.test):,} test images are nearly training "
            f"images, as {named(test)} and {named(train)}."
        )
    return notes


def listed(dataset: Dataset, doubts: Doubts) -> list[str]:
    """Return the lines that tell all, pictures by name."""
    groups = (
        ("test images with the pixels of a training image", doubts.leaked),
        ("pictures under two labels", doubts.relabelled),
        ("test images nearly alike to a training image", doubts.near or ()),
    )
    lines = []
    for title, pairs in groups:
        lines.append(f"{len(pairs):,} {title}")
        lines += [f"  {name_of(dataset, a)}  =  {name_of(dataset, b)}" for a, b in pairs]
    lines.append(f"{doubts.repeated:,} training images that repeat another of their class")
    lines.append(f"{len(doubts.empty):,} images that show nothing")
    lines += [f"  {name_of(dataset, place)}" for place in doubts.empty]
    return lines


def _part(dataset: Dataset, place: Place) -> Split:
    return dataset.train if place.part == "train" else dataset.test


def _near(dataset: Dataset, known: set[int]) -> tuple[tuple[Place, Place], ...]:
    train = dataset.train.images.reshape(len(dataset.train), -1).astype(np.float32)
    squares = np.einsum("nd,nd->n", train, train)
    most = _NEAR_LEVELS**2 * train.shape[1]
    found = []
    for start in range(0, len(dataset.test), _BLOCK):
        test = dataset.test.images[start : start + _BLOCK]
        test = test.reshape(len(test), -1).astype(np.float32)
        # squared distances, but for what does not depend on the training picture
        distances = squares - 2 * (test @ train.T)
        nearest = distances.argmin(axis=1)
        own = np.einsum("nd,nd->n", test, test)
        for row in np.flatnonzero(distances[np.arange(len(test)), nearest] + own < most):
            if start + int(row) not in known:
                pair = Place("test", start + int(row)), Place("train", int(nearest[row]))
                found.append(pair)
    return tuple(found)

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data import Split, assemble, dataset_stats, draw_stripes, split_valid
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


def test_the_split_of_60_000_holds_out_5_000_in_proportion() -> None:
    """Every class gives its share, to the image, and nothing is lost or doubled."""
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    labels = np.repeat(np.arange(10), counts)

    train, valid = split_valid(labels)

    assert (len(train), len(valid)) == (55_000, 5_000)
    np.testing.assert_array_equal(np.sort(np.concatenate((train, valid))), np.arange(60_000))
    shares = np.bincount(labels[valid]) - np.array(counts) / 12
    assert np.abs(shares).max() < 1


def test_the_split_is_the_same_forever() -> None:
    """The indices are pinned, so that runs stay comparable over years."""
    _, valid = split_valid(np.arange(60_000) % 10)

    assert valid.dtype == np.int64
    digest = hashlib.sha256(valid.astype("<i8").tobytes()).hexdigest()
    assert digest == "dc8efdcb5b0b70aa490a1804cf2c697307dd0767896d8330e17122ea14ab0ca2"


@pytest.mark.parametrize(
    ("count", "num_valid", "expected"), [(6, 5000, 1), (600, 5000, 100), (600, 60, 60)]
)
def test_small_data_sets_hold_out_at_most_a_sixth(
    count: int, num_valid: int, expected: int
) -> None:
    """The wish is scaled down to a sixth of what there is."""
    train, valid = split_valid(np.zeros(count, np.int64), num_valid)

    assert (len(train), len(valid)) == (count - expected, expected)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=6, max_size=200), st.integers(1, 50))
def test_any_labels_split_into_sorted_halves_that_cover_all(
    labels: list[int], num_valid: int
) -> None:
    """Indices are sorted, disjoint, complete, as many as wished, and fair to every class."""
    array = np.array(labels)

    train, valid = split_valid(array, num_valid)

    assert list(train) == sorted(set(train))
    assert list(valid) == sorted(set(valid))
    assert sorted([*train, *valid]) == list(range(len(labels)))
    assert len(valid) == min(num_valid, len(labels) // 6)
    for label in set(labels):
        share = labels.count(label) * len(valid) / len(labels)
        assert abs(int((array[valid] == label).sum()) - share) < 1


@pytest.mark.parametrize(
    ("count", "num_valid", "text"),
    [
        (
            5,
            1,
            "5 images are too few to hold out a validation set; at least 6 are needed.",
        ),
        (60, 0, "`num_valid` must be at least 1, not 0."),
    ],
)
def test_impossible_wishes_are_refused(count: int, num_valid: int, text: str) -> None:
    """Too few images, or nothing to hold out."""
    with pytest.raises(DataError) as caught:
        split_valid(np.zeros(count, np.int64), num_valid)

    assert str(caught.value) == text


def test_stats_equal_what_numpy_computes() -> None:
    """Counts, mean, standard deviation and range agree with the direct formulas."""
    dataset = draw_stripes(5000, 30)

    stats = dataset_stats(dataset)

    for part, split in ((stats.train, dataset.train), (stats.test, dataset.test)):
        pixels = split.images / 255
        assert part.num_images == len(split)
        assert part.class_counts == tuple(np.bincount(split.labels))
        np.testing.assert_allclose(
            [part.mean, part.std, part.minimum, part.maximum],
            [pixels.mean(), pixels.std(), pixels.min(), pixels.max()],
            rtol=1e-12,
        )
    assert stats.image_shape == (1, 28, 28)
    assert stats.sha256 == dataset.sha256


def test_a_constant_image_has_no_spread_and_absent_classes_count_zero() -> None:
    """The standard deviation is exactly 0, and every class has a count."""
    images = np.full((2, 1, 3, 3), 51, np.uint8)
    split = Split(images, np.array([2, 2], np.int64))

    stats = dataset_stats(assemble("flat", split, split, ("a", "b", "c", "d")))

    assert stats.train.class_counts == (0, 0, 2, 0)
    assert (stats.train.mean, stats.train.std) == (0.2, 0.0)
    assert (stats.train.minimum, stats.train.maximum) == (0.2, 0.2)


def test_stats_become_json() -> None:
    """The plain form has the documented keys and survives JSON."""
    plain = dataset_stats(draw_stripes(20, 20)).to_dict()

    assert set(plain) == {"name", "sha256", "image_shape", "class_names", "train", "test"}
    assert set(plain["train"]) == {
        "num_images",
        "class_counts",
        "mean",
        "std",
        "minimum",
        "maximum",
    }
    assert json.loads(json.dumps(plain))["train"]["class_counts"] == [2] * 10

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data import split_valid
from smidgen.errors import DataError


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

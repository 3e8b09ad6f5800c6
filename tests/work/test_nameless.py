import os

import numpy as np
import pytest

from smidgen.data import Dataset
from smidgen.work.nameless import pack, unpack


def test_a_parcel_holds_what_was_packed(stripes: Dataset) -> None:
    """Images, labels and all else come out as they went in, whatever their size."""
    with pack((stripes, "word", np.arange(0))) as file:
        dataset, word, empty = unpack(file.fileno())

    assert np.array_equal(dataset.train.images, stripes.train.images)
    assert np.array_equal(dataset.test.labels, stripes.test.labels)
    assert (dataset.sha256, dataset.class_names) == (stripes.sha256, stripes.class_names)
    assert (word, empty.tolist()) == ("word", [])


def test_what_one_process_writes_stays_with_it() -> None:
    """The file is mapped copy on write: a second reader sees what was packed."""
    with pack(np.zeros(100_000)) as file:
        first, second = unpack(file.fileno()), unpack(file.fileno())
        first[:] = 1.0

    assert (first.sum(), second.sum()) == (100_000, 0)


@pytest.mark.parametrize("size", [1, 8, 63, 64, 65])
def test_arrays_lie_where_vectors_like_them(size: int) -> None:
    """Every array begins at a multiple of 64 bytes, whatever stands before it."""
    with pack([np.ones(size, np.uint8), np.ones(size), "x" * size]) as file:
        arrays = unpack(file.fileno())[:2]

    assert [array.ctypes.data % 64 for array in arrays] == [0, 0]


def test_a_parcel_leaves_nothing_behind(tmp_path: os.PathLike[str]) -> None:
    """It has no name, so no folder shows it, dead or alive."""
    before = set(os.listdir("/tmp")) if os.path.isdir("/tmp") else set()
    with pack(np.zeros(10)):
        during = set(os.listdir("/tmp")) if os.path.isdir("/tmp") else set()

    assert not [name for name in during - before if "smidgen" in name]

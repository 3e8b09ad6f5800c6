import contextlib
import gzip
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data.idx import parse_idx, unpack_gzip
from smidgen.errors import DataError

PACKED = gzip.compress(b"twelve bytes", mtime=0)


def test_gzip_unpacks_to_its_content() -> None:
    """An intact file of exactly the allowed size unpacks."""
    assert unpack_gzip(PACKED, 12, "f.gz") == b"twelve bytes"


@pytest.mark.parametrize(
    ("content", "max_bytes", "text"),
    [
        (PACKED[:-3], 12, "`f.gz` is a gzip file that is cut short. Fetch it again."),
        (b"", 12, "`f.gz` is a gzip file that is cut short. Fetch it again."),
        (
            PACKED + b"more",
            12,
            "`f.gz` has 4 bytes of garbage after its gzip data. Fetch it again.",
        ),
        (
            PACKED,
            11,
            "`f.gz` unpacks to more than the 11 bytes it should hold. "
            "Do not trust where it came from; fetch it again.",
        ),
        (
            b"<html>",
            12,
            "`f.gz` is not an intact gzip file (Error -3 while decompressing data: "
            "incorrect header check). Fetch it again.",
        ),
        (
            PACKED[:-8] + bytes(8),
            12,
            "`f.gz` is not an intact gzip file (Error -3 while decompressing data: "
            "incorrect data check). Fetch it again.",
        ),
    ],
)
def test_a_broken_gzip_file_is_described(content: bytes, max_bytes: int, text: str) -> None:
    """Each fault has its own line."""
    with pytest.raises(DataError) as caught:
        unpack_gzip(content, max_bytes, "f.gz")

    assert str(caught.value) == text


def test_a_gzip_bomb_is_refused_before_it_takes_memory() -> None:
    """100 MB packed into 100 kB are stopped at the cap."""
    bomb = gzip.compress(bytes(100_000_000), mtime=0)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="unpacks to more than the 1,000 bytes"):
            unpack_gzip(bomb, 1000, "f.gz")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 2_000_000


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
@pytest.mark.parametrize("shape", [(5,), (3, 2), (2, 3, 4)])
def test_idx_gives_back_the_array(dtype: Any, shape: tuple[int, ...], idx: Any) -> None:
    """What was written is read, in native byte order and writable."""
    array = (np.arange(np.prod(shape)) * 7).astype(dtype).reshape(shape)

    parsed = parse_idx(idx(array), len(shape), "f")

    assert parsed.dtype == dtype
    assert parsed.flags.writeable
    np.testing.assert_array_equal(parsed, array)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            "000008010000000200",
            "`f` has 1 dimensions, not 3. Images and labels may have been swapped.",
        ),
        (
            "3c68746d6c",
            "`f` begins with 0x3c68746d, which is not the magic number of an IDX file "
            "(0x00000803 is expected). It is some other kind of file.",
        ),
        (
            "",
            "`f` begins with 0x00, which is not the magic number of an IDX file "
            "(0x00000803 is expected). It is some other kind of file.",
        ),
        (
            "00000803000000020000000100000001aa",
            "`f` says it holds 2x1x1, which needs 18 bytes, but it has 17. Fetch it again.",
        ),
        (
            "00000803000000020000000100000001aabbcc",
            "`f` says it holds 2x1x1, which needs 18 bytes, but it has 19. Fetch it again.",
        ),
        (
            "000008030000000200000001",
            "`f` ends within its header: it has 12 bytes, not 16 or more. Fetch it again.",
        ),
        (
            "0000080300000000ffffffffffffffff",
            "`f` says it holds 0x4294967295x4294967295, which is nothing. Fetch it again.",
        ),
    ],
)
def test_a_broken_idx_file_is_described(content: str, text: str) -> None:
    """Wrong magic number, wrong dimensions, too few and too many bytes."""
    with pytest.raises(DataError) as caught:
        parse_idx(bytes.fromhex(content), 3, "f")

    assert str(caught.value) == text


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(1, 4))
def test_any_bytes_parse_or_raise_a_data_error(content: bytes, num_sides: int) -> None:
    """No input gets past the checks."""
    for prefix in (b"", bytes((0, 0, 8, num_sides)), bytes((0, 0, 12, num_sides))):
        with contextlib.suppress(DataError):
            assert parse_idx(prefix + content, num_sides, "f").ndim == num_sides

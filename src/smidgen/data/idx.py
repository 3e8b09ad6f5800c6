"""Bytes of an IDX file in, a NumPy array out; plain or gzipped, never more than expected.

Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits"
(1998), section "File formats".
"""

import math
import zlib

import numpy as np

from smidgen.errors import DataError

_TYPES = {0x08: np.dtype(np.uint8), 0x0C: np.dtype(">i4")}
_GZIP = 16 + zlib.MAX_WBITS
_MAX_SIDES = 4


def unpack_gzip(content: bytes, max_bytes: int, where: str) -> bytes:
    """Unpack one gzip stream, holding at most `max_bytes` + 1 bytes of its result.

    Args:
        content: The packed bytes.
        max_bytes: More unpacked bytes than this are refused before they are produced.
        where: What to call the content in errors, such as a path.

    Raises:
        DataError: Not gzip, damaged, cut short, followed by garbage, or too large unpacked.
    """
    stream = zlib.decompressobj(_GZIP)
    try:
        unpacked = stream.decompress(content, max_bytes + 1)
    except zlib.error as error:
        raise DataError(
            f"`{where}` is not an intact gzip file ({error}). Fetch it again."
        ) from None
    if len(unpacked) > max_bytes:
        raise DataError(
            f"`{where}` unpacks to more than the {max_bytes:,} bytes it should hold. "
            "Do not trust where it came from; fetch it again."
        )
    if not stream.eof:
        raise DataError(f"`{where}` is a gzip file that is cut short. Fetch it again.")
    if stream.unused_data:
        raise DataError(
            f"`{where}` has {len(stream.unused_data):,} bytes of garbage after its gzip data. "
            "Fetch it again."
        )
    return unpacked


def parse_idx(content: bytes, num_sides: int, where: str) -> np.ndarray:
    """Read an IDX array of unsigned bytes or 32-bit integers.

    Args:
        content: The whole unpacked file.
        num_sides: Dimensions it must have: 3 for images (N, H, W), 1 for labels (N,).
        where: What to call the content in errors, such as a path.

    Returns:
        uint8 or int32 in native byte order, writable.

    Raises:
        DataError: Wrong magic number, wrong number of dimensions, or a length that does not
            follow from the dimensions.
    """
    kind, sides = (content[2], content[3]) if len(content) >= 4 else (0, 0)
    if content[:2] != b"\0\0" or kind not in _TYPES or not 1 <= sides <= _MAX_SIDES:
        raise DataError(
            f"`{where}` begins with 0x{content[:4].hex() or '00'}, which is not the magic number "
            f"of an IDX file (0x000008{num_sides:02d} is expected). It is some other kind of file."
        )
    if sides != num_sides:
        raise DataError(
            f"`{where}` has {sides} dimensions, not {num_sides}. "
            "Images and labels may have been swapped."
        )
    start = 4 + 4 * sides
    if len(content) < start:
        raise DataError(
            f"`{where}` ends within its header: it has {len(content)} bytes, not {start} or more. "
            "Fetch it again."
        )
    shape = tuple(int(side) for side in np.frombuffer(content[4:start], ">u4"))
    right = start + math.prod(shape) * _TYPES[kind].itemsize
    by = "x".join(str(side) for side in shape)
    if 0 in shape:
        raise DataError(f"`{where}` says it holds {by}, which is nothing. Fetch it again.")
    if len(content) != right:
        raise DataError(
            f"`{where}` says it holds {by}, which needs {right:,} bytes, but it has "
            f"{len(content):,}. Fetch it again."
        )
    array = np.frombuffer(content, _TYPES[kind], offset=start).reshape(shape)
    return array.astype(_TYPES[kind].newbyteorder("="), copy=True)

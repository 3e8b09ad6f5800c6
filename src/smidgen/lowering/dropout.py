"""Dropout as data: which values are dropped is a hash, the same in C, NumPy and torch.

Element e (channels outermost, as in NCHW) of the image at position p of the batch, in the
network's d-th dropout, at step s of the epoch, is kept if its 16 bits are at least
round(rate * 65536), which is capped at 65535. Two neighboring elements share one 32-bit hash;
the even one takes the low half:

    row  = mix(mix(mix(key ^ s * 0x9E3779B1) ^ d * 0x85EBCA77) ^ p * 0xC2B2AE3D)
    hash = mix(row ^ (e >> 1) * 0x9E3779B1)
    bits = hash >> 16 if e is odd else hash & 0xFFFF

in 32-bit arithmetic, where mix is the `lowbias32` finalizer. Kept values are multiplied by
1 / (1 - rate). A decision depends on nothing else: not on threads, lanes or the batch's size.
A dropout of whole channels decides once for each: there e is the channel's number.

Source of the finalizer: C. Wellons, Prospecting for Hash Functions, 2018.
"""

import numpy as np

STEP_FACTOR = 0x9E3779B1
LAYER_FACTOR = 0x85EBCA77
POSITION_FACTOR = 0xC2B2AE3D
ELEMENT_FACTOR = 0x9E3779B1
MIX_FACTORS = (0x7FEB352D, 0x846CA68B)


def threshold(rate: float) -> int:
    """Return the 16-bit number below which a value is dropped."""
    return min(round(rate * 65536), 0xFFFF)


def row_keys(key: int, step: int, layer: int, num_rows: int) -> np.ndarray:
    """Return uint32 (num_rows,): what each image of a batch mixes with its elements' numbers."""
    once = _mix(np.array([key ^ _times(step, STEP_FACTOR)], dtype=np.uint32))
    twice = _mix(once ^ np.uint32(_times(layer, LAYER_FACTOR)))
    positions = np.arange(num_rows, dtype=np.uint32) * np.uint32(POSITION_FACTOR)
    return _mix(twice ^ positions)


def keep_mask(key: int, step: int, layer: int, shape: tuple[int, int], rate: float) -> np.ndarray:
    """Return bool (images, elements): which values of a batch stay. The reference for tests."""
    rows = row_keys(key, step, layer, shape[0])[:, None]
    elements = np.arange(shape[1], dtype=np.uint32)
    hashes = _mix(rows ^ (elements >> np.uint32(1)) * np.uint32(ELEMENT_FACTOR))
    bits = np.where(elements & np.uint32(1), hashes >> np.uint32(16), hashes & np.uint32(0xFFFF))
    return bits >= threshold(rate)


def _times(a: int, b: int) -> int:
    return (a * b) & 0xFFFFFFFF


def _mix(x: np.ndarray) -> np.ndarray:
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(MIX_FACTORS[0])
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(MIX_FACTORS[1])
    return x ^ (x >> np.uint32(16))

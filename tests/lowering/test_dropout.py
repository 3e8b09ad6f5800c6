import numpy as np
import pytest

from smidgen.lowering.dropout import keep_mask, row_keys, threshold

MASK = 0xFFFFFFFF


def lowbias32(x: int) -> int:
    """Return the finalizer on one number, written with whole numbers only."""
    x ^= x >> 16
    x = x * 0x7FEB352D & MASK
    x ^= x >> 15
    x = x * 0x846CA68B & MASK
    return x ^ x >> 16


def bits(key: int, step: int, layer: int, position: int, element: int) -> int:
    """Return the 16 bits of one decision, as the module's docstring says."""
    row = lowbias32(key ^ step * 0x9E3779B1 & MASK)
    row = lowbias32(row ^ layer * 0x85EBCA77 & MASK)
    row = lowbias32(row ^ position * 0xC2B2AE3D & MASK)
    both = lowbias32(row ^ (element >> 1) * 0x9E3779B1 & MASK)
    return both >> 16 if element % 2 else both & 0xFFFF


@pytest.mark.parametrize("key", [0, 1, 0xFFFFFFFF, 0x12345678])
@pytest.mark.parametrize(("step", "layer"), [(0, 0), (1, 0), (468, 3), (100_000, 7)])
@pytest.mark.parametrize("elements", [1, 2, 7, 96])
def test_mask_is_the_documented_hash(key: int, step: int, layer: int, elements: int) -> None:
    """Every decision is the documented formula, computed here one number at a time."""
    rate = 0.37

    found = keep_mask(key, step, layer, (5, elements), rate)

    expected = [
        [bits(key, step, layer, p, e) >= round(rate * 65536) for e in range(elements)]
        for p in range(5)
    ]
    assert (found == np.array(expected)).all()


@pytest.mark.parametrize(
    ("arguments", "vector"),
    [
        ((0, 0, 0), "000111101111101111111111 110101111011101101101110"),
        ((0xDEADBEEF, 12, 3), "101101011101111011111111 101110011111101110111110"),
    ],
)
def test_vectors_are_pinned(arguments: tuple[int, int, int], vector: str) -> None:
    """These decisions never change: a changed bit changes every run with dropout."""
    found = keep_mask(*arguments, (2, 24), 0.25)

    assert ["".join("01"[int(kept)] for kept in row) for row in found] == vector.split()


def test_row_keys_are_pinned() -> None:
    """The numbers that an image's elements are mixed with never change."""
    assert row_keys(0xDEADBEEF, 12, 3, 3).tolist() == [1214226830, 2940791950, 250990727]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(0.0, 0), (0.5, 32768), (0.25, 16384), (0.1, 6554), (1 - 1e-9, 65535)],
)
def test_threshold(rate: float, expected: int) -> None:
    """The threshold is the rate in 65,536ths, and never beyond 16 bits."""
    assert threshold(rate) == expected


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_rate_is_kept(rate: float) -> None:
    """The share of dropped values is the rate, within four standard deviations."""
    shape = (500, 401)

    dropped = 1 - keep_mask(77, 5, 1, shape, rate)

    count = shape[0] * shape[1]
    assert abs(dropped.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / count)
    spread = 5 * np.sqrt(rate * (1 - rate))
    assert np.abs(dropped.mean(axis=1) - rate).max() < spread / np.sqrt(shape[1])
    assert np.abs(dropped.mean(axis=0) - rate).max() < spread / np.sqrt(shape[0])


@pytest.mark.parametrize(
    "other", [(78, 5, 1), (77, 6, 1), (77, 5, 2)], ids=["key", "step", "layer"]
)
def test_keys_steps_and_layers_are_independent(other: tuple[int, int, int]) -> None:
    """Another key, step or layer gives decisions that have nothing to do with these."""
    first = keep_mask(77, 5, 1, (200, 500), 0.5)
    second = keep_mask(*other, (200, 500), 0.5)

    agreement = np.mean(first == second)

    assert abs(agreement - 0.5) < 4 * 0.5 / np.sqrt(first.size)


@pytest.mark.parametrize(("rows", "columns"), [(1, 0), (2, 0), (0, 1), (0, 2), (1, 1)])
def test_neighbors_are_independent(rows: int, columns: int) -> None:
    """Decisions of neighboring images and elements are not correlated."""
    mask = keep_mask(3, 0, 0, (402, 502), 0.5)

    agreement = np.mean(mask[:400, :500] == mask[rows : rows + 400, columns : columns + 500])

    assert abs(agreement - 0.5) < 4 * 0.5 / np.sqrt(400 * 500)


def test_mask_does_not_depend_on_the_batch() -> None:
    """An image at a position has the same decisions in a batch of any size."""
    large = keep_mask(9, 1, 2, (64, 33), 0.3)

    for size in (1, 5, 63):
        assert (keep_mask(9, 1, 2, (size, 33), 0.3) == large[:size]).all()

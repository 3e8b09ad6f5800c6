"""How much of a convolution is held in registers at once.

The prices are cycles on a core that starts two multiply-adds per cycle, each four cycles long:
a tile with fewer than eight sums waits for itself. They only rank tiles against each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

_SUMS = {16: 24}
"""Sums that fit beside operands: 24 of AVX-512's 32 registers, 12 where there are 16."""
_LATENCY, _LOAD, _CALL = 4.0, 0.25, 4.0


@dataclass(frozen=True, slots=True)
class Tile:
    """The C header's `Tile`."""

    outputs: int = 1
    inputs: int = 1
    rows: int = 1
    columns: int = 1


@cache
def row_tile(
    channels: int, width: int, kernel: int, step: int, lanes: int, multiple: int = 1
) -> tuple[int, int]:
    """Return (channels, columns) of a row that are summed at once, forward or scattering back.

    The columns are a multiple of `multiple`, or the whole row.
    """

    def price(tile: tuple[int, int]) -> float:
        return sum(
            count
            * (
                max(part * columns * kernel / 2, _LATENCY * kernel)
                + _LOAD * ((columns - 1) * step + kernel + part * kernel)
                + _CALL
            )
            for part, columns, count in _parts(channels, width, *tile)
        )

    tiles = [
        (part, columns)
        for part in range(1, channels + 1)
        for columns in range(1, width + 1)
        if part * columns <= _SUMS.get(lanes, 12) and (columns % multiple == 0 or columns == width)
    ]
    # among equals the one with fewer different pieces is less code
    return min(tiles, key=lambda tile: (price(tile), channels % tile[0] + width % tile[1] > 0))


@cache
def weight_tile(outputs: int, inputs: int, rows: int, columns: int, lanes: int) -> Tile:
    """Return the tile of weights whose gradients are summed at once over a map."""
    most = max(_SUMS.get(lanes, 12), columns)

    def price(tile: Tile) -> float:
        total = 0.0
        for part, given, few in _parts(outputs, inputs, tile.outputs, tile.inputs):
            for lines, count in _pieces(rows, tile.rows):
                size = given * lines * columns
                sums = part * size
                total += few * count * (max(sums / 2, _LATENCY) + _LOAD * (part + size) + 1)
        return total

    tiles = [
        Tile(part, given, lines)
        for part in range(1, outputs + 1)
        for given in range(1, inputs + 1)
        for lines in range(1, rows + 1)
        if part * given * lines * columns <= most
    ]
    return min(tiles, key=price)


def _parts(a: int, b: int, step_a: int, step_b: int) -> Iterator[tuple[int, int, int]]:
    for size_a, count_a in _pieces(a, step_a):
        for size_b, count_b in _pieces(b, step_b):
            yield size_a, size_b, count_a * count_b


def _pieces(whole: int, step: int) -> list[tuple[int, int]]:
    """Return (size, how many) of the pieces of a whole: equal ones and a rest."""
    pieces = [(step, whole // step)]
    return [*pieces, (whole % step, 1)] if whole % step else pieces

"""What a convolution or a pool reads, as arrays: shared by the float stages and the integers."""

import numpy as np

Pair = tuple[int, int]


def windows(
    maps: np.ndarray, kernel: Pair, stride: Pair, before: Pair, size: Pair, fill: float = 0.0
) -> np.ndarray:
    """Return every window as a view (N, rows, columns, kernel rows, kernel columns, C).

    Args:
        maps: (N, H, W, C).
        kernel: Rows and columns of a window.
        stride: Steps between windows.
        before: Cells added above and left.
        size: How many windows there are, rows and columns; cells are added below and right as
            they need.
        fill: What stands in added cells.
    """
    after = [
        max(0, (size[axis] - 1) * stride[axis] + kernel[axis] - before[axis] - maps.shape[1 + axis])
        for axis in range(2)
    ]
    if any((*before, *after)):
        edges = ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0))
        maps = np.pad(maps, edges, constant_values=fill)
    seen = np.lib.stride_tricks.sliding_window_view(maps, kernel, axis=(1, 2))
    seen = seen[:, :: stride[0], :: stride[1]][:, : size[0], : size[1]]
    return seen.transpose(0, 1, 2, 4, 5, 3)


def dots(seen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return sum(window * weights) as (N, rows, columns, out).

    Args:
        seen: As `windows` gives.
        weights: (out, kernel rows, kernel columns, C).
    """
    flat = np.ascontiguousarray(seen).reshape(*seen.shape[:3], -1)
    return flat @ weights.reshape(len(weights), -1).T


def channel_dots(seen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return each channel's own sum(window * weights) as (N, rows, columns, C).

    Args:
        seen: As `windows` gives.
        weights: (C, kernel rows, kernel columns).
    """
    total = np.zeros((*seen.shape[:3], seen.shape[5]), np.result_type(seen, weights))
    for row in range(weights.shape[1]):
        for column in range(weights.shape[2]):
            total += seen[:, :, :, row, column] * weights[:, row, column]
    return total


def pooled(
    maps: np.ndarray, kind: str, kernel: Pair, stride: Pair, before: Pair, size: Pair
) -> np.ndarray:
    """Return the largest value or the sum of every window, (N, rows, columns, C)."""
    lowest = np.finfo(maps.dtype).min if maps.dtype.kind == "f" else np.iinfo(maps.dtype).min
    fill = lowest if kind == "max" else 0
    seen = windows(maps, kernel, stride, before, size, fill)
    return seen.max(axis=(3, 4)) if kind == "max" else seen.sum(axis=(3, 4), dtype=maps.dtype)

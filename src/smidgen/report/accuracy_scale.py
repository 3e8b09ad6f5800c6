"""Axes of accuracy with room at the top: errors on a logarithmic scale, printed as accuracy."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from smidgen.report.figures import figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_ERROR = 5e-5
"""Half an error in 10,000 images: where no error at all is drawn."""

_TICKS = (
    0.1, 0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.992, 0.993, 0.994, 0.995, 0.996, 0.997,
    0.998, 0.999, 0.9995, 0.9999,
)  # fmt: skip
_TICKS_PER_INCH = 1.9


def drawable(accuracies: Iterable[float]) -> np.ndarray:
    """Return accuracies with room for a logarithm: none is drawn above `1 - LEAST_ERROR`."""
    return np.minimum(np.asarray(list(accuracies), np.float64), 1.0 - LEAST_ERROR)


def accuracy_axis(axes: "Axes", lowest: float, highest: float) -> None:
    """Make the vertical axis one of accuracies, shares printed in percent.

    Args:
        axes: Whose axis; its figure must have its size.
        lowest: The lowest accuracy that is drawn.
        highest: The highest.
    """
    axes.set_yscale("function", functions=(_forward, _backward))
    low, high = _forward(drawable([lowest, highest]))
    room = max(0.06 * (high - low), 0.01)
    axes.set_ylim(*_backward(np.array([low - room, high + room])))
    ticks = ticks_between(*axes.get_ylim(), figure_of(axes).get_figheight() * _TICKS_PER_INCH)
    axes.set_yticks(ticks, [percent_tick(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel("accuracy (%)")


def ticks_between(low: float, high: float, most: float) -> list[float]:
    """Return round accuracies inside a range, evenly spread on the scale, about `most` of them."""
    inside = [tick for tick in _TICKS if low <= tick <= high]
    if len(inside) < 2:
        return [float(tick) for tick in np.linspace(low, high, 4)]
    apart = (_forward(high) - _forward(low)) / max(most, 2.0)
    chosen: list[float] = []
    for tick in reversed(inside):  # from the top, where the interest is
        if not chosen or _forward(chosen[-1]) - _forward(tick) >= apart:
            chosen.append(tick)
    return chosen[::-1]


def percent_tick(share: float) -> str:
    """Return a share in percent with as few digits as it needs, four at most behind the point."""
    return f"{100.0 * share:.3f}".rstrip("0").rstrip(".")


def _forward(accuracy: np.ndarray | float) -> np.ndarray:
    return -np.log10(np.maximum(1.0 - np.asarray(accuracy, np.float64), LEAST_ERROR / 10.0))


def _backward(position: np.ndarray) -> np.ndarray:
    return 1.0 - 10.0 ** -np.asarray(position, np.float64)

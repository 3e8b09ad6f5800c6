"""Labels of points on a plot that never overprint a point, a legend or each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.report.figures import figure_of
from smidgen.report.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import BboxBase

_PLACES = (
    ((-7, 6), "right"),
    ((7, 6), "left"),
    ((0, 9), "center"),
    ((7, -14), "left"),
    ((-7, -14), "right"),
    ((0, -18), "center"),
)
"""Where a label may stand, in points from what it labels, the best place first."""


@dataclass(frozen=True, slots=True)
class Label:
    """A text for a point, which lies at `x` and `y` in the units of the axes."""

    text: str
    x: float
    y: float


def write_labels(axes: "Axes", labels: Sequence[Label]) -> list[Label]:
    """Write the labels that fit, the most important first, and return them.

    Everything else must be drawn before: lines of one straight stroke and marks are kept free,
    stairs may be written over.
    """
    figure = figure_of(axes)
    figure.draw_without_rendering()  # only now it is known where things are
    legend = axes.get_legend()
    taken: list[BboxBase] = [legend.get_window_extent()] if legend is not None else []
    taken += [line.get_window_extent() for line in axes.lines if line.get_drawstyle() == "default"]
    inside = axes.get_window_extent()
    written = []
    for label in labels:
        for box in _attempts(axes, label):
            fits = inside.x0 <= box.x0 and box.x1 <= inside.x1 and box.y0 >= inside.y0
            if fits and box.y1 <= inside.y1 and not box.count_overlaps(taken):
                taken.append(box)
                written.append(label)
                break
            axes.texts[-1].remove()
    return written


def _attempts(axes: "Axes", label: Label) -> "Iterator[BboxBase]":
    """Write a label at one place after another and yield what it covers there."""
    for offset, side in _PLACES:
        text = axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=offset,
            textcoords="offset points",
            ha=side,
            color=INK,
            fontweight="bold",
            zorder=6,
        )
        yield text.get_window_extent()

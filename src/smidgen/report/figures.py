"""Plots as values: drawn once for wide pages, once for phones, or as a PNG file.

A `Plot` knows how to draw itself on an empty matplotlib figure and what it says in words. Pages
carry it as inline SVG in two widths, of which CSS shows the one that can be read. pyplot is never
imported: it would look for a screen.
"""

import io
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smidgen.extras import require
from smidgen.report.style import BLUE, CARD, INK, MUTED, ORANGE, TIP, TIP_BREAK, inlined, rc

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import BboxBase

WIDE, HALF = 1040, 520
"""Pixels: a page's whole width, and half of it."""
NARROW = 340
"""Pixels: what a screen of 360 leaves."""

_UNITS_PER_INCH = 72  # matplotlib's SVG has one unit per point
_PNG_DOTS_PER_INCH = 180


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot that can be drawn at any size.

    Args:
        name: Lower-case words joined by hyphens; unique on its page; what `--png` calls it.
        title: What it shows, said as a finding.
        caption: How to read it.
        description: The same for people who do not see it: what is there, with its numbers.
        draw: Fills an empty figure; `is_narrow` tells whether it is for a phone.
        width: Pixels of the wide form; `WIDE` or `HALF`.
        height: Pixels of the wide form.
        narrow_height: Pixels of the narrow form.
    """

    name: str
    title: str
    caption: str
    description: str
    draw: "Callable[[Figure], None]"
    width: int = WIDE
    height: int = 300
    narrow_height: int = 270

    @property
    def is_half(self) -> bool:
        """Whether two such plots stand side by side."""
        return self.width <= HALF

    @property
    def wide_svg(self) -> "Markup":
        """The plot for wide pages, as SVG to be put into HTML."""
        return self._svg("wide", self.width, self.height)

    @property
    def narrow_svg(self) -> "Markup":
        """The plot for phones, as SVG to be put into HTML."""
        return self._svg("narrow", NARROW, self.narrow_height)

    def png(self) -> bytes:
        """Return the plot with its title as a PNG file, in light colors."""
        buffer = io.BytesIO()
        with _drawn(self, self.width, self.height + 34) as figure:
            figure.suptitle(self.title, x=0.02, ha="left", color=INK, fontweight="bold")
            figure.savefig(buffer, format="png", dpi=_PNG_DOTS_PER_INCH, facecolor=CARD)
        return buffer.getvalue()

    def _svg(self, form: str, width: int, height: int) -> "Markup":
        buffer = io.StringIO()
        with _drawn(self, width, height) as figure:
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        label = f"{self.title} {self.description}"
        return inlined(buffer.getvalue(), f"{self.name}-{form}", label, form)


@contextmanager
def _drawn(plot: Plot, width: int, height: int) -> "Iterator[Figure]":
    require("Plots need", "matplotlib")
    import matplotlib
    from matplotlib.figure import Figure

    size = (width / _UNITS_PER_INCH, height / _UNITS_PER_INCH)
    with matplotlib.rc_context(rc()), warnings.catch_warnings():
        # a class name in a script that the font lacks is drawn by the browser all the same
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=size, layout="constrained")
        plot.draw(figure)
        yield figure


def is_narrow(figure: "Figure") -> bool:
    """Whether a figure is drawn for a phone."""
    return figure.get_figwidth() * _UNITS_PER_INCH < NARROW + 1


def figure_of(axes: "Axes") -> "Figure":
    """Return the figure that axes are drawn on."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def tip(artist: "Artist", text: str) -> None:
    """Say what is shown when the pointer is on a line, point or bar; needs no script."""
    artist.set_gid(TIP + text.replace("\n", TIP_BREAK))


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


def epoch_axis(axes: "Axes") -> None:
    """Make the horizontal axis one of epochs."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.grid(False, axis="x")


def target_line(axes: "Axes", target: float) -> None:
    """Draw a target across the plot, with its number at the left end."""
    axes.axhline(target, color=ORANGE, lw=1.3, dashes=(5, 3))
    axes.annotate(
        f"target {percent_tick(target)} %",
        (0.0, target),
        xycoords=("axes fraction", "data"),
        xytext=(4, 4),
        textcoords="offset points",
        color=ORANGE,
    )


def dots(
    axes: "Axes",
    ends: Sequence[tuple[float, str]],
    base: float,
    color: str = BLUE,
    marker: str = "o",
) -> float:
    """Draw a mark per accuracy with its text, equal ones on top of each other; return the top."""
    taken: Counter[float] = Counter()
    for accuracy, text in sorted(ends):
        place = round(accuracy, 7)
        height = base + taken[place]
        (dot,) = axes.plot([100 * accuracy], [height], marker, color=color, ms=7, alpha=0.85, mew=0)
        tip(dot, text)
        taken[place] += 1
    return base + max(taken.values()) - 1


def accuracy_below(axes: "Axes") -> None:
    """Make the horizontal axis one of accuracies in percent, and hide the other."""
    from matplotlib.ticker import MaxNLocator

    axes.set_yticks([])
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(4 if is_narrow(figure_of(axes)) else 6))
    axes.ticklabel_format(axis="x", useOffset=False)
    low, high = axes.get_xlim()
    room = max(0.0, _LEAST_POINTS - (high - low)) / 2.0
    axes.set_xlim(low - room, min(high + room, 100.0 + (high - low + 2.0 * room) / 20.0))
    axes.set_xlabel("accuracy after the last epoch (%)")


def size_axis(axes: "Axes", sizes: Sequence[float], label: str = "parameters") -> None:
    """Make the horizontal axis logarithmic with round numbers as people write them."""
    low, high = min(sizes) / 1.25, max(sizes) * 1.35
    axes.set_xlim(low, high)
    steps = (1, 2, 5) if high / low < 60 else (1, 3) if high / low < 2_000 else (1,)
    if is_narrow(figure_of(axes)):
        steps = steps[: max(1, len(steps) - 1)]
    ticks = [step * 10.0**power for power in range(-3, 12) for step in steps]
    inside = [tick for tick in ticks if low <= tick <= high] or [float(size) for size in sizes[:1]]
    axes.set_xticks(inside, [short_number(tick) for tick in inside], color=MUTED)
    axes.minorticks_off()
    axes.set_xlabel(f"{label} (logarithmic)")


def short_number(number: float) -> str:
    """Return a round number in few signs: 500, 2k, 50k, 3M."""
    for size, sign in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{sign}"
    return f"{number:g}"


def plain_log_ticks(axes: "Axes") -> None:
    """Write 0.05 and 200 on a logarithmic axis, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


_LEAST_POINTS = 0.1
"""No axis of accuracies is narrower: equal seeds are equal, not spread over the page."""


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

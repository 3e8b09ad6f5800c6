"""Plots as values: drawn once for wide pages, once for phones, or as a PNG file.

A `Plot` knows how to draw itself on an empty matplotlib figure and what it says in words. Pages
carry it as inline SVG in two widths, of which CSS shows the one that can be read. pyplot is never
imported: it would look for a screen.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.report.extra import require_extra
from smidgen.report.style import CARD, INK, rc
from smidgen.report.svg import TIP, TIP_BREAK, inlined

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    require_extra()
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

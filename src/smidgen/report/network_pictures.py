"""A network and its weights in, pictures of them for a page out: its layers, its first filters."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smidgen.network.layers import Conv
from smidgen.network.network import Network
from smidgen.report.diagram import diagram
from smidgen.report.style import (
    BLUE,
    CARD,
    FAINT,
    GOLD,
    GRAY,
    GREEN,
    INK,
    LINE,
    ORANGE,
    PAPER,
    VIOLET,
    inlined,
)
from smidgen.runs.tensors import Tensors

if TYPE_CHECKING:
    from markupsafe import Markup

_NARROW = 440
"""Pixels: a picture up to this width shrinks on a phone and can still be read."""
_MOST_FILTERS = 64
_CELL = 10
_COLORS = {
    'style="fill:#ffffff"': f'fill="{PAPER}"',
    "#ffffff": CARD,
    "#fafbfc": CARD,
    "#d5dce6": LINE,
    "#c6cfdb": LINE,
    "#f1f4f8": FAINT,
    "#e9edf3": FAINT,
    "#f3f6fb": FAINT,
    "#aab6c8": GRAY,
    "#8d99ab": GRAY,
    "#8a95a5": GRAY,
    "#c2a0a0": ORANGE,
    "#1c2733": INK,
    "#2f6fde": BLUE,
    "#0f9a94": GREEN,
    "#7b52cf": VIOLET,
    "#d98a1f": GOLD,
}
"""The page's colors in place of those of the diagram, which is drawn for white paper."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture for a page, and whether it must be scrolled on a phone."""

    svg: "Markup"
    is_wide: bool


@dataclass(frozen=True, slots=True)
class Filters:
    """The first convolution of a network, seen as pictures.

    Args:
        layer: Its name.
        shown: A picture of each filter, one row of squares per input channel.
        count: How many filters there are.
        largest: The largest weight by size; full color stands for it.
    """

    layer: str
    shown: "tuple[Markup, ...]"
    count: int
    largest: float


def network_drawing(network: Network) -> Drawing:
    """Return the diagram of a network in the page's colors."""
    svg = diagram(network)
    width = float(svg.split('width="', 1)[1].split('"', 1)[0])
    num_layers = len(network.graph.nodes)
    label = f"Diagram of the network's {num_layers} operations; the table lists the same."
    return Drawing(
        inlined(_in_our_colors(svg), "network", label, "drawing", keeps_size=True), width > _NARROW
    )


def _in_our_colors(svg: str) -> str:
    for theirs, ours in _COLORS.items():
        svg = svg.replace(theirs, ours)
    return svg


def first_filters(network: Network, weights: Tensors) -> Filters | None:
    """Return the filters of the first layer that reads the image, if it is a convolution."""
    node = network.graph.nodes[0] if network.graph.nodes else None
    if node is None or not isinstance(node.layer, Conv):
        return None
    kernel = weights.get(f"{node.name}.weight")
    if kernel is None or kernel.ndim != 4 or not np.isfinite(kernel).all():
        return None
    largest = float(np.abs(kernel).max())
    shown = [
        _filter(number, kernel[number], largest or 1.0)
        for number in range(min(len(kernel), _MOST_FILTERS))
    ]
    return Filters(node.name, tuple(shown), len(kernel), largest)


def _filter(number: int, kernel: np.ndarray, largest: float) -> "Markup":
    """Draw a filter: blue holds for dark, orange for light, strength for size."""
    channels, rows, columns = kernel.shape
    cells = []
    for (channel, row, column), weight in np.ndenumerate(kernel):
        strength = abs(float(weight)) / largest
        color = ORANGE if weight > 0 else BLUE
        x, y = (channel * (columns + 1) + column) * _CELL, row * _CELL
        cells.append(
            f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="{color}" '
            f'fill-opacity="{strength:.2f}"/>'
        )
    width, height = (channels * (columns + 1) - 1) * _CELL, rows * _CELL
    frame = f'<rect width="{width}" height="{height}" fill="none" stroke="{GRAY}"/>'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f"{''.join(cells)}{frame}</svg>"
    )
    low, high = float(kernel.min()), float(kernel.max())
    label = f"Filter {number + 1}: weights from {low:.2f} to {high:.2f}"
    return inlined(svg, f"filter-{number}", label, "filter")

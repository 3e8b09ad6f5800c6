"""Boxes that draw themselves as SVG, and the ways to put them together: stacks, lanes, frames."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

GAP = 20.0
"""Pixels between two boxes of a stack; the arrow fits in."""

_BEND = 30.0
_LANE_GAP = 28.0
_SKIP = 22.0
_WIRE = "#8d99ab"
_CHAR_WIDTH = 6.0  # pixels of an average letter in the size of `quiet` and `shape`


@dataclass(frozen=True, slots=True)
class Box:
    """Something `width` by `height` pixels; `draw(x, y)` gives its SVG, x being its middle.

    An open box begins with a wire, so nothing should point at it.
    """

    width: float
    height: float
    draw: Callable[[float, float], Iterator[str]]
    is_open: bool = False


def text(
    x: float, y: float, content: str, css: str, anchor: str = "start", room: float = 0.0
) -> str:
    """Return a line of text; with `room`, the pixels it may take in small print, cut to fit."""
    fitting = int(room / _CHAR_WIDTH) if room else len(content)
    if len(content) > fitting:
        content = content[: max(fitting - 1, 1)].rstrip() + "…"
    return (
        f'<text x="{x:g}" y="{y:g}" class="{css}" text-anchor="{anchor}">{escape(content)}</text>'
    )


def rectangle(x: float, y: float, width: float, height: float, **style: str) -> str:
    """Return a rectangle; underscores in the names of attributes stand for hyphens."""
    more = " ".join(f"{name.replace('_', '-')}={quoteattr(item)}" for name, item in style.items())
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" {more}/>'


def stack(boxes: Sequence[Box]) -> Box:
    """Put boxes below each other, with arrows between."""

    def draw(x: float, y: float) -> Iterator[str]:
        for number, box in enumerate(boxes):
            if number:
                yield (_wire if box.is_open else arrow)(x, y - GAP, y)
            yield from box.draw(x, y)
            y += box.height + GAP

    height = sum(box.height for box in boxes) + GAP * max(len(boxes) - 1, 0)
    is_open = bool(boxes) and boxes[0].is_open
    return Box(max((box.width for box in boxes), default=0.0), height, draw, is_open)


def lanes(boxes: Sequence[Box], join: Box) -> Box:
    """Put boxes side by side, fed from one point above and joined below; empty ones are wires."""
    widths = [max(box.width, 2 * _SKIP) for box in boxes]
    width = sum(widths) + _LANE_GAP * (len(boxes) - 1)
    tallest = max(box.height for box in boxes)

    def draw(x: float, y: float) -> Iterator[str]:
        left = x - width / 2
        end = y + 2 * _BEND + tallest
        for box, room in zip(boxes, widths, strict=True):
            middle = left + room / 2
            top = y + _BEND
            is_end = box.height == 0 or box.is_open
            yield _turn(x, y, middle, top, _BEND / 3)
            yield "" if is_end else _head(middle, top)
            yield from box.draw(middle, top)
            yield _turn(middle, top + box.height, x, end, end - top - box.height - _BEND * 2 / 3)
            left += room + _LANE_GAP
        yield from join.draw(x, end)

    return Box(max(width, join.width), 2 * _BEND + tallest + join.height, draw, is_open=True)


def bypassed(box: Box, join: Box) -> Box:
    """Put a box with a wire around it, both joined below."""
    reach = box.width / 2 + _SKIP

    def draw(x: float, y: float) -> Iterator[str]:
        end = y + GAP + box.height + GAP
        yield (_wire if box.is_open else arrow)(x, y, y + GAP)
        yield from box.draw(x, y + GAP)
        yield arrow(x, end - GAP, end)
        middle = end + join.height / 2
        right = x + join.width / 2
        yield (
            f'<path d="M{x:g} {y + 4:g} H{x + reach - 10:g} q10 0 10 10 V{middle - 10:g} '
            f'q0 10 -10 10 H{right + 5:g}" class="wire"/>'
            f'<path d="M{right:g} {middle:g} l7 -4 v8 z" fill="{_WIRE}"/>'
        )
        yield from join.draw(x, end)

    width, height = box.width + 2 * _SKIP + 8, box.height + 2 * GAP + join.height
    return Box(width, height, draw, is_open=True)


def framed(box: Box, label: str) -> Box:
    """Put a dashed frame with a label around a box."""
    pad = 16.0

    def draw(x: float, y: float) -> Iterator[str]:
        width = box.width + 2 * pad
        left = x - width / 2
        style = {"rx": "12", "fill": "#f3f6fb", "stroke": "#aab6c8", "stroke_dasharray": "5 4"}
        yield rectangle(left, y, width, box.height + 2 * pad + 14, **style)
        yield text(left + width - 12, y + 18, label, "quiet", "end")
        yield from box.draw(x, y + pad + 14)

    return Box(box.width + 2 * pad, box.height + 2 * pad + 14, draw)


def pill(label: str) -> Box:
    """Return a small round box with a word or a sign."""
    width, height = max(24.0, 14 + 7.0 * len(label)), 24.0

    def draw(x: float, y: float) -> Iterator[str]:
        style = {"rx": "12", "fill": "#ffffff", "stroke": _WIRE, "stroke_width": "1.4"}
        yield rectangle(x - width / 2, y, width, height, **style)
        yield text(x, y + 16, label, "sign", "middle")

    return Box(width, height, draw)


def arrow(x: float, top: float, bottom: float) -> str:
    """Return an arrow that points down."""
    return _wire(x, top, bottom - 6) + _head(x, bottom)


def _wire(x: float, top: float, bottom: float) -> str:
    return f'<path d="M{x:g} {top:g} V{bottom:g}" class="wire"/>' if bottom > top else ""


def _head(x: float, y: float) -> str:
    return f'<path d="M{x:g} {y:g} l-4 -7 h8 z" fill="{_WIRE}"/>'


def _turn(x: float, y: float, to_x: float, to_y: float, drop: float) -> str:
    """Return a wire that falls `drop` pixels, goes sideways, and falls on, with round corners."""
    if x == to_x:
        return _wire(x, y, to_y)
    side = 1 if to_x > x else -1
    radius = min(8.0, abs(to_x - x) / 2)
    across = y + drop + radius
    return (
        f'<path d="M{x:g} {y:g} V{across - radius:g} q0 {radius:g} {side * radius:g} {radius:g} '
        f'H{to_x - side * radius:g} q{side * radius:g} 0 {side * radius:g} {radius:g} V{to_y:g}" '
        'class="wire"/>'
    )


STYLE = f"""
text {{ font-family: Inter, "Helvetica Neue", Helvetica, Arial, sans-serif; fill: #1c2733; }}
.title {{ font-size: 19px; font-weight: 700; }}
.under {{ font-size: 12.5px; fill: #5a6778; }}
.name {{ font-size: 13.5px; font-weight: 600; }}
.shape {{ font-size: 12.5px; font-weight: 500; }}
.quiet {{ font-size: 11.5px; fill: #66748a; }}
.sign {{ font-size: 12px; font-weight: 600; fill: #45536a; }}
.wire {{ fill: none; stroke: {_WIRE}; stroke-width: 1.5; }}
"""

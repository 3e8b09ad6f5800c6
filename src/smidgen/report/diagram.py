"""A network as an SVG picture: what follows what, what it costs, and how far each value sees.

Boxes draw themselves and are put together as stacks, lanes and frames.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from smidgen.network.layers import (
    Branches,
    Layer,
    Repeat,
    Residual,
)
from smidgen.network.network import Network
from smidgen.network.shapes import Shape
from smidgen.network.trace import Row, Trace, trace

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


_WIDTH, _HEIGHT, _GLYPH = 376.0, 58.0, 30.0
_MARGIN, _HEAD, _CLOSE = 32.0, 84.0, 4.0
_COLORS = {
    "conv": "#2f6fde",
    "separable_conv": "#0f9a94",
    "dense": "#7b52cf",
    "pool": "#d98a1f",
}
"""By the layer's kind, else by its role."""
_GRAY = "#8a95a5"
_LEGEND = "square: the image, and in it what one value sees · bar and number: parameters"


def diagram(network: Network, title: str = "") -> str:
    """Return the picture as SVG text.

    Args:
        network: What to draw.
        title: What to write above it. Without one the picture is cut close around the layers,
            for a page that says the rest itself.
    """
    table = trace(network)
    totals = table.totals
    drawing = _Drawing(network, table)
    body = stack(
        [
            _plate("image", network.input_shape, ""),
            *drawing.boxes(network.layers),
            _plate("class scores", (network.num_classes,), network.output.replace("_", "-")),
        ]
    )
    dead = [_dead_card(block.layers, block.input_shape) for block in network.unreached]
    head, margin = (_HEAD, _MARGIN) if title else (_CLOSE, _CLOSE)
    least = 460.0 if title else 400.0 if dead else 0.0  # the legend, a card of what never runs
    width = max(body.width, least) + 2 * margin
    height = (
        head + body.height + sum(box.height + 14 for box in dead) + (2 if title else 1) * margin
    )
    under = (
        f"{totals.num_params:,} parameters · {totals.num_macs:,} multiply-accumulates · "
        f"receptive field {totals.receptive_field}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img">',
        f"<title>{escape(title)}</title><desc>{escape(under)}</desc><style>{STYLE}</style>",
    ]
    if title:
        parts += [
            rectangle(0, 0, width, height, fill="#ffffff"),
            text(width / 2, 36, title, "title", "middle", room=(width - 40) * 0.55),
            text(width / 2, 58, under, "under", "middle"),
        ]
    parts += body.draw(width / 2, head)
    y = head + body.height + 14
    for box in dead:
        parts += box.draw(width / 2, y)
        y += box.height + 14
    if title:
        parts.append(text(width / 2, height - 20, _LEGEND, "quiet", "middle"))
    return "\n".join(parts) + "\n</svg>\n"


class _Drawing:
    """Walks the layers and, beside them, the rows of the table in the same order."""

    def __init__(self, network: Network, table: Trace) -> None:
        self.rows = iter(table.rows)
        self.image_side = min(network.input_shape[1:])
        self.num_params = max(table.totals.num_params, 1)
        # a repeated block is drawn once and owns norms for every time
        self.owned = Counter[str]()
        for row in table.rows:
            self.owned[row.path] += row.num_params

    def boxes(self, layers: tuple[Layer, ...]) -> list[Box]:
        found: list[Box] = []
        position = 0
        while position < len(layers):
            layer = layers[position]
            position += 1
            if isinstance(layer, Branches | Residual | Repeat):
                found.append(self.composite(layer))
                continue
            rows = [next(self.rows)]
            words = list(layer.details())
            while position < len(layers) and _is_word(layers[position], rows[-1]):
                words.append(layers[position].in_words())
                rows.append(next(self.rows))
                position += 1
            found.append(self.card(layer, words, rows))
        return found

    def composite(self, layer: Branches | Residual | Repeat) -> Box:
        if isinstance(layer, Repeat):
            once = stack(self.boxes(layer.block))
            for _ in range(layer.times - 1):  # the same cards again, with the same weights
                self.boxes(layer.block)
            return framed(once, f"{layer.times} times, one set of weights")
        if isinstance(layer, Branches):
            paths = [stack(self.boxes(branch)) for branch in layer.branches]
            next(self.rows)
            return lanes(paths, pill("concat"))
        body, shortcut = stack(self.boxes(layer.body)), stack(self.boxes(layer.shortcut))
        next(self.rows)
        return lanes([body, shortcut], pill("+")) if layer.shortcut else bypassed(body, pill("+"))

    def card(self, layer: Layer, words: list[str], rows: list[Row]) -> Box:
        num_params = sum(self.owned[row.path] for row in rows)
        share = num_params / self.num_params
        sees = min(rows[0].reach.receptive_field[1] / self.image_side, 1.0)
        color = _COLORS.get(layer.kind) or _COLORS.get(layer.role, _GRAY)
        heading = layer.in_words()
        shape = _shape(rows[-1].output_shape)
        count = f"{num_params:,}" if num_params else ""
        room = 0.8 * (_WIDTH - 80 - 7 * len(shape)), _WIDTH - 80 - 6.5 * len(count)

        def draw(x: float, y: float) -> Iterator[str]:
            left, right = x - _WIDTH / 2, x + _WIDTH / 2
            yield rectangle(
                left, y, _WIDTH, _HEIGHT, rx="9", fill="#ffffff", stroke="#d5dce6", stroke_width="1"
            )
            yield rectangle(left, y + 9, 4, _HEIGHT - 18, rx="2", fill=color)
            yield from _glyph(left + 16, y + (_HEIGHT - _GLYPH) / 2 - 2, sees, color)
            yield text(left + 58, y + 23, heading, "name", room=room[0])
            yield text(right - 14, y + 23, shape, "shape", "end")
            yield text(left + 58, y + 41, " · ".join(words), "quiet", room=room[1])
            if num_params:
                yield text(right - 14, y + 41, count, "quiet", "end")
                yield rectangle(left + 58, y + 50, _WIDTH - 72, 2.5, rx="1.2", fill="#e9edf3")
                length = max((_WIDTH - 72) * share, 2.0)
                yield rectangle(left + 58, y + 50, length, 2.5, rx="1.2", fill=color)

        return Box(_WIDTH, _HEIGHT, draw)


def _glyph(x: float, y: float, share: float, color: str) -> Iterator[str]:
    """Yield the image as a square, and in its middle what one value sees of it."""
    yield rectangle(x, y, _GLYPH, _GLYPH, rx="3", fill="#f1f4f8", stroke="#c6cfdb")
    side = max(_GLYPH * share, 1.5)
    corner = (_GLYPH - side) / 2
    yield rectangle(x + corner, y + corner, side, side, rx="2", fill=color, fill_opacity="0.75")


def _plate(name: str, shape: Shape, note: str) -> Box:
    width, height = 232.0, 38.0

    def draw(x: float, y: float) -> Iterator[str]:
        yield rectangle(x - width / 2, y, width, height, rx="19", fill="#1c2733")
        shown = f"{name} · {_shape(shape)}" + (f" · {note}" if note else "")
        yield (
            f'<text x="{x:g}" y="{y + 24:g}" class="shape" text-anchor="middle" '
            f'style="fill:#ffffff">{escape(shown)}</text>'
        )

    return Box(width, height, draw)


def _dead_card(layers: tuple[Layer, ...], shape: Shape) -> Box:
    words = " · ".join(layer.in_words() for layer in layers)

    def draw(x: float, y: float) -> Iterator[str]:
        left = x - 200
        style = {"rx": "9", "fill": "#fafbfc", "stroke": "#c2a0a0", "stroke_dasharray": "4 4"}
        yield rectangle(left, y, 400, 48, **style)
        yield text(left + 16, y + 20, f"registered, never runs (on {_shape(shape)})", "name")
        yield text(left + 16, y + 37, words, "quiet", room=370)

    return Box(400, 48, draw)


def _is_word(layer: Layer, before: Row) -> bool:
    """Whether a layer needs no card of its own after the one before."""
    flattens_a_point = layer.role == "reshape" and before.output_shape[1:] == (1, 1)
    return layer.follows or flattens_a_point


def _shape(shape: Shape) -> str:
    return " × ".join(str(size) for size in shape)

"""A network as an SVG picture: what follows what, what it costs, and how far each value sees.

Every card carries a small image square with the receptive field in it, and a bar with the layer's
share of the parameters. The file stands alone: no fonts, scripts or links.
"""

from collections import Counter
from collections.abc import Iterator
from xml.sax.saxutils import escape

from smidgen.network.blocks import Branches, Layer, Repeat, Residual
from smidgen.network.boxes import (
    STYLE,
    Box,
    bypassed,
    framed,
    lanes,
    pill,
    rectangle,
    stack,
    text,
)
from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool,
    Multiply,
    PReLU,
    ReLU,
    SampleNorm,
    SeparableConv,
)
from smidgen.network.network import Network
from smidgen.network.shapes import Shape, pair
from smidgen.network.trace import Row, Trace, trace

_WIDTH, _HEIGHT, _GLYPH = 376.0, 58.0, 30.0
_MARGIN, _HEAD, _CLOSE = 32.0, 84.0, 4.0
_COLORS = {
    "conv": "#2f6fde",
    "separable_conv": "#0f9a94",
    "dense": "#7b52cf",
    "max_pool": "#d98a1f",
    "avg_pool": "#d98a1f",
    "global_avg_pool": "#d98a1f",
    "global_max_pool": "#d98a1f",
}
_GRAY = "#8a95a5"
_LEGEND = "square: the image, and in it what one value sees · bar and number: parameters"
_SMALL = (BatchNorm, SampleNorm, ReLU, LeakyReLU, PReLU, Dropout, Multiply)
"""Layers that stand as a word on the card before them."""


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
            words = [_word(layer)] if isinstance(layer, _SMALL) else _strided(layer)
            while position < len(layers) and _is_word(layers[position], rows[-1]):
                words.append(_word(layers[position]))
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
        color = _COLORS.get(layer.kind, _GRAY)
        heading = words.pop(0) if isinstance(layer, _SMALL) else _heading(layer)

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
    words = " · ".join(_word(x) if isinstance(x, _SMALL) else _heading(x) for x in layers)

    def draw(x: float, y: float) -> Iterator[str]:
        left = x - 200
        style = {"rx": "9", "fill": "#fafbfc", "stroke": "#c2a0a0", "stroke_dasharray": "4 4"}
        yield rectangle(left, y, 400, 48, **style)
        yield text(left + 16, y + 20, f"registered, never runs (on {_shape(shape)})", "name")
        yield text(left + 16, y + 37, words, "quiet", room=370)

    return Box(400, 48, draw)


def _heading(layer: Layer) -> str:
    match layer:
        case Conv(out_channels=out, kernel_size=kernel, groups=groups):
            name = "conv" if groups == 1 else f"conv in {groups} groups"
            return f"{name} {_sides(kernel)} → {out}"
        case SeparableConv(out_channels=out, kernel_size=kernel):
            return f"separable {_sides(kernel)} → {out}"
        case Dense(out_features=out):
            return f"dense → {out}"
        case MaxPool(kernel_size=kernel):
            return f"max pool {_sides(kernel)}"
        case AvgPool(kernel_size=kernel):
            return f"mean pool {_sides(kernel)}"
    return {
        "global_avg_pool": "mean of the map",
        "global_max_pool": "maximum of the map",
        "branches": "branches",
        "residual": "residual sum",
        "repeat": "repeated block",
    }.get(layer.kind, layer.kind)


def _is_word(layer: Layer, before: Row) -> bool:
    """Whether a layer needs no card of its own after the one before."""
    flattens_a_point = isinstance(layer, Flatten) and before.output_shape[1:] == (1, 1)
    return isinstance(layer, _SMALL) or flattens_a_point


def _word(layer: Layer) -> str:
    match layer:
        case Flatten():
            return "flatten"
        case Dropout(rate=rate):
            return f"dropout {100 * rate:g} %"
        case LeakyReLU(slope=slope):
            return f"leaky ReLU {slope:g}"
        case Multiply(factor=factor):
            return f"× {factor:g}"
        case BatchNorm():
            return "batch norm"
        case SampleNorm():
            return "sample norm"
    return type(layer).__name__


def _sides(kernel: int | tuple[int, int]) -> str:
    return "×".join(str(side) for side in pair(kernel))


def _strided(layer: Layer) -> list[str]:
    """Say a stride that is not what one expects: 1 of convolutions, the window of pools."""
    match layer:
        case Conv() | SeparableConv() if layer.stride > 1:
            return [f"stride {layer.stride}"]
        case MaxPool() | AvgPool() if layer.stride not in (None, layer.kernel_size):
            return [f"stride {layer.stride}"]
    return []


def _shape(shape: Shape) -> str:
    return " × ".join(str(size) for size in shape)

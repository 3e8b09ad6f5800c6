"""A network in, the PyTorch class that a person would write: blocks, shapes and reach in comments.

The printed module has PyTorch's own layers, initial weights and defaults; read back by
`from_torch` it is the network that it was printed from.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from smidgen.errors import NetworkError
from smidgen.network import layers as L
from smidgen.network.network import Network, lower
from smidgen.network.shapes import Shape, Window, show_shape
from smidgen.network.trace import trace

_RESIDUAL = '''class Residual(nn.Module):
    """The sum of a body and a shortcut."""

    def __init__(self, body, shortcut):
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x):
        return self.body(x) + self.shortcut(x)
'''
_BRANCHES = '''class Branches(nn.Module):
    """Several paths from one input, side by side in channels."""

    def __init__(self, *paths):
        super().__init__()
        self.paths = nn.ModuleList(paths)

    def forward(self, x):
        return torch.cat([path(x) for path in self.paths], dim=1)
'''
_SCALE = '''class Scale(nn.Module):
    """A fixed factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor
'''
_SHIFT_NORM = '''class ShiftNorm(nn.Module):
    """A batch norm without scale: what follows it can scale as well."""

    def __init__(self, channels):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x):
        return self.norm(x) + self.bias[:, None, None]
'''
_GLOROT = '''def glorot(module):
    """Draw weights as Keras does: Glorot's uniform, zero biases."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
'''
_WIDTH = 96
_ENDS = {
    "logits": "return x",
    "log_softmax": "return F.log_softmax(x, dim=1)",
    "softmax": "return F.softmax(x, dim=1)",
}


@dataclass(frozen=True, slots=True)
class _Block:
    """An attribute of the class: layers that belong together, and the shapes around them."""

    name: str
    lines: list[str]
    comment: str = ""


@dataclass(slots=True)
class _Printer:
    """What the class needs beside itself, found while its layers are printed."""

    helpers: dict[str, str] = field(default_factory=dict)

    def layer(self, layer: L.Layer, shape: Shape) -> list[str]:
        """Return the constructor calls that a layer becomes, most often one."""
        if layer.paths:
            return [self._composed(layer, shape)]
        match layer:
            case L.Conv():
                groups = layer.groups
                return self._convolution(layer, layer.out_channels, groups, layer.bias, shape)
            case L.SeparableConv():
                deep = self._convolution(layer, shape[0], shape[0], layer.depthwise_bias, shape)
                bias = "" if layer.bias else ", bias=False"
                return [*deep, f"nn.Conv2d({shape[0]}, {layer.out_channels}, 1{bias})"]
            case L.BatchNorm() | L.GroupNorm():
                return [self._norm(layer, shape)]
            case L.MaxPool() | L.AvgPool():
                return _pool(layer, shape)
            case L.Multiply():
                self.helpers["Scale"] = _SCALE
                return [f"Scale({layer.factor!r})"]
            case L.Dense():
                bias = "" if layer.bias else ", bias=False"
                return [f"nn.Linear({shape[0]}, {layer.out_features}{bias})"]
        return [_plain(layer, shape)]

    def _composed(self, layer: L.Layer, shape: Shape) -> str:
        paths = [self.sequence(path, shape) for path in layer.paths]
        match layer:
            case L.Residual():
                self.helpers["Residual"] = _RESIDUAL
                body, shortcut = paths
                return f"Residual({body}, {shortcut})"
            case L.Branches():
                self.helpers["Branches"] = _BRANCHES
                return f"Branches({', '.join(paths)})"
        raise _unsayable(layer)

    def sequence(self, layers: tuple[L.Layer, ...], shape: Shape) -> str:
        """Return layers as one expression."""
        calls = []
        for layer in layers:
            calls += self.layer(layer, shape)
            shape = _after(layer, shape)
        if not calls:
            return "nn.Identity()"
        return calls[0] if len(calls) == 1 else f"nn.Sequential({', '.join(calls)})"

    def _norm(self, layer: "L.BatchNorm | L.GroupNorm", shape: Shape) -> str:
        if isinstance(layer, L.GroupNorm):
            affine = "" if layer.affine else ", affine=False"
            return f"nn.GroupNorm({layer.groups}, {shape[0]}, eps={layer.eps!r}{affine})"
        if layer == L.BatchNorm(scale=False) and len(shape) == 3:
            self.helpers["ShiftNorm"] = _SHIFT_NORM
            return f"ShiftNorm({shape[0]})"
        if layer.scale != layer.shift:
            raise _unsayable(layer)
        words = [str(shape[0])]
        words += [] if layer.eps == 1e-5 else [f"eps={layer.eps!r}"]
        words += [] if layer.momentum == 0.1 else [f"momentum={layer.momentum!r}"]
        words += [] if layer.scale else ["affine=False"]
        return f"nn.BatchNorm{'2d' if len(shape) == 3 else '1d'}({', '.join(words)})"

    def _convolution(
        self,
        layer: L.Conv | L.SeparableConv,
        out_channels: int,
        groups: int,
        bias: bool,
        shape: Shape,
    ) -> list[str]:
        window = layer.window(shape)
        pad, padding = _padding(window, "nn.ZeroPad2d({sides})")
        words = [str(shape[0]), str(out_channels), _sides(window.kernel)]
        words += _if("stride", window.stride, (1, 1)) + padding
        dilation = getattr(layer, "dilation", 1)
        words += [f"dilation={dilation}"] if dilation != 1 else []
        words += [f"groups={groups}"] if groups != 1 else []
        words += [] if bias else ["bias=False"]
        return [*pad, f"nn.Conv2d({', '.join(words)})"]


def torch_source(network: Network, class_name: str = "Net", doc: str = "") -> str:
    """Return Python source that defines a network as an `nn.Module`.

    Args:
        network: What to print.
        class_name: Of the module.
        doc: Its docstring; the counts are added.

    Raises:
        NetworkError: A layer that PyTorch has no module for; names it.
    """
    printer = _Printer()
    blocks = list(_blocks(printer, network))
    dead = list(_dead(printer, network))
    totals = trace(network).totals
    doc = (doc or "A small image classifier.").strip()
    body = [f"class {class_name}(nn.Module):", f'    """{doc}', ""]
    body += [
        f"    {totals.num_params:,} parameters, {totals.num_macs:,} multiply-accumulates,",
        f"    receptive field {totals.receptive_field} pixels.",
        '    """',
        "",
        "    def __init__(self):",
        "        super().__init__()",
    ]
    for block in [*blocks, *dead]:
        body += _attribute(block)
    if network.init == "keras":
        printer.helpers["glorot"] = _GLOROT
        body.append("        self.apply(glorot)")
    body += ["", "    def forward(self, x):"]
    body += [f"        x = self.{block.name}(x)" for block in blocks]
    body.append(f"        {_ENDS[network.output]}")
    imports = "import torch\n" if "torch." in "".join(printer.helpers.values()) else ""
    functional = "import torch.nn.functional as F\n" if network.output != "logits" else ""
    head = f"{imports}{functional}from torch import nn\n"
    return "\n\n".join([head, *printer.helpers.values(), "\n".join(body) + "\n"])


def _blocks(printer: _Printer, network: Network) -> Iterator[_Block]:
    """Yield the attributes of the forward pass: a weighted layer with what follows, or a pool."""
    counts: dict[str, int] = {}
    rows = {row.path.split(".")[0]: row for row in trace(network).rows}
    shape: Shape = network.input_shape
    group: list[str] = []
    name, start = "", shape
    for index, layer in enumerate(network.layers):
        if group and not (layer.follows and name.startswith(("conv", "linear", "block"))):
            yield _Block(name, group, _comment(start, shape, rows.get(str(index - 1))))
            group = []
        if not group:
            label = _label(layer)
            counts[label] = counts.get(label, 0) + 1
            name, start = f"{label}{counts[label]}", shape
        group += printer.layer(layer, shape)
        shape = _after(layer, shape)
    yield _Block(name, group, _comment(start, shape, rows.get(str(len(network.layers) - 1))))


def _dead(printer: _Printer, network: Network) -> Iterator[_Block]:
    for index, dead in enumerate(network.unreached, 1):
        shape: Shape = dead.input_shape
        calls = []
        for layer in dead.layers:
            calls += printer.layer(layer, shape)
            shape = _after(layer, shape)
        yield _Block(f"unused{index}", calls, "registered, and never called")


def _attribute(block: _Block) -> list[str]:
    comment = f"  # {block.comment}" if block.comment else ""
    if len(block.lines) == 1:
        first, *more = _broken(block.lines[0], 8 + len(f"self.{block.name} = "))
        return [f"        self.{block.name} = {first}{comment}", *(" " * 8 + m for m in more)]
    lines = [f"        self.{block.name} = nn.Sequential({comment}"]
    calls = [line for call in block.lines for line in _broken(f"{call},", 12)]
    return [*lines, *(f"            {line}" for line in calls), "        )"]


def _broken(call: str, column: int) -> list[str]:
    """Return a call in lines that fit, its arguments below each other if it is too long."""
    if column + len(call) <= _WIDTH:
        return [call]
    opening = call.index("(")
    closing = call.rindex(")")
    parts, depth, start = [], 0, opening + 1
    for place in range(opening + 1, closing):
        depth += (call[place] in "([") - (call[place] in ")]")
        if call[place] == "," and depth == 0:
            parts.append(call[start:place].strip())
            start = place + 1
    parts.append(call[start:closing].strip())
    inner = [f"    {line}" for part in parts for line in _broken(f"{part},", 12)]
    return [call[: opening + 1], *inner, call[closing:]]


def _comment(before: Shape, after: Shape, row: object) -> str:
    text = f"{show_shape(before)} -> {show_shape(after)}"
    reach = getattr(row, "reach", None)
    return text if reach is None else f"{text}, receptive field {reach.receptive_field[1]:g}"


def _label(layer: L.Layer) -> str:
    if isinstance(layer, L.Dense):
        return "linear"
    if layer.paths:
        return "block"
    return {"weighted": "conv", "pool": "pool", "reshape": "flatten"}.get(layer.role, layer.role)


def _after(layer: L.Layer, shape: Shape) -> Shape:
    return lower((layer,), shape).output_shape


def _pool(layer: "L.MaxPool | L.AvgPool", shape: Shape) -> list[str]:
    window = layer.window(shape)
    fill = 'nn.ConstantPad2d({sides}, float("-inf"))' if isinstance(layer, L.MaxPool) else ""
    pad, padding = _padding(window, fill)
    if pad and not fill:
        raise _unsayable(layer)
    words = [_sides(window.kernel), *_if("stride", window.stride, window.kernel), *padding]
    if isinstance(layer, L.AvgPool) and padding and layer.padding == "same":
        words.append("count_include_pad=False")
    name = "MaxPool2d" if isinstance(layer, L.MaxPool) else "AvgPool2d"
    return [*pad, f"nn.{name}({', '.join(words)})"]


def _plain(layer: L.Layer, shape: Shape) -> str:
    match layer:
        case L.ReLU():
            return "nn.ReLU()"
        case L.LeakyReLU():
            return f"nn.LeakyReLU({layer.slope!r})"
        case L.PReLU():
            return f"nn.PReLU({1 if getattr(layer, 'shared', False) else shape[0]})"
        case L.Dropout():
            return f"nn.Dropout({layer.rate!r})"
        case L.Dropout2d():
            return f"nn.Dropout2d({layer.rate!r})"
        case L.Flatten():
            return "nn.Flatten()"
        case L.GlobalAvgPool():
            return "nn.AdaptiveAvgPool2d(1)"
        case L.GlobalMaxPool():
            return "nn.AdaptiveMaxPool2d(1)"
    raise _unsayable(layer)


def _padding(window: Window, pad: str) -> tuple[list[str], list[str]]:
    """Return a padding layer where the sides differ, and the argument where they do not."""
    (top, left), (bottom, right) = window.before, window.after
    if (top, left) == (bottom, right):
        return [], _if("padding", (top, left), (0, 0))
    return [pad.format(sides=(left, right, top, bottom))] if pad else ["?"], []


def _if(word: str, given: tuple[int, int], default: tuple[int, int]) -> list[str]:
    return [] if given == default else [f"{word}={_sides(given)}"]


def _sides(sides: tuple[int, int]) -> str:
    return str(sides[0]) if sides[0] == sides[1] else str(sides)


def _unsayable(layer: L.Layer) -> NetworkError:
    return NetworkError(
        f"`{layer!r}` has no module in PyTorch, so no plain project can hold it. "
        "Export the run to another form, such as `--to onnx`."
    )

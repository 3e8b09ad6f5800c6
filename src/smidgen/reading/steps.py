"""From a traced forward pass to steps that can be nested, each with the tensors it applies.

Which of our layers says exactly what one call of torch does stands in one table, `_LAYERS`; each
of its functions raises `Unsayable` with what stands in the way: an option that no layer has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal, cast

from torch import Tensor, fx, nn

from smidgen.errors import NetworkError
from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    PReLU,
    ReLU,
)
from smidgen.network.network import INPUT
from smidgen.network.shapes import MAP, Shape, pair, show_shape
from smidgen.reading.fx import BATCH, Call, Shaped, Traced, read_call
from smidgen.reading.nesting import Step

Output = Literal["logits", "log_softmax", "softmax"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a forward pass does.

    Args:
        steps: Its operations, each after those it reads.
        tensors: Of each step, the arrays it applies, by their short names.
        result: The value that holds the class scores.
        output: What is done to the scores at the end.
        shapes: The shapes that occur, the input's first.
        called: Paths of the modules whose result is used.
        wasted: Places whose result is computed and never used.
    """

    steps: tuple[Step, ...]
    tensors: tuple[Mapping[str, Tensor], ...]
    result: int
    output: Output
    shapes: tuple[Shape, ...]
    called: frozenset[str]
    wasted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Value:
    """What a node stands for: a step's value, and whether only its form or softmax differs."""

    step: int
    shape: Shape
    odd: str = ""
    """Where it was given a form that is neither a map nor flat, until that is undone."""
    output: Output = "logits"


def read_steps(traced: Traced, input_shape: Shape) -> Reading:
    """Read what leads to the result.

    Raises:
        NetworkError: An operation that no layer says; the message names it and its place.
    """
    return _Reader(traced, input_shape).read()


@dataclass(slots=True)
class _Reader:
    traced: Traced
    input_shape: Shape
    steps: list[Step] = field(default_factory=list)
    tensors: list[Mapping[str, Tensor]] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    values: dict[fx.Node, _Value] = field(default_factory=dict)

    def read(self) -> Reading:
        self.shapes.append(self.input_shape)
        needed = self.needed()
        wasted = []
        called = set()
        for node in self.traced.graph.nodes:
            if node in needed:
                self.values[node] = self.value_of(node)
                called |= {str(node.target)} if node.op == "call_module" else set()
            elif node.op == "call_module":
                wasted.append(read_call(node).where)
        final = self.values[self.traced.result]
        if final.odd or len(final.shape) != 1:
            shown = Shaped(self.traced.values[self.traced.result])[1:]
            raise NetworkError(
                f"`forward` gives {show_shape(shown)} for each image, not one row of class "
                "scores; end it with `x.flatten(1)`."
            )
        return Reading(
            tuple(self.steps),
            tuple(self.tensors),
            final.step,
            final.output,
            tuple(self.shapes),
            frozenset(called),
            tuple(wasted),
        )

    def needed(self) -> set[fx.Node]:
        """Return the tensors that lead to the result."""
        found: set[fx.Node] = set()
        waiting = [self.traced.result]
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += [n for n in node.all_input_nodes if self.is_tensor(n)]
        return found

    def is_tensor(self, node: fx.Node) -> bool:
        return isinstance(self.traced.values.get(node), Shaped)

    def value_of(self, node: fx.Node) -> _Value:
        if node.op == "placeholder":
            return _Value(INPUT, self.input_shape)
        if node.op == "get_attr":
            raise NetworkError(
                f"`{node.target}` is a tensor that `forward` uses outside of any layer; a "
                "network's numbers belong to its layers."
            )
        call = read_call(node)
        self.refuse_hidden_changes(node, call)
        try:
            return self.applied(node, replace(call, arguments=self.resolved(call.arguments)))
        except Unsayable as obstacle:
            raise NetworkError(f"{call.where} {obstacle}.") from None

    def applied(self, node: fx.Node, call: Call) -> _Value:
        match call.kind:
            case "":
                raise Unsayable("has no counterpart among the layers of a network")
            case "reshape":
                return self.reshaped(node, call)
            case "log_softmax" | "softmax":
                return self.normalized(node, call)
            case "concat" | "add":
                return self.joined(call)
        source = self.operand(call)
        layer = layer_of(call, source.shape)
        if layer is None:
            return source
        value = self.append(call, (source.step,), layer, layer.output_shape(source.shape))
        if call.kind in ("mean", "amax") and not call.arguments["keepdim"]:
            return self.append(call, (value.step,), Flatten(), value.shape[:1])
        return value

    def append(self, call: Call, inputs: tuple[int, ...], layer: Any, shape: Shape) -> _Value:
        tensors = {} if isinstance(layer, Flatten) else tensors_of(call.module)
        owner = ",".join(str(id(tensor)) for tensor in tensors.values())
        self.steps.append(Step(inputs, layer, call.where, owner))
        self.tensors.append(tensors)
        self.shapes.append(shape)
        return _Value(len(self.steps) - 1, shape)

    def operand(self, call: Call) -> _Value:
        operands = [x for x in call.arguments.values() if isinstance(x, _Value)]
        if len(operands) != 1:
            raise Unsayable("combines two tensors; a network multiplies by fixed numbers only")
        return _plain(operands[0])

    def resolved(self, argument: Any) -> Any:
        """Replace nodes by the values they stand for: of tensors ours, else the number itself."""
        if isinstance(argument, fx.Node):
            return (
                self.values[argument]
                if self.is_tensor(argument)
                else (self.traced.values[argument])
            )
        if isinstance(argument, list | tuple):
            return type(argument)(self.resolved(item) for item in argument)
        if isinstance(argument, Mapping):
            return {name: self.resolved(item) for name, item in argument.items()}
        return argument

    def reshaped(self, node: fx.Node, call: Call) -> _Value:
        source: _Value = call.arguments["input"]
        shape = self.traced.values[node]
        if shape[:1] != (BATCH,):
            raise Unsayable(
                f"mixes the images of a batch: {BATCH} images of {show_shape(source.shape)} "
                f"become {show_shape(shape)}"
            )
        if shape[1:] == source.shape:
            return replace(source, odd="")
        if source.output != "logits" and prod(source.shape[1:]) != 1:
            raise Unsayable("comes after a softmax over the channels of a map")
        if shape[1:] == (prod(source.shape),):
            value = self.append(call, (source.step,), Flatten(), shape[1:])
            return replace(value, output=source.output)
        return replace(source, odd=f"{call.where} makes {show_shape(shape[1:])}")

    def normalized(self, node: fx.Node, call: Call) -> _Value:
        source = _plain(call.arguments["input"])
        dims = len(self.traced.values[node])
        dim = call.arguments["dim"]
        if dim is not None and dim % dims != 1:
            raise Unsayable(f"works along axis {dim} of {dims}, not along the classes (axis 1)")
        return replace(source, output="softmax" if call.kind == "softmax" else "log_softmax")

    def joined(self, call: Call) -> _Value:
        if call.kind == "concat":
            parts = list(call.arguments["tensors"])
        else:
            parts = [call.arguments["input"], call.arguments["other"]]
        if call.kind == "add" and 0 in parts:  # `sum` of a list begins with 0
            return self.operand(call)
        if not all(isinstance(part, _Value) for part in parts):
            raise Unsayable("adds a number; a network adds paths only")
        if call.arguments.get("alpha", 1) != 1:
            raise Unsayable("scales one of its terms (`alpha`)")
        parts = [_plain(part) for part in parts]
        steps = tuple(part.step for part in parts)
        if call.kind == "add":
            if parts[0].shape != parts[1].shape:
                raise Unsayable(
                    f"stretches {show_shape(parts[0].shape)} and {show_shape(parts[1].shape)} "
                    "to one shape; a network adds equal shapes"
                )
            return self.append(call, steps, "add", parts[0].shape)
        return self.concatenated(call, parts)

    def concatenated(self, call: Call, parts: list[_Value]) -> _Value:
        dims = len(parts[0].shape) + 1
        if call.arguments["dim"] % dims != 1:
            raise Unsayable(f"concatenates along axis {call.arguments['dim']}, not over channels")
        if len(parts) == 1:
            return parts[0]
        if len(parts[0].shape) == MAP:
            shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
            return self.append(call, tuple(part.step for part in parts), "concat", shape)
        # flattened maps of one size side by side are the flattened concatenation of the maps
        maps = [self.before_flatten(part.step) for part in parts]
        if None in maps or len({shape[1:] for _, shape in filter(None, maps)}) != 1:
            raise Unsayable("concatenates flat features; a network concatenates maps of one size")
        over_channels = replace(call, arguments={**call.arguments, "dim": 1})
        sources = [_Value(step, shape) for step, shape in filter(None, maps)]
        value = self.concatenated(over_channels, sources)
        return self.append(call, (value.step,), Flatten(), (prod(value.shape),))

    def before_flatten(self, step: int) -> tuple[int, Shape] | None:
        if step == INPUT or self.steps[step].layer != Flatten():
            return None
        source = self.steps[step].inputs[0]
        return source, self.shapes[source + 1]

    def refuse_hidden_changes(self, node: fx.Node, call: Call) -> None:
        """Refuse work in place on a value that is read again later: order would matter."""
        source = node.args[0] if node.args else None
        if not call.in_place or not isinstance(source, fx.Node):
            return
        order = {other: place for place, other in enumerate(self.traced.graph.nodes)}
        if any(order[user] > order[node] for user in source.users):
            raise NetworkError(
                f"{call.where} works in place on a value that is read again later, which changes "
                "that reading too; leave out `inplace=True`."
            )


def _plain(value: _Value) -> _Value:
    if value.odd:
        raise Unsayable(f"works on neither a map nor flat features: {value.odd}")
    if value.output != "logits":
        raise Unsayable(f"comes after a {value.output}; a network may only end with one")
    return value


Size = int | tuple[int, int]


class Unsayable(Exception):  # noqa: N818 - it is no error until somebody says where it happened
    """An option of a call that no layer has; the text continues "`conv1` (Conv2d) ..."."""


def layer_of(call: Call, shape: Shape) -> Layer | None:
    """Return the layer of a call with one tensor, or None for one that passes its input on."""
    return _LAYERS[call.kind](call, shape)


def tensors_of(module: nn.Module | None) -> dict[str, Tensor]:
    """Return a module's parameters and running statistics by the short names of our layers."""
    if module is None:
        return {}
    owned = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    return {name: tensor for name, tensor in owned.items() if name != "num_batches_tracked"}


def _conv(call: Call, shape: Shape) -> Layer:
    conv = cast(nn.Conv2d, call.module)
    if conv.padding_mode != "zeros":
        raise Unsayable(f"pads with `{conv.padding_mode}`; a network pads with zeros")
    if set(conv.dilation) != {1}:
        raise Unsayable(f"has dilation {_shown(conv.dilation)}; a network has none")
    padding = 0 if conv.padding == "valid" else conv.padding
    return Conv(
        conv.out_channels,
        _size(conv.kernel_size),
        stride=_stride(conv.stride),
        padding="same" if padding == "same" else _size(cast(Any, padding)),
        groups=conv.groups,
        bias=conv.bias is not None,
    )


def _linear(call: Call, shape: Shape) -> Layer:
    linear = cast(nn.Linear, call.module)
    if len(shape) == MAP:
        raise Unsayable(f"works on the last axis of a {show_shape(shape)} map; flatten it first")
    return Dense(linear.out_features, bias=linear.bias is not None)


def _batch_norm(call: Call, shape: Shape) -> Layer:
    norm = cast(nn.BatchNorm2d, call.module)
    if not norm.track_running_stats:
        raise Unsayable("keeps no running statistics; a network's batch norm does")
    if norm.momentum is None:
        raise Unsayable("averages over all batches (`momentum=None`); give it a number")
    return BatchNorm(norm.eps, norm.momentum, scale=norm.affine, shift=norm.affine)


def _prelu(call: Call, shape: Shape) -> Layer:
    slopes = cast(nn.PReLU, call.module).num_parameters
    if slopes != shape[0]:
        raise Unsayable(
            f"learns {slopes} slope for {shape[0]} channels; a network learns one per channel: "
            f"`nn.PReLU({shape[0]})`"
        )
    return PReLU()


def _max_pool(call: Call, shape: Shape) -> Layer:
    if call.arguments["return_indices"]:
        raise Unsayable("returns indices")
    if set(pair(call.arguments["dilation"])) != {1}:
        raise Unsayable(f"has dilation {_shown(call.arguments['dilation'])}; a network has none")
    return _whole_windows(MaxPool(*_pool_sizes(call.arguments)), call, shape)


def _avg_pool(call: Call, shape: Shape) -> Layer:
    if call.arguments["divisor_override"] is not None:
        raise Unsayable("divides by another number than the window's size")
    layer = AvgPool(*_pool_sizes(call.arguments))
    if layer.padding != 0 and not call.arguments["count_include_pad"]:
        raise Unsayable("leaves padded cells out of its means; a network counts them as zeros")
    return _whole_windows(layer, call, shape)


def _pool_sizes(arguments: Mapping[str, Any]) -> tuple[Size, int | None, Size]:
    kernel = _size(arguments["kernel_size"])
    stride = arguments["stride"]
    # F.max_pool2d(x, 2, []) is torch's own spelling of "as the kernel"
    own = stride is None or stride in ([], ()) or _size(stride) == kernel
    return kernel, None if own else _stride(stride), _size(arguments["padding"])


def _whole_windows(layer: MaxPool | AvgPool, call: Call, shape: Shape) -> Layer:
    if call.arguments["ceil_mode"]:
        window = layer.window(shape)
        for axis in range(2):
            extent = shape[1 + axis] + window.before[axis] + window.after[axis]
            if (extent - window.kernel[axis]) % window.stride[axis]:
                raise Unsayable(
                    f"rounds up (`ceil_mode`) on a {show_shape(shape)} map; a network drops "
                    "incomplete windows"
                )
    return layer


def _adaptive_avg(call: Call, shape: Shape) -> Layer | None:
    kernel = _adaptive(call, shape)
    if kernel == shape[1:]:
        return GlobalAvgPool()
    return None if kernel == (1, 1) else AvgPool(_size(kernel))


def _adaptive_max(call: Call, shape: Shape) -> Layer | None:
    if call.arguments["return_indices"]:
        raise Unsayable("returns indices")
    kernel = _adaptive(call, shape)
    if kernel == shape[1:]:
        return GlobalMaxPool()
    return None if kernel == (1, 1) else MaxPool(_size(kernel))


def _adaptive(call: Call, shape: Shape) -> tuple[int, ...]:
    """Return the window, equal everywhere, that gives the same."""
    _need_map(shape)
    wanted = call.arguments["output_size"]
    sizes = (wanted, wanted) if wanted is None or isinstance(wanted, int) else tuple(wanted)
    kernel = []
    for size, out in zip(shape[1:], sizes, strict=True):
        out = size if out is None else out
        if size % out:
            raise Unsayable(
                f"makes {out} of {size} rows or columns, by windows of unequal size; "
                "use one that divides"
            )
        kernel.append(size // out)
    return tuple(kernel)


def _dropout(call: Call, shape: Shape) -> Layer | None:
    if not call.arguments["training"]:
        return None
    rate = float(call.arguments["p"])
    if rate >= 1:
        raise Unsayable("drops everything (p = 1)")
    return Dropout(rate)


def _dropout2d(call: Call, shape: Shape) -> Layer | None:
    layer = _dropout(call, shape)
    if layer == Dropout(0.0) or layer is None:
        return layer
    if len(shape) != MAP or shape[1:] != (1, 1):
        raise Unsayable(
            f"drops whole channels of {show_shape(shape)}; a network's dropout drops single "
            "values: use `nn.Dropout`"
        )
    return layer


def _whole_mean(call: Call, shape: Shape) -> Layer:
    return _over_the_map(call, shape, GlobalAvgPool())


def _whole_max(call: Call, shape: Shape) -> Layer:
    return _over_the_map(call, shape, GlobalMaxPool())


def _over_the_map(call: Call, shape: Shape, layer: Layer) -> Layer:
    dim = call.arguments["dim"]
    axes = dim if isinstance(dim, list | tuple) else (dim,)
    if None in axes or len(shape) != MAP or {axis % (MAP + 1) for axis in axes} != {2, 3}:
        raise Unsayable(f"reduces over axes {_shown(dim)}; a network reduces whole maps: (2, 3)")
    return layer


def _multiply(call: Call, shape: Shape) -> Layer:
    return Multiply(_constant(call))


def _divide(call: Call, shape: Shape) -> Layer:
    factor = _constant(call)
    if call.arguments["rounding_mode"] is not None or factor == 0:
        raise Unsayable("is no plain division by a number other than 0")
    return Multiply(1 / factor)


def _constant(call: Call) -> float:
    pair_given = (call.arguments["input"], call.arguments["other"])
    numbers = [x for x in pair_given if isinstance(x, int | float)]
    if len(numbers) != 1 or (call.kind == "divide" and numbers[0] is pair_given[0]):
        raise Unsayable("combines two tensors; a network multiplies by fixed numbers only")
    return float(numbers[0])


def _need_map(shape: Shape) -> None:
    if len(shape) != MAP:
        raise Unsayable(f"pools {show_shape(shape)} values that are no map")


def _size(size: Any) -> Size:
    rows, columns = pair(size) if isinstance(size, int) else (tuple(size) * 2)[:2]
    return rows if rows == columns else (rows, columns)


def _stride(stride: Any) -> int:
    size = _size(stride)
    if not isinstance(size, int):
        raise Unsayable(f"has stride {_shown(size)}; a network's are equal for rows and columns")
    return size


def _shown(sizes: Any) -> str:
    return "x".join(str(size) for size in sizes) if isinstance(sizes, list | tuple) else str(sizes)


_LAYERS: dict[str, Callable[[Call, Shape], Layer | None]] = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "prelu": _prelu,
    "relu": lambda call, shape: ReLU(),
    "leaky_relu": lambda call, shape: LeakyReLU(float(call.arguments["negative_slope"])),
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": _adaptive_avg,
    "adaptive_max_pool": _adaptive_max,
    "dropout": _dropout,
    "dropout2d": _dropout2d,
    "mean": _whole_mean,
    "amax": _whole_max,
    "multiply": _multiply,
    "divide": _divide,
    "negate": lambda call, shape: Multiply(-1.0),
}

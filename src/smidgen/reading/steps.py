"""From a traced forward pass to steps that can be nested, each with the tensors it applies."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

from torch import Tensor, fx

from smidgen.errors import NetworkError
from smidgen.network.layers import (
    Flatten,
)
from smidgen.network.network import INPUT
from smidgen.network.shapes import MAP, Shape, show_shape
from smidgen.reading.fx import BATCH, Shaped, Traced
from smidgen.reading.nesting import Step
from smidgen.reading.torch_calls import Call, Unsayable, layer_of, read_call, tensors_of

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

"""`Network`: the one value from which tables, modules, generated code and mutations come."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from smidgen.errors import NetworkError
from smidgen.network.layers import (
    Branches,
    Layer,
    Repeat,
    Residual,
    Unreached,
)
from smidgen.network.shapes import MAP, Positive, Shape, TensorSpec, show_shape
from smidgen.values import from_json, to_json, value

INPUT = -1
"""The value that stands for the network's input."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation.

    Args:
        index: Its place in the list, and the number of the value it produces.
        path: Where its layer stands in the network, such as `4` or `0.1.2` (branch 1, layer 2).
        name: Unique name such as `conv2`, or that of the first use where weights are shared.
        layer: The layer's value; for `Branches` the concatenation and for `Residual` the sum.
        inputs: The values it reads.
        input_shape: Shape of the first of them.
        output_shape: Shape of the value it produces.
        is_first_use: False where it applies tensors that an earlier node owns.
    """

    index: int
    path: str
    name: str
    layer: Layer
    inputs: tuple[int, ...]
    input_shape: Shape
    output_shape: Shape
    is_first_use: bool = True

    @property
    def tensors(self) -> dict[str, TensorSpec]:
        """Return its arrays by full name, such as `conv2.weight`; shared ones with every use."""
        return {f"{self.name}.{spec.name}": spec for spec in self.layer.tensors(self.input_shape)}


@dataclass(frozen=True, slots=True)
class Graph:
    """A network's operations; the last one produces the class scores."""

    input_shape: Shape
    nodes: tuple[Node, ...]

    @property
    def output_shape(self) -> Shape:
        """Shape of the last value."""
        return self.nodes[-1].output_shape if self.nodes else self.input_shape

    @property
    def tensors(self) -> dict[str, TensorSpec]:
        """Return every array of the network once, by full name, in the order of first use."""
        return {
            name: spec
            for node in self.nodes
            if node.is_first_use
            for name, spec in node.tensors.items()
        }


MOST_OPERATIONS = 10_000
"""So that a few bytes, such as repeats within repeats, cannot ask for a billion layers."""


def lower(layers: tuple[Layer, ...], input_shape: Shape) -> Graph:
    """Resolve every shape and list the operations.

    Raises:
        NetworkError: A layer does not fit its input; the message has its position and shapes.
    """
    builder = _Builder(input_shape)
    builder.add_all(layers, "", INPUT, input_shape)
    return Graph(input_shape, tuple(builder.nodes))


@dataclass(slots=True)
class _Builder:
    input_shape: Shape
    nodes: list[Node] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    shared: dict[str, str] | None = None
    """Within `Repeat`: the name that each path's layer got when it was first applied."""

    def add_all(
        self, layers: tuple[Layer, ...], prefix: str, entry: int, shape: Shape
    ) -> tuple[int, Shape]:
        for position, layer in enumerate(layers):
            entry, shape = self.add(layer, f"{prefix}{position}", entry, shape)
        return entry, shape

    def add(self, layer: Layer, path: str, entry: int, shape: Shape) -> tuple[int, Shape]:
        if len(self.nodes) >= MOST_OPERATIONS:
            raise NetworkError(
                f"Layer {path}, `{layer.kind}`: more than {MOST_OPERATIONS:,} operations. Make "
                "`times` of its repeats smaller."
            )
        if isinstance(layer, Branches):
            ends = [
                self.add_all(branch, f"{path}.{number}.", entry, shape)
                for number, branch in enumerate(layer.branches)
            ]
            return self.join(layer, path, ends, _concatenated(path, [s for _, s in ends]))
        if isinstance(layer, Residual):
            ends = [
                self.add_all(layer.body, f"{path}.0.", entry, shape),
                self.add_all(layer.shortcut, f"{path}.1.", entry, shape),
            ]
            return self.join(layer, path, ends, _summed(path, [s for _, s in ends]))
        if isinstance(layer, Repeat):
            return self.repeat(layer, path, entry, shape)
        return self.apply(layer, path, entry, shape)

    def apply(self, layer: Layer, path: str, entry: int, shape: Shape) -> tuple[int, Shape]:
        try:
            output_shape = layer.output_shape(shape)
        except NetworkError as problem:
            raise NetworkError(
                f"Layer {path}, `{layer}`, on input {show_shape(shape)}: {problem}."
            ) from None
        name, is_first_use = self.name_of(layer, path)
        node = Node(len(self.nodes), path, name, layer, (entry,), shape, output_shape, is_first_use)
        if not is_first_use and node.tensors != self.owner(name).tensors:
            raise NetworkError(
                f"Layer {path}, `{layer}`: a repeated block must give back the shape it is given, "
                f"but its second use sees {show_shape(shape)} instead of "
                f"{show_shape(self.owner(name).input_shape)}."
            )
        self.nodes.append(node)
        return node.index, output_shape

    def join(
        self, layer: Layer, path: str, ends: list[tuple[int, Shape]], shape: Shape
    ) -> tuple[int, Shape]:
        inputs = tuple(index for index, _ in ends)
        name, _ = self.name_of(layer, path)
        self.nodes.append(Node(len(self.nodes), path, name, layer, inputs, ends[0][1], shape))
        return len(self.nodes) - 1, shape

    def repeat(self, layer: Repeat, path: str, entry: int, shape: Shape) -> tuple[int, Shape]:
        outer = self.shared
        shared = {} if outer is None else outer
        for _ in range(layer.times):
            self.shared = shared
            entry, shape = self.add_all(layer.block, f"{path}.", entry, shape)
        self.shared = outer
        return entry, shape

    def name_of(self, layer: Layer, path: str) -> tuple[str, bool]:
        shared = None if layer.is_own_each_time else self.shared
        if shared is not None and path in shared and layer.tensors(self.input_shape):
            return shared[path], False
        self.counts[layer.label] += 1
        name = f"{layer.label}{self.counts[layer.label]}"
        if shared is not None:
            shared[path] = name
        return name, True

    def owner(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)


def _concatenated(path: str, shapes: list[Shape]) -> Shape:
    if len({shape[1:] for shape in shapes}) > 1 or {len(shape) for shape in shapes} != {MAP}:
        listed = ", ".join(show_shape(shape) for shape in shapes)
        raise NetworkError(
            f"Layer {path}, `Branches`: the branches end in {listed}; they must be maps of one "
            "height and width to be concatenated."
        )
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _summed(path: str, shapes: list[Shape]) -> Shape:
    if shapes[0] != shapes[1]:
        raise NetworkError(
            f"Layer {path}, `Residual`: the body ends in {show_shape(shapes[0])} and the shortcut "
            f"in {show_shape(shapes[1])}; they must be equal to be added."
        )
    return shapes[0]


@value(NetworkError)
class Network:
    """An image classifier as data.

    Args:
        layers: What runs, in order; it must end in flat features, one per class.
        input_shape: (channels, height, width) of the images.
        num_classes: How many labels there are to tell apart.
        output: What the model returns: the class scores as they are, or their (log-)softmax.
            The loss is always the cross-entropy of the class probabilities.
        init: Whose initial distributions: PyTorch's (uniform, +-1/sqrt(fan_in)) or Keras'
            (Glorot-uniform weights, zero biases).
        unreached: Layers registered by the original and never called; counted, never run.

    Raises:
        NetworkError: A layer does not fit its input, or the classes do not come out.
    """

    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    input_shape: tuple[Positive, Positive, Positive] = (1, 28, 28)
    num_classes: Annotated[int, Field(ge=2)] = 10
    output: Literal["logits", "log_softmax", "softmax"] = "logits"
    init: Literal["torch", "keras"] = "torch"
    unreached: tuple[Unreached, ...] = ()

    def __post_init__(self) -> None:
        shape = self.graph.output_shape
        if shape != (self.num_classes,):
            advice = "; end with `Flatten()`" if len(shape) > 1 else ""
            raise NetworkError(
                f"The last layer, {len(self.layers) - 1}, gives {show_shape(shape)}, but "
                f"{self.num_classes} classes need {self.num_classes} flat values{advice}."
            )
        for number, dead in enumerate(self.unreached):
            try:
                lower(dead.layers, dead.input_shape)
            except NetworkError as problem:
                raise NetworkError(f"Unreached block {number}: {problem}") from None

    @cached_property
    def graph(self) -> Graph:
        """The operations in the order they run, with every shape."""
        return lower(self.layers, self.input_shape)

    def to_json(self, indent: int | None = 2) -> str:
        """Return the exchange form; `Network.from_json` gives back an equal network."""
        return to_json(self, indent)

    @staticmethod
    def from_json(text: str | bytes) -> "Network":
        """Read a network back; raises NetworkError with the path of what is wrong."""
        return from_json(Network, text, NetworkError)

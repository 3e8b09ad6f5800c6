"""The network as a flat list of operations in the order they run.

Every consumer (table, torch module, generated C, shipped code) walks this one list. Node `i`
produces value `i`; value -1 is the network's input. Shared weights are nodes with one name.
"""

from collections import Counter
from dataclasses import dataclass, field

from smidgen.errors import NetworkError
from smidgen.network.blocks import Branches, Layer, Repeat, Residual
from smidgen.network.layers import BatchNorm, SampleNorm
from smidgen.network.shapes import MAP, Shape, TensorSpec, show_shape

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
        shared = None if isinstance(layer, BatchNorm | SampleNorm) else self.shared
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

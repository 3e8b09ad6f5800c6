"""A graph in, stages out: the few things that the C kernels can do, in the order they run.

Fusing is decided here and nowhere else. A batch norm, an activation, a dropout, a factor and a
flattening that follow each other are one pass over the map (`Pointwise`); a ReLU or leaky ReLU
right behind a convolution is part of it; in evaluation so is a batch norm.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from smidgen.engines.dropout import threshold
from smidgen.network import layers as L
from smidgen.network.blocks import Branches, Residual
from smidgen.network.graph import INPUT, Graph, Node
from smidgen.network.shapes import Shape, Window, num_elements, whole_map

Halo = tuple[int, int, int, int]
"""Rows or columns of zeros above, left, below and right of a map."""
Activation = Literal["NO_ACTIVATION", "RELU", "LEAKY_RELU"]
_NO_WINDOW = Window((1, 1), (1, 1), (0, 0), (0, 0))


@dataclass(frozen=True, slots=True)
class Normalization:
    """A batch norm: its node's name, where its channels start among all, and its layer."""

    name: str
    first: int
    layer: L.BatchNorm


@dataclass(frozen=True, slots=True)
class Stage:
    """What one kernel call does: reads the values `inputs`, makes the value `output`."""

    inputs: tuple[int, ...]
    output: int
    node: Node

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the trainable tensors it uses."""
        return ()


@dataclass(frozen=True, slots=True)
class Convolve(Stage):
    """A convolution or dense layer, its bias, and the activation right behind it.

    In evaluation `norm` is the batch norm that is folded into weights and bias.
    """

    weight: str
    bias: str | None
    window: Window = _NO_WINDOW
    groups: int = 1
    activation: Activation = "NO_ACTIVATION"
    slope: float = 0.0
    norm: Normalization | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Pointwise(Stage):
    """y = factor * keep * activation(norm(x)), each step only where the network has it.

    `rank` is that of the last step taken in; `dropout` is the layer's number among dropouts.
    """

    rank: int
    norm: Normalization | None = None
    activation: Activation = "NO_ACTIVATION"
    slope: float = 0.0
    slopes: str | None = None
    dropout: int = 0
    threshold: int = 0
    factor: float = 1.0

    @property
    def parameters(self) -> tuple[str, ...]:
        names = () if self.slopes is None else (self.slopes,)
        if self.norm is not None:
            names += (f"{self.norm.name}.weight",) if self.norm.layer.scale else ()
            names += (f"{self.norm.name}.bias",) if self.norm.layer.shift else ()
        return names

    @property
    def needs_input(self) -> bool:
        """Whether the backward pass reads what the forward pass read."""
        return self.norm is not None or self.activation != "NO_ACTIVATION"


@dataclass(frozen=True, slots=True)
class Pool(Stage):
    """The largest value or the mean of each window; global pools see the whole map."""

    kind: Literal["max", "average"]
    window: Window
    counts_padding: bool = True


@dataclass(frozen=True, slots=True)
class Join(Stage):
    """Maps side by side as channels, or their sum."""

    kind: Literal["concat", "add"]


@dataclass(frozen=True, slots=True)
class NormalizeImage(Stage):
    """`SampleNorm`: each image over all its values."""

    eps: float

    @property
    def parameters(self) -> tuple[str, ...]:
        return (f"{self.node.name}.weight", f"{self.node.name}.bias")


@dataclass(slots=True)
class Stages:
    """A network's stages and the shapes of the values between them; value -1 is the input.

    `output` is the value that holds the class scores, and `norms` are numbered by channel.
    """

    stages: list[Stage] = field(default_factory=list)
    shapes: dict[int, Shape] = field(default_factory=dict)
    output: int = INPUT
    norms: list[Normalization] = field(default_factory=list)
    norm_channels: int = 0

    def readers(self, value: int) -> list[Stage]:
        """Return the stages that read a value."""
        return [stage for stage in self.stages if value in stage.inputs]

    def maker(self, value: int) -> Stage | None:
        """Return the stage that makes a value, or None for the input."""
        return next((stage for stage in self.stages if stage.output == value), None)

    def halo(self, value: int) -> Halo:
        """Return the border that the value's readers want around it."""
        sides = (0, 0, 0, 0)
        for stage in self.readers(value):
            if isinstance(stage, Convolve):
                wanted = (*stage.window.before, *stage.window.after)
                sides = tuple(max(a, b) for a, b in zip(sides, wanted, strict=True))
        return cast(Halo, sides)


def stages_of(graph: Graph, training: bool) -> Stages:
    """Turn a graph into stages; in evaluation without dropout and with batch norms folded."""
    return _Builder(graph, training).build()


class _Builder:
    def __init__(self, graph: Graph, training: bool) -> None:
        self.graph, self.training = graph, training
        self.reads = Counter(index for node in graph.nodes for index in node.inputs)
        self.values = {INPUT: INPUT}
        self.uses = Counter({INPUT: self.reads[INPUT]})
        self.out = Stages(shapes={INPUT: graph.input_shape})
        self.next_value = 0
        self.num_dropouts = 0

    def build(self) -> Stages:
        for node in self.graph.nodes:
            inputs = tuple(self.values[index] for index in node.inputs)
            made = self.add(node, inputs)
            self.values[node.index] = made
            # a fused or skipped node hands its only or one of its readings on
            self.uses[made] += self.reads[node.index] - (made in inputs)
        self.out.output = self.values[self.graph.nodes[-1].index]
        return self.out

    def add(self, node: Node, inputs: tuple[int, ...]) -> int:
        layer, shape = node.layer, node.output_shape
        name, x = node.name, inputs[0]
        bias = f"{name}.bias" if getattr(layer, "bias", False) else None
        match layer:
            case L.Conv():
                window = cast(Window, layer.window(node.input_shape))
                return self.convolve(node, x, (f"{name}.weight", bias), window, layer.groups)
            case L.SeparableConv():
                return self.separable(node, layer, x, bias)
            case L.Dense():
                return self.convolve(node, x, (f"{name}.weight", bias), _NO_WINDOW, 1)
            case L.SampleNorm(eps=eps):
                return self.push(NormalizeImage((x,), self.new(shape), node, eps))
            case L.MaxPool() | L.GlobalMaxPool():
                window = cast(Window, layer.window(node.input_shape))
                return self.push(Pool((x,), self.new(shape), node, "max", window))
            case L.AvgPool():
                window = cast(Window, layer.window(node.input_shape))
                counts = layer.padding != "same"
                return self.push(Pool((x,), self.new(shape), node, "average", window, counts))
            case L.GlobalAvgPool():
                window = whole_map(node.input_shape)
                return self.push(Pool((x,), self.new(shape), node, "average", window))
            case Branches():
                return self.push(Join(inputs, self.new(shape), node, "concat"))
            case Residual():
                return self.push(Join(inputs, self.new(shape), node, "add"))
            case _:
                return self.pointwise(node, x)

    def new(self, shape: Shape) -> int:
        self.out.shapes[self.next_value] = shape
        self.next_value += 1
        return self.next_value - 1

    def push(self, stage: Stage) -> int:
        self.out.stages.append(stage)
        return stage.output

    def convolve(
        self,
        node: Node,
        x: int,
        names: tuple[str, str | None],
        window: Window,
        groups: int,
    ) -> int:
        out = self.new(node.output_shape)
        return self.push(Convolve((x,), out, node, *names, window, groups))

    def separable(self, node: Node, layer: L.SeparableConv, x: int, bias: str | None) -> int:
        channels = node.input_shape[0]
        names = (
            f"{node.name}.depthwise_weight",
            f"{node.name}.depthwise_bias" if layer.depthwise_bias else None,
        )
        middle = self.new((channels, *node.output_shape[1:]))
        window = layer.window(node.input_shape)
        self.push(Convolve((x,), middle, node, *names, window, channels))
        return self.convolve(node, middle, (f"{node.name}.weight", bias), _NO_WINDOW, 1)

    def pointwise(self, node: Node, x: int) -> int:
        step = self.step_of(node, x)
        if step is None:
            return x
        last = self.out.stages[-1] if self.out.stages else None
        if last is not None and last.output == x and self.uses[x] == 1:
            fused = _fused(last, step, self.training)
            if fused is not None:
                self.out.stages[-1] = fused
                self.out.shapes[x] = node.output_shape
                return x
        return self.push(replace(step, output=self.new(node.output_shape)))

    def step_of(self, node: Node, x: int) -> Pointwise | None:
        """Return the node as a pass of its own, or None where it changes nothing."""
        match node.layer:
            case L.BatchNorm() as layer:
                norm = Normalization(node.name, self.out.norm_channels, layer)
                self.out.norms.append(norm)
                self.out.norm_channels += node.output_shape[0]
                return Pointwise((x,), INPUT, node, 0, norm)
            case L.ReLU():
                return Pointwise((x,), INPUT, node, 1, activation="RELU")
            case L.LeakyReLU(slope=slope):
                return Pointwise((x,), INPUT, node, 1, activation="LEAKY_RELU", slope=slope)
            case L.PReLU():
                slopes = f"{node.name}.weight"
                return Pointwise((x,), INPUT, node, 1, activation="LEAKY_RELU", slopes=slopes)
            case L.Dropout(rate=rate):
                self.num_dropouts += 1
                if rate == 0 or not self.training:
                    return None
                number, limit = self.num_dropouts - 1, threshold(rate)
                return Pointwise(
                    (x,), INPUT, node, 2, dropout=number, threshold=limit, factor=1 / (1 - rate)
                )
            case L.Multiply(factor=factor):
                return Pointwise((x,), INPUT, node, 3, factor=factor)
            case L.Flatten():
                return Pointwise((x,), INPUT, node, 4)
        raise AssertionError(f"no kernel for {node.layer}")


def _fused(last: Stage, step: Pointwise, training: bool) -> Stage | None:
    """Return one stage that does both, or None where no kernel can."""
    if isinstance(last, Convolve) and last.activation == "NO_ACTIVATION":
        if (
            step.rank == 1
            and step.slopes is None
            and (step.slope > 0) == (step.activation == "LEAKY_RELU")
        ):
            return replace(last, activation=step.activation, slope=step.slope)
        if step.norm is not None and not training and last.norm is None:
            return replace(last, norm=step.norm)
    if isinstance(last, Pointwise) and last.rank < step.rank:
        return replace(
            last,
            rank=step.rank,
            activation=step.activation if step.rank == 1 else last.activation,
            slope=step.slope if step.rank == 1 else last.slope,
            slopes=step.slopes if step.rank == 1 else last.slopes,
            dropout=step.dropout if step.rank == 2 else last.dropout,
            threshold=step.threshold if step.rank == 2 else last.threshold,
            factor=last.factor * step.factor,
        )
    return None


def flat_map(shape: Shape) -> tuple[int, int, int]:
    """Return (channels, height, width) of a shape; flat features are maps of one pixel."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (num_elements(shape), 1, 1)

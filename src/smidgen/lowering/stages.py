"""A graph in, stages out: which layers become one pass over memory, and what lies between them.

Fusing is decided here and nowhere else. A batch norm, an activation, a dropout, a factor and a
flattening that follow each other are one pass over the map (`Pointwise`), and so is a max pool
right behind a norm; a ReLU or leaky ReLU right behind a convolution is part of it; in evaluation
so is a batch norm. What would only copy is no stage at all.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from smidgen.lowering.dropout import threshold
from smidgen.lowering.operands import Activation, Halo
from smidgen.network import layers as L
from smidgen.network.layers import Branches, Residual
from smidgen.network.network import INPUT, Graph, Node
from smidgen.network.shapes import MAP, Shape, Window, whole_map

NO_WINDOW = Window((1, 1), (1, 1), (0, 0), (0, 0))


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
    def tensors(self) -> dict[str, str]:
        """Full names of the trainable tensors that it applies as they are, by role."""
        return {}

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of all trainable tensors it uses."""
        return tuple(self.tensors.values())

    @property
    def read_backward(self) -> tuple[int, ...]:
        """The values that its backward pass reads."""
        return self.inputs


@dataclass(frozen=True, slots=True)
class Convolve(Stage):
    """A convolution or dense layer, its bias, and the activation right behind it.

    In evaluation `norm` is the batch norm that is folded into weights and bias.
    """

    weight: str
    bias: str | None
    window: Window = NO_WINDOW
    groups: int = 1
    activation: Activation = "NO_ACTIVATION"
    slope: float = 0.0
    norm: Normalization | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Weight and bias; in evaluation a norm may be folded into them."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def read_backward(self) -> tuple[int, ...]:
        """Its input, and its output where an activation is undone."""
        is_undone = self.activation != "NO_ACTIVATION"
        return (*self.inputs, self.output) if is_undone else self.inputs


@dataclass(frozen=True, slots=True)
class Pointwise(Stage):
    """y = factor * keep * activation(norm(x)), each step only where the network has it.

    `rank` is that of the last step taken in; `dropout` is the layer's number among dropouts, which
    drops single values or whole channels.
    `pool` is the max pool right behind a norm, whose large input then is never written.
    """

    rank: int
    norm: Normalization | None = None
    activation: Activation = "NO_ACTIVATION"
    slope: float = 0.0
    slopes: str | None = None
    shares_slope: bool = False
    dropout: int = 0
    threshold: int = 0
    drops_channels: bool = False
    factor: float = 1.0
    pool: Window | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Slopes, gamma and beta, those that there are."""
        names = () if self.slopes is None else (self.slopes,)
        if self.norm is not None:
            names += (f"{self.norm.name}.weight",) if self.norm.layer.scale else ()
            names += (f"{self.norm.name}.bias",) if self.norm.layer.shift else ()
        return names

    @property
    def read_backward(self) -> tuple[int, ...]:
        """Its input, if that matters."""
        return self.inputs if self.needs_input else ()

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

    @property
    def read_backward(self) -> tuple[int, ...]:
        """What a maximum was taken of."""
        return self.inputs if self.kind == "max" else ()


@dataclass(frozen=True, slots=True)
class Join(Stage):
    """Maps side by side as channels, or their sum."""

    kind: Literal["concat", "add"]

    @property
    def read_backward(self) -> tuple[int, ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class NormalizeImage(Stage):
    """`SampleNorm`: each image over all its values; `gain` and `shift` are one number each."""

    eps: float
    gain: str
    shift: str

    @property
    def tensors(self) -> dict[str, str]:
        """Gain and shift."""
        return {"gain": self.gain, "shift": self.shift}


@dataclass(frozen=True, slots=True)
class NormalizeGroups(Stage):
    """`GroupNorm`: each image over groups of channels; gain and shift for each channel, or none."""

    groups: int
    eps: float
    gain: str | None
    shift: str | None

    @property
    def tensors(self) -> dict[str, str]:
        """Gain and shift, if there are any."""
        given = {"gain": self.gain, "shift": self.shift}
        return {role: name for role, name in given.items() if name is not None}


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


_MOST_CELLS = 16
"""Largest window that the C header holds in registers."""
_FLATTEN = 4
"""Rank of the step that must be the last of a pass."""


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
            made = self._add(node, inputs)
            self.values[node.index] = made
            # a fused or skipped node hands its only or one of its readings on
            self.uses[made] += self.reads[node.index] - (made in inputs)
        self.out.output = self.values[self.graph.nodes[-1].index]
        return self.out

    def _add(self, node: Node, inputs: tuple[int, ...]) -> int:
        layer, shape = node.layer, node.output_shape
        name, x = node.name, inputs[0]
        if _only_copies(node) and self.uses[x] == 1 and self._ends_in_dense(node):
            return x
        bias = f"{name}.bias" if getattr(layer, "bias", False) else None
        match layer:
            case L.Conv():
                window = cast(Window, layer.window(node.input_shape))
                return self._convolve(node, x, (f"{name}.weight", bias), window, layer.groups)
            case L.SeparableConv():
                return self._separable(node, layer, x, bias)
            case L.Dense():
                return self._convolve(node, x, (f"{name}.weight", bias), NO_WINDOW, 1)
            case L.SampleNorm(eps=eps):
                names = (f"{name}.weight", f"{name}.bias")
                return self._push(NormalizeImage((x,), self._new(shape), node, eps, *names))
            case L.GroupNorm(groups=groups, eps=eps, affine=affine):
                names = (f"{name}.weight", f"{name}.bias") if affine else (None, None)
                out = self._new(shape)
                return self._push(NormalizeGroups((x,), out, node, groups, eps, *names))
            case L.MaxPool() | L.GlobalMaxPool():
                return self._max_pool(node, x, cast(Window, layer.window(node.input_shape)))
            case L.AvgPool():
                window = cast(Window, layer.window(node.input_shape))
                counts = layer.padding != "same"
                return self._push(Pool((x,), self._new(shape), node, "average", window, counts))
            case L.GlobalAvgPool():
                window = whole_map(node.input_shape)
                return self._push(Pool((x,), self._new(shape), node, "average", window))
            case Branches():
                return self._push(Join(inputs, self._new(shape), node, "concat"))
            case Residual():
                return self._push(Join(inputs, self._new(shape), node, "add"))
            case _:
                return self._pointwise(node, x)

    def _ends_in_dense(self, node: Node) -> bool:
        """Tell whether only dense layers, or nobody, read what a node that copies gives.

        They see any memory as one row of features. Another reader might be fused with what comes
        before the node, which would change the order in which its sums are taken.
        """
        readers = [other for other in self.graph.nodes if node.index in other.inputs]
        return all(
            isinstance(reader.layer, L.Dense)
            or (_only_copies(reader) and self._ends_in_dense(reader))
            for reader in readers
        )

    def _new(self, shape: Shape) -> int:
        self.out.shapes[self.next_value] = shape
        self.next_value += 1
        return self.next_value - 1

    def _push(self, stage: Stage) -> int:
        self.out.stages.append(stage)
        return stage.output

    def _convolve(
        self,
        node: Node,
        x: int,
        names: tuple[str, str | None],
        window: Window,
        groups: int,
    ) -> int:
        out = self._new(node.output_shape)
        return self._push(Convolve((x,), out, node, *names, window, groups))

    def _separable(self, node: Node, layer: L.SeparableConv, x: int, bias: str | None) -> int:
        channels = node.input_shape[0]
        names = (
            f"{node.name}.depthwise_weight",
            f"{node.name}.depthwise_bias" if layer.depthwise_bias else None,
        )
        middle = self._new((channels, *node.output_shape[1:]))
        window = layer.window(node.input_shape)
        self._push(Convolve((x,), middle, node, *names, window, channels))
        return self._convolve(node, middle, (f"{node.name}.weight", bias), NO_WINDOW, 1)

    def _max_pool(self, node: Node, x: int, window: Window) -> int:
        last = self.out.stages[-1] if self.out.stages else None
        tiles_the_map = window.kernel == window.stride and not any((*window.before, *window.after))
        if isinstance(last, Pointwise) and last.output == x and self.uses[x] == 1:
            fits = window.kernel[0] * window.kernel[1] <= _MOST_CELLS and tiles_the_map
            if last.norm is not None and last.pool is None and last.rank < _FLATTEN and fits:
                self.out.stages[-1] = replace(last, pool=window)
                self.out.shapes[x] = node.output_shape
                return x
        return self._push(Pool((x,), self._new(node.output_shape), node, "max", window))

    def _pointwise(self, node: Node, x: int) -> int:
        step = self._step_of(node, x)
        if step is None:
            return x
        last = self.out.stages[-1] if self.out.stages else None
        if last is not None and last.output == x and self.uses[x] == 1:
            fused = _fused(last, step, self.training)
            if fused is not None:
                self.out.stages[-1] = fused
                self.out.shapes[x] = node.output_shape
                return x
        return self._push(replace(step, output=self._new(node.output_shape)))

    def _step_of(self, node: Node, x: int) -> Pointwise | None:
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
            case L.PReLU(shared=shared):
                step = Pointwise((x,), INPUT, node, 1, activation="LEAKY_RELU")
                return replace(step, slopes=f"{node.name}.weight", shares_slope=shared)
            case L.DropoutBase(rate=rate):
                self.num_dropouts += 1
                if rate == 0 or not self.training:
                    return None
                number, limit = self.num_dropouts - 1, threshold(rate)
                step = Pointwise((x,), INPUT, node, 2, dropout=number, threshold=limit)
                has_cells = node.layer.decisions(node.input_shape) != node.input_shape
                return replace(step, drops_channels=has_cells, factor=1 / (1 - rate))
            case L.Multiply(factor=factor):
                return Pointwise((x,), INPUT, node, 3, factor=factor)
            case L.Flatten():
                return Pointwise((x,), INPUT, node, 4)
        raise AssertionError(f"no kernel for {node.layer}")


def _only_copies(node: Node) -> bool:
    """Tell whether a layer gives the numbers that it is given, in their order."""
    if isinstance(node.layer, L.Flatten):
        return True
    window = node.layer.window(node.input_shape) if len(node.input_shape) == MAP else None
    is_pool = isinstance(node.layer, L.AvgPool | L.GlobalAvgPool | L.MaxPool | L.GlobalMaxPool)
    same_shape = node.output_shape == node.input_shape
    return is_pool and same_shape and window is not None and window.kernel == (1, 1)


def _is_told_by_sign(step: Pointwise) -> bool:
    """Tell whether the sign of what an activation gives says what its slope was there.

    The backward pass of a convolution has nothing else: what came before is never stored.
    """
    is_leaky = step.activation == "LEAKY_RELU" and step.slopes is None and step.slope > 0
    return step.activation == "RELU" or is_leaky


def _fused(last: Stage, step: Pointwise, training: bool) -> Stage | None:
    """Return one stage that does both, or None where no kernel can."""
    if isinstance(last, Convolve) and last.activation == "NO_ACTIVATION":
        if _is_told_by_sign(step):
            return replace(last, activation=step.activation, slope=step.slope)
        if step.norm is not None and not training and last.norm is None:
            return replace(last, norm=step.norm)
    if isinstance(last, Pointwise) and last.rank < step.rank and last.pool is None:
        return replace(
            last,
            rank=step.rank,
            activation=step.activation if step.rank == 1 else last.activation,
            slope=step.slope if step.rank == 1 else last.slope,
            slopes=step.slopes if step.rank == 1 else last.slopes,
            shares_slope=last.shares_slope or step.shares_slope,
            dropout=step.dropout if step.rank == 2 else last.dropout,
            threshold=step.threshold if step.rank == 2 else last.threshold,
            drops_channels=last.drops_channels or step.drops_channels,
            factor=last.factor * step.factor,
        )
    return None

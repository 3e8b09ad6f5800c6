"""A network and its trained arrays in, float stages out: the plan that integers then follow.

A stage is a convolution (or a dense layer, a separable convolution, a sum of values), what an
activation and norms make of it, and a pool. Norms are folded: before the activation into weights
and bias, behind it into two slopes and an offset. What does not fit behind a stage starts a new
one that passes each channel on.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from smidgen.errors import NetworkError
from smidgen.network import layers as L
from smidgen.network.layers import Branches, Residual
from smidgen.network.network import INPUT, Network, Node
from smidgen.network.shapes import Shape, Window
from smidgen.ship.gathering import channel_dots, dots, pooled, windows

Pair = tuple[int, int]
_FRESH, _ACTIVATED, _POOLED = range(3)
"""How far a stage has come: only its sums, with its activation, with its pool."""


@dataclass(slots=True)
class FloatPool:
    """A pool of a stage: `average` divides by all cells, padded ones too."""

    kind: Literal["max", "average"]
    kernel: Pair
    stride: Pair
    before: Pair


@dataclass(slots=True)
class FloatStage:
    """y = pool(z * (negative if z < 0 else positive) + offset), z = sum(weights * x) + bias.

    Args:
        name: The layers it stands for, such as `conv1+batchnorm1+prelu1`.
        inputs: The values it reads.
        output: The value it writes, from `first_channel` on.
        gather: As in `Stage`.
        weights: window (out, rows, columns, in); separable (out, in); each (C, rows, columns);
            sum (C, inputs).
        bias: (out,).
        positions: Rows and columns before the pool.
        size: Behind it.
        depthwise: Weights (C, rows, columns) and bias (C,) of a separable convolution.
    """

    name: str
    inputs: tuple[int, ...]
    output: int
    gather: Literal["window", "separable", "each", "sum"]
    weights: np.ndarray
    bias: np.ndarray
    positions: Pair
    size: Pair
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    before: Pair = (0, 0)
    first_channel: int = 0
    depthwise: tuple[np.ndarray, np.ndarray] | None = None
    positive: np.ndarray = field(default_factory=lambda: np.zeros(0))
    negative: np.ndarray = field(default_factory=lambda: np.zeros(0))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(0))
    pool: FloatPool | None = None
    phase: int = _FRESH

    def __post_init__(self) -> None:
        ones = np.ones(len(self.bias))
        self.positive, self.negative, self.offset = ones.copy(), ones.copy(), 0 * ones


@dataclass(slots=True)
class FloatNetwork:
    """The stages of a network; value -1 is the image, as (byte / 255 - mean) / std.

    Args:
        stages: In the order they run; the last makes the scores.
        shapes: (channels, height, width) of each value.
        factor: What the scores are multiplied with to be the network's logits.
        mean: Of the pixels, as a share of 255.
        std: The same.
    """

    input_shape: tuple[int, int, int]
    stages: list[FloatStage] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    factor: float = 1.0
    mean: float = 0.0
    std: float = 1.0

    def normalized(self, images: np.ndarray) -> np.ndarray:
        """Return uint8 (N, C, H, W) images as the float32 (N, H, W, C) that stages read."""
        maps = images.transpose(0, 2, 3, 1).astype(np.float32)
        return (maps / np.float32(255.0) - np.float32(self.mean)) / np.float32(self.std)

    def values(self, images: np.ndarray) -> list[np.ndarray]:
        """Return what every stage writes, float32 (N, rows, columns, channels)."""
        return [made for _, made in self.steps(images)]

    def steps(self, images: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the sums of every stage and what it writes, both (N, rows, columns, channels)."""
        values: dict[int, np.ndarray] = {INPUT: self.normalized(images)}
        for stage in self.stages:
            z = float_sums(stage, [values[index] for index in stage.inputs])
            made = activated(stage, z)
            channels, rows, columns = self.shapes[stage.output]
            target = values.setdefault(
                stage.output, np.zeros((len(images), rows, columns, channels), np.float32)
            )
            first = stage.first_channel
            target[..., first : first + made.shape[3]] = made
            yield z, made

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (N, classes) logits of uint8 (N, C, H, W) images."""
        parts = [self.values(images[at : at + 250])[-1] for at in range(0, len(images), 250)]
        return np.float32(self.factor) * np.concatenate(parts).reshape(len(images), -1)


def float_sums(stage: FloatStage, inputs: list[np.ndarray]) -> np.ndarray:
    """Return the sums z of a stage, bias included, float32 (N, rows, columns, out)."""
    weights = stage.weights.astype(np.float32)
    if stage.gather == "sum":
        z = sum((x * weights[:, i] for i, x in enumerate(inputs)), np.zeros((), np.float32))
    else:
        seen = windows(inputs[0], stage.kernel, stage.stride, stage.before, stage.positions)
        if stage.gather == "each":
            z = channel_dots(seen, weights)
        elif stage.depthwise is not None:
            own, bias = (array.astype(np.float32) for array in stage.depthwise)
            z = (channel_dots(seen, own) + bias) @ weights.T
        else:
            z = dots(seen, weights)
    return z + stage.bias.astype(np.float32)


def activated(stage: FloatStage, z: np.ndarray) -> np.ndarray:
    """Return what a stage makes of its sums: slopes, offset, pool."""
    slopes = np.where(z < 0, stage.negative, stage.positive).astype(np.float32)
    y = z * slopes + stage.offset.astype(np.float32)
    pool = stage.pool
    if pool is None:
        return y
    kind = "max" if pool.kind == "max" else "sum"
    y = pooled(y, kind, pool.kernel, pool.stride, pool.before, stage.size)
    return y if kind == "max" else y / np.float32(pool.kernel[0] * pool.kernel[1])


def fold(
    network: Network, tensors: Mapping[str, np.ndarray], mean: float = 0.0, std: float = 1.0
) -> FloatNetwork:
    """Turn a network into float stages, norms folded and dropout gone.

    Args:
        network: The network.
        tensors: Its trained arrays by full name, such as `conv1.weight`.
        mean: What evaluation subtracts from pixels / 255.
        std: What it divides by.

    Raises:
        NetworkError: A layer that no stage can do; names it and what would do.
    """
    return _Folder(network, tensors, mean, std).run()


class _Folder:
    def __init__(
        self, network: Network, tensors: Mapping[str, np.ndarray], mean: float, std: float
    ) -> None:
        self.network, self.tensors = network, tensors
        self.reads = Counter(index for node in network.graph.nodes for index in node.inputs)
        self.out = FloatNetwork(network.input_shape, mean=mean, std=std)
        self.values: dict[int, int] = {INPUT: INPUT}
        self.open: dict[int, FloatStage] = {}
        """The stage that still may take in what follows, by graph value."""

    def run(self) -> FloatNetwork:
        nodes = self.network.graph.nodes
        for node in nodes:
            self.add(node)
        self.finish(nodes[-1])
        return self.out

    def finish(self, node: Node) -> None:
        """Make the last stage one that ends in a single place for each class."""
        stage = self.open.get(node.index) or self.pass_on(node, node.index)
        if stage is not self.out.stages[-1] or stage.size != (1, 1):
            raise self.refusal(node, "the scores must be the last thing computed")

    def add(self, node: Node) -> None:
        source = node.inputs[0]
        match node.layer:
            case L.Conv(dilation=dilation) if dilation > 1:
                raise self.refusal(node, "its kernel has gaps; use one without `dilation`")
            case L.Conv() | L.SeparableConv() | L.Dense():
                self.convolve(node)
            case L.BatchNorm():
                self.affine(node, *self.norm(node))
            case L.Multiply(factor=factor):
                self.multiply(node, factor)
            case L.ReLU() | L.LeakyReLU() | L.PReLU():
                self.activate(node)
            case L.MaxPool() | L.AvgPool() | L.GlobalAvgPool() | L.GlobalMaxPool():
                self.pool(node)
            case L.DropoutBase() | L.Flatten():
                self.same(node, source)
            case Residual():
                self.sum(node)
            case Branches():
                self.concatenate(node)
            case L.SampleNorm():
                raise self.refusal(node, "it divides by a root taken of each image; use BatchNorm")
            case _:
                raise self.refusal(node, "it has no form in integers yet")

    def refusal(self, node: Node, reason: str) -> NetworkError:
        return NetworkError(f"Layer {node.path}, `{node.layer}`, cannot be shipped: {reason}.")

    def tensor(self, node: Node, name: str) -> np.ndarray | None:
        found = self.tensors.get(f"{node.name}.{name}")
        return None if found is None else np.asarray(found, dtype=np.float64)

    def needed(self, node: Node, name: str) -> np.ndarray:
        found = self.tensor(node, name)
        if found is None:
            raise NetworkError(f"The weights have no `{node.name}.{name}`.")
        return found

    def same(self, node: Node, source: int) -> None:
        """Let a node stand for the value it reads."""
        self.values[node.index] = self.values[source]
        if source in self.open and self.reads[source] == 1:
            self.open[node.index] = self.open.pop(source)

    def taken(self, node: Node) -> FloatStage | None:
        """Return the stage right before a node, if the node alone reads it."""
        stage = self.open.get(node.inputs[0])
        return stage if stage is not None and self.reads[node.inputs[0]] == 1 else None

    def grow(self, node: Node, stage: FloatStage) -> None:
        """Say that a stage has taken a node in."""
        self.open.pop(node.inputs[0], None)
        self.open[node.index] = stage
        self.values[node.index] = stage.output
        if f"+{node.name}" not in stage.name:
            stage.name += f"+{node.name}"

    def push(self, node: Node, stage: FloatStage) -> FloatStage:
        self.out.stages.append(stage)
        self.out.shapes.append((len(stage.bias), *stage.size))
        self.values[node.index] = stage.output
        self.open[node.index] = stage
        return stage

    def pass_on(self, node: Node, source: int) -> FloatStage:
        """Start a stage that gives each channel of a value as it is."""
        value = self.values[source]
        channels, *size = self.out.shapes[value] if value != INPUT else self.network.input_shape
        rows, columns = size
        return self.push(
            node,
            FloatStage(
                name=node.name,
                inputs=(value,),
                output=len(self.out.shapes),
                gather="each",
                weights=np.ones((channels, 1, 1)),
                bias=np.zeros(channels),
                positions=(rows, columns),
                size=(rows, columns),
            ),
        )

    def convolve(self, node: Node) -> None:
        source, layer = self.values[node.inputs[0]], node.layer
        shape = self.out.shapes[source] if source != INPUT else self.network.input_shape
        weight, bias = self.needed(node, "weight"), self.tensor(node, "bias")
        window = layer.window(node.input_shape) or Window(
            (shape[1], shape[2]), (1, 1), (0, 0), (0, 0)
        )
        depthwise = None
        gather: Literal["window", "separable", "each"] = "window"
        if isinstance(layer, L.SeparableConv):
            gather = "separable"
            weight = weight[:, :, 0, 0]
            own_bias = self.tensor(node, "depthwise_bias")
            own = self.needed(node, "depthwise_weight")[:, 0]
            depthwise = (own, np.zeros(shape[0]) if own_bias is None else own_bias)
        elif isinstance(layer, L.Dense):
            # flat features are (channel, row, column) there and (row, column, channel) here
            weight = weight.reshape(len(weight), *shape).transpose(0, 2, 3, 1)
        elif isinstance(layer, L.Conv) and layer.groups == shape[0] == layer.out_channels > 1:
            gather, weight = "each", weight[:, 0]
        elif isinstance(layer, L.Conv):
            weight = _ungrouped(weight, shape[0]).transpose(0, 2, 3, 1)
        size = (node.output_shape[1], node.output_shape[2]) if len(node.output_shape) > 1 else None
        stage = FloatStage(
            name=node.name,
            inputs=(source,),
            output=len(self.out.shapes),
            gather=gather,
            weights=weight,
            bias=np.zeros(len(weight)) if bias is None else bias,
            positions=size or (1, 1),
            size=size or (1, 1),
            kernel=window.kernel,
            stride=window.stride,
            before=window.before,
            depthwise=depthwise,
        )
        self.push(node, stage)

    def norm(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        """Return the factor and the offset of a batch norm in evaluation."""
        assert isinstance(node.layer, L.BatchNorm)
        deviation = np.sqrt(self.needed(node, "running_var") + node.layer.eps)
        gain, shift = self.tensor(node, "weight"), self.tensor(node, "bias")
        factor = (1.0 if gain is None else gain) / deviation
        offset = (0.0 if shift is None else shift) - self.needed(node, "running_mean") * factor
        return factor, offset

    def affine(self, node: Node, factor: np.ndarray, offset: np.ndarray) -> None:
        stage = self.taken(node)
        if stage is None or len(factor) != len(stage.bias) or not _commutes(stage, factor):
            self.check_map(node)
            stage = self.pass_on(node, node.inputs[0])
            self.open.pop(node.inputs[0], None)
        if stage.phase == _FRESH:
            shape = (-1,) + (1,) * (stage.weights.ndim - 1)
            stage.weights = stage.weights * factor.reshape(shape)
            stage.bias = stage.bias * factor + offset
        else:
            stage.positive = stage.positive * factor
            stage.negative = stage.negative * factor
            stage.offset = stage.offset * factor + offset
        self.grow(node, stage)

    def multiply(self, node: Node, factor: float) -> None:
        if node is self.network.graph.nodes[-1] and factor > 0 and self.taken(node) is not None:
            self.out.factor *= factor
            self.same(node, node.inputs[0])
            return
        stage = self.taken(node)
        channels = node.input_shape[0] if stage is None else len(stage.bias)
        self.affine(node, np.full(channels, factor), np.zeros(channels))

    def activate(self, node: Node) -> None:
        slope = self.slopes(node)
        stage = self.taken(node)
        fits = stage is not None and len(slope) in (1, len(stage.bias))
        if fits and stage is not None and stage.phase == _POOLED:
            # monotone ones and the largest value can change places
            fits = bool((slope >= 0).all()) and _is_plain(stage) and _has_max(stage)
        elif fits and stage is not None:
            fits = stage.phase == _FRESH
        if not fits or stage is None:
            self.check_map(node)
            stage = self.pass_on(node, node.inputs[0])
        stage.negative = np.broadcast_to(slope, len(stage.bias)).astype(np.float64)
        stage.phase = max(stage.phase, _ACTIVATED)
        self.grow(node, stage)

    def slopes(self, node: Node) -> np.ndarray:
        match node.layer:
            case L.LeakyReLU(slope=slope):
                return np.array([slope])
            case L.PReLU():
                return self.needed(node, "weight").reshape(-1)
        return np.zeros(1)

    def check_map(self, node: Node) -> None:
        """Refuse layers that treat each of many flattened values in its own way."""
        value = self.values[node.inputs[0]]
        shape = self.out.shapes[value] if value != INPUT else self.network.input_shape
        if len(node.input_shape) == 1 and shape[1:] != (1, 1):
            raise self.refusal(node, "it stands behind Flatten(); put it before")

    def pool(self, node: Node) -> None:
        window = node.layer.window(node.input_shape)
        assert window is not None
        is_max = isinstance(node.layer, L.MaxPool | L.GlobalMaxPool)
        padded = any((*window.before, *window.after))
        if not is_max and padded and getattr(node.layer, "padding", 0) == "same":
            raise self.refusal(node, "its windows differ in size at the edges; pad with a number")
        tiles = window.kernel == window.stride and not padded
        whole = window.kernel == node.input_shape[1:]
        stage = self.taken(node)
        if stage is None or stage.phase == _POOLED or not (tiles or whole):
            stage = self.pass_on(node, node.inputs[0])
        kind: Literal["max", "average"] = "max" if is_max else "average"
        stage.pool = FloatPool(kind, window.kernel, window.stride, window.before)
        stage.size = (node.output_shape[1], node.output_shape[2])
        stage.phase = _POOLED
        self.out.shapes[stage.output] = (len(stage.bias), *stage.size)
        self.grow(node, stage)

    def sum(self, node: Node) -> None:
        values = tuple(self.values[index] for index in node.inputs)
        if INPUT in values:
            raise self.refusal(node, "it adds the image itself; convolve it first")
        channels, rows, columns = self.out.shapes[values[0]]
        stage = FloatStage(
            name=node.name,
            inputs=values,
            output=len(self.out.shapes),
            gather="sum",
            weights=np.ones((channels, len(values))),
            bias=np.zeros(channels),
            positions=(rows, columns),
            size=(rows, columns),
        )
        self.push(node, stage)

    def concatenate(self, node: Node) -> None:
        """Let the last stage of every branch write its part of one value."""
        first, target = 0, len(self.out.shapes)
        self.out.shapes.append(node.output_shape)
        for index in node.inputs:
            stage = self.open.get(index)
            if stage is None or self.reads[index] > 1:
                stage = self.pass_on(node, index)
            self.redirect(stage, target, first)
            first += len(stage.bias)
        self.values[node.index] = target
        self.open.pop(node.index, None)

    def redirect(self, stage: FloatStage, target: int, first: int) -> None:
        self.out.shapes[stage.output] = ()  # nobody reads it any more
        stage.output, stage.first_channel = target, first


def _ungrouped(weight: np.ndarray, in_channels: int) -> np.ndarray:
    """Return a grouped convolution's weights with zeros for the channels it does not read."""
    out, per_group = weight.shape[:2]
    if per_group == in_channels:
        return weight
    groups = in_channels // per_group
    full = np.zeros((out, in_channels, *weight.shape[2:]))
    for row in range(out):
        first = row // (out // groups) * per_group
        full[row, first : first + per_group] = weight[row]
    return full


def _commutes(stage: FloatStage, factor: np.ndarray) -> bool:
    """Tell whether an affine step may move before a stage's pool."""
    if stage.phase < _POOLED or stage.pool is None:
        return True
    if stage.pool.kind == "average":
        return not any(stage.pool.before)
    return bool((factor > 0).all())


def _is_plain(stage: FloatStage) -> bool:
    return bool(
        (stage.positive == 1).all() and (stage.negative == 1).all() and not stage.offset.any()
    )


def _has_max(stage: FloatStage) -> bool:
    return stage.pool is not None and stage.pool.kind == "max"

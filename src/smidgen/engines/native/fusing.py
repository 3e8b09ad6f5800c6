"""A graph in, stages out: which layers become one pass over memory.

Fusing is decided here and nowhere else. A batch norm, an activation, a dropout, a factor and a
flattening that follow each other are one pass over the map (`Pointwise`), and so is a max pool
right behind a norm; a ReLU or leaky ReLU right behind a convolution is part of it; in evaluation
so is a batch norm.
"""

from collections import Counter
from dataclasses import replace
from typing import cast

from smidgen.engines.dropout import threshold
from smidgen.engines.native.stages import (
    NO_WINDOW,
    Convolve,
    Join,
    Normalization,
    NormalizeImage,
    Pointwise,
    Pool,
    Stage,
    Stages,
)
from smidgen.network import layers as L
from smidgen.network.layers import Branches, Residual
from smidgen.network.network import INPUT, Graph, Node
from smidgen.network.shapes import Shape, Window, whole_map

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
                return self._push(NormalizeImage((x,), self._new(shape), node, eps))
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
            dropout=step.dropout if step.rank == 2 else last.dropout,
            threshold=step.threshold if step.rank == 2 else last.threshold,
            factor=last.factor * step.factor,
        )
    return None

"""A network as ONNX: in floats, and its integers kept in float32, where they are exact.

Both are written by `onnx.helper` alone, with operators that every runtime has. There is no
QuantizeLinear: it rounds half to even and scales in floats, so no two runtimes need agree.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from smidgen.extras import require
from smidgen.ship.folding import FloatNetwork, FloatStage
from smidgen.ship.integer import CLAMP, IMAGE, IntegerNetwork, Stage

_OPSET, _IR = 17, 8
"""Of 2022, old enough for every runtime in use."""


def float_onnx(folded: FloatNetwork, metadata: dict[str, str]) -> bytes:
    """Write float stages: input `image` uint8 (N, C, H, W), output `logits` float32.

    Args:
        folded: What `fold` gave.
        metadata: Text to store with the file.

    Raises:
        MissingPackageError: The package onnx is not installed.
    """
    graph = _Graph()
    graph.add("Cast", ["image"], "bytes", to=1)
    graph.binary("Sub", "bytes", np.float32(255 * folded.mean), "centered")
    graph.binary("Mul", "centered", np.float32(1 / (255 * folded.std)), "value_image")
    parts: dict[int, list[tuple[int, str]]] = {}
    name = ""
    for number, stage in enumerate(folded.stages):
        inputs = [graph.joined(parts, index) for index in stage.inputs]
        name = _float_stage(graph, f"s{number}", stage, inputs, folded)
        parts.setdefault(stage.output, []).append((stage.first_channel, name))
    graph.binary("Mul", name, np.float32(folded.factor), "scaled")
    graph.add("Flatten", ["scaled"], "logits", axis=1)
    classes = len(folded.stages[-1].bias)
    return graph.model(folded.input_shape, ("logits", 1, classes), metadata)


def integer_onnx(network: IntegerNetwork, metadata: dict[str, str]) -> bytes:
    """Write the integers, in float32: input `image` uint8 (N, C, H, W), output `scores` int32.

    Raises:
        MissingPackageError: The package onnx is not installed.
    """
    graph = _Graph()
    graph.add("Cast", ["image"], "value_image", to=1)
    parts: dict[int, list[tuple[int, str]]] = {}
    name = ""
    for number, stage in enumerate(network.stages):
        inputs = [graph.joined(parts, index) for index in stage.inputs]
        name = _integer_stage(graph, f"s{number}", stage, inputs, network)
        parts.setdefault(stage.output, []).append((stage.first_channel, name))
    graph.add("Cast", [name], "whole", to=6)
    graph.add("Flatten", ["whole"], "scores", axis=1)
    return graph.model(network.input_shape, ("scores", 6, network.last.out_channels), metadata)


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self) -> None:
        require("ONNX files need", "onnx")
        from onnx import helper, numpy_helper

        self.helper, self.numpy_helper = helper, numpy_helper
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **settings: object) -> str:
        self.nodes.append(self.helper.make_node(operator, list(inputs), [output], **settings))
        return output

    def constant(self, name: str, array: object) -> str:
        self.constants.append(self.numpy_helper.from_array(np.asarray(array), name))
        return name

    def binary(self, operator: str, left: str, right: object, output: str) -> str:
        """Add an operation with a constant: a number, or one for each channel."""
        array = np.asarray(right, np.float32)
        array = array.reshape(-1, 1, 1) if array.ndim else array
        return self.add(operator, [left, self.constant(f"{output}_by", array)], output)

    def joined(self, parts: dict[int, list[tuple[int, str]]], value: int) -> str:
        """Return the name of a value, its parts put together."""
        if value == IMAGE:
            return "value_image"
        names = [name for _, name in sorted(parts[value])]
        if len(names) == 1:
            return names[0]
        output = f"value{value}"
        if not any(output in node.output for node in self.nodes):
            self.add("Concat", names, output, axis=1)
        return output

    def convolution(
        self,
        name: str,
        value: str,
        weights: np.ndarray,
        stage: FloatStage | Stage,
        size: Sequence[int],
        groups: int = 1,
        pad_byte: int = 0,
    ) -> str:
        """Add a convolution of (out, in, rows, columns) weights with a stage's window.

        What it reads is padded with zeros, or with `pad_byte`.
        """
        after = [
            max(
                0,
                (stage.positions[a] - 1) * stage.stride[a]
                + stage.kernel[a]
                - stage.before[a]
                - size[a],
            )
            for a in range(2)
        ]
        pads = [*stage.before, *after]
        if pad_byte and any(pads):
            edges = np.array([0, 0, *stage.before, 0, 0, *after], np.int64)
            sides = self.constant(f"{name}_sides", edges)
            fill = self.constant(f"{name}_fill", np.float32(pad_byte))
            value = self.add("Pad", [value, sides, fill], f"{name}_wide")
            pads = [0, 0, 0, 0]
        constant = self.constant(f"{name}_weights", weights.astype(np.float32))
        settings = {"pads": pads, "strides": list(stage.stride), "group": groups}
        return self.add("Conv", [value, constant], name, **settings)

    def pool(self, name: str, value: str, stage: FloatStage | Stage, operator: str) -> str:
        """Add MaxPool or AveragePool with a stage's pool."""
        pool = stage.pool
        assert pool is not None
        settings: dict[str, object] = {"count_include_pad": 1} if operator != "MaxPool" else {}
        settings |= {"kernel_shape": list(pool.kernel), "strides": list(pool.stride)}
        return self.add(operator, [value], name, pads=_pool_pads(stage), **settings)

    def model(
        self, input_shape: Sequence[int], output: tuple[str, int, int], metadata: dict[str, str]
    ) -> bytes:
        make = self.helper
        image = make.make_tensor_value_info("image", 2, ["N", *input_shape])
        name, kind, classes = output
        result = make.make_tensor_value_info(name, kind, ["N", classes])
        graph = make.make_graph(self.nodes, "smidgen", [image], [result], self.constants)
        model = make.make_model(
            graph, opset_imports=[make.make_opsetid("", _OPSET)], ir_version=_IR
        )
        model.producer_name = "smidgen"
        for key, text in metadata.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, text
        return model.SerializeToString()


def _pool_pads(stage: FloatStage | Stage) -> list[int]:
    pool = stage.pool
    assert pool is not None
    after = [
        max(
            0,
            (stage.size[a] - 1) * pool.stride[a]
            + pool.kernel[a]
            - pool.before[a]
            - stage.positions[a],
        )
        for a in range(2)
    ]
    return [*pool.before, *after]


def _weights(stage: FloatStage | Stage, channels: int) -> np.ndarray:
    """Return a stage's weights as (out, in, rows, columns)."""
    flat = np.asarray(stage.weights)
    if stage.gather == "separable":
        return flat.reshape(-1, channels, 1, 1)
    if stage.gather == "each":
        return flat.reshape(-1, 1, *stage.kernel)
    return flat.reshape(-1, *stage.kernel, channels).transpose(0, 3, 1, 2)


class _Point:
    """The window of the second half of a separable convolution."""

    def __init__(self, stage: FloatStage | Stage) -> None:
        self.positions, self.kernel = stage.positions, (1, 1)
        self.stride, self.before = (1, 1), (0, 0)


def _float_stage(
    graph: _Graph, name: str, stage: FloatStage, inputs: list[str], folded: FloatNetwork
) -> str:
    source = stage.inputs[0]
    channels, *size = folded.input_shape if source == IMAGE else folded.shapes[source]
    if stage.gather == "sum":
        terms = [
            graph.binary("Mul", value, stage.weights[:, i], f"{name}_term{i}")
            for i, value in enumerate(inputs)
        ]
        value = graph.add("Add", terms, f"{name}_sum")
    elif stage.depthwise is not None:
        own, bias = stage.depthwise
        value = graph.convolution(
            f"{name}_own", inputs[0], own[:, None], stage, size, groups=channels
        )
        value = graph.binary("Add", value, bias, f"{name}_gathered")
        point: Any = _Point(stage)
        value = graph.convolution(
            f"{name}_sum", value, _weights(stage, channels), point, stage.positions
        )
    else:
        groups = channels if stage.gather == "each" else 1
        weights = _weights(stage, channels)
        value = graph.convolution(f"{name}_sum", inputs[0], weights, stage, size, groups)
    value = graph.binary("Add", value, stage.bias, f"{name}_biased")
    value = _activation(graph, name, value, stage)
    if stage.pool is None:
        return value
    operator = "MaxPool" if stage.pool.kind == "max" else "AveragePool"
    return graph.pool(f"{name}_pooled", value, stage, operator)


def _activation(graph: _Graph, name: str, value: str, stage: FloatStage) -> str:
    positive, negative = stage.positive, stage.negative
    if np.array_equal(positive, negative):
        if not (positive == 1).all():
            value = graph.binary("Mul", value, positive, f"{name}_scaled")
    elif (positive == 1).all() and not negative.any():
        value = graph.add("Relu", [value], f"{name}_active")
    elif (positive == 1).all():
        slopes = graph.constant(f"{name}_slopes", negative.astype(np.float32).reshape(-1, 1, 1))
        value = graph.add("PRelu", [value, slopes], f"{name}_active")
    else:
        value = _two_slopes(graph, name, value, (positive, negative))
    if stage.offset.any():
        value = graph.binary("Add", value, stage.offset, f"{name}_moved")
    return value


def _two_slopes(graph: _Graph, name: str, value: str, slopes: tuple[np.ndarray, np.ndarray]) -> str:
    """Add max(x, 0) * positive + min(x, 0) * negative; one of the two is 0."""
    zero = graph.constant(f"{name}_zero", np.float32(0))
    above = graph.add("Max", [value, zero], f"{name}_above")
    below = graph.add("Min", [value, zero], f"{name}_below")
    above = graph.binary("Mul", above, slopes[0], f"{name}_positive")
    below = graph.binary("Mul", below, slopes[1], f"{name}_negative")
    return graph.add("Add", [above, below], f"{name}_active")


def _integer_stage(
    graph: _Graph, name: str, stage: Stage, inputs: list[str], network: IntegerNetwork
) -> str:
    value = _accumulator(graph, name, stage, inputs, network)
    value = _shifted(graph, value, stage.shift_a, f"{name}_a")
    value = graph.binary("Add", value, stage.bias, f"{name}_biased")
    slopes = (np.array(stage.positive), np.array(stage.negative))
    if stage.positive == stage.negative:
        value = graph.binary("Mul", value, slopes[0], f"{name}_active")
    else:
        value = _two_slopes(graph, name, value, slopes)
    value = _shifted(graph, value, np.array(stage.shift), f"{name}_t")
    if stage.offset:
        value = graph.binary("Add", value, stage.offset, f"{name}_moved")
    if stage.pool is not None:
        value = _integer_pool(graph, name, stage, value)
    if stage is network.last:
        return value
    value = graph.binary("Add", value, np.float32(1 << stage.pool_shift >> 1), f"{name}_half")
    value = _shifted(graph, value, stage.pool_shift, f"{name}_out")
    limits = [graph.constant(f"{name}_{end}", np.float32(end * CLAMP)) for end in (-1, 1)]
    return graph.add("Clip", [value, *limits], f"{name}_clamped")


def _accumulator(
    graph: _Graph, name: str, stage: Stage, inputs: list[str], network: IntegerNetwork
) -> str:
    channels, *size = network.shape_of(stage.inputs[0])
    if stage.gather == "sum":
        weights = np.array(stage.weights).reshape(stage.out_channels, -1)
        terms = [
            graph.binary("Mul", value, weights[:, i], f"{name}_term{i}")
            for i, value in enumerate(inputs)
        ]
        return graph.add("Add", terms, f"{name}_sum")
    groups = channels if stage.gather in ("each", "separable") else 1
    part = stage.depthwise
    weights = np.array(part.weights).reshape(-1, 1, *stage.kernel) if part else None
    weights = _weights(stage, channels) if weights is None else weights
    pad_byte = network.pad_byte if stage.inputs[0] == IMAGE else 0
    value = graph.convolution(f"{name}_sum", inputs[0], weights, stage, size, groups, pad_byte)
    if part is None:
        return value
    value = graph.binary("Add", value, part.bias, f"{name}_own")
    value = _shifted(graph, value, part.shift, f"{name}_d")
    point: Any = _Point(stage)
    weights = _weights(stage, channels)
    return graph.convolution(f"{name}_dots", value, weights, point, stage.positions)


def _shifted(graph: _Graph, value: str, shift: int | np.ndarray, name: str) -> str:
    """Add a shift to the right: a product with a power of two, which is exact, and Floor."""
    if not np.any(shift):
        return value
    value = graph.binary("Mul", value, 2.0 ** -np.asarray(shift, np.float64), f"{name}_scaled")
    return graph.add("Floor", [value], name)


def _integer_pool(graph: _Graph, name: str, stage: Stage, value: str) -> str:
    pool = stage.pool
    assert pool is not None
    if pool.kind == "max":
        return graph.pool(f"{name}_pooled", value, stage, "MaxPool")
    if pool.kernel == stage.positions:
        axes = graph.constant(f"{name}_axes", np.array([2, 3], np.int64))
        return graph.add("ReduceSum", [value, axes], f"{name}_pooled", keepdims=1)
    ones = np.ones((stage.out_channels, 1, *pool.kernel), np.float32)
    constant = graph.constant(f"{name}_ones", ones)
    settings = {"pads": _pool_pads(stage), "strides": list(pool.stride)}
    return graph.add(
        "Conv", [value, constant], f"{name}_pooled", group=stage.out_channels, **settings
    )

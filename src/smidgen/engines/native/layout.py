"""Where each tensor stands in the flat arrays that the generated code works on."""

from dataclasses import dataclass

import numpy as np

from smidgen.engines.native.stages import Convolve, Pointwise, Stages
from smidgen.network.network import Graph
from smidgen.network.weights import Tensors


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets by full name of the trainable tensors and of the running statistics.

    Both follow the graph's order, without gaps.
    """

    weights: dict[str, int]
    statistics: dict[str, int]
    num_weights: int
    num_statistics: int


def layout_of(graph: Graph) -> Layout:
    """Give every tensor its place."""
    places: tuple[dict[str, int], dict[str, int]] = ({}, {})
    sizes = [0, 0]
    for name, spec in graph.tensors.items():
        which = 0 if spec.trainable else 1
        places[which][name] = sizes[which]
        sizes[which] += spec.size
    return Layout(places[0], places[1], sizes[0], sizes[1])


@dataclass(frozen=True, slots=True)
class EvaluationLayout:
    """Where the generated evaluation finds its numbers: by the stage's output, then by role.

    Roles are `weight` and `bias` of convolutions (with a batch norm folded in), `scale` and
    `shift` of a batch norm that stands alone, `slopes`, `gain`.
    """

    offsets: dict[int, dict[str, int]]
    size: int


def evaluation_layout(stages: Stages, graph: Graph) -> EvaluationLayout:
    """Give the numbers of every stage of an evaluation their places."""
    offsets: dict[int, dict[str, int]] = {}
    size = 0
    for stage in stages.stages:
        own = offsets[stage.output] = {}
        for role, count in _roles(stage, graph).items():
            own[role] = size
            size += count
    return EvaluationLayout(offsets, size)


def evaluation_numbers(stages: Stages, layout: EvaluationLayout, tensors: Tensors) -> np.ndarray:
    """Return the flat float32 array that the generated evaluation reads.

    Batch norms become a scale and a shift by their running statistics, computed in float64;
    where a convolution stands right before one they are multiplied into its weights.
    """
    numbers = np.zeros(layout.size, dtype=np.float32)

    def put(output: int, role: str, array: np.ndarray) -> None:
        start = layout.offsets[output][role]
        numbers[start : start + array.size] = array.reshape(-1)

    for stage in stages.stages:
        match stage:
            case Convolve(norm=norm):
                weight = tensors[stage.weight].astype(np.float64)
                bias = np.zeros(len(weight)) if stage.bias is None else tensors[stage.bias]
                if norm is not None:
                    scale, shift = _scale_and_shift(norm.name, norm.layer.eps, tensors)
                    weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
                    bias = bias * scale + shift
                put(stage.output, "weight", weight)
                put(stage.output, "bias", bias)
            case Pointwise():
                if stage.norm is not None:
                    eps = stage.norm.layer.eps
                    scale, shift = _scale_and_shift(stage.norm.name, eps, tensors)
                    put(stage.output, "scale", scale)
                    put(stage.output, "shift", shift)
                if stage.slopes is not None:
                    put(stage.output, "slopes", tensors[stage.slopes])
            case _:
                for role, name in zip(("gain", "shift"), stage.parameters, strict=False):
                    put(stage.output, role, tensors[name])
    return numbers


def _roles(stage: object, graph: Graph) -> dict[str, int]:
    match stage:
        case Convolve():
            spec = graph.tensors[stage.weight]
            return {"weight": spec.size, "bias": spec.shape[0]}
        case Pointwise():
            channels = stage.node.input_shape[0]
            roles = {} if stage.norm is None else {"scale": channels, "shift": channels}
            return roles if stage.slopes is None else {**roles, "slopes": channels}
        case _:
            return dict.fromkeys(("gain", "shift"), 1) if getattr(stage, "parameters", ()) else {}


def _scale_and_shift(name: str, eps: float, tensors: Tensors) -> tuple[np.ndarray, np.ndarray]:
    mean = tensors[f"{name}.running_mean"].astype(np.float64)
    variance = tensors[f"{name}.running_var"].astype(np.float64)
    scale = 1.0 / np.sqrt(variance + eps)
    if f"{name}.weight" in tensors:
        scale = scale * tensors[f"{name}.weight"]
    shift = -mean * scale
    return scale, shift + tensors[f"{name}.bias"] if f"{name}.bias" in tensors else shift

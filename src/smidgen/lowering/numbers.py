"""Where numbers stand in flat arrays: a model's tensors as trained, and folded for evaluation."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from smidgen.lowering.stages import Convolve, Pointwise, Stage, Stages
from smidgen.network.network import Graph
from smidgen.network.weights import Tensors


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets by name in one flat array without gaps, and how many numbers it holds."""

    offsets: dict[str, int]
    size: int


def _layout(sizes: Iterable[tuple[str, int]]) -> Layout:
    offsets: dict[str, int] = {}
    end = 0
    for name, size in sizes:
        offsets[name] = end
        end += size
    return Layout(offsets, end)


def trained_layout(graph: Graph) -> Layout:
    """Place the trained tensors in the graph's order."""
    return _layout((name, spec.size) for name, spec in graph.tensors.items() if spec.trainable)


def statistics_layout(graph: Graph) -> Layout:
    """Place the running statistics in the graph's order."""
    return _layout((name, spec.size) for name, spec in graph.tensors.items() if not spec.trainable)


Role = str
"""`weight` and `bias` of a convolution, `scale` and `shift` of a batch norm that stands alone,
`slopes` of a PReLU, `gain` and `shift` of a norm of single images."""


@dataclass(frozen=True, slots=True)
class Folding:
    """What the numbers of an evaluation are called, and where they stand.

    Args:
        names: By stage, told by the value it makes, and role. A convolution that is used twice
            has a name for each use, since another batch norm may be folded into each.
        layout: Where they stand, by name.
    """

    names: dict[tuple[int, Role], str]
    layout: Layout


def folding_of(stages: Stages, graph: Graph) -> Folding:
    """Name and place the numbers of every stage of an evaluation."""
    names: dict[tuple[int, Role], str] = {}
    sizes: dict[str, int] = {}
    for stage in stages.stages:
        for role, (name, size) in _needed(stage, graph).items():
            own = name if name not in sizes else f"{name}.of_value{stage.output + 1}"
            names[stage.output, role] = own
            sizes[own] = size
    return Folding(names, _layout(sizes.items()))


def folded(stages: Stages, folding: Folding, tensors: Tensors) -> Tensors:
    """Return the numbers of an evaluation by name, float64.

    Batch norms become a scale and a shift by their running statistics; where a convolution
    stands right before one they are multiplied into its weights.
    """
    return {
        folding.names[stage.output, role]: np.asarray(array, dtype=np.float64)
        for stage in stages.stages
        for role, array in _arrays(stage, tensors).items()
    }


def flattened(layout: Layout, numbers: Tensors) -> np.ndarray:
    """Return numbers by name as one flat float32 array."""
    flat = np.zeros(layout.size, dtype=np.float32)
    for name, array in numbers.items():
        start = layout.offsets[name]
        flat[start : start + array.size] = array.reshape(-1)
    return flat


def _needed(stage: Stage, graph: Graph) -> dict[Role, tuple[str, int]]:
    """Return name and size of what a stage reads in evaluation, by role."""
    match stage:
        case Convolve():
            spec = graph.tensors[stage.weight]
            bias = stage.bias or f"{stage.weight.removesuffix('weight')}bias"
            return {"weight": (stage.weight, spec.size), "bias": (bias, spec.shape[0])}
        case Pointwise():
            roles: dict[Role, tuple[str, int]] = {}
            if stage.norm is not None:
                channels = stage.node.input_shape[0]
                for role in ("scale", "shift"):
                    roles[role] = (f"{stage.norm.name}.{role}", channels)
            if stage.slopes is not None:
                roles["slopes"] = (stage.slopes, graph.tensors[stage.slopes].size)
            return roles
    return {role: (name, graph.tensors[name].size) for role, name in stage.tensors.items()}


def _arrays(stage: Stage, tensors: Tensors) -> dict[Role, np.ndarray]:
    match stage:
        case Convolve(norm=norm):
            weight = tensors[stage.weight].astype(np.float64)
            bias = np.zeros(len(weight)) if stage.bias is None else tensors[stage.bias]
            if norm is not None:
                scale, shift = _scale_and_shift(norm.name, norm.layer.eps, tensors)
                weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
                bias = bias * scale + shift
            return {"weight": weight, "bias": bias}
        case Pointwise():
            arrays: dict[Role, np.ndarray] = {}
            if stage.norm is not None:
                eps = stage.norm.layer.eps
                arrays["scale"], arrays["shift"] = _scale_and_shift(stage.norm.name, eps, tensors)
            if stage.slopes is not None:
                arrays["slopes"] = tensors[stage.slopes]
            return arrays
    return {role: tensors[name] for role, name in stage.tensors.items()}


def _scale_and_shift(name: str, eps: float, tensors: Tensors) -> tuple[np.ndarray, np.ndarray]:
    mean = tensors[f"{name}.running_mean"].astype(np.float64)
    variance = tensors[f"{name}.running_var"].astype(np.float64)
    scale = 1.0 / np.sqrt(variance + eps)
    if f"{name}.weight" in tensors:
        scale = scale * tensors[f"{name}.weight"]
    shift = -mean * scale
    return scale, shift + tensors[f"{name}.bias"] if f"{name}.bias" in tensors else shift

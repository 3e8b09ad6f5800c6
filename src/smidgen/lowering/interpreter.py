"""Programs run in NumPy: what every printer's code has to compute.

Buffers lie where the memory plan puts them, so that a plan in which two lives overlap gives wrong
numbers here, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from smidgen.lowering.kernels import KERNELS, Machine, Operands
from smidgen.lowering.operands import Call, Gradient, Part, Place
from smidgen.lowering.program import BatchNormalization, EvaluationProgram, TrainingProgram
from smidgen.network.weights import Tensors


@dataclass(frozen=True, slots=True)
class Step:
    """What a training step without its update finds.

    Args:
        loss: Mean over the batch.
        gradients: Of the trained tensors, by name.
        means: Of each batch norm's channels, by its name.
        variances: The same, biased.
        first_not_finite: The operation whose output or gradient first held a number that is not
            finite; "" where all are.
    """

    loss: float
    gradients: Tensors
    means: Tensors
    variances: Tensors
    first_not_finite: str


def evaluate(
    program: EvaluationProgram,
    numbers: Tensors,
    images: np.ndarray,
    dtype: type[np.floating] = np.float64,
) -> np.ndarray:
    """Return the class scores (N, classes).

    Args:
        program: The network's evaluation.
        numbers: By name, as `smidgen.lowering.numbers.folded` gives them.
        images: Float (N, C, H, W), normalized.
        dtype: The type that everything is computed in.
    """
    places = (program.memory.stored, program.memory.scratch[0])
    machine = Machine(
        tensors={name: array.astype(dtype) for name, array in numbers.items()},
        images=images,
        stored=np.full((0, len(images)), np.nan, dtype),
        scratch=np.full((program.memory.scratch_size, len(images)), np.nan, dtype),
    )
    _run(machine, program.part, *places)
    return machine.scores


def train_step(
    program: TrainingProgram,
    tensors: Tensors,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    label_smoothing: float = 0.0,
    dropout: tuple[int, int] = (0, 0),
    dtype: type[np.floating] = np.float64,
) -> Step:
    """Return loss, gradients and the batch's statistics.

    Args:
        program: The network's training.
        tensors: The network's tensors by name.
        images: Float (N, C, H, W), normalized.
        labels: int64 (N,).
        label_smoothing: Share of the target that is spread over all classes.
        dropout: The plan's key and the step within the epoch.
        dtype: The type that everything is computed in.
    """
    machine = Machine(
        tensors={name: array.astype(dtype) for name, array in tensors.items()},
        images=images,
        stored=np.full((program.memory.stored_size, len(images)), np.nan, dtype),
        scratch=np.full((program.memory.scratch_size, len(images)), np.nan, dtype),
        labels=labels,
        label_smoothing=label_smoothing,
        dropout=dropout,
    )
    last, first_not_finite = len(program.forward) - 1, ""
    segments = [*range(last + 1), *reversed(range(last))]
    parts = zip(segments, program.parts.values(), program.memory.scratch, strict=True)
    for number, (segment, part, scratch) in enumerate(parts):
        is_forward = number <= last
        for norm in program.norms:
            if is_forward and norm.segment == segment:
                _find_statistics(machine, norm)
            if not is_forward and norm.segment == segment + 1:
                _find_slopes(machine, norm)
        machine.scratch.fill(np.nan)  # nothing but what is stored goes from part to part
        found = _run(machine, part, program.memory.stored, scratch)
        first_not_finite = first_not_finite or found
    return Step(
        machine.loss,
        machine.gradients,
        {norm.name: machine.coefficients[norm.name, "mean"] for norm in program.norms},
        {norm.name: machine.coefficients[norm.name, "variance"] for norm in program.norms},
        first_not_finite,
    )


def _run(
    machine: Machine, part: Part, stored: Mapping[str, int], scratch: Mapping[str, int]
) -> str:
    """Run a part and say what made the first number in it that is not finite, "" if nothing did.

    The mappings say where its buffers lie.
    """
    machine.stored_at, machine.scratch_at = stored, scratch
    culprit = ""
    for call in part:
        KERNELS[call.kernel].run(Operands(machine, call))
        if not culprit and not _is_finite(machine, call):
            culprit = _what(call)
    return culprit


def _is_finite(machine: Machine, call: Call) -> bool:
    """Tell whether all that a call has just written is finite."""
    if not np.isfinite(machine.loss):
        return False
    for parameter in KERNELS[call.kernel].parameters:
        operand = call.operands.get(parameter.name)
        if parameter.access == "writes" and isinstance(operand, Place):
            made = machine.view(operand)
        elif isinstance(operand, Gradient):
            made = machine.gradients[operand.name]
        else:
            continue
        if not np.isfinite(made).all():
            return False
    return True


def _what(call: Call) -> str:
    """Say in words what a call makes."""
    if not call.layer:
        return {"load_images": "the images", "cross_entropy": "the loss"}.get(call.kernel, "")
    is_backward = call.kernel.endswith(("_backward", "_gradient"))
    return f"the gradient at `{call.layer}`" if is_backward else f"`{call.layer}`"


def _find_statistics(machine: Machine, norm: BatchNormalization) -> None:
    """Find what a batch norm needs on the way forward."""
    count = norm.positions * len(machine.images)
    total, squares = machine.sums[norm.name, "forward"].T
    mean = total / count
    variance = np.maximum(squares / count - mean * mean, 0.0)
    gain = 1.0 if norm.gain is None else machine.tensors[norm.gain]
    shift = 0.0 if norm.shift is None else machine.tensors[norm.shift]
    scale = gain / np.sqrt(variance + norm.eps)
    found = {"mean": mean, "variance": variance, "scale": scale, "shift": shift - mean * scale}
    machine.coefficients |= {(norm.name, kind): array for kind, array in found.items()}


def _find_slopes(machine: Machine, norm: BatchNormalization) -> None:
    """Find what a batch norm needs on the way back, and the gradients of gamma and beta."""
    count = norm.positions * len(machine.images)
    total, product = machine.sums[norm.name, "backward"].T
    mean, variance, scale = (
        machine.coefficients[norm.name, kind] for kind in ("mean", "variance", "scale")
    )
    inverse = 1.0 / np.sqrt(variance + norm.eps)
    k2 = -scale * inverse * inverse * product / count
    found = {"k1": scale, "k2": k2, "k3": -scale * total / count - k2 * mean}
    machine.coefficients |= {(norm.name, kind): array for kind, array in found.items()}
    if norm.gain is not None:
        machine.gradients[norm.gain] = product * inverse
    if norm.shift is not None:
        machine.gradients[norm.shift] = total

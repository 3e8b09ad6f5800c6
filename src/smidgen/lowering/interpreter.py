"""The kernel calls in NumPy: what every printer's code has to compute, and its oracle.

A vector is a row of images here as in the generated C, only that all images of a batch lie side by
side in one block. Buffers lie where the memory plan puts them, so that a plan in which two lives
overlap gives wrong numbers here, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from smidgen.lowering.dropout import keep_mask
from smidgen.lowering.kernels import (
    Activation,
    Area,
    Call,
    Coefficient,
    Finish,
    Gradient,
    Part,
    Place,
    Steps,
    Sums,
    flat_map,
)
from smidgen.lowering.program import BatchNormalization, EvaluationProgram, TrainingProgram
from smidgen.network.shapes import Window
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
    machine = _Machine(
        tensors={name: array.astype(dtype) for name, array in numbers.items()},
        images=images,
        stored=np.full((0, len(images)), np.nan, dtype),
        scratch=np.full((program.memory.scratch_size, len(images)), np.nan, dtype),
    )
    machine.run(program.part, *places)
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
    machine = _Machine(
        tensors={name: array.astype(dtype) for name, array in tensors.items()},
        images=images,
        stored=np.full((program.memory.stored_size, len(images)), np.nan, dtype),
        scratch=np.full((program.memory.scratch_size, len(images)), np.nan, dtype),
        labels=labels,
        label_smoothing=label_smoothing,
        dropout=dropout,
    )
    last = len(program.forward) - 1
    segments = [*range(last + 1), *reversed(range(last))]
    parts = zip(segments, program.parts.values(), program.memory.scratch, strict=True)
    for number, (segment, part, scratch) in enumerate(parts):
        is_forward = number <= last
        for norm in program.norms:
            if is_forward and norm.segment == segment:
                machine.find_statistics(norm)
            if not is_forward and norm.segment == segment + 1:
                machine.find_slopes(norm)
        machine.scratch.fill(np.nan)  # nothing but what is stored goes from part to part
        machine.run(part, program.memory.stored, scratch)
    return Step(
        machine.loss,
        machine.gradients,
        {norm.name: machine.coefficients[norm.name, "mean"] for norm in program.norms},
        {norm.name: machine.coefficients[norm.name, "variance"] for norm in program.norms},
        machine.first_not_finite,
    )


@dataclass(slots=True)
class _Machine:
    """Working memory, (vectors, images), and a method for each kernel."""

    tensors: Tensors
    images: np.ndarray
    stored: np.ndarray
    scratch: np.ndarray
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    label_smoothing: float = 0.0
    dropout: tuple[int, int] = (0, 0)
    gradients: Tensors = field(default_factory=dict)
    coefficients: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    sums: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    totals: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    loss: float = 0.0
    scores: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    first_not_finite: str = ""
    _stored_at: Mapping[str, int] = field(default_factory=dict)
    _scratch_at: Mapping[str, int] = field(default_factory=dict)

    def run(self, part: Part, stored: Mapping[str, int], scratch: Mapping[str, int]) -> None:
        """Run a part; the mappings say where its buffers lie."""
        self._stored_at, self._scratch_at = stored, scratch
        for call in part:
            getattr(self, f"_{call.kernel}")(_Operands(self, call))
            self._look(call)

    def _look(self, call: Call) -> None:
        if self.first_not_finite:
            return
        made = [self.view(place) for place in call.places("writes")]
        made += [self.gradients[o.name] for o in call.operands.values() if isinstance(o, Gradient)]
        if not all(np.isfinite(array).all() for array in made) or not np.isfinite(self.loss):
            self.first_not_finite = _what(call)

    def view(
        self, place: Place, shape: tuple[int, int, int] | None = None, start: int = 0
    ) -> np.ndarray:
        """Return a map as (C, H, W, N), to be read or written.

        Args:
            place: Where it lies.
            shape: Another (C, H, W) than the place's, borders included.
            start: Vectors between the map's first value and the view's.
        """
        name = place.buffer.name
        memory, places = (
            (self.scratch, self._scratch_at)
            if name in self._scratch_at
            else (self.stored, self._stored_at)
        )
        first = places[name] + place.buffer.area.origin + place.offset + start
        size = memory.strides[0]
        steps = (place.area.plane * size, place.area.pitch * size, size, memory.strides[1])
        return as_strided(
            memory[first:], (*(shape or flat_map(place.area.shape)), len(self.images)), steps
        )

    def put_gradient(self, to: Gradient, values: np.ndarray, adds: bool) -> None:
        """Set the gradient of a tensor, or add to it."""
        name = to.name
        values = np.asarray(values).reshape(self.tensors[name].shape)
        self.gradients[name] = self.gradients[name] + values if adds else values

    def put_sums(self, to: Sums, values: np.ndarray) -> None:
        """Keep two sums per channel, (C, 2)."""
        self.sums[to.norm, to.direction] = values

    def find_statistics(self, norm: BatchNormalization) -> None:
        """Find what a batch norm needs on the way forward."""
        count = norm.positions * len(self.images)
        total, squares = self.sums[norm.name, "forward"].T
        mean = total / count
        variance = np.maximum(squares / count - mean * mean, 0.0)
        gain = 1.0 if norm.gain is None else self.tensors[norm.gain]
        shift = 0.0 if norm.shift is None else self.tensors[norm.shift]
        scale = gain / np.sqrt(variance + norm.eps)
        found = {"mean": mean, "variance": variance, "scale": scale, "shift": shift - mean * scale}
        self.coefficients |= {(norm.name, kind): array for kind, array in found.items()}

    def find_slopes(self, norm: BatchNormalization) -> None:
        """Find what a batch norm needs on the way back, and the gradients of gamma and beta."""
        count = norm.positions * len(self.images)
        total, product = self.sums[norm.name, "backward"].T
        mean, variance, scale = (
            self.coefficients[norm.name, kind] for kind in ("mean", "variance", "scale")
        )
        inverse = 1.0 / np.sqrt(variance + norm.eps)
        k2 = -scale * inverse * inverse * product / count
        found = {"k1": scale, "k2": k2, "k3": -scale * total / count - k2 * mean}
        self.coefficients |= {(norm.name, kind): array for kind, array in found.items()}
        if norm.gain is not None:
            self.gradients[norm.gain] = product * inverse
        if norm.shift is not None:
            self.gradients[norm.shift] = total

    def _load_images(self, given: "_Operands") -> None:
        given.write("x", self.images.transpose(1, 2, 3, 0))

    def _clear_border(self, given: "_Operands") -> None:
        place = given.place("x")
        top, left, bottom, right = (given[side] for side in ("top", "left", "bottom", "right"))
        channels, height, width = flat_map(place.area.shape)
        start = -top * place.area.pitch - left
        view = self.view(place, (channels, height + top + bottom, width + left + right), start)
        inside = np.zeros(view.shape[1:3], dtype=bool)
        inside[top : top + height, left : left + width] = True
        view[:, ~inside] = 0.0

    def _windows(self, place: Place, window: Window, out: Area) -> np.ndarray:
        """Return what each output looks at, (C, H, W, rows, columns, N), padding included."""
        pitch = place.area.pitch
        start = -window.before[0] * pitch - window.before[1]
        channels = flat_map(place.area.shape)[0]
        _, height, width = flat_map(out.shape)
        base = self.view(place, (channels, 1, 1), start)
        plane, row, column, image = base.strides
        rows, columns = window.stride[0] * row, window.stride[1] * column
        shape = (channels, height, width, *window.kernel, len(self.images))
        return as_strided(base, shape, (plane, rows, columns, row, column, image))

    def _conv_forward(self, given: "_Operands") -> None:
        finish, groups, y = given.finish, given["groups"], given.place("y")
        windows = self._windows(given.place("x"), given["window"], y.area)
        weight = given.numbers("weight").reshape(
            -1, len(windows) // groups, *given["window"].kernel
        )
        sums = np.concatenate(
            [
                np.einsum("cyxijn,ocij->oyxn", part, own, optimize=True)
                for part, own in zip(
                    np.split(windows, groups), np.split(weight, groups), strict=True
                )
            ]
        )
        if finish.has_bias:
            sums = sums + given.numbers("bias")[:, None, None, None]
        sums = _activated(sums, finish.activation, finish.slope)
        given.write("y", sums)
        if finish.takes_sums:
            self.totals = _two_sums(sums, sums * sums)

    def _conv_input_gradient(self, given: "_Operands") -> None:
        given.write("dx", self._scattered(given, given.place("dx").area), given["add"])

    def _scattered(self, given: "_Operands", area: Area) -> np.ndarray:
        """Return a convolution's input gradient, (C, H, W, N)."""
        window, groups = given["window"], given["groups"]
        dy = given.read("dy")
        channels, height, width = flat_map(area.shape)
        weight = given.numbers("weight").reshape(len(dy), channels // groups, *window.kernel)
        spread = np.concatenate(
            [
                np.einsum("oyxn,ocij->cyxijn", part, own, optimize=True)
                for part, own in zip(np.split(dy, groups), np.split(weight, groups), strict=True)
            ]
        )
        return _gathered(spread, window, (channels, height, width))

    def _conv_input_norm_gradient(self, given: "_Operands") -> None:
        place = given.place("x")
        self._before_pass(given, given.read("x"), self._scattered(given, place.area), adds=False)

    def _conv_weight_gradient(self, given: "_Operands") -> None:
        window, groups, dy = given["window"], given["groups"], given.place("dy")
        windows = self._windows(given.place("x"), window, dy.area)
        parts = zip(np.split(windows, groups), np.split(self.view(dy), groups), strict=True)
        gradient = np.concatenate(
            [np.einsum("cyxijn,oyxn->ocij", part, own, optimize=True) for part, own in parts]
        )
        self.put_gradient(given["weight"], gradient, given["add"])

    def _bias_gradient(self, given: "_Operands") -> None:
        self.put_gradient(given["bias"], given.read("dy").sum((1, 2, 3)), given["add"])

    def _activation_backward(self, given: "_Operands") -> None:
        slopes = np.where(given.read("y") > 0, 1.0, _slope(given["activation"], given["slope"]))
        given.write("dy", given.read("dy") * slopes)

    def _pointwise_forward(self, given: "_Operands") -> None:
        given.write("y", self._passed(given, given.read("x")))

    def _passed(self, given: "_Operands", x: np.ndarray) -> np.ndarray:
        steps = given.steps
        z = self._before_activation(given, x)
        return _activated(z, steps.activation, self._slopes(given)) * self._kept(given, x.shape)

    def _before_activation(self, given: "_Operands", x: np.ndarray) -> np.ndarray:
        if not given.steps.has_norm:
            return x
        return x * given.channels("scale") + given.channels("shift")

    def _slopes(self, given: "_Operands") -> np.ndarray | float:
        return given.channels("slopes") if given.steps.has_slopes else given.steps.slope

    def _kept(self, given: "_Operands", shape: tuple[int, ...]) -> np.ndarray | float:
        """Return what dropout and factor multiply with."""
        steps = given.steps
        if not steps.threshold:
            return steps.factor
        size = int(np.prod(shape[:3]))
        rate = steps.threshold / 65536
        kept = keep_mask(*self.dropout, steps.dropout, (shape[3], size), rate)
        return kept.T.reshape(shape) * steps.factor

    def _pointwise_backward(self, given: "_Operands") -> None:
        self._before_pass(given, given.read("x"), given.read("dy"), given["add"])

    def _before_pass(self, given: "_Operands", x: np.ndarray, dy: np.ndarray, adds: bool) -> None:
        """Write the gradient before a pass, from that behind it."""
        steps = given.steps
        dy = dy.reshape(x.shape) * self._kept(given, x.shape)
        z = self._before_activation(given, x)
        if steps.has_slopes:
            slope_gradient = np.where(z > 0, 0.0, dy * z).sum((1, 2, 3))
            self.put_gradient(given["slope_gradient"], slope_gradient, given["add_slopes"])
        dz = dy * np.where(z > 0, 1.0, _slope(steps.activation, self._slopes(given)))
        given.write("dz", dz, adds)
        if steps.has_norm:
            self.put_sums(given["sums"], _two_sums(dz, dz * (x - given.channels("mean"))))

    def _pointwise_pool_forward(self, given: "_Operands") -> None:
        values = self._passed(given, given.read("x"))
        cells, _ = _cells(values, given["window"], given.place("y").area)
        given.write("y", cells.max((3, 4)))

    def _pointwise_pool_backward(self, given: "_Operands") -> None:
        x, window = given.read("x"), given["window"]
        dy = given.read("dy")
        values = self._passed(given, x)
        self._before_pass(given, x, _to_first_largest(values, dy, window), adds=False)

    def _norm_sums(self, given: "_Operands") -> None:
        x = given.read("x")
        self.put_sums(given["sums"], _two_sums(x, x * x))

    def _fold_sums(self, given: "_Operands") -> None:
        self.put_sums(given["sums"], self.totals[: given["channels"]])

    def _norm_backward(self, given: "_Operands") -> None:
        x, dz = given.read("x"), given.read("dz")
        dx = given.channels("k1") * dz + given.channels("k2") * x + given.channels("k3")
        if given["activation"] != "NO_ACTIVATION":
            dx = dx * np.where(x > 0, 1.0, _slope(given["activation"], given["slope"]))
        given.write("dx", dx, given["add"])

    def _sample_norm_forward(self, given: "_Operands") -> None:
        x = given.read("x")
        mean = x.mean((0, 1, 2))
        deviation = np.sqrt(((x - mean) ** 2).mean((0, 1, 2)))
        gain, shift = given.numbers("gain")[0], given.numbers("shift")[0]
        given.write("y", gain * (x - mean) / (deviation + given["eps"]) + shift)

    def _sample_norm_backward(self, given: "_Operands") -> None:
        x, dy = given.read("x"), given.read("dy")
        centered = x - x.mean((0, 1, 2))
        deviation = np.maximum(np.sqrt((centered**2).mean((0, 1, 2))), 1e-19)
        inverse = 1.0 / (deviation + given["eps"])
        gain = given.numbers("gain")[0]
        product = (dy * centered).sum((0, 1, 2))
        adds = given["add_parameters"]
        self.put_gradient(given["gain_gradient"], (product * inverse).sum(), adds)
        self.put_gradient(given["shift_gradient"], dy.sum(), adds)
        if given["needs_input"]:
            pull = product / x[..., 0].size / deviation * inverse
            dx = gain * inverse * (dy - dy.mean((0, 1, 2)) - pull * centered)
            given.write("dx", dx, given["add"])

    def _max_pool_forward(self, given: "_Operands") -> None:
        cells, _ = _cells(given.read("x"), given["window"], given.place("y").area)
        given.write("y", cells.max((3, 4)))

    def _max_pool_backward(self, given: "_Operands") -> None:
        dx = _to_first_largest(given.read("x"), given.read("dy"), given["window"])
        given.write("dx", dx, given["add"])

    def _average_pool_forward(self, given: "_Operands") -> None:
        area, window = given.place("y").area, given["window"]
        cells, inside = _cells(given.read("x"), window, area)
        given.write("y", np.where(inside, cells, 0.0).sum((3, 4)) / _divisor(given, inside))

    def _average_pool_backward(self, given: "_Operands") -> None:
        window, shape = given["window"], flat_map(given.place("dx").area.shape)
        dy = given.read("dy")
        like = np.zeros((*shape, 1), dy.dtype)
        _, inside = _cells(like, window, given.place("dy").area)
        share = dy / _divisor(given, inside)
        spread = np.where(inside, share[:, :, :, None, None], 0.0)
        given.write("dx", _gathered(spread, window, shape), given["add"])

    def _copy_map(self, given: "_Operands") -> None:
        given.write("y", given.read("x"), given["add"])

    def _cross_entropy(self, given: "_Operands") -> None:
        classes = given["classes"]
        scores = given.read("scores").reshape(classes, -1)
        shifted = scores - scores.max(0)
        logs = shifted - np.log(np.exp(shifted).sum(0))
        target = np.full_like(scores, self.label_smoothing / classes)
        target[self.labels, np.arange(len(self.labels))] += 1.0 - self.label_smoothing
        self.loss = float(-(target * logs).sum(0).mean())
        gradient = (np.exp(logs) - target) / len(self.labels)
        given.write("gradient", gradient.reshape(given.read("gradient").shape))

    def _store_scores(self, given: "_Operands") -> None:
        self.scores = given.read("scores").reshape(given["classes"], -1).T.copy()


@dataclass(frozen=True, slots=True)
class _Operands:
    """A call's operands by name, as values."""

    machine: _Machine
    call: Call

    def __getitem__(self, name: str) -> Any:  # each kernel knows what its operands are
        return self.call.operands[name]

    @property
    def steps(self) -> Steps:
        return self["steps"]

    @property
    def finish(self) -> Finish:
        return self["finish"]

    def place(self, name: str) -> Place:
        return self[name]

    def read(self, name: str) -> np.ndarray:
        return self.machine.view(self[name])

    def write(self, name: str, values: np.ndarray, adds: bool = False) -> None:
        view = self.machine.view(self[name])
        view[...] = view + values if adds else values

    def numbers(self, name: str) -> np.ndarray:
        operand = self[name]
        if isinstance(operand, Coefficient):
            return self.machine.coefficients[operand.norm, operand.kind]
        return self.machine.tensors[operand.name]

    def channels(self, name: str) -> np.ndarray:
        """Return one number per channel, to be multiplied with a map."""
        return self.numbers(name).reshape(-1, 1, 1, 1)


def _what(call: Call) -> str:
    """Say in words what a call makes."""
    if not call.layer:
        return {"load_images": "the images", "cross_entropy": "the loss"}.get(call.kernel, "")
    is_backward = call.kernel.endswith(("_backward", "_gradient"))
    return f"the gradient at `{call.layer}`" if is_backward else f"`{call.layer}`"


def _activated(z: np.ndarray, activation: Activation, slope: np.ndarray | float) -> np.ndarray:
    if activation == "RELU":
        return np.where(z <= 0, 0.0, z)  # NaN stays NaN
    return np.where(z > 0, z, z * slope) if activation == "LEAKY_RELU" else z


def _slope(activation: Activation, slope: np.ndarray | float) -> np.ndarray | float:
    """Return an activation's slope where its input is not positive."""
    return {"NO_ACTIVATION": 1.0, "RELU": 0.0, "LEAKY_RELU": slope}[activation]


def _two_sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the sums of two maps over all but the channels, (C, 2), in double precision."""
    return np.stack([a.sum((1, 2, 3), dtype=np.float64), b.sum((1, 2, 3), dtype=np.float64)], 1)


def _cells(values: np.ndarray, window: Window, out: Area) -> tuple[np.ndarray, np.ndarray]:
    """Return what each output sees, (C, H, W, rows, columns, N), and which cells are inside.

    Cells in the padding are -infinity.
    """
    _, *sizes = flat_map(out.shape)
    sides = [
        (before, max((size - 1) * step + extent - before - given, 0))
        for before, size, step, extent, given in zip(
            window.before, sizes, window.stride, window.kernel, values.shape[1:3], strict=True
        )
    ]
    padding = ((0, 0), *sides, (0, 0))
    inside = np.ones((1, *values.shape[1:3], 1), dtype=bool)

    def windows(padded: np.ndarray) -> np.ndarray:
        seen = sliding_window_view(padded, window.kernel, axis=(1, 2))
        taken = seen[:, :: window.stride[0], :: window.stride[1]][:, : sizes[0], : sizes[1]]
        return np.moveaxis(taken, 3, 5)

    return (
        windows(np.pad(values, padding, constant_values=-np.inf)),
        windows(np.pad(inside, padding, constant_values=False)),
    )


def _gathered(spread: np.ndarray, window: Window, shape: tuple[int, int, int]) -> np.ndarray:
    """Add what each output gives to its cells, (C, H, W, rows, columns, N), into a map."""
    (rows, columns), (step_y, step_x) = window.kernel, window.stride
    _, height, width = spread.shape[:3]
    tall, wide = (height - 1) * step_y, (width - 1) * step_x
    padded = np.zeros(
        (
            shape[0],
            max(tall + rows, window.before[0] + shape[1]),
            max(wide + columns, window.before[1] + shape[2]),
            spread.shape[5],
        ),
        spread.dtype,
    )
    for y in range(rows):
        for x in range(columns):
            padded[:, y : y + tall + 1 : step_y, x : x + wide + 1 : step_x] += spread[:, :, :, y, x]
    top, left = window.before
    return padded[:, top : top + shape[1], left : left + shape[2]]


def _to_first_largest(values: np.ndarray, dy: np.ndarray, window: Window) -> np.ndarray:
    """Return the gradient before a max pool: the first of equal cells gets it, as in PyTorch."""
    cells, _ = _cells(values, window, Area(dy.shape[:3]))
    count = window.kernel[0] * window.kernel[1]
    largest = cells.reshape(*dy.shape[:3], count, -1).argmax(3)
    wins = np.arange(count)[:, None] == largest[:, :, :, None]
    spread = np.where(wins, dy[:, :, :, None], 0.0).reshape(cells.shape)
    return _gathered(spread, window, values.shape[:3])


def _divisor(given: _Operands, inside: np.ndarray) -> np.ndarray | int:
    """Return how many cells each output of an average pool counts."""
    rows, columns = given["window"].kernel
    return rows * columns if given["counts_padding"] else inside.sum((3, 4))

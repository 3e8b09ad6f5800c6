"""The kernels, each declared once: its parameters, and in NumPy what it computes.

The declaration is what calls, printers and the C headers agree on; the NumPy is the oracle of every
printer. A vector is a row of images here as in the generated C, only that all images of a batch lie
side by side in one block.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from smidgen.lowering.dropout import keep_mask
from smidgen.lowering.operands import (
    Activation,
    Area,
    Call,
    Coefficient,
    Finish,
    Gradient,
    Place,
    Steps,
    Sums,
    flat_map,
)
from smidgen.network.shapes import Window
from smidgen.network.weights import Tensors

Kind = Literal["map", "vectors", "numbers", "gradient", "sums", "constant", "own"]
"""A map with its shape or bare vectors; float numbers, or where their gradients go; sums in
double precision; a constant; or something that whoever runs the calls supplies itself."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a kernel; `writes` with the constant `add` means adding."""

    name: str
    kind: Kind
    access: Literal["reads", "writes", ""] = ""


def _reads(name: str, kind: Kind = "map") -> Parameter:
    return Parameter(name, kind, "reads")


def _writes(name: str, kind: Kind = "map") -> Parameter:
    return Parameter(name, kind, "writes")


def _numbers(*names: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, "numbers", "reads") for name in names)


def _constants(*names: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, "constant") for name in names)


def _own(*names: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, "own") for name in names)


_SUMS = _writes("sums", "sums")
_BLOCK = _own("worker", "block")


@dataclass(slots=True)
class Machine:
    """Working memory, (vectors, images), and what kernels find.

    Args:
        tensors: The model's numbers by name.
        images: (N, C, H, W), normalized.
        stored: What goes from part to part.
        scratch: What lives within one.
        labels: int64 (N,).
        label_smoothing: Share of the target that is spread over all classes.
        dropout: The plan's key and the step within the epoch.
        gradients: Of the trained tensors, by name.
        coefficients: What batch norms found, by their names and kinds.
        sums: Two sums per channel, by norm and direction.
        totals: What a convolution's `finish` took.
        loss: Mean over the batch.
        scores: (N, classes).
        stored_at: Where the stored buffers lie.
        scratch_at: Where this part's own buffers lie.
    """

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
    stored_at: Mapping[str, int] = field(default_factory=dict)
    scratch_at: Mapping[str, int] = field(default_factory=dict)

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
            (self.scratch, self.scratch_at)
            if name in self.scratch_at
            else (self.stored, self.stored_at)
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


@dataclass(frozen=True, slots=True)
class Operands:
    """A call's operands by name, as values."""

    machine: Machine
    call: Call

    def __getitem__(self, name: str) -> Any:  # each kernel knows what its operands are
        return self.call.operands[name]

    @property
    def steps(self) -> Steps:
        """The steps of a pass."""
        return self["steps"]

    @property
    def finish(self) -> Finish:
        """What follows a convolution."""
        return self["finish"]

    def place(self, name: str) -> Place:
        """Return where an operand lies."""
        return self[name]

    def read(self, name: str) -> np.ndarray:
        """Return a map, (C, H, W, N)."""
        return self.machine.view(self[name])

    def write(self, name: str, values: np.ndarray, adds: bool = False) -> None:
        """Set a map, or add to it."""
        view = self.machine.view(self[name])
        view[...] = view + values if adds else values

    def numbers(self, name: str) -> np.ndarray:
        """Return a tensor, or the numbers of a norm."""
        operand = self[name]
        if isinstance(operand, Coefficient):
            return self.machine.coefficients[operand.norm, operand.kind]
        return self.machine.tensors[operand.name]

    def channels(self, name: str) -> np.ndarray:
        """Return one number per channel, to be multiplied with a map."""
        return self.numbers(name).reshape(-1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel.

    Args:
        name: That of its C function.
        parameters: In the order of its C function.
        run: Computes it in NumPy.
    """

    name: str
    parameters: tuple[Parameter, ...]
    run: Callable[[Operands], None]


KERNELS: dict[str, Kernel] = {}
"""Every kernel by name."""


def _kernel(*parameters: Parameter) -> Callable[[Callable[[Operands], None]], Kernel]:
    def declare(run: Callable[[Operands], None]) -> Kernel:
        kernel = Kernel(run.__name__, parameters, run)
        KERNELS[kernel.name] = kernel
        return kernel

    return declare


def check_call(call: Call) -> None:
    """Refuse a call that does not fit its kernel.

    Raises:
        TypeError: There is no such kernel, or its operands are others.
    """
    if call.kernel not in KERNELS:
        raise TypeError(f"There is no kernel `{call.kernel}`.")
    wanted = {p.name for p in KERNELS[call.kernel].parameters if p.kind != "own"}
    if wanted != set(call.operands):
        odd = ", ".join(f"`{name}`" for name in sorted(wanted ^ set(call.operands)))
        raise TypeError(f"The kernel `{call.kernel}` and its call differ in {odd}.")


@_kernel(*_BLOCK, _writes("x"))
def load_images(given: Operands) -> None:
    """A block of the batch, changed by the plan and normalized."""
    given.write("x", given.machine.images.transpose(1, 2, 3, 0))


@_kernel(_writes("x"), *_constants("top", "left", "bottom", "right"))
def clear_border(given: Operands) -> None:
    """Zeros around a map, where convolutions read their padding."""
    place = given.place("x")
    top, left, bottom, right = (given[side] for side in ("top", "left", "bottom", "right"))
    channels, height, width = flat_map(place.area.shape)
    start = -top * place.area.pitch - left
    view = given.machine.view(place, (channels, height + top + bottom, width + left + right), start)
    inside = np.zeros(view.shape[1:3], dtype=bool)
    inside[top : top + height, left : left + width] = True
    view[:, ~inside] = 0.0


def _windows(given: Operands, place: Place, window: Window, out: Area) -> np.ndarray:
    """Return what each output looks at, (C, H, W, rows, columns, N), padding included."""
    pitch = place.area.pitch
    start = -window.before[0] * pitch - window.before[1]
    channels = flat_map(place.area.shape)[0]
    _, height, width = flat_map(out.shape)
    base = given.machine.view(place, (channels, 1, 1), start)
    plane, row, column, image = base.strides
    down, right = window.dilation[0] * row, window.dilation[1] * column
    rows, columns = window.stride[0] * row, window.stride[1] * column
    shape = (channels, height, width, *window.kernel, len(given.machine.images))
    return as_strided(base, shape, (plane, rows, columns, down, right, image))


@_kernel(
    _reads("x"),
    *_numbers("weight", "bias"),
    _writes("y"),
    *_constants("window", "groups"),
    *_own("tile"),
    *_constants("finish"),
    *_own("totals", "images"),
)
def conv_forward(given: Operands) -> None:
    """Y = convolution of x, then what `finish` says; a dense layer is one of 1x1 maps."""
    finish, groups, y = given.finish, given["groups"], given.place("y")
    windows = _windows(given, given.place("x"), given["window"], y.area)
    weight = given.numbers("weight").reshape(-1, len(windows) // groups, *given["window"].kernel)
    sums = np.concatenate(
        [
            np.einsum("cyxijn,ocij->oyxn", part, own, optimize=True)
            for part, own in zip(np.split(windows, groups), np.split(weight, groups), strict=True)
        ]
    )
    if finish.has_bias:
        sums = sums + given.numbers("bias")[:, None, None, None]
    sums = _activated(sums, finish.activation, finish.slope)
    given.write("y", sums)
    if finish.takes_sums:
        given.machine.totals = _two_sums(sums, sums * sums)


@_kernel(
    _reads("dy"),
    *_numbers("weight"),
    _writes("dx"),
    *_constants("window", "groups"),
    *_own("tile"),
    *_constants("add"),
)
def conv_input_gradient(given: Operands) -> None:
    """Dx = what dy says about a convolution's input."""
    given.write("dx", _scattered(given, given.place("dx").area), given["add"])


def _scattered(given: Operands, area: Area) -> np.ndarray:
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


@_kernel(
    _reads("dy"),
    *_numbers("weight"),
    _reads("x"),
    _writes("dz", "vectors"),
    *_constants("window", "groups"),
    *_own("tile"),
    *_constants("steps"),
    *_numbers("scale", "shift", "mean"),
    *_own("keys", "totals"),
    _SUMS,
)
def conv_input_norm_gradient(given: Operands) -> None:
    """The same, and on through the pass in front of it: dz, and its two sums."""
    place = given.place("x")
    _before_pass(given, given.read("x"), _scattered(given, place.area), adds=False)


@_kernel(
    _reads("x"),
    _reads("dy"),
    *_constants("window", "groups"),
    *_own("tile"),
    _writes("weight", "gradient"),
    *_constants("add"),
)
def conv_weight_gradient(given: Operands) -> None:
    """The gradient of a convolution's weights."""
    window, groups, dy = given["window"], given["groups"], given.place("dy")
    windows = _windows(given, given.place("x"), window, dy.area)
    parts = zip(np.split(windows, groups), np.split(given.machine.view(dy), groups), strict=True)
    gradient = np.concatenate(
        [np.einsum("cyxijn,oyxn->ocij", part, own, optimize=True) for part, own in parts]
    )
    given.machine.put_gradient(given["weight"], gradient, given["add"])


@_kernel(_reads("dy"), _writes("bias", "gradient"), *_constants("add"))
def bias_gradient(given: Operands) -> None:
    """The gradient of the biases: the sum of each channel."""
    given.machine.put_gradient(given["bias"], given.read("dy").sum((1, 2, 3)), given["add"])


@_kernel(_reads("y"), _writes("dy"), *_constants("activation", "slope"))
def activation_backward(given: Operands) -> None:
    """Dy = the gradient before an activation, told by the sign of what it gave."""
    slopes = np.where(given.read("y") > 0, 1.0, _slope(given["activation"], given["slope"]))
    given.write("dy", given.read("dy") * slopes)


@_kernel(
    _reads("x"),
    _writes("y"),
    *_constants("steps"),
    *_numbers("scale", "shift", "slopes"),
    *_own("keys"),
)
def pointwise_forward(given: Operands) -> None:
    """Y = the steps applied to x, value by value."""
    given.write("y", _passed(given, given.read("x")))


def _passed(given: Operands, x: np.ndarray) -> np.ndarray:
    steps = given.steps
    z = _before_activation(given, x)
    return _activated(z, steps.activation, _slopes(given)) * _kept(given, x.shape)


def _before_activation(given: Operands, x: np.ndarray) -> np.ndarray:
    if not given.steps.has_norm:
        return x
    return x * given.channels("scale") + given.channels("shift")


def _slopes(given: Operands) -> np.ndarray | float:
    return given.channels("slopes") if given.steps.has_slopes else given.steps.slope


def _kept(given: Operands, shape: tuple[int, ...]) -> np.ndarray | float:
    """Return what dropout and factor multiply with."""
    steps = given.steps
    if not steps.threshold:
        return steps.factor
    size = shape[0] if steps.drops_channels else int(np.prod(shape[:3]))
    rate = steps.threshold / 65536
    kept = keep_mask(*given.machine.dropout, steps.dropout, (shape[3], size), rate)
    decided = (shape[0], 1, 1) if steps.drops_channels else shape[:3]
    return kept.T.reshape(*decided, shape[3]) * steps.factor


@_kernel(
    _reads("x"),
    _reads("dy"),
    _writes("dz"),
    *_constants("steps"),
    *_numbers("scale", "shift", "mean", "slopes"),
    *_own("keys"),
    _SUMS,
    _writes("slope_gradient", "gradient"),
    *_constants("add_slopes", "add"),
)
def pointwise_backward(given: Operands) -> None:
    """Dz = the gradient before the steps; with a norm, between it and what follows."""
    _before_pass(given, given.read("x"), given.read("dy"), given["add"])


def _before_pass(given: Operands, x: np.ndarray, dy: np.ndarray, adds: bool) -> None:
    """Write the gradient before a pass, from that behind it."""
    steps = given.steps
    dy = dy.reshape(x.shape) * _kept(given, x.shape)
    z = _before_activation(given, x)
    if steps.has_slopes:
        slope_gradient = np.where(z > 0, 0.0, dy * z).sum((1, 2, 3))
        if steps.shares_slope:
            slope_gradient = slope_gradient.sum()
        given.machine.put_gradient(given["slope_gradient"], slope_gradient, given["add_slopes"])
    dz = dy * np.where(z > 0, 1.0, _slope(steps.activation, _slopes(given)))
    given.write("dz", dz, adds)
    if steps.has_norm:
        given.machine.put_sums(given["sums"], _two_sums(dz, dz * (x - given.channels("mean"))))


@_kernel(
    _reads("x"),
    _writes("y"),
    *_constants("steps", "window"),
    *_numbers("scale", "shift", "slopes"),
    *_own("keys"),
)
def pointwise_pool_forward(given: Operands) -> None:
    """Y = the largest of each window after the steps."""
    values = _passed(given, given.read("x"))
    cells, _ = _cells(values, given["window"], given.place("y").area)
    given.write("y", cells.max((3, 4)))


@_kernel(
    _reads("x"),
    _reads("dy"),
    _writes("dz"),
    *_constants("steps", "window"),
    *_numbers("scale", "shift", "mean", "slopes"),
    *_own("keys"),
    _SUMS,
    _writes("slope_gradient", "gradient"),
    *_constants("add_slopes"),
)
def pointwise_pool_backward(given: Operands) -> None:
    """Dz as in `pointwise_backward`, from the gradient behind the pool."""
    x, window = given.read("x"), given["window"]
    dy = given.read("dy")
    values = _passed(given, x)
    _before_pass(given, x, _to_first_largest(values, dy, window), adds=False)


@_kernel(_reads("x"), *_own("images"), _SUMS)
def norm_sums(given: Operands) -> None:
    """The sums of x and x * x, of values that no convolution made."""
    x = given.read("x")
    given.machine.put_sums(given["sums"], _two_sums(x, x * x))


@_kernel(*_own("totals"), *_constants("channels"), _SUMS)
def fold_sums(given: Operands) -> None:
    """The same sums from what a convolution took while it stored its values."""
    given.machine.put_sums(given["sums"], given.machine.totals[: given["channels"]])


@_kernel(
    _reads("x"),
    _reads("dz"),
    _writes("dx"),
    *_numbers("k1", "k2", "k3"),
    *_constants("activation", "slope"),
    *_own("images"),
    *_constants("add"),
)
def norm_backward(given: Operands) -> None:
    """Dx = k1 * dz + k2 * x + k3, and before the activation that gave x."""
    x, dz = given.read("x"), given.read("dz")
    dx = given.channels("k1") * dz + given.channels("k2") * x + given.channels("k3")
    if given["activation"] != "NO_ACTIVATION":
        dx = dx * np.where(x > 0, 1.0, _slope(given["activation"], given["slope"]))
    given.write("dx", dx, given["add"])


@_kernel(
    _reads("x"),
    _writes("y"),
    *_numbers("gain", "shift"),
    *_constants("eps"),
)
def sample_norm_forward(given: Operands) -> None:
    """Y = gain * (x - mean) / (deviation + eps) + shift over all values of an image."""
    x = given.read("x")
    mean = x.mean((0, 1, 2))
    deviation = np.sqrt(((x - mean) ** 2).mean((0, 1, 2)))
    gain, shift = given.numbers("gain")[0], given.numbers("shift")[0]
    given.write("y", gain * (x - mean) / (deviation + given["eps"]) + shift)


@_kernel(
    _reads("x"),
    _reads("dy"),
    _writes("dx"),
    *_numbers("gain"),
    *_constants("eps"),
    _writes("gain_gradient", "gradient"),
    _writes("shift_gradient", "gradient"),
    *_constants("needs_input", "add_parameters", "add"),
)
def sample_norm_backward(given: Operands) -> None:
    """The gradients of input, gain and shift."""
    x, dy = given.read("x"), given.read("dy")
    centered = x - x.mean((0, 1, 2))
    deviation = np.maximum(np.sqrt((centered**2).mean((0, 1, 2))), 1e-19)
    inverse = 1.0 / (deviation + given["eps"])
    gain = given.numbers("gain")[0]
    product = (dy * centered).sum((0, 1, 2))
    adds = given["add_parameters"]
    given.machine.put_gradient(given["gain_gradient"], (product * inverse).sum(), adds)
    given.machine.put_gradient(given["shift_gradient"], dy.sum(), adds)
    if given["needs_input"]:
        pull = product / x[..., 0].size / deviation * inverse
        dx = gain * inverse * (dy - dy.mean((0, 1, 2)) - pull * centered)
        given.write("dx", dx, given["add"])


@_kernel(_reads("x"), _writes("y"), *_numbers("gain", "shift"), *_constants("groups", "eps"))
def group_norm_forward(given: Operands) -> None:
    """Y = gain * (x - mean) / sqrt(variance + eps) + shift over groups of an image's channels."""
    scaled, _ = _standardized(given)
    gain = 1.0 if given["gain"] is None else given.channels("gain")
    shift = 0.0 if given["shift"] is None else given.channels("shift")
    given.write("y", gain * scaled + shift)


@_kernel(
    _reads("x"),
    _reads("dy"),
    _writes("dx"),
    *_numbers("gain"),
    *_constants("groups", "eps"),
    _writes("gain_gradient", "gradient"),
    _writes("shift_gradient", "gradient"),
    *_constants("needs_input", "add_parameters", "add"),
)
def group_norm_backward(given: Operands) -> None:
    """The gradients of input, gain and shift."""
    dy = given.read("dy")
    scaled, inverse = _standardized(given)
    if given["gain"] is not None:
        adds = given["add_parameters"]
        given.machine.put_gradient(given["gain_gradient"], (dy * scaled).sum((1, 2, 3)), adds)
        given.machine.put_gradient(given["shift_gradient"], dy.sum((1, 2, 3)), adds)
        dy = dy * given.channels("gain")
    if given["needs_input"]:
        grouped = (given["groups"], -1, *dy.shape[1:])
        g, z = dy.reshape(grouped), scaled.reshape(grouped)
        means = g.mean((1, 2, 3), keepdims=True), (g * z).mean((1, 2, 3), keepdims=True)
        given.write("dx", (inverse * (g - means[0] - z * means[1])).reshape(dy.shape), given["add"])


def _standardized(given: Operands) -> tuple[np.ndarray, np.ndarray]:
    """Return (x - mean) / deviation, (C, H, W, N), and 1 / deviation, (groups, 1, 1, 1, N)."""
    x = given.read("x")
    grouped = x.reshape(given["groups"], -1, *x.shape[1:])
    centered = grouped - grouped.mean((1, 2, 3), keepdims=True)
    inverse = 1.0 / np.sqrt((centered**2).mean((1, 2, 3), keepdims=True) + given["eps"])
    return (centered * inverse).reshape(x.shape), inverse


@_kernel(_reads("x"), _writes("y"), *_constants("window"))
def max_pool_forward(given: Operands) -> None:
    """Y = the largest of each window; padding never wins."""
    cells, _ = _cells(given.read("x"), given["window"], given.place("y").area)
    given.write("y", cells.max((3, 4)))


@_kernel(
    _reads("x"),
    _reads("dy"),
    _writes("dx"),
    *_constants("window", "add"),
)
def max_pool_backward(given: Operands) -> None:
    """dx: the first of equal cells gets the gradient."""
    dx = _to_first_largest(given.read("x"), given.read("dy"), given["window"])
    given.write("dx", dx, given["add"])


@_kernel(_reads("x"), _writes("y"), *_constants("window", "counts_padding"))
def average_pool_forward(given: Operands) -> None:
    """Y = the mean of each window; padded cells count as zeros, or not at all."""
    area, window = given.place("y").area, given["window"]
    cells, inside = _cells(given.read("x"), window, area)
    given.write("y", np.where(inside, cells, 0.0).sum((3, 4)) / _divisor(given, inside))


@_kernel(
    _reads("dy"),
    _writes("dx"),
    *_constants("window", "counts_padding", "add"),
)
def average_pool_backward(given: Operands) -> None:
    """dx: each cell gets its share."""
    window, shape = given["window"], flat_map(given.place("dx").area.shape)
    dy = given.read("dy")
    like = np.zeros((*shape, 1), dy.dtype)
    _, inside = _cells(like, window, given.place("dy").area)
    share = dy / _divisor(given, inside)
    spread = np.where(inside, share[:, :, :, None, None], 0.0)
    given.write("dx", _gathered(spread, window, shape), given["add"])


@_kernel(_reads("x"), _writes("y"), *_constants("add"))
def copy_map(given: Operands) -> None:
    """Y = x, value by value: concatenation, sums, and their gradients."""
    given.write("y", given.read("x"), given["add"])


@_kernel(
    *_BLOCK,
    _reads("scores", "vectors"),
    _writes("gradient", "vectors"),
    *_constants("classes"),
)
def cross_entropy(given: Operands) -> None:
    """The loss with label smoothing, and d loss / d scores of the batch's mean."""
    classes = given["classes"]
    scores = given.read("scores").reshape(classes, -1)
    shifted = scores - scores.max(0)
    logs = shifted - np.log(np.exp(shifted).sum(0))
    target = np.full_like(scores, given.machine.label_smoothing / classes)
    labels = given.machine.labels
    target[labels, np.arange(len(labels))] += 1.0 - given.machine.label_smoothing
    given.machine.loss = float(-(target * logs).sum(0).mean())
    gradient = (np.exp(logs) - target) / len(labels)
    given.write("gradient", gradient.reshape(given.read("gradient").shape))


@_kernel(*_BLOCK, _reads("scores", "vectors"), *_constants("classes"))
def store_scores(given: Operands) -> None:
    """The scores of a block's images as rows of classes."""
    given.machine.scores = given.read("scores").reshape(given["classes"], -1).T.copy()


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
    (rows, columns), (step_y, step_x) = window.extent, window.stride
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
    for i, y in enumerate(range(0, rows, window.dilation[0])):
        for j, x in enumerate(range(0, columns, window.dilation[1])):
            padded[:, y : y + tall + 1 : step_y, x : x + wide + 1 : step_x] += spread[:, :, :, i, j]
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


def _divisor(given: Operands, inside: np.ndarray) -> np.ndarray | int:
    """Return how many cells each output of an average pool counts."""
    rows, columns = given["window"].kernel
    return rows * columns if given["counts_padding"] else inside.sum((3, 4))

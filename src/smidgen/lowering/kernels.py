"""The kernels, declared once, and calls of them: what each reads, writes and is told.

A call gives each parameter of its kernel an operand: a place in working memory, numbers of the
model, or a constant. Printers turn calls into C and the interpreter runs them in NumPy; nothing
here knows a language, or how many images stand side by side.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from smidgen.network.shapes import Shape, Window, num_elements

Halo = tuple[int, int, int, int]
"""Rows or columns of zeros above, left, below and right of a map."""
Activation = Literal["NO_ACTIVATION", "RELU", "LEAKY_RELU"]


def flat_map(shape: Shape) -> tuple[int, int, int]:
    """Return (channels, height, width) of a shape; flat features are maps of one pixel."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (num_elements(shape), 1, 1)


@dataclass(frozen=True, slots=True)
class Area:
    """A map in memory: its shape and the border around it; a value is one vector of images."""

    shape: Shape
    halo: Halo = (0, 0, 0, 0)

    @property
    def pitch(self) -> int:
        """Vectors from row to row."""
        return flat_map(self.shape)[2] + self.halo[1] + self.halo[3]

    @property
    def plane(self) -> int:
        """Vectors from channel to channel."""
        return (flat_map(self.shape)[1] + self.halo[0] + self.halo[2]) * self.pitch

    @property
    def size(self) -> int:
        """Vectors in all, border included."""
        return flat_map(self.shape)[0] * self.plane

    @property
    def origin(self) -> int:
        """Where the first value stands, behind the border."""
        return self.halo[0] * self.pitch + self.halo[1]

    def as_row(self) -> "Area":
        """Return the same memory as maps of one row; only without a border."""
        channels, height, width = flat_map(self.shape)
        return Area((channels, 1, height * width))


@dataclass(frozen=True, slots=True)
class Buffer:
    """One piece of working memory of a block of images.

    Args:
        name: Unique, such as `value3` or `gradient3`.
        area: The map that it holds.
        is_value: Whether it is a value of the forward pass, which can be computed again.
    """

    name: str
    area: Area
    is_value: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A map in a buffer.

    Args:
        buffer: Where it lies.
        area: How the call sees it: the buffer's own map, or the same memory in another shape.
        offset: Vectors between the buffer's first value and the map's.
    """

    buffer: Buffer
    area: Area
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """Numbers of the model, trained or folded, by full name such as `conv1.weight`."""

    name: str


@dataclass(frozen=True, slots=True)
class Gradient:
    """Where the gradient of a trained tensor goes."""

    name: str


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One number per channel that a batch norm finds in the batch.

    Args:
        norm: The norm's name.
        kind: Forward y = scale * x + shift; backward k1 * dz + k2 * x + k3.
    """

    norm: str
    kind: Literal["mean", "scale", "shift", "k1", "k2", "k3"]


@dataclass(frozen=True, slots=True)
class Sums:
    """Two sums per channel of a norm over a block of images, in double precision.

    Args:
        norm: The norm's name.
        direction: Forward of x and x * x, backward of dz and dz * (x - mean).
    """

    norm: str
    direction: Literal["forward", "backward"]


@dataclass(frozen=True, slots=True)
class Finish:
    """What happens to a convolution's sums before they are stored.

    `takes_sums`: whether their sum and sum of squares are taken for the batch norm behind it.
    """

    has_bias: bool
    activation: Activation
    takes_sums: bool
    slope: float


@dataclass(frozen=True, slots=True)
class Steps:
    """y = factor * keep * activation(scale * x + shift), each step only where there is one.

    Args:
        has_norm: Whether there are scale and shift.
        activation: What follows them.
        has_slopes: Whether a leaky ReLU's slopes are learned, one per channel.
        slope: The slope where they are not.
        factor: What is multiplied last.
        threshold: 16 bits below this drop a value (see `smidgen.lowering.dropout`); 0: none.
        dropout: The layer's number among dropouts.
    """

    has_norm: bool
    activation: Activation
    has_slopes: bool
    slope: float
    factor: float
    threshold: int
    dropout: int


Constant = bool | int | float | str | Window | Finish | Steps
Operand = Place | Tensor | Gradient | Coefficient | Sums | Constant | None

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

KERNELS: Mapping[str, tuple[Parameter, ...]] = {
    "load_images": (*_BLOCK, _writes("x")),
    "clear_border": (_writes("x"), *_constants("top", "left", "bottom", "right")),
    "conv_forward": (
        _reads("x"),
        *_numbers("weight", "bias"),
        _writes("y"),
        *_constants("window", "groups"),
        *_own("tile"),
        *_constants("finish"),
        *_own("totals", "images"),
    ),
    "conv_input_gradient": (
        _reads("dy"),
        *_numbers("weight"),
        _writes("dx"),
        *_constants("window", "groups"),
        *_own("tile"),
        *_constants("add"),
    ),
    "conv_input_norm_gradient": (
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
    ),
    "conv_weight_gradient": (
        _reads("x"),
        _reads("dy"),
        *_constants("window", "groups"),
        *_own("tile"),
        _writes("weight", "gradient"),
        *_constants("add"),
    ),
    "bias_gradient": (_reads("dy"), _writes("bias", "gradient"), *_constants("add")),
    "activation_backward": (_reads("y"), _writes("dy"), *_constants("activation", "slope")),
    "pointwise_forward": (
        _reads("x"),
        _writes("y"),
        *_constants("steps"),
        *_numbers("scale", "shift", "slopes"),
        *_own("keys"),
    ),
    "pointwise_backward": (
        _reads("x"),
        _reads("dy"),
        _writes("dz"),
        *_constants("steps"),
        *_numbers("scale", "shift", "mean", "slopes"),
        *_own("keys"),
        _SUMS,
        _writes("slope_gradient", "gradient"),
        *_constants("add_slopes", "add"),
    ),
    "pointwise_pool_forward": (
        _reads("x"),
        _writes("y"),
        *_constants("steps", "window"),
        *_numbers("scale", "shift", "slopes"),
        *_own("keys"),
    ),
    "pointwise_pool_backward": (
        _reads("x"),
        _reads("dy"),
        _writes("dz"),
        *_constants("steps", "window"),
        *_numbers("scale", "shift", "mean", "slopes"),
        *_own("keys"),
        _SUMS,
        _writes("slope_gradient", "gradient"),
        *_constants("add_slopes"),
    ),
    "norm_sums": (_reads("x"), *_own("images"), _SUMS),
    "fold_sums": (*_own("totals"), *_constants("channels"), _SUMS),
    "norm_backward": (
        _reads("x"),
        _reads("dz"),
        _writes("dx"),
        *_numbers("k1", "k2", "k3"),
        *_constants("activation", "slope"),
        *_own("images"),
        *_constants("add"),
    ),
    "sample_norm_forward": (
        _reads("x"),
        _writes("y"),
        *_numbers("gain", "shift"),
        *_constants("eps"),
    ),
    "sample_norm_backward": (
        _reads("x"),
        _reads("dy"),
        _writes("dx"),
        *_numbers("gain"),
        *_constants("eps"),
        _writes("gain_gradient", "gradient"),
        _writes("shift_gradient", "gradient"),
        *_constants("needs_input", "add_parameters", "add"),
    ),
    "max_pool_forward": (_reads("x"), _writes("y"), *_constants("window")),
    "max_pool_backward": (
        _reads("x"),
        _reads("dy"),
        _writes("dx"),
        *_constants("window", "add"),
    ),
    "average_pool_forward": (_reads("x"), _writes("y"), *_constants("window", "counts_padding")),
    "average_pool_backward": (
        _reads("dy"),
        _writes("dx"),
        *_constants("window", "counts_padding", "add"),
    ),
    "copy_map": (_reads("x"), _writes("y"), *_constants("add")),
    "cross_entropy": (
        *_BLOCK,
        _reads("scores", "vectors"),
        _writes("gradient", "vectors"),
        *_constants("classes"),
    ),
    "store_scores": (*_BLOCK, _reads("scores", "vectors"), *_constants("classes")),
}
"""Every kernel's parameters, in the order of its C function."""


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel call.

    Args:
        kernel: Its name in `KERNELS`.
        operands: One for each parameter, but for what is its runner's own.
        layer: Which operation it belongs to, for comments and the profile.
        kind: Which kind of work it is, for the profile.
        num_macs: Multiply-accumulates for one image.

    Raises:
        TypeError: There is no such kernel, or its operands are others.
    """

    kernel: str
    operands: Mapping[str, Operand]
    layer: str = ""
    kind: str = "other"
    num_macs: int = 0

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise TypeError(f"There is no kernel `{self.kernel}`.")
        wanted = {p.name for p in KERNELS[self.kernel] if p.kind != "own"}
        if wanted != set(self.operands):
            odd = ", ".join(f"`{name}`" for name in sorted(wanted ^ set(self.operands)))
            raise TypeError(f"The kernel `{self.kernel}` and its call differ in {odd}.")

    @property
    def buffers(self) -> list[Buffer]:
        """What it reads or writes."""
        return [place.buffer for place in self.places()]

    def places(self, access: Literal["reads", "writes", ""] = "") -> Iterator[Place]:
        """Go through the places that it reads or writes, or through all of them.

        A place that is added to is read, too.
        """
        adds = bool(self.operands.get("add"))
        for parameter in KERNELS[self.kernel]:
            operand = self.operands.get(parameter.name)
            if not isinstance(operand, Place):
                continue
            is_added_to = adds and access == "reads"
            if access in ("", parameter.access) or is_added_to:
                yield operand


Part = list[Call]
"""What is done for one block of images between two barriers."""

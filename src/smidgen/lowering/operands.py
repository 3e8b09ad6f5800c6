"""What a kernel is called with: places in working memory, numbers of the model, constants.

Printers turn calls into C and the interpreter runs them in NumPy; nothing here knows a language, or
how many images stand side by side.
"""

from collections.abc import Mapping
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
        shares_slope: Whether one of them is for all channels.
        slope: The slope where they are not.
        factor: What is multiplied last.
        threshold: 16 bits below this drop a value (see `smidgen.lowering.dropout`); 0: none.
        drops_channels: Whether a channel's values are dropped together.
        dropout: The layer's number among dropouts.
    """

    has_norm: bool
    activation: Activation
    has_slopes: bool
    shares_slope: bool
    slope: float
    factor: float
    threshold: int
    drops_channels: bool
    dropout: int


Constant = bool | int | float | str | Window | Finish | Steps
Operand = Place | Tensor | Gradient | Coefficient | Sums | Constant | None


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel call.

    Args:
        kernel: Its name in `smidgen.lowering.kernels.KERNELS`.
        operands: One for each parameter, but for what is its runner's own.
        layer: Which operation it belongs to, for comments and the profile.
        kind: Which kind of work it is, for the profile.
        num_macs: Multiply-accumulates for one image.
    """

    kernel: str
    operands: Mapping[str, Operand]
    layer: str = ""
    kind: str = "other"
    num_macs: int = 0

    @property
    def buffers(self) -> list[Buffer]:
        """What it reads or writes."""
        return [place.buffer for place in self.operands.values() if isinstance(place, Place)]


Part = list[Call]
"""What is done for one block of images between two barriers."""

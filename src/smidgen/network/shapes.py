"""Shapes, windows and tensor declarations: the vocabulary in which layers answer.

A shape is (channels, height, width) for a map and (features,) after `Flatten`; the batch is
never part of it.
"""

from dataclasses import dataclass
from math import prod
from typing import Annotated, Literal

from pydantic import Field

from smidgen.errors import NetworkError

Shape = tuple[int, ...]
Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Size = Positive | tuple[Positive, Positive]
"""One number for a square, or (height, width)."""
Padding = NonNegative | tuple[NonNegative, NonNegative] | Literal["same"]
"""Cells added on each side, (rows, columns), or "same": as many as keep ceil(size / stride)."""

MAP = 3
"""Number of dimensions of a map: channels, height, width."""

TensorRole = Literal["weight", "bias", "gain", "shift", "slope", "running_mean", "running_var"]
"""What an array is for: `weight` and `bias` of a linear map, `gain` and `shift` of a norm, `slope`
of an activation, and a norm's running statistics, which are not learned."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One array that a layer owns.

    Args:
        name: Short name within the layer, such as `weight`.
        shape: Its dimensions, in PyTorch's order.
        role: What it is for, whatever its name.
        fan_in: Inputs that one output sums over, by PyTorch's rule.
        keras_fans: Inputs and outputs by Keras' rule, for weights drawn after Glorot.
        fill: The constant it starts from, or None if it is drawn at random.
    """

    name: str
    shape: Shape
    role: TensorRole
    fan_in: int = 0
    keras_fans: tuple[int, int] = (0, 0)
    fill: float | None = None

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def trainable(self) -> bool:
        """Whether it is learned; if not it is a buffer (running statistics)."""
        return self.role not in ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Window:
    """How far one output looks: kernel, stride and padding per axis (rows, columns).

    `before` and `after` are the cells added above/left and below/right; of `dilation` cells the
    kernel reads the first.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns from the first cell that the kernel reads to the last."""
        rows, columns = ((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        return rows, columns

    def output_size(self, shape: Shape) -> tuple[int, int]:
        """Return (height, width) of the output for an input of (channels, height, width)."""
        sizes = []
        for axis in range(2):
            padded = shape[1 + axis] + self.before[axis] + self.after[axis]
            if padded < self.extent[axis]:
                raise NetworkError(
                    f"its {show_shape(self.extent)} window does not fit into the input "
                    f"{show_shape(shape)}; use a smaller kernel, padding, or pool less before it"
                )
            sizes.append((padded - self.extent[axis]) // self.stride[axis] + 1)
        return sizes[0], sizes[1]


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) of a size given as one number or two."""
    return (size, size) if isinstance(size, int) else size


def window_of(
    kernel_size: Size,
    stride: int | tuple[int, int],
    padding: Padding,
    shape: Shape,
    dilation: int = 1,
) -> Window:
    """Resolve kernel, stride, padding and dilation for an input of this shape."""
    kernel, steps, apart = pair(kernel_size), pair(stride), pair(dilation)
    if padding != "same":
        sides = pair(padding)
        return Window(kernel, steps, sides, sides, apart)
    extents = Window(kernel, steps, (0, 0), (0, 0), apart).extent
    totals = [
        max((-(-size // step) - 1) * step + extent - size, 0)
        for size, step, extent in zip(shape[1:], steps, extents, strict=True)
    ]
    before = (totals[0] // 2, totals[1] // 2)
    after = (totals[0] - before[0], totals[1] - before[1])
    return Window(kernel, steps, before, after, apart)


def whole_map(shape: Shape) -> Window:
    """Return the window that sees a whole map once."""
    size = (shape[1], shape[2])
    return Window(size, size, (0, 0), (0, 0))


def num_elements(shape: Shape) -> int:
    """Return how many values a shape holds."""
    return prod(shape)


def show_shape(shape: Shape) -> str:
    """Return a shape as people write it: 16x11x11."""
    return "x".join(str(size) for size in shape)


def show_sides(size: Size) -> str:
    """Return a kernel's sides for a drawing: 3×3."""
    return "×".join(str(side) for side in pair(size))


def need_map(shape: Shape) -> None:
    """Raise NetworkError unless the shape is a map."""
    if len(shape) != MAP:
        raise NetworkError(
            f"it needs a map (channels x height x width), not flat features of {show_shape(shape)}"
        )


def with_bias(weight: TensorSpec, outputs: int, bias: bool) -> tuple[TensorSpec, ...]:
    """Return the weight alone, or with its bias (one per output; same fan-in)."""
    return (weight, TensorSpec("bias", (outputs,), "bias", weight.fan_in)) if bias else (weight,)

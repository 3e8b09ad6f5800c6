"""Stages: the few things that the C kernels can do, and the values between them."""

from dataclasses import dataclass, field
from typing import Literal, cast

from smidgen.network import layers as L
from smidgen.network.network import INPUT, Node
from smidgen.network.shapes import Shape, Window, num_elements

Halo = tuple[int, int, int, int]
"""Rows or columns of zeros above, left, below and right of a map."""
Activation = Literal["NO_ACTIVATION", "RELU", "LEAKY_RELU"]
NO_WINDOW = Window((1, 1), (1, 1), (0, 0), (0, 0))


@dataclass(frozen=True, slots=True)
class Normalization:
    """A batch norm: its node's name, where its channels start among all, and its layer."""

    name: str
    first: int
    layer: L.BatchNorm


@dataclass(frozen=True, slots=True)
class Stage:
    """What one kernel call does: reads the values `inputs`, makes the value `output`."""

    inputs: tuple[int, ...]
    output: int
    node: Node

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the trainable tensors it uses."""
        return ()


@dataclass(frozen=True, slots=True)
class Convolve(Stage):
    """A convolution or dense layer, its bias, and the activation right behind it.

    In evaluation `norm` is the batch norm that is folded into weights and bias.
    """

    weight: str
    bias: str | None
    window: Window = NO_WINDOW
    groups: int = 1
    activation: Activation = "NO_ACTIVATION"
    slope: float = 0.0
    norm: Normalization | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Weight and bias."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Pointwise(Stage):
    """y = factor * keep * activation(norm(x)), each step only where the network has it.

    `rank` is that of the last step taken in; `dropout` is the layer's number among dropouts.
    `pool` is the max pool right behind a norm, whose large input then is never written.
    """

    rank: int
    norm: Normalization | None = None
    activation: Activation = "NO_ACTIVATION"
    slope: float = 0.0
    slopes: str | None = None
    dropout: int = 0
    threshold: int = 0
    factor: float = 1.0
    pool: Window | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Slopes, gamma and beta, those that there are."""
        names = () if self.slopes is None else (self.slopes,)
        if self.norm is not None:
            names += (f"{self.norm.name}.weight",) if self.norm.layer.scale else ()
            names += (f"{self.norm.name}.bias",) if self.norm.layer.shift else ()
        return names

    @property
    def needs_input(self) -> bool:
        """Whether the backward pass reads what the forward pass read."""
        return self.norm is not None or self.activation != "NO_ACTIVATION"


@dataclass(frozen=True, slots=True)
class Pool(Stage):
    """The largest value or the mean of each window; global pools see the whole map."""

    kind: Literal["max", "average"]
    window: Window
    counts_padding: bool = True


@dataclass(frozen=True, slots=True)
class Join(Stage):
    """Maps side by side as channels, or their sum."""

    kind: Literal["concat", "add"]


@dataclass(frozen=True, slots=True)
class NormalizeImage(Stage):
    """`SampleNorm`: each image over all its values."""

    eps: float

    @property
    def parameters(self) -> tuple[str, ...]:
        """Gain and bias."""
        return (f"{self.node.name}.weight", f"{self.node.name}.bias")


@dataclass(slots=True)
class Stages:
    """A network's stages and the shapes of the values between them; value -1 is the input.

    `output` is the value that holds the class scores, and `norms` are numbered by channel.
    """

    stages: list[Stage] = field(default_factory=list)
    shapes: dict[int, Shape] = field(default_factory=dict)
    output: int = INPUT
    norms: list[Normalization] = field(default_factory=list)
    norm_channels: int = 0

    def readers(self, value: int) -> list[Stage]:
        """Return the stages that read a value."""
        return [stage for stage in self.stages if value in stage.inputs]

    def maker(self, value: int) -> Stage | None:
        """Return the stage that makes a value, or None for the input."""
        return next((stage for stage in self.stages if stage.output == value), None)

    def halo(self, value: int) -> Halo:
        """Return the border that the value's readers want around it."""
        sides = (0, 0, 0, 0)
        for stage in self.readers(value):
            if isinstance(stage, Convolve):
                wanted = (*stage.window.before, *stage.window.after)
                sides = tuple(max(a, b) for a, b in zip(sides, wanted, strict=True))
        return cast(Halo, sides)


def flat_map(shape: Shape) -> tuple[int, int, int]:
    """Return (channels, height, width) of a shape; flat features are maps of one pixel."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (num_elements(shape), 1, 1)

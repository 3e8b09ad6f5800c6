"""Layers made of layers: branches, residual sums, shared blocks, and layers that never run."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from smidgen.errors import NetworkError
from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    LayerBase,
    LeakyReLU,
    MaxPool,
    Multiply,
    PReLU,
    ReLU,
    SampleNorm,
    SeparableConv,
)
from smidgen.network.shapes import NonNegative, Positive
from smidgen.values import complete, value


@value(NetworkError)
class Branches(LayerBase):
    """Parallel paths from one input, concatenated over channels in the order given.

    An empty path passes its input on.
    """

    label = "concat"
    branches: Annotated[tuple[tuple["Layer", ...], ...], Field(min_length=2)]
    kind: Literal["branches"] = field(default="branches", kw_only=True, repr=False)


@value(NetworkError)
class Residual(LayerBase):
    """The sum of a body and a shortcut; an empty shortcut passes the input on.

    Source: He et al., Deep Residual Learning, 2015.
    """

    label = "add"
    body: Annotated[tuple["Layer", ...], Field(min_length=1)]
    shortcut: tuple["Layer", ...] = ()
    kind: Literal["residual"] = field(default="residual", kw_only=True, repr=False)


@value(NetworkError)
class Repeat(LayerBase):
    """A block applied several times with the same weights; each time with norms of its own.

    Source: ruslangrimov, mnist-minimal-model, 2017.
    """

    label = "repeat"
    block: Annotated[tuple["Layer", ...], Field(min_length=1)]
    times: Positive
    kind: Literal["repeat"] = field(default="repeat", kw_only=True, repr=False)


Layer = Annotated[
    Conv
    | SeparableConv
    | BatchNorm
    | SampleNorm
    | ReLU
    | LeakyReLU
    | PReLU
    | MaxPool
    | AvgPool
    | GlobalAvgPool
    | GlobalMaxPool
    | Multiply
    | Dropout
    | Flatten
    | Dense
    | Branches
    | Residual
    | Repeat,
    Field(discriminator="kind"),
]

complete(Branches, Residual, Repeat)


@value(NetworkError)
class Unreached:
    """Layers that a model registers and its forward pass never calls.

    They are counted as dead and never run; `input_shape` is (channels, height, width).
    """

    input_shape: tuple[NonNegative, ...]
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]

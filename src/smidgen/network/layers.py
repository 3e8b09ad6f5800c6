"""The layers: frozen values that know their shape rule, their tensors and their arithmetic.

Nothing here needs torch; the torch module, the generated C and the tables all read these values.
"""

from collections.abc import Sequence
from dataclasses import MISSING, field, fields, replace
from math import prod
from typing import Annotated, ClassVar, Literal, cast, get_args

from pydantic import Field

from smidgen.errors import NetworkError
from smidgen.network.shapes import (
    MAP,
    NonNegative,
    Padding,
    Positive,
    Shape,
    Size,
    TensorSpec,
    Window,
    need_map,
    num_elements,
    pair,
    show_shape,
    show_sides,
    whole_map,
    window_of,
    with_bias,
)
from smidgen.values import complete, value

LayerRole = Literal[
    "weighted", "norm", "activation", "pool", "dropout", "scale", "reshape", "join", "repeat"
]
"""What a layer is for; `weighted` ones are the linear maps that learn."""


class LayerBase:
    """What every layer answers; the defaults are those of an elementwise layer.

    Whoever asks what kind of thing a layer is asks these, and not for its class: a layer that
    is added later then answers, too.
    """

    label: ClassVar[str] = ""
    """How tensors and rows of this kind are named: `conv1`, `conv2`, ..."""
    role: ClassVar[LayerRole]
    is_linear: ClassVar[bool] = False
    """Whether it leaves a chain of linear layers linear: a fixed linear map in evaluation."""
    words: ClassVar[tuple[str, ...]] = ()
    """The kinds of layers, as `--require` and `--forbid` name them, that it counts as."""
    torch_names: ClassVar[tuple[str, ...]] = ()
    """Torch's classes that do this; of a module that was only watched, they are all there is."""

    @property
    def follows(self) -> bool:
        """Whether it belongs to the layer before it, as a norm or an activation does."""
        return self.role in ("norm", "activation", "dropout", "scale")

    @property
    def is_own_each_time(self) -> bool:
        """Whether a repeated block has it anew each time: each place has statistics of its own."""
        return self.role == "norm"

    @property
    def paths(self) -> "tuple[tuple[Layer, ...], ...]":
        """The sequences of layers inside it; none in a plain one."""
        return ()

    def with_paths(self, new: "Sequence[tuple[Layer, ...]]") -> "Layer":
        """Return the layer with other sequences inside, in the order of `paths`."""
        return cast("Layer", self)

    def in_words(self) -> str:
        """Return its name on a drawing, with what matters most: `conv 3×3 → 16`."""
        return self.label

    def details(self) -> tuple[str, ...]:
        """Return what a drawing says beside the name, where it is not what one expects."""
        return ()

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output's shape, without the batch; raises NetworkError if it does not fit."""
        return shape

    def tensors(self, shape: Shape) -> tuple[TensorSpec, ...]:
        """Return the arrays the layer owns for an input of this shape."""
        return ()

    def macs(self, shape: Shape) -> int:
        """Return the multiply-accumulates for one image (convolutions and dense layers only)."""
        return 0

    def window(self, shape: Shape) -> Window | None:
        """Return how far an output looks, or None for elementwise layers."""
        return None

    def torchinfo_mult_adds(self, shape: Shape) -> int:
        """Return what torchinfo counts: every trainable number once per image."""
        return sum(spec.size for spec in self.tensors(shape) if spec.trainable)

    def fvcore_extra(self, shape: Shape) -> int:
        """Return what fvcore counts beside the multiply-accumulates."""
        return 0

    def __repr__(self) -> str:
        """Return the layer as one would write it: defaults left out."""
        shown = []
        for item in fields(self):  # type: ignore[arg-type]  # every layer is a dataclass
            given = getattr(self, item.name)
            if item.default is MISSING:
                shown.append(repr(given))
            elif item.repr and given != item.default:
                shown.append(f"{item.name}={given!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class _Pool(LayerBase):
    role = "pool"
    kernel_size: Size
    stride: Positive | None
    padding: Padding

    def output_shape(self, shape: Shape) -> Shape:
        need_map(shape)
        window = self.window(shape)
        for axis in range(2):
            if 2 * max(window.before[axis], window.after[axis]) > window.kernel[axis]:
                raise NetworkError(
                    f"`padding` {self.padding} is more than half the kernel "
                    f"{window.kernel[0]}x{window.kernel[1]}"
                )
        return (shape[0], *window.output_size(shape))

    def window(self, shape: Shape) -> Window:
        stride = pair(self.kernel_size) if self.stride is None else self.stride
        return window_of(self.kernel_size, stride, self.padding, shape)

    def details(self) -> tuple[str, ...]:
        is_usual = self.stride in (None, self.kernel_size)
        return () if is_usual else (f"stride {self.stride}",)


@value(NetworkError)
class MaxPool(_Pool):
    """The largest value of each window; incomplete windows at the far edges are dropped.

    `stride` None means the kernel size. Padded cells never win.
    """

    label = "maxpool"
    words = ("maxpool",)
    torch_names = ("MaxPool2d", "AdaptiveMaxPool2d")
    kernel_size: Size
    stride: Positive | None = None
    padding: Padding = 0
    kind: Literal["max_pool"] = field(default="max_pool", kw_only=True, repr=False)

    def in_words(self) -> str:
        return f"max pool {show_sides(self.kernel_size)}"


@value(NetworkError)
class AvgPool(_Pool):
    """The mean of each window; incomplete windows at the far edges are dropped.

    `stride` None means the kernel size. Padded cells count as zeros if padding is a number
    (PyTorch) and do not count if it is "same" (Keras).
    """

    label = "avgpool"
    is_linear = True
    words = ("avgpool",)
    torch_names = ("AvgPool2d", "AdaptiveAvgPool2d")
    kernel_size: Size
    stride: Positive | None = None
    padding: Padding = 0
    kind: Literal["avg_pool"] = field(default="avg_pool", kw_only=True, repr=False)

    def in_words(self) -> str:
        return f"mean pool {show_sides(self.kernel_size)}"


class _GlobalPool(LayerBase):
    role = "pool"

    def output_shape(self, shape: Shape) -> Shape:
        need_map(shape)
        return (shape[0], 1, 1)

    def window(self, shape: Shape) -> Window:
        return whole_map(shape)


@value(NetworkError)
class GlobalAvgPool(_GlobalPool):
    """The mean of each channel's map: (C, H, W) -> (C, 1, 1)."""

    label = "globalavgpool"
    is_linear = True
    words = ("gap", "avgpool")
    kind: Literal["global_avg_pool"] = field(default="global_avg_pool", kw_only=True, repr=False)

    def fvcore_extra(self, shape: Shape) -> int:
        return num_elements(shape)

    def in_words(self) -> str:
        return "mean of the map"


@value(NetworkError)
class GlobalMaxPool(_GlobalPool):
    """The largest value of each channel's map: (C, H, W) -> (C, 1, 1)."""

    label = "globalmaxpool"
    words = ("maxpool",)
    kind: Literal["global_max_pool"] = field(default="global_max_pool", kw_only=True, repr=False)

    def in_words(self) -> str:
        return "maximum of the map"


Rate = Annotated[float, Field(ge=0.0, lt=1.0)]


@value(NetworkError)
class Conv(LayerBase):
    """A convolution; weights (out_channels, in_channels / groups, height, width).

    With a `dilation` the cells that its kernel reads are so many apart.
    """

    label = "conv"
    role = "weighted"
    words = ("conv",)
    torch_names = ("Conv2d",)
    out_channels: Positive
    kernel_size: Size
    stride: Positive = 1
    padding: Padding = 0
    groups: Positive = 1
    bias: bool = False
    dilation: Positive = 1
    kind: Literal["conv"] = field(default="conv", kw_only=True, repr=False)

    def output_shape(self, shape: Shape) -> Shape:
        need_map(shape)
        if shape[0] % self.groups or self.out_channels % self.groups:
            raise NetworkError(
                f"`groups` {self.groups} divides not both its {shape[0]} input and "
                f"{self.out_channels} output channels"
            )
        return (self.out_channels, *self.window(shape).output_size(shape))

    def tensors(self, shape: Shape) -> tuple[TensorSpec, ...]:
        rows, columns = pair(self.kernel_size)
        inputs = shape[0] // self.groups
        area = rows * columns
        weight = TensorSpec(
            "weight",
            (self.out_channels, inputs, rows, columns),
            "weight",
            fan_in=inputs * area,
            keras_fans=(inputs * area, self.out_channels * area),
        )
        return with_bias(weight, self.out_channels, self.bias)

    def macs(self, shape: Shape) -> int:
        _, height, width = self.output_shape(shape)
        return self.tensors(shape)[0].size * height * width

    def window(self, shape: Shape) -> Window:
        return window_of(self.kernel_size, self.stride, self.padding, shape, self.dilation)

    def torchinfo_mult_adds(self, shape: Shape) -> int:
        return super().torchinfo_mult_adds(shape) * num_elements(self.output_shape(shape)[1:])

    def in_words(self) -> str:
        name = "conv" if self.groups == 1 else f"conv in {self.groups} groups"
        return f"{name} {show_sides(self.kernel_size)} → {self.out_channels}"

    def details(self) -> tuple[str, ...]:
        words = {"stride": self.stride, "dilation": self.dilation}
        return tuple(f"{word} {number}" for word, number in words.items() if number > 1)


@value(NetworkError)
class SeparableConv(LayerBase):
    """A depthwise convolution (multiplier 1) followed by a 1x1 convolution.

    Tensors: `depthwise_weight` (in_channels, 1, height, width), optionally `depthwise_bias`,
    `weight` (out_channels, in_channels, 1, 1) and optionally `bias`.
    Source: Chollet, Xception, 2017, section 3.
    """

    label = "separable"
    role = "weighted"
    words = ("conv", "separable")
    out_channels: Positive
    kernel_size: Size
    stride: Positive = 1
    padding: Padding = 0
    bias: bool = True
    depthwise_bias: bool = False
    kind: Literal["separable_conv"] = field(default="separable_conv", kw_only=True, repr=False)

    def output_shape(self, shape: Shape) -> Shape:
        need_map(shape)
        return (self.out_channels, *self.window(shape).output_size(shape))

    def tensors(self, shape: Shape) -> tuple[TensorSpec, ...]:
        rows, columns = pair(self.kernel_size)
        channels, area = shape[0], rows * columns
        own = (
            TensorSpec(
                "depthwise_weight",
                (channels, 1, rows, columns),
                "weight",
                fan_in=area,
                # Keras counts a depthwise kernel's inputs over all channels, PyTorch over one
                keras_fans=(channels * area, area),
            ),
        )
        if self.depthwise_bias:
            own += (TensorSpec("depthwise_bias", (channels,), "bias", fan_in=area),)
        weight = TensorSpec(
            "weight",
            (self.out_channels, channels, 1, 1),
            "weight",
            fan_in=channels,
            keras_fans=(channels, self.out_channels),
        )
        return own + with_bias(weight, self.out_channels, self.bias)

    def macs(self, shape: Shape) -> int:
        _, height, width = self.output_shape(shape)
        rows, columns = pair(self.kernel_size)
        return (shape[0] * rows * columns + shape[0] * self.out_channels) * height * width

    def window(self, shape: Shape) -> Window:
        return window_of(self.kernel_size, self.stride, self.padding, shape)

    def torchinfo_mult_adds(self, shape: Shape) -> int:
        return super().torchinfo_mult_adds(shape) * num_elements(self.output_shape(shape)[1:])

    def in_words(self) -> str:
        return f"separable {show_sides(self.kernel_size)} → {self.out_channels}"

    def details(self) -> tuple[str, ...]:
        return () if self.stride == 1 else (f"stride {self.stride}",)


@value(NetworkError)
class BatchNorm(LayerBase):
    """Normalization of each channel over the batch, with running statistics for evaluation.

    `momentum` is PyTorch's (share of the new value; Keras' 0.99 is 0.01 here). `scale` and
    `shift` say whether gamma and beta are learned; if not they are 1 and 0. The running
    variance is `unbiased` in PyTorch and `biased` in Keras.
    Source: Ioffe and Szegedy, Batch Normalization, 2015.
    """

    label = "batchnorm"
    role = "norm"
    is_linear = True
    words = ("batchnorm",)
    torch_names = ("BatchNorm1d", "BatchNorm2d")
    eps: Annotated[float, Field(gt=0.0)] = 1e-5
    momentum: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    scale: bool = True
    shift: bool = True
    running_variance: Literal["unbiased", "biased"] = "unbiased"
    kind: Literal["batch_norm"] = field(default="batch_norm", kw_only=True, repr=False)

    def tensors(self, shape: Shape) -> tuple[TensorSpec, ...]:
        channels = (shape[0],)
        learned: tuple[TensorSpec, ...] = ()
        if self.scale:
            learned += (TensorSpec("weight", channels, "gain", fill=1.0),)
        if self.shift:
            learned += (TensorSpec("bias", channels, "shift", fill=0.0),)
        return (
            *learned,
            TensorSpec("running_mean", channels, "running_mean", fill=0.0),
            TensorSpec("running_var", channels, "running_var", fill=1.0),
        )

    def fvcore_extra(self, shape: Shape) -> int:
        return num_elements(shape) * (2 if self.scale else 1)

    def in_words(self) -> str:
        return "batch norm"


@value(NetworkError)
class SampleNorm(LayerBase):
    """Normalization of each image over all its values, with one scalar gain and one bias.

    y = gain * (x - mean) / (std + eps) + bias; std is the biased one; no running statistics.
    Source: ruslangrimov, mnist-minimal-model, 2017.
    """

    label = "samplenorm"
    role = "norm"
    words = ("samplenorm",)
    eps: Annotated[float, Field(gt=0.0)] = 1e-3
    kind: Literal["sample_norm"] = field(default="sample_norm", kw_only=True, repr=False)

    def tensors(self, shape: Shape) -> tuple[TensorSpec, ...]:
        return (
            TensorSpec("weight", (1,), "gain", fill=1.0),
            TensorSpec("bias", (1,), "shift", fill=0.0),
        )

    def in_words(self) -> str:
        return "sample norm"


@value(NetworkError)
class GroupNorm(LayerBase):
    """Normalization of each image over groups of neighboring channels, all cells together.

    y = (x - mean) / sqrt(variance + eps), with the group's biased variance; then, if `affine`,
    a learned gain and shift for each channel. One group is what courses call layer norm, a
    group for each channel instance norm. Training and evaluation are the same.
    Source: Wu and He, Group Normalization, 2018.
    """

    label = "groupnorm"
    role = "norm"
    words = ("groupnorm",)
    torch_names = ("GroupNorm",)
    groups: Positive
    eps: Annotated[float, Field(gt=0.0)] = 1e-5
    affine: bool = True
    kind: Literal["group_norm"] = field(default="group_norm", kw_only=True, repr=False)

    def output_shape(self, shape: Shape) -> Shape:
        if shape[0] % self.groups:
            raise NetworkError(f"`groups` {self.groups} does not divide its {shape[0]} channels")
        if num_elements(shape) == self.groups:
            raise NetworkError(
                f"each of its {self.groups} groups would be a single value, of which nothing is "
                "left; use fewer groups"
            )
        return shape

    def tensors(self, shape: Shape) -> tuple[TensorSpec, ...]:
        if not self.affine:
            return ()
        channels = (shape[0],)
        return (
            TensorSpec("weight", channels, "gain", fill=1.0),
            TensorSpec("bias", channels, "shift", fill=0.0),
        )

    def fvcore_extra(self, shape: Shape) -> int:
        return num_elements(shape) * (5 if self.affine else 4)

    def in_words(self) -> str:
        return f"group norm ({self.groups})"


@value(NetworkError)
class ReLU(LayerBase):
    """max(x, 0)."""

    label = "relu"
    role = "activation"
    words = ("relu",)
    torch_names = ("ReLU",)
    kind: Literal["relu"] = field(default="relu", kw_only=True, repr=False)

    def in_words(self) -> str:
        return "ReLU"


@value(NetworkError)
class LeakyReLU(LayerBase):
    """x where positive, `slope` * x elsewhere."""

    label = "leakyrelu"
    role = "activation"
    words = ("leakyrelu",)
    torch_names = ("LeakyReLU",)
    slope: Annotated[float, Field(ge=0.0)] = 0.01
    kind: Literal["leaky_relu"] = field(default="leaky_relu", kw_only=True, repr=False)

    def in_words(self) -> str:
        return f"leaky ReLU {self.slope:g}"


@value(NetworkError)
class PReLU(LayerBase):
    """Leaky ReLU with one learned slope per channel, or one `shared` by all, starting at 0.25.

    Source: He et al., Delving Deep into Rectifiers, 2015.
    """

    label = "prelu"
    role = "activation"
    words = ("prelu",)
    torch_names = ("PReLU",)
    shared: bool = False
    kind: Literal["prelu"] = field(default="prelu", kw_only=True, repr=False)

    def tensors(self, shape: Shape) -> tuple[TensorSpec, ...]:
        return (TensorSpec("weight", (1 if self.shared else shape[0],), "slope", fill=0.25),)

    def in_words(self) -> str:
        return "PReLU"


@value(NetworkError)
class Multiply(LayerBase):
    """A fixed factor on every value; it is never learned and not counted."""

    label = "multiply"
    role = "scale"
    is_linear = True
    factor: float
    kind: Literal["multiply"] = field(default="multiply", kw_only=True, repr=False)

    def in_words(self) -> str:
        return f"× {self.factor:g}"


class DropoutBase(LayerBase):
    """What drops at random in training, and passes its input on in evaluation."""

    role = "dropout"
    is_linear = True
    words = ("dropout",)
    rate: Rate

    def decisions(self, shape: Shape) -> Shape:
        """Return the shape of one image's decisions: each holds for all cells it stretches to."""
        return shape


@value(NetworkError)
class Dropout(DropoutBase):
    """Zeroes each value with probability `rate` in training and scales the rest by 1/(1-rate)."""

    label = "dropout"
    torch_names = ("Dropout",)
    rate: Rate
    kind: Literal["dropout"] = field(default="dropout", kw_only=True, repr=False)

    def in_words(self) -> str:
        return f"dropout {100 * self.rate:g} %"


@value(NetworkError)
class Dropout2d(DropoutBase):
    """Zeroes each channel's whole map with probability `rate`, and scales the rest by 1/(1-rate).

    Source: Tompson et al., Efficient Object Localization Using Convolutional Networks, 2015.
    """

    label = "dropout2d"
    torch_names = ("Dropout2d",)
    rate: Rate
    kind: Literal["dropout_2d"] = field(default="dropout_2d", kw_only=True, repr=False)

    def decisions(self, shape: Shape) -> Shape:
        return (shape[0], *[1] * (len(shape) - 1))

    def in_words(self) -> str:
        return f"channel dropout {100 * self.rate:g} %"


@value(NetworkError)
class Flatten(LayerBase):
    """(C, H, W) -> (C*H*W,), channels outermost."""

    label = "flatten"
    role = "reshape"
    is_linear = True
    kind: Literal["flatten"] = field(default="flatten", kw_only=True, repr=False)

    def output_shape(self, shape: Shape) -> Shape:
        return (prod(shape),)

    def window(self, shape: Shape) -> Window | None:
        return whole_map(shape) if len(shape) == MAP else None


@value(NetworkError)
class Dense(LayerBase):
    """A fully connected layer on flattened features; weights (out_features, in_features)."""

    label = "dense"
    role = "weighted"
    words = ("linear",)
    torch_names = ("Linear",)
    out_features: Positive
    bias: bool = True
    kind: Literal["dense"] = field(default="dense", kw_only=True, repr=False)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise NetworkError(
                f"it needs flat features, not a map of {show_shape(shape)}; "
                "put `Flatten()` before it"
            )
        return (self.out_features,)

    def tensors(self, shape: Shape) -> tuple[TensorSpec, ...]:
        weight = TensorSpec(
            "weight",
            (self.out_features, shape[0]),
            "weight",
            fan_in=shape[0],
            keras_fans=(shape[0], self.out_features),
        )
        return with_bias(weight, self.out_features, self.bias)

    def macs(self, shape: Shape) -> int:
        return shape[0] * self.out_features

    def in_words(self) -> str:
        return f"dense → {self.out_features}"


@value(NetworkError)
class Branches(LayerBase):
    """Parallel paths from one input, concatenated over channels in the order given.

    An empty path passes its input on.
    """

    label = "concat"
    role = "join"
    words = ("branches",)
    branches: Annotated[tuple[tuple["Layer", ...], ...], Field(min_length=2)]
    kind: Literal["branches"] = field(default="branches", kw_only=True, repr=False)

    def in_words(self) -> str:
        return "branches"

    @property
    def paths(self) -> tuple[tuple["Layer", ...], ...]:
        return self.branches

    def with_paths(self, new: Sequence[tuple["Layer", ...]]) -> "Layer":
        return replace(self, branches=tuple(new))


@value(NetworkError)
class Residual(LayerBase):
    """The sum of a body and a shortcut; an empty shortcut passes the input on.

    Source: He et al., Deep Residual Learning, 2015.
    """

    label = "add"
    role = "join"
    words = ("residual",)
    body: Annotated[tuple["Layer", ...], Field(min_length=1)]
    shortcut: tuple["Layer", ...] = ()
    kind: Literal["residual"] = field(default="residual", kw_only=True, repr=False)

    def in_words(self) -> str:
        return "residual sum"

    @property
    def paths(self) -> tuple[tuple["Layer", ...], ...]:
        return (self.body, self.shortcut)

    def with_paths(self, new: Sequence[tuple["Layer", ...]]) -> "Layer":
        return replace(self, body=new[0], shortcut=new[1])


@value(NetworkError)
class Repeat(LayerBase):
    """A block applied several times with the same weights; each time with norms of its own.

    Source: ruslangrimov, mnist-minimal-model, 2017.
    """

    label = "repeat"
    role = "repeat"
    words = ("repeat",)
    block: Annotated[tuple["Layer", ...], Field(min_length=1)]
    times: Positive
    kind: Literal["repeat"] = field(default="repeat", kw_only=True, repr=False)

    def in_words(self) -> str:
        return "repeated block"

    @property
    def paths(self) -> tuple[tuple["Layer", ...], ...]:
        return (self.block,)

    def with_paths(self, new: Sequence[tuple["Layer", ...]]) -> "Layer":
        return replace(self, block=new[0])


Layer = Annotated[
    Conv
    | SeparableConv
    | BatchNorm
    | SampleNorm
    | GroupNorm
    | ReLU
    | LeakyReLU
    | PReLU
    | MaxPool
    | AvgPool
    | GlobalAvgPool
    | GlobalMaxPool
    | Multiply
    | Dropout
    | Dropout2d
    | Flatten
    | Dense
    | Branches
    | Residual
    | Repeat,
    Field(discriminator="kind"),
]

LAYERS: tuple[type[LayerBase], ...] = get_args(get_args(Layer)[0])
"""Every class of layer, in the order in which tables list them."""

complete(Branches, Residual, Repeat)


def kind_of(layer: type[LayerBase]) -> str:
    """Return the name of a class of layer in the exchange form, such as `batch_norm`."""
    return next(item.default for item in fields(layer) if item.name == "kind")  # type: ignore[arg-type]


@value(NetworkError)
class Unreached:
    """Layers that a model registers and its forward pass never calls.

    They are counted as dead and never run; `input_shape` is (channels, height, width).
    """

    input_shape: tuple[NonNegative, ...]
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]

from math import prod

import pytest
import torch

from smidgen.errors import NetworkError
from smidgen.network.layers import (
    LAYERS,
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    LayerBase,
    LeakyReLU,
    MaxPool,
    Multiply,
    PReLU,
    ReLU,
    Repeat,
    Residual,
    SampleNorm,
    SeparableConv,
)
from smidgen.network.network import Network
from smidgen.network.torch_module import to_torch

IMAGE = (1, 28, 28)
MAP = (8, 11, 11)
SMALL = (2, 4, 4)
ALONE = (
    Conv(4, 3),
    SeparableConv(4, 3),
    BatchNorm(),
    SampleNorm(),
    GroupNorm(2),
    ReLU(),
    LeakyReLU(0.1),
    PReLU(),
    MaxPool(2),
    AvgPool(2),
    GlobalAvgPool(),
    GlobalMaxPool(),
    Multiply(2.0),
    Dropout(0.5),
    Dropout2d(0.5),
    Flatten(),
)
"""One of each kind that works on a map."""


@pytest.mark.parametrize(
    ("layer", "shape", "output_shape"),
    [
        (Conv(4, 3), IMAGE, (4, 26, 26)),
        (Conv(4, 3, padding=1), IMAGE, (4, 28, 28)),
        (Conv(4, 7, padding="same"), IMAGE, (4, 28, 28)),
        (Conv(4, 4, padding="same"), IMAGE, (4, 28, 28)),
        (Conv(4, 5, stride=2), IMAGE, (4, 12, 12)),
        (Conv(4, 5, stride=2, padding="same"), MAP, (4, 6, 6)),
        (Conv(4, 1, stride=4, padding="same"), MAP, (4, 3, 3)),
        (Conv(4, (1, 3)), IMAGE, (4, 28, 26)),
        (Conv(4, 3, dilation=2), IMAGE, (4, 24, 24)),
        (Conv(4, 3, padding=2, dilation=2), MAP, (4, 11, 11)),
        (Conv(4, 4, padding="same", dilation=3), MAP, (4, 11, 11)),
        (Conv(4, (1, 3), padding=(0, 1)), IMAGE, (4, 28, 28)),
        (Conv(8, 3, groups=8), MAP, (8, 9, 9)),
        (Conv(4, 28), IMAGE, (4, 1, 1)),
        (SeparableConv(28, 3), IMAGE, (28, 26, 26)),
        (SeparableConv(2, 5, padding="same"), MAP, (2, 11, 11)),
        (SeparableConv(2, 3, stride=2), MAP, (2, 5, 5)),
        (MaxPool(2), IMAGE, (1, 14, 14)),
        (MaxPool(2), MAP, (8, 5, 5)),
        (MaxPool(2, stride=1), MAP, (8, 10, 10)),
        (MaxPool(2, stride=1, padding="same"), MAP, (8, 11, 11)),
        (MaxPool(3, padding=1), MAP, (8, 4, 4)),
        (MaxPool((2, 1)), MAP, (8, 5, 11)),
        (AvgPool(7), (10, 7, 7), (10, 1, 1)),
        (AvgPool(2, stride=1, padding="same"), MAP, (8, 11, 11)),
        (GlobalAvgPool(), MAP, (8, 1, 1)),
        (GlobalMaxPool(), MAP, (8, 1, 1)),
        (Flatten(), MAP, (968,)),
        (Flatten(), (10,), (10,)),
        (Dense(10), (968,), (10,)),
        (BatchNorm(), MAP, MAP),
        (BatchNorm(), (32,), (32,)),
        (SampleNorm(), MAP, MAP),
        (GroupNorm(4), MAP, MAP),
        (GroupNorm(1), (10,), (10,)),
        (Dropout2d(0.5), MAP, MAP),
        (ReLU(), MAP, MAP),
        (LeakyReLU(0.2), MAP, MAP),
        (PReLU(), MAP, MAP),
        (Multiply(0.125), (10,), (10,)),
        (Dropout(0.5), (10,), (10,)),
    ],
)
def test_output_shape(layer: LayerBase, shape: tuple[int, ...], output_shape: tuple[int, ...]):
    """Each layer gives the shape that its rule says."""
    assert layer.output_shape(shape) == output_shape


@pytest.mark.parametrize(
    ("layer", "shape", "tensors"),
    [
        (Conv(4, 3), MAP, {"weight": (4, 8, 3, 3)}),
        (Conv(4, (1, 3), bias=True), MAP, {"weight": (4, 8, 1, 3), "bias": (4,)}),
        (Conv(16, 3, groups=8), MAP, {"weight": (16, 1, 3, 3)}),
        (
            SeparableConv(4, 3),
            MAP,
            {"depthwise_weight": (8, 1, 3, 3), "weight": (4, 8, 1, 1), "bias": (4,)},
        ),
        (
            SeparableConv(4, 3, bias=False, depthwise_bias=True),
            MAP,
            {"depthwise_weight": (8, 1, 3, 3), "depthwise_bias": (8,), "weight": (4, 8, 1, 1)},
        ),
        (
            BatchNorm(),
            MAP,
            {"weight": (8,), "bias": (8,), "running_mean": (8,), "running_var": (8,)},
        ),
        (
            BatchNorm(scale=False),
            MAP,
            {"bias": (8,), "running_mean": (8,), "running_var": (8,)},
        ),
        (BatchNorm(scale=False, shift=False), MAP, {"running_mean": (8,), "running_var": (8,)}),
        (SampleNorm(), MAP, {"weight": (1,), "bias": (1,)}),
        (GroupNorm(2), MAP, {"weight": (8,), "bias": (8,)}),
        (GroupNorm(2, affine=False), MAP, {}),
        (PReLU(), MAP, {"weight": (8,)}),
        (PReLU(shared=True), MAP, {"weight": (1,)}),
        (Dense(10), (32,), {"weight": (10, 32), "bias": (10,)}),
        (Dense(10, bias=False), (32,), {"weight": (10, 32)}),
        (ReLU(), MAP, {}),
        (Multiply(2.0), MAP, {}),
        (MaxPool(2), MAP, {}),
    ],
)
def test_tensors(layer: LayerBase, shape: tuple[int, ...], tensors: dict[str, tuple[int, ...]]):
    """Each layer owns these arrays, in this order."""
    assert {spec.name: spec.shape for spec in layer.tensors(shape)} == tensors


def test_only_running_statistics_are_buffers():
    """Everything a layer owns is trainable but the statistics of a batch norm."""
    buffers = [spec.name for spec in BatchNorm().tensors(MAP) if not spec.trainable]

    assert buffers == ["running_mean", "running_var"]
    assert all(spec.trainable for spec in SeparableConv(4, 3).tensors(MAP))


@pytest.mark.parametrize(
    ("layer", "shape", "num_macs"),
    [
        (Conv(4, 3), MAP, 4 * 8 * 9 * 81),
        (Conv(4, 3, bias=True), MAP, 4 * 8 * 9 * 81),
        (Conv(8, 3, groups=8), MAP, 8 * 9 * 81),
        (SeparableConv(4, 3), MAP, (8 * 9 + 8 * 4) * 81),
        (SeparableConv(4, 3, stride=2), MAP, (8 * 9 + 8 * 4) * 25),
        (Dense(10), (32,), 320),
        (BatchNorm(), MAP, 0),
        (MaxPool(2), MAP, 0),
        (GlobalAvgPool(), MAP, 0),
    ],
)
def test_macs(layer: LayerBase, shape: tuple[int, ...], num_macs: int):
    """Only convolutions and dense layers multiply and accumulate; biases are not counted."""
    assert layer.macs(shape) == num_macs


@pytest.mark.parametrize(
    ("layer", "before", "after"),
    [
        (Conv(4, 7, padding="same"), (3, 3), (3, 3)),
        (Conv(4, 4, padding="same"), (1, 1), (2, 2)),
        (MaxPool(2, stride=1, padding="same"), (0, 0), (1, 1)),
        (Conv(4, (1, 4), padding="same"), (0, 1), (0, 2)),
        (Conv(4, 5, stride=2, padding="same"), (2, 2), (2, 2)),
        (Conv(4, 3, padding=(2, 1)), (2, 1), (2, 1)),
        (Conv(4, 3, padding="same", dilation=2), (2, 2), (2, 2)),
        (Conv(4, 4, padding="same", dilation=3), (4, 4), (5, 5)),
    ],
)
def test_padding(layer: LayerBase, before: tuple[int, int], after: tuple[int, int]):
    """Odd amounts of "same" padding put the extra cell below and to the right, as Keras does."""
    window = layer.window(MAP)

    assert window is not None
    assert (window.before, window.after) == (before, after)


@pytest.mark.parametrize(
    ("layer", "shape", "text"),
    [
        (GroupNorm(3), MAP, "`groups` 3 does not divide its 8 channels"),
        (
            GroupNorm(8),
            (8, 1, 1),
            "each of its 8 groups would be a single value, of which nothing is left; use fewer "
            "groups",
        ),
        (
            Conv(4, 4, dilation=4),
            MAP,
            "its 13x13 window does not fit into the input 8x11x11; use a smaller kernel, padding, "
            "or pool less before it",
        ),
        (
            Conv(4, 12),
            MAP,
            "its 12x12 window does not fit into the input 8x11x11; use a smaller kernel, padding, "
            "or pool less before it",
        ),
        (
            Conv(4, 3),
            (10,),
            "it needs a map (channels x height x width), not flat features of 10",
        ),
        (
            Conv(4, 3, groups=3),
            MAP,
            "`groups` 3 divides not both its 8 input and 4 output channels",
        ),
        (MaxPool(2, padding=2), MAP, "`padding` 2 is more than half the kernel 2x2"),
        (
            Dense(10),
            MAP,
            "it needs flat features, not a map of 8x11x11; put `Flatten()` before it",
        ),
        (
            GlobalAvgPool(),
            (10,),
            "it needs a map (channels x height x width), not flat features of 10",
        ),
    ],
)
def test_layer_refuses_a_shape(layer: LayerBase, shape: tuple[int, ...], text: str):
    """A layer that does not fit its input says why and what would fit."""
    with pytest.raises(NetworkError) as caught:
        layer.output_shape(shape)

    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        (Conv, {"out_channels": 0, "kernel_size": 3}, "`out_channels`: input should be greater"),
        (Conv, {"out_channels": 4, "kernel_size": 3.0}, "`kernel_size`: input should be a valid"),
        (Conv, {"out_channels": 4, "kernel_size": 3, "stride": 0}, "`stride`: input should be"),
        (Conv, {"out_channels": 4}, "`kernel_size` is missing."),
        (Conv, {"out_channels": 4, "kernel_size": 3, "pad": 1}, "unknown key `pad`. Did you mean"),
        (Dropout, {"rate": 1.0}, "`rate`: input should be less than 1, not 1.0."),
        (BatchNorm, {"eps": 0.0}, "`eps`: input should be greater than 0, not 0.0."),
        (BatchNorm, {"running_variance": "none"}, "`running_variance`: input should be 'unbiased'"),
        (LeakyReLU, {"slope": float("nan")}, "`slope`: input should be a finite number, not nan."),
        (Dense, {"out_features": "10"}, "`out_features`: input should be a valid integer"),
    ],
)
def test_invalid_fields(kind: type, arguments: dict[str, object], text: str):
    """A layer with a senseless field is refused when it is written, in one line."""
    with pytest.raises(NetworkError) as caught:
        kind(**arguments)

    assert str(caught.value).startswith(f"`{kind.__name__}`: {text}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "Conv(16, 3)",
        "Conv(16, (1, 3), padding='same', bias=True)",
        "SeparableConv(28, 3)",
        "BatchNorm(eps=0.001, momentum=0.01, running_variance='biased')",
        "MaxPool(2, stride=1, padding='same')",
        "Dropout(0.05)",
        "Flatten()",
        "Dense(10, bias=False)",
        "LeakyReLU(slope=0.2)",
    ],
)
def test_layer_is_shown_as_written(text: str):
    """The text of a layer is the Python that makes it, defaults left out."""
    assert repr(eval(text)) == text


def test_every_layer_says_what_it_is_for():
    """Whoever asks a layer for its role gets the role that belongs to its class."""
    roles = {layer.__name__: layer.role for layer in LAYERS}

    assert roles == {
        "Conv": "weighted",
        "SeparableConv": "weighted",
        "BatchNorm": "norm",
        "SampleNorm": "norm",
        "GroupNorm": "norm",
        "ReLU": "activation",
        "LeakyReLU": "activation",
        "PReLU": "activation",
        "MaxPool": "pool",
        "AvgPool": "pool",
        "GlobalAvgPool": "pool",
        "GlobalMaxPool": "pool",
        "Multiply": "scale",
        "Dropout": "dropout",
        "Dropout2d": "dropout",
        "Flatten": "reshape",
        "Dense": "weighted",
        "Branches": "join",
        "Residual": "join",
        "Repeat": "repeat",
    }


@pytest.mark.parametrize("layer", ALONE, ids=repr)
def test_linear_layers_are_linear_maps(layer: LayerBase):
    """In evaluation f(a) + f(b) = f(a + b) + f(0) of those that say so and of those that learn."""
    num_values = prod(layer.output_shape(SMALL))
    module = to_torch(Network((layer, Flatten()), SMALL, num_values), seed=1).eval()
    torch.manual_seed(1)
    a, b = torch.randn(2, 3, *SMALL)
    with torch.no_grad():
        gap = module(a) + module(b) - module(a + b) - module(torch.zeros(1, *SMALL))

    assert bool(gap.abs().max() < 1e-4) == (layer.is_linear or layer.role == "weighted")


def test_every_kind_is_here_or_elsewhere():
    """The examples leave out only what needs flat features or holds layers."""
    left_out = set(LAYERS) - {type(layer) for layer in ALONE}

    assert left_out == {Dense, Branches, Residual, Repeat}


@pytest.mark.parametrize(
    ("layer", "roles"),
    [
        (Conv(4, 3, bias=True), ["weight", "bias"]),
        (SeparableConv(4, 3, depthwise_bias=True), ["weight", "bias", "weight", "bias"]),
        (Dense(10), ["weight", "bias"]),
        (BatchNorm(), ["gain", "shift", "running_mean", "running_var"]),
        (SampleNorm(), ["gain", "shift"]),
        (GroupNorm(4), ["gain", "shift"]),
        (PReLU(), ["slope"]),
    ],
)
def test_tensors_have_roles(layer: LayerBase, roles: list[str]):
    """A tensor says what it is for, so nobody has to guess by its name."""
    shape = (8,) if isinstance(layer, Dense) else MAP

    assert [spec.role for spec in layer.tensors(shape)] == roles


@pytest.mark.parametrize(
    ("layer", "words", "details"),
    [
        (Conv(16, 3, stride=2), "conv 3×3 → 16", ("stride 2",)),
        (Conv(16, 3, dilation=3), "conv 3×3 → 16", ("dilation 3",)),
        (Conv(8, (1, 3), groups=4), "conv in 4 groups 1×3 → 8", ()),
        (SeparableConv(4, 5), "separable 5×5 → 4", ()),
        (Dense(10), "dense → 10", ()),
        (MaxPool(2), "max pool 2×2", ()),
        (MaxPool(2, stride=1), "max pool 2×2", ("stride 1",)),
        (GlobalAvgPool(), "mean of the map", ()),
        (BatchNorm(), "batch norm", ()),
        (LeakyReLU(0.1), "leaky ReLU 0.1", ()),
        (Dropout(0.05), "dropout 5 %", ()),
        (Dropout2d(0.05), "channel dropout 5 %", ()),
        (GroupNorm(4), "group norm (4)", ()),
        (Multiply(4.0), "× 4", ()),
        (Flatten(), "flatten", ()),
        (Residual((ReLU(),)), "residual sum", ()),
    ],
)
def test_words(layer: LayerBase, words: str, details: tuple[str, ...]):
    """Drawings call a layer by what matters most of it."""
    assert (layer.in_words(), layer.details()) == (words, details)


def test_paths_are_given_back():
    """A block with its own sequences put in again is the same block."""
    for block in (Branches(((ReLU(),), ())), Residual((ReLU(),)), Repeat((ReLU(),), 2)):
        assert block.with_paths(block.paths) == block
    assert Residual((ReLU(),)).with_paths(((PReLU(),), ())) == Residual((PReLU(),))
    assert ReLU().paths == ()

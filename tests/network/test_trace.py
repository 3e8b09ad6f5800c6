import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import summary

from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    Layer,
    LayerBase,
    MaxPool,
    PReLU,
    ReLU,
    Repeat,
    Residual,
    SampleNorm,
    SeparableConv,
    Unreached,
)
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import RECIPES


def test_start_and_padding():
    """Padded blocks start where the image does; every pool moves the first center inwards."""
    rows = [
        row for row in trace(RECIPES["mnist-99-4"].network).rows if row.kind in ("conv", "max_pool")
    ]

    assert [row.reach.start[0] for row in rows] == [0, 0.5, 0.5, 1.5, 1.5, 3.5]
    assert [row.reach.padding[0] for row in rows] == [1, 1, 3, 3, 7, 7]


def test_shared_weights_are_counted_once():
    """A block applied three times owns its convolution once and its norms three times."""
    rows = trace(RECIPES["anchors/1936"].network).rows
    repeated = [row for row in rows if row.path.startswith("9.")]
    convolutions = [row for row in repeated if row.kind == "separable_conv"]
    norms = [row for row in repeated if row.kind == "sample_norm"]

    assert [row.num_params for row in convolutions] == [936, 0, 0]
    assert [row.is_shared for row in convolutions] == [False, True, True]
    assert len({row.name for row in convolutions}) == 1
    assert [row.num_params for row in norms] == [2, 2, 2]
    assert [row.num_macs for row in convolutions] == [110_110] * 3


def test_residual_sees_both_paths():
    """A residual sum costs no parameters and reaches from its shortcut to its body."""
    body: tuple[Layer, ...] = (Conv(4, 3, padding=1), Conv(4, 3, padding=1))
    network = Network(layers=(Conv(4, 3), Residual(body), GlobalAvgPool(), Flatten(), Dense(10)))
    rows = {row.path: row for row in trace(network).rows}

    assert rows["1"].num_params == 0
    assert rows["1"].reach.receptive_field == (3, 7)


def test_gaps_in_a_kernel_reach_further():
    """A dilated 3x3 kernel reads nine cells of the square it reaches over."""
    network = Network((Conv(4, 3, stride=2), Conv(4, 3, dilation=3), Flatten(), Dense(10)))
    row = trace(network).rows[1]

    assert (row.num_params, row.output_shape) == (144, (4, 7, 7))
    assert row.reach.receptive_field == (3 + 2 * 6, 3 + 2 * 6)


def test_oblong_windows_span_both_axes():
    """A 1x5 window is wider than it is high, and the row says both."""
    network = Network(layers=(Conv(4, (1, 5)), Flatten(), Dense(10)))
    row = trace(network).rows[0]

    assert row.output_shape == (4, 28, 24)
    assert row.reach.receptive_field == (1, 5)


def test_axes_are_followed_apart():
    """The field of an oblong network is that of its longer axis, not a mixture of both."""
    layers = (Conv(8, 3, stride=2), Conv(8, (1, 3)), GlobalAvgPool(), Flatten(), Dense(10))
    network = Network(layers=layers)

    rows = 3 + 12 * 2
    columns = 3 + 2 * 2 + 10 * 2
    assert trace(network).totals.receptive_field == max(rows, columns)


@pytest.mark.parametrize(
    ("layers", "folded"),
    [
        ((Conv(2, 3), BatchNorm()), 20),
        ((Conv(2, 3, bias=True), BatchNorm()), 20),
        ((Conv(2, 3), BatchNorm(scale=False)), 20),
        ((SeparableConv(2, 3), BatchNorm()), 13),
        ((Conv(2, 3), ReLU(), BatchNorm()), None),
        ((BatchNorm(), Conv(2, 3)), None),
        ((Conv(2, 3),), None),
        ((Repeat((Conv(1, 3, padding=1), BatchNorm()), 2),), None),
        ((Branches(((BatchNorm(),), ())), Conv(2, 3)), None),
    ],
)
def test_folded_size(layers: tuple[Layer, ...], folded: int | None):
    """A batch norm folds only into a layer right before it that nothing else uses."""
    head = (GlobalAvgPool(), Flatten(), Dense(10, bias=False))
    totals = trace(Network(layers=(*layers, *head))).totals
    head_params = 10 * (1 if isinstance(layers[0], Repeat) else 2)

    assert totals.folded == (None if folded is None else folded + head_params)


def test_undefined_cells_are_null():
    """Totals that a network does not have are None, in the machine-readable form too."""
    totals = trace(RECIPES["era-s7/1"].network).totals.to_plain()

    assert totals["folded"] is None
    assert set(totals) >= {
        "num_params",
        "num_dead",
        "num_buffers",
        "keras_total",
        "folded",
        "num_macs",
        "receptive_field",
    }


def test_row_in_plain_form():
    """A row's machine-readable form holds lists and whole numbers where they are whole."""
    row = trace(RECIPES["mnist-99-4"].network).rows[3]

    assert row.to_plain() == {
        "path": "3",
        "name": "maxpool1",
        "kind": "max_pool",
        "text": "MaxPool(2)",
        "input_shape": [8, 28, 28],
        "output_shape": [8, 14, 14],
        "num_params": 0,
        "num_buffers": 0,
        "num_macs": 0,
        "num_activations": 1_568,
        "receptive_field": [4, 4],
        "jump": [2, 2],
        "start": [0.5, 0.5],
        "padding": [1, 1],
        "is_shared": False,
        "torchinfo_mult_adds": 0,
        "fvcore_flops": 0,
        "torch_flops": 0,
    }


@pytest.mark.parametrize("name", RECIPES)
def test_totals_are_sums_of_rows(name: str):
    """What the totals say is what the rows add up to, for every network of the catalogue."""
    table = trace(RECIPES[name].network)

    assert table.totals.num_params == sum(row.num_params for row in table.rows)
    assert table.totals.num_macs == sum(row.num_macs for row in table.rows)
    assert table.totals.num_activations == sum(row.num_activations for row in table.rows)
    assert table.totals.keras_total == table.totals.num_params + table.totals.num_buffers


@pytest.mark.parametrize(
    ("layer", "num_params"),
    [(Dropout(0.5), 0), (SampleNorm(), 2), (AvgPool(2), 0), (BatchNorm(shift=False), 1)],
)
def test_dead_layers_are_counted_like_living_ones(layer: LayerBase, num_params: int):
    """Unreached layers add to the dead parameters alone."""
    network = Network(
        layers=(Flatten(), Dense(10)),
        unreached=(Unreached((1, 28, 28), (layer,)),),  # type: ignore[arg-type]
    )

    totals = trace(network).totals

    assert (totals.num_params, totals.num_dead) == (7_850, num_params)


@pytest.mark.parametrize(
    "name",
    [
        "era-s7/as-told",
        "eva4-s5/5",
        "mnist-99-4",
        "smidgen/quick",
        "assignment7/3",
        "anchors/9994",
        "anchors/697",
    ],
)
def test_receptive_field_is_the_extent_of_the_gradient(name: str):
    """The pixels with a gradient are those that center, jump and field say, up to the borders."""
    import torch

    from smidgen.network.torch_module import to_torch

    # means in place of maxima and positive weights: every pixel that can matter then does
    layers = tuple(_as_mean(layer) for layer in RECIPES[name].network.layers)
    network = replace(RECIPES[name].network, layers=layers)
    module = to_torch(network).double().eval()
    for parameter in module.parameters():
        parameter.data.abs_().clamp_min_(1e-3)
    outputs: dict[int, torch.Tensor] = {}
    images = torch.ones(1, *network.input_shape, dtype=torch.float64, requires_grad=True)
    module.scores(images, lambda node, out: outputs.__setitem__(node.index, out))
    checked = 0
    for node, row in zip(network.graph.nodes, trace(network).rows, strict=True):
        low, high = row.reach.start
        if len(node.output_shape) != 3 or low != high:
            continue
        middle = node.output_shape[1] // 2
        picked = outputs[node.index][0, :, middle, middle].sum()
        (gradient,) = torch.autograd.grad(picked, images, retain_graph=True)
        touched = gradient[0].abs().sum(0).sum(0).nonzero().flatten()
        center = low + middle * row.reach.jump[1]
        half = (row.reach.receptive_field[1] - 1) / 2
        assert (int(touched[0]), int(touched[-1])) == (
            max(center - half, 0),
            min(center + half, network.input_shape[2] - 1),
        ), row.path
        checked += row.num_macs > 0
    assert checked >= 3


def _as_mean(layer: Layer) -> Layer:
    if isinstance(layer, MaxPool):
        return AvgPool(layer.kernel_size, layer.stride, layer.padding)
    return layer


_HEAD = (GlobalAvgPool(), Flatten(), Dense(10))
NETWORKS = {
    "plain": RECIPES["era-s7/2"].network,
    "norms": RECIPES["era-s7/3"].network,
    "dropout": RECIPES["era-s7/4"].network,
    "mean pool": RECIPES["era-s7/6"].network,
    "strided": Network((Conv(16, 5, stride=2), BatchNorm(), ReLU(), Conv(16, 3), *_HEAD)),
    "dense head": RECIPES["mnist-99-4"].network,
    "residual": RECIPES["era-s7/as-told"].network,
    "biases": RECIPES["eva4-s5/1"].network,
    "global mean": RECIPES["eva4-s5/5"].network,
    "crop of many": RECIPES["assignment7/3"].network,
    "slopes": Network((Conv(6, 3), PReLU(), *_HEAD)),
    "separable": Network((Conv(6, 3), ReLU(), SeparableConv(9, 3), ReLU(), *_HEAD)),
    "separable without bias": Network(
        (SeparableConv(8, 3, padding=1, bias=False, depthwise_bias=True), BatchNorm(), *_HEAD),
        (3, 9, 9),
    ),
    "grouped": Network((Conv(8, 3), ReLU(), Conv(12, 3, groups=4, bias=True), *_HEAD)),
    "branches": Network(
        (Branches(((Conv(4, 1), ReLU()), (Conv(4, 3, padding=1), MaxPool(3, 1, 1)))), *_HEAD)
    ),
    "nested": Network(
        (
            Conv(4, 3),
            Residual((Branches(((Conv(2, 1),), (Conv(2, 5, padding=2),))), BatchNorm())),
            AvgPool(2),
            *_HEAD,
        )
    ),
    "shared": Network(
        (Conv(4, 3), Repeat((Conv(4, 3, padding=1), BatchNorm(), ReLU()), 3), *_HEAD)
    ),
    "group norm": Network((Conv(4, 3), GroupNorm(2), ReLU(), Dropout2d(0.1), *_HEAD)),
    "dilated": Network((Conv(4, 3, dilation=2), PReLU(shared=True), Conv(4, 3), *_HEAD)),
    "bare group norm": Network((Conv(4, 3), GroupNorm(4, affine=False), *_HEAD)),
    "bare norm": Network((Conv(4, 3), BatchNorm(scale=False, shift=False), *_HEAD)),
    "perceptron": Network((Flatten(), Dense(12), BatchNorm(), ReLU(), Dense(10, bias=False))),
}
Writer = Callable[[Network], nn.Module]


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_as_torchinfo_does(name: str, in_torch_layers: Writer):
    """Our torchinfo column is what torchinfo prints, and so are the parameters."""
    network = NETWORKS[name]
    totals = trace(network).totals

    report = summary(in_torch_layers(network), (1, *network.input_shape), verbose=0)

    assert totals.others.torchinfo_mult_adds == report.total_mult_adds
    assert totals.num_params == report.trainable_params


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_as_fvcore_does(name: str, in_torch_layers: Writer):
    """Our fvcore column is what fvcore counts in evaluation mode."""
    network = NETWORKS[name]
    module = in_torch_layers(network).eval()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore compiles with torch.jit, which is deprecated
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(module, torch.zeros(1, *network.input_shape))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counted = analysis.total()

    assert trace(network).totals.others.fvcore_flops == counted


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_as_torch_does(name: str, in_torch_layers: Writer):
    """Our torch column is what torch's counter counts: two for each of our MACs."""
    network = NETWORKS[name]
    module = in_torch_layers(network).eval()

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, *network.input_shape))

    totals = trace(network).totals
    assert totals.others.torch_flops == counter.get_total_flops() == 2 * totals.num_macs


def test_difference_to_torchinfo_is_the_documented_rule():
    """What torchinfo adds is biases at every position, every other trainable number once."""
    network = Network((Conv(4, 3, bias=True), BatchNorm(), ReLU(), *_HEAD))
    totals = trace(network).totals

    assert totals.num_macs == 4 * 9 * 26 * 26 + 4 * 10
    assert totals.others.torchinfo_mult_adds - totals.num_macs == 4 * 26 * 26 + 8 + 10

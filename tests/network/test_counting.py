import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import summary

from smidgen.network.blocks import Branches, Repeat, Residual
from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    PReLU,
    ReLU,
    SeparableConv,
)
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import RECIPES

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

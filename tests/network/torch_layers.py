"""Networks written in torch's own layers: what other counters and `from_torch` are given."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    GlobalMaxPool,
    GroupNorm,
    Layer,
    LeakyReLU,
    MaxPool,
    PReLU,
    ReLU,
    Repeat,
    Residual,
    SeparableConv,
)
from smidgen.network.network import Network
from smidgen.network.shapes import Shape


def in_torch_layers(network: Network) -> nn.Module:
    """Write a network in torch's own layers.

    Raises:
        NotImplementedError: A layer, or an option, that torch's layers cannot say.
    """
    return _Whole(_chain(network.layers, network.input_shape)[0], network.output)


class _Whole(nn.Module):
    def __init__(self, body: nn.Sequential, output: str) -> None:
        super().__init__()
        self.body, self.output = body, output

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.output == "log_softmax":
            return F.log_softmax(x, dim=1)
        return F.softmax(x, dim=1) if self.output == "softmax" else x


class _Concatenated(nn.Module):
    def __init__(self, branches: list[nn.Sequential]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class _Summed(nn.Module):
    def __init__(self, body: nn.Sequential, shortcut: nn.Sequential) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


def _chain(layers: tuple[Layer, ...], shape: Shape) -> tuple[nn.Sequential, Shape]:
    made = []
    for layer in layers:
        module, shape = _module(layer, shape)
        made.append(module)
    return nn.Sequential(*made), shape


def _module(layer: Layer, shape: Shape) -> tuple[nn.Module, Shape]:
    if isinstance(layer, Branches):
        paths = [_chain(branch, shape) for branch in layer.branches]
        channels = sum(end[0] for _, end in paths)
        return _Concatenated([path for path, _ in paths]), (channels, *paths[0][1][1:])
    if isinstance(layer, Residual):
        body, shape_after = _chain(layer.body, shape)
        return _Summed(body, _chain(layer.shortcut, shape)[0]), shape_after
    if isinstance(layer, Repeat):
        first, shape = _chain(layer.block, shape)
        again = [
            module if not isinstance(module, nn.BatchNorm2d) else nn.BatchNorm2d(shape[0])
            for _ in range(layer.times - 1)
            for module in first
        ]
        return nn.Sequential(*first, *again), shape
    return _single(layer, shape), layer.output_shape(shape)


def _single(layer: Layer, shape: Shape) -> nn.Module:
    match layer:
        case Conv():
            return nn.Conv2d(
                shape[0],
                layer.out_channels,
                layer.kernel_size,
                stride=layer.stride,
                padding=layer.padding,
                groups=layer.groups,
                bias=layer.bias,
                dilation=layer.dilation,
            )
        case SeparableConv() if layer.padding != "same" or layer.stride == 1:
            return nn.Sequential(
                nn.Conv2d(
                    shape[0],
                    shape[0],
                    layer.kernel_size,
                    stride=layer.stride,
                    padding=layer.padding,
                    groups=shape[0],
                    bias=layer.depthwise_bias,
                ),
                nn.Conv2d(shape[0], layer.out_channels, 1, bias=layer.bias),
            )
        case BatchNorm() if layer.scale == layer.shift and layer.running_variance == "unbiased":
            kind = nn.BatchNorm2d if len(shape) > 1 else nn.BatchNorm1d
            return kind(shape[0], layer.eps, layer.momentum, affine=layer.scale)
        case ReLU():
            return nn.ReLU()
        case LeakyReLU():
            return nn.LeakyReLU(layer.slope)
        case PReLU():
            return nn.PReLU(1 if layer.shared else shape[0])
        case MaxPool() if layer.padding != "same":
            return nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding)
        case AvgPool() if layer.padding != "same":
            return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
        case GlobalAvgPool():
            return nn.AdaptiveAvgPool2d(1)
        case GlobalMaxPool():
            return nn.AdaptiveMaxPool2d(1)
        case Dropout():
            return nn.Dropout(layer.rate)
        case Dropout2d():
            return nn.Dropout2d(layer.rate)
        case GroupNorm():
            return nn.GroupNorm(layer.groups, shape[0], layer.eps, layer.affine)
        case Flatten():
            return nn.Flatten()
        case Dense():
            return nn.Linear(shape[0], layer.out_features, bias=layer.bias)
    raise NotImplementedError(str(layer))

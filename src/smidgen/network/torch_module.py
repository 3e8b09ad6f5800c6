"""The PyTorch module of a network: what defines right results for every other engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smidgen.network import layers as L
from smidgen.network.network import INPUT, Network, Node
from smidgen.network.shapes import Window
from smidgen.network.weights import initial_weights

DropoutFunction = Callable[[Tensor, L.DropoutBase, int], Tensor]
"""(values, layer, number of the dropout in the network) -> values with some zeroed."""


class TorchNetwork(nn.Module):
    """A network as an `nn.Module`; parameters and buffers are called as in the graph.

    Args:
        network: What to build.
        weights: Every tensor by name.

    `forward` maps (N, C, H, W) to (N, classes) in the form `network.output` says;
    `scores` gives the class scores before any softmax.
    """

    def __init__(self, network: Network, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.network = network
        self.owners = nn.ModuleDict()
        for name, spec in network.graph.tensors.items():
            owner_name, tensor_name = name.split(".")
            if owner_name not in self.owners:
                self.owners[owner_name] = nn.Module()
            owner = self.owners[owner_name]
            if spec.trainable:
                owner.register_parameter(tensor_name, nn.Parameter(weights[name].clone()))
            else:
                owner.register_buffer(tensor_name, weights[name].clone())
        self.dropout: DropoutFunction = _ordinary_dropout

    def named_tensors(self) -> dict[str, Tensor]:
        """Return every parameter and buffer by its name in the graph, in the graph's order."""
        return {name: self._tensor(name) for name in self.network.graph.tensors}

    def forward(self, images: Tensor) -> Tensor:
        """Return one row of scores, log-probabilities or probabilities per image."""
        scores = self.scores(images)
        if self.network.output == "log_softmax":
            return F.log_softmax(scores, dim=1)
        return F.softmax(scores, dim=1) if self.network.output == "softmax" else scores

    def scores(self, images: Tensor, watch: Callable[[Node, Tensor], None] | None = None) -> Tensor:
        """Return the class scores; `watch` sees every operation's output as it is made."""
        values: dict[int, Tensor] = {INPUT: images}
        last_use = {index: node.index for node in self.network.graph.nodes for index in node.inputs}
        num_dropouts = 0
        for node in self.network.graph.nodes:
            inputs = [values[index] for index in node.inputs]
            for index in set(node.inputs):
                if last_use[index] == node.index:
                    del values[index]  # frees memory where no gradient is needed
            if isinstance(node.layer, L.DropoutBase):
                drops = self.training and node.layer.rate > 0
                out = self.dropout(inputs[0], node.layer, num_dropouts) if drops else inputs[0]
                num_dropouts += 1
            else:
                out = _RULES[type(node.layer)](_Call(self, node), *inputs)
            values[node.index] = out
            if watch is not None:
                watch(node, out)
        return values[self.network.graph.nodes[-1].index]

    def _tensor(self, name: str) -> Tensor:
        owner, short = name.split(".")
        return cast(Tensor, getattr(self.owners[owner], short))


def to_torch(
    network: Network, seed: int = 1, weights: dict[str, Tensor] | None = None
) -> TorchNetwork:
    """Build the PyTorch module of a network.

    Args:
        network: What to build.
        seed: Decides the initial weights.
        weights: Every tensor by name, instead of drawn ones.
    """
    if weights is None:
        drawn = initial_weights(network, seed)
        weights = {name: torch.from_numpy(array) for name, array in drawn.items()}
    return TorchNetwork(network, weights)


def _ordinary_dropout(x: Tensor, layer: L.DropoutBase, number: int) -> Tensor:
    return x * F.dropout(x.new_ones(len(x), *layer.decisions(x.shape[1:])), layer.rate)


@dataclass(frozen=True, slots=True)
class _Call:
    """One operation of a module as its rule sees it."""

    module: TorchNetwork
    node: Node

    def get(self, short: str) -> Tensor | None:
        """Return one of the operation's tensors, or None where the layer has no such."""
        if f"{self.node.name}.{short}" not in self.node.tensors:
            return None
        return self.need(short)

    def need(self, short: str) -> Tensor:
        """Return one of the operation's tensors."""
        return cast(Tensor, getattr(self.module.owners[self.node.name], short))

    @property
    def window(self) -> Window:
        """How far the operation looks."""
        return cast(Window, self.node.layer.window(self.node.input_shape))

    @property
    def layer(self) -> Any:
        """The layer, of the class that the rule is for."""
        return self.node.layer


def _conv(call: _Call, x: Tensor) -> Tensor:
    return _convolved(call, x, "weight", "bias", call.layer.groups)


def _separable(call: _Call, x: Tensor) -> Tensor:
    channels = call.node.input_shape[0]
    y = _convolved(call, x, "depthwise_weight", "depthwise_bias", channels)
    return F.conv2d(y, call.need("weight"), call.get("bias"))


def _convolved(call: _Call, x: Tensor, weight: str, bias: str, groups: int) -> Tensor:
    window = call.window
    x, padding = _padded(x, window, 0.0)
    return F.conv2d(
        x,
        call.need(weight),
        call.get(bias),
        stride=window.stride,
        padding=padding,
        dilation=window.dilation,
        groups=groups,
    )


def _batch_norm(call: _Call, x: Tensor) -> Tensor:
    layer = cast(L.BatchNorm, call.layer)
    mean, var = call.need("running_mean"), call.need("running_var")
    weight, bias = call.get("weight"), call.get("bias")
    if not call.module.training:
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, layer.eps)
    biased = layer.running_variance == "biased"
    # backward needs the array that PyTorch moved, so the correction goes to another one
    moved = var.clone() if biased else var
    y = F.batch_norm(x, mean, moved, weight, bias, True, layer.momentum, layer.eps)
    if biased:
        # PyTorch moved towards n / (n - 1) times the variance; Keras moves towards it itself
        count = x.numel() // x.shape[1]
        kept = var * (1 - layer.momentum)
        with torch.no_grad():
            var.copy_(kept + (moved - kept) * ((count - 1) / count))
    return y


def _sample_norm(call: _Call, x: Tensor) -> Tensor:
    dims = tuple(range(1, x.dim()))
    centered = x - x.mean(dims, keepdim=True)
    # the root's slope is infinite at 0; a constant image must give 0, not NaN, gradients
    variance = centered.square().mean(dims, keepdim=True)
    std = variance.clamp_min(torch.finfo(x.dtype).tiny).sqrt()
    return call.need("weight") * centered / (std + call.layer.eps) + call.need("bias")


def _group_norm(call: _Call, x: Tensor) -> Tensor:
    layer = cast(L.GroupNorm, call.layer)
    return F.group_norm(x, layer.groups, call.get("weight"), call.get("bias"), layer.eps)


def _max_pool(call: _Call, x: Tensor) -> Tensor:
    window = call.window
    x, padding = _padded(x, window, -torch.inf)
    return F.max_pool2d(x, window.kernel, window.stride, padding)


def _avg_pool(call: _Call, x: Tensor) -> Tensor:
    window = call.window
    padded, padding = _padded(x, window, 0.0)
    y = F.avg_pool2d(padded, window.kernel, window.stride, padding)
    counts_padding = call.layer.padding != "same"
    if counts_padding or not any((*window.before, *window.after)):
        return y
    ones, _ = _padded(torch.ones_like(x[:1, :1]), window, 0.0)
    return y / F.avg_pool2d(ones, window.kernel, window.stride, padding)


def _padded(x: Tensor, window: Window, fill: float) -> tuple[Tensor, tuple[int, int]]:
    """Return the input, padded here only where the sides differ, and the padding still to do."""
    (top, left), (bottom, right) = window.before, window.after
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=fill), (0, 0)


_RULES: Mapping[type[L.LayerBase], Callable[..., Tensor]] = {
    L.Conv: _conv,
    L.SeparableConv: _separable,
    L.BatchNorm: _batch_norm,
    L.SampleNorm: _sample_norm,
    L.GroupNorm: _group_norm,
    L.ReLU: lambda call, x: F.relu(x),
    L.LeakyReLU: lambda call, x: F.leaky_relu(x, call.layer.slope),
    L.PReLU: lambda call, x: F.prelu(x, call.need("weight")),
    L.MaxPool: _max_pool,
    L.AvgPool: _avg_pool,
    L.GlobalAvgPool: lambda call, x: x.mean((2, 3), keepdim=True),
    L.GlobalMaxPool: lambda call, x: F.max_pool2d(x, (x.shape[2], x.shape[3])),
    L.Multiply: lambda call, x: x * call.layer.factor,
    L.Flatten: lambda call, x: x.flatten(1),
    L.Dense: lambda call, x: F.linear(x, call.need("weight"), call.get("bias")),
    L.Branches: lambda call, *paths: torch.cat(paths, dim=1),
    L.Residual: lambda call, body, shortcut: body + shortcut,
}
"""What each layer does, but for dropouts, which `TorchNetwork.dropout` decides, and `Repeat`, of
which a graph holds what it repeats."""

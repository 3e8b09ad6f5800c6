"""The PyTorch module of a network: what defines right results for every other engine."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smidgen.network import layers as L
from smidgen.network.layers import Branches, Residual
from smidgen.network.network import INPUT, Network, Node
from smidgen.network.shapes import Window
from smidgen.network.weights import initial_weights

DropoutFunction = Callable[[Tensor, L.Dropout, int], Tensor]
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
            if isinstance(node.layer, L.Dropout):
                out = self._drop(inputs[0], node.layer, num_dropouts)
                num_dropouts += 1
            else:
                out = self._run(node, inputs)
            values[node.index] = out
            if watch is not None:
                watch(node, out)
        return values[self.network.graph.nodes[-1].index]

    def _drop(self, x: Tensor, layer: L.Dropout, number: int) -> Tensor:
        return self.dropout(x, layer, number) if self.training and layer.rate > 0 else x

    def _tensor(self, name: str) -> Tensor:
        owner, short = name.split(".")
        return cast(Tensor, getattr(self.owners[owner], short))

    def _get(self, node: Node, short: str) -> Tensor | None:
        owner = self.owners[node.name]
        return cast(Tensor, getattr(owner, short)) if hasattr(owner, short) else None

    def _run(self, node: Node, inputs: list[Tensor]) -> Tensor:
        x, layer = inputs[0], node.layer
        match layer:
            case L.Conv():
                return self._convolve(node, x, "weight", "bias", layer.groups)
            case L.SeparableConv():
                y = self._convolve(
                    node, x, "depthwise_weight", "depthwise_bias", node.input_shape[0]
                )
                return F.conv2d(y, self._tensor(f"{node.name}.weight"), self._get(node, "bias"))
            case L.Dense():
                return F.linear(x, self._tensor(f"{node.name}.weight"), self._get(node, "bias"))
            case L.BatchNorm():
                return self._batch_norm(node, layer, x)
            case L.SampleNorm():
                return _sample_norm(
                    x,
                    self._tensor(f"{node.name}.weight"),
                    self._tensor(f"{node.name}.bias"),
                    layer.eps,
                )
            case L.PReLU():
                return F.prelu(x, self._tensor(f"{node.name}.weight"))
            case Branches():
                return torch.cat(inputs, dim=1)
            case Residual():
                return inputs[0] + inputs[1]
            case _:
                return _without_tensors(node, x)

    def _convolve(self, node: Node, x: Tensor, weight: str, bias: str, groups: int) -> Tensor:
        window = cast(Window, node.layer.window(node.input_shape))
        x, padding = _padded(x, window, 0.0)
        return F.conv2d(
            x,
            self._tensor(f"{node.name}.{weight}"),
            self._get(node, bias),
            stride=window.stride,
            padding=padding,
            groups=groups,
        )

    def _batch_norm(self, node: Node, layer: L.BatchNorm, x: Tensor) -> Tensor:
        mean = self._tensor(f"{node.name}.running_mean")
        var = self._tensor(f"{node.name}.running_var")
        weight, bias = self._get(node, "weight"), self._get(node, "bias")
        if not self.training:
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


def _ordinary_dropout(x: Tensor, layer: L.Dropout, number: int) -> Tensor:
    return F.dropout(x, layer.rate)


def _sample_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    dims = tuple(range(1, x.dim()))
    centered = x - x.mean(dims, keepdim=True)
    # the root's slope is infinite at 0; a constant image must give 0, not NaN, gradients
    variance = centered.square().mean(dims, keepdim=True)
    std = variance.clamp_min(torch.finfo(x.dtype).tiny).sqrt()
    return gain * centered / (std + eps) + bias


def _without_tensors(node: Node, x: Tensor) -> Tensor:
    match node.layer:
        case L.ReLU():
            return F.relu(x)
        case L.LeakyReLU(slope=slope):
            return F.leaky_relu(x, slope)
        case L.MaxPool():
            window = cast(Window, node.layer.window(node.input_shape))
            x, padding = _padded(x, window, -torch.inf)
            return F.max_pool2d(x, window.kernel, window.stride, padding)
        case L.AvgPool():
            return _average(node, x)
        case L.GlobalAvgPool():
            return x.mean((2, 3), keepdim=True)
        case L.GlobalMaxPool():
            return F.max_pool2d(x, (x.shape[2], x.shape[3]))
        case L.Multiply(factor=factor):
            return x * factor
        case L.Flatten():
            return x.flatten(1)
    raise AssertionError(f"no rule for {node.layer}")


def _average(node: Node, x: Tensor) -> Tensor:
    window = cast(Window, node.layer.window(node.input_shape))
    counts_padding = cast(L.AvgPool, node.layer).padding != "same"
    padded, padding = _padded(x, window, 0.0)
    y = F.avg_pool2d(padded, window.kernel, window.stride, padding)
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

"""Whether a network gives what the module gives that it was read from: the gate of `from_torch`.

The logits are compared in evaluation, and in training with dropout off; there the gradients
and the running statistics are compared, too, and after that evaluation once more, on what training
has made of the statistics.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from smidgen.errors import NetworkError
from smidgen.network.network import Network
from smidgen.network.shapes import Shape
from smidgen.network.torch_module import TorchNetwork

TOLERANCE = 1e-5
"""Largest difference of two logits, as a share of the largest logit or of 1 if that is more."""

_GRADIENT_TOLERANCE = 1e-4  # sums over a batch and a map lose another digit in float32
_BATCHES = (5, 8, 3)


def check_equal(module: nn.Module, network: Network, tensors: Mapping[str, Tensor]) -> None:
    """Compare a module with the network read from it, on random batches.

    Args:
        module: The user's module; its running statistics move, so give a copy.
        network: What was read from it.
        tensors: The module's own tensors by the network's names.

    Raises:
        NetworkError: They differ; the message says in what, where and by how much.
    """
    ours = TorchNetwork(network, {name: tensor.detach() for name, tensor in tensors.items()})
    ours.dropout = lambda x, layer, number: x
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        _compare_evaluation(module, ours, network.input_shape)
        for size in _BATCHES:
            _compare_training(module, ours, tensors, torch.randn(size, *network.input_shape))
        _compare_evaluation(module, ours, network.input_shape)


def _compare_evaluation(module: nn.Module, ours: TorchNetwork, shape: Shape) -> None:
    module.eval()
    ours.eval()
    for size in _BATCHES:
        images = torch.randn(size, *shape)
        with torch.no_grad():
            theirs, again = module(images), module(images)
            if not torch.equal(theirs, again):
                raise NetworkError(
                    "The module gives other scores each time it is evaluated; something random "
                    "stays on after `eval()`."
                )
            _compare("the scores in evaluation", theirs, ours(images), TOLERANCE)


def _compare_training(
    module: nn.Module, ours: TorchNetwork, tensors: Mapping[str, Tensor], images: Tensor
) -> None:
    module.train()
    ours.train()
    module.zero_grad()
    ours.zero_grad()
    with _DropoutOff():
        theirs = module(images)
    mine = ours(images)
    _compare("the scores in training", theirs.detach(), mine.detach(), TOLERANCE)
    pull = torch.randn_like(mine)
    for scores in (theirs, mine):
        if scores.requires_grad:
            (scores * pull).sum().backward()
    for name, tensor in ours.named_tensors().items():
        if not isinstance(tensor, nn.Parameter):
            _compare(f"`{name}` after a step", tensors[name], tensor, TOLERANCE)
            continue
        assert tensor.grad is not None
        given = tensors[name].grad
        gradient = torch.zeros_like(tensor) if given is None else given
        _compare(f"the gradient of `{name}`", gradient, tensor.grad, _GRADIENT_TOLERANCE)


def _compare(what: str, theirs: Tensor, ours: Tensor, tolerance: float) -> None:
    scale = max(1.0, float(ours.abs().max()))
    gap = float((theirs - ours).abs().max())
    if not gap <= tolerance * scale:  # a NaN on one side must not pass
        raise NetworkError(
            f"The network that was read differs from the module: {what} by {gap:.2g} "
            f"(largest {scale:.2g}). `forward` does something that its trace does not show."
        )


class _DropoutOff(TorchFunctionMode):
    """Every kind of dropout passes its input on, from modules and functions alike."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if "dropout" in getattr(func, "__name__", ""):
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)

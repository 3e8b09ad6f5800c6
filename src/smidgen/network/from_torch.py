"""`from_torch`: anybody's `nn.Module` as a `Network` value with its weights.

The forward pass is traced, its operations become layers, and the value is accepted only if it
gives what the module gives. Everything smidgen does with a network then works on it.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from smidgen.errors import NetworkError
from smidgen.network.dead_modules import dead_blocks
from smidgen.network.fx_check import check_equal
from smidgen.network.fx_reading import Reading, read_steps
from smidgen.network.fx_tracing import prepared_copy, trace_forward
from smidgen.network.nesting import Nested, nest
from smidgen.network.network import Network


@dataclass(frozen=True, slots=True)
class Imported:
    """What was read from a module.

    Args:
        network: The value; it gives the module's logits.
        weights: The module's numbers by the network's names, float32.
        notes: What a person should know about the reading, one line each.
    """

    network: Network
    weights: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()


def from_torch(module: nn.Module, input_shape: tuple[int, int, int] = (1, 28, 28)) -> Imported:
    """Read a module: its layers, how they are wired, and its weights.

    The result is compared with the module on random batches: logits in evaluation, and in
    training with dropout off logits, gradients and running statistics. The module itself is
    not changed.

    Args:
        module: What to read; it maps (N, C, H, W) to (N, classes).
        input_shape: (channels, height, width) of the images.

    Raises:
        NetworkError: The module does something that a network cannot say; the message names
            the operation and where it stands.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # the module's own; they are for its author's runs
        twin = prepared_copy(module, input_shape)
        _need_trainable(twin)
        traced = trace_forward(twin, input_shape)
        if traced.drops_in_eval:
            raise NetworkError(
                f"{traced.drops_in_eval[0]} drops in evaluation, too; "
                "pass `training=self.training`."
            )
        reading = read_steps(traced, input_shape)
        nested = nest(reading.steps, reading.result)
        scores = traced.values[traced.result]
        dead = dead_blocks(twin, reading)
        network = Network(
            nested.layers,
            input_shape,
            num_classes=scores[-1],
            output=reading.output,
            unreached=dead.blocks,
        )
        tensors = _named(network, nested, reading)
        weights = {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}
        check_equal(twin, network, tensors)
    wasted = tuple(f"{place} is computed and never used." for place in reading.wasted)
    return Imported(network, weights, (*dead.notes, *wasted))


def _need_trainable(module: nn.Module) -> None:
    frozen = [name for name, tensor in module.named_parameters() if not tensor.requires_grad]
    if frozen:
        raise NetworkError(
            f"`{frozen[0]}` is frozen (`requires_grad` is False); a network trains all its numbers."
        )


def _named(network: Network, nested: Nested, reading: Reading) -> Mapping[str, Tensor]:
    """Return the module's tensors by the network's names, each under one name.

    `lower` lists the operations in the order of the steps they came from.
    """
    named: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    for step, node in zip(nested.order, network.graph.nodes, strict=True):
        for short, tensor in reading.tensors[step].items():
            name = f"{node.name}.{short}"
            known = named.setdefault(name, tensor)
            if names.setdefault(id(tensor), name) != name or known is not tensor:
                raise NetworkError(
                    f"{reading.steps[step].where} is used several times; a network shares weights "
                    "only between blocks that follow each other and have norms of their own."
                )
    return {name: named[name] for name in network.graph.tensors}

"""`from_torch`: anybody's `nn.Module` as a `Network` value with its weights.

The forward pass is traced, its operations become layers, and the value is accepted only if it
gives what the module gives. Everything smidgen does with a network then works on it.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from smidgen.errors import NetworkError
from smidgen.network.layers import Flatten, Layer, Unreached
from smidgen.network.network import Network
from smidgen.network.shapes import MAP, Shape
from smidgen.network.torch_module import TorchNetwork
from smidgen.reading.fx import prepared_copy, trace_forward
from smidgen.reading.nesting import Nested, nest
from smidgen.reading.steps import Reading, read_steps
from smidgen.reading.torch_calls import Unsayable, layer_of, module_call


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


@dataclass(frozen=True, slots=True)
class Dead:
    """The unused blocks that hold numbers, and a line on each unused module."""

    blocks: tuple[Unreached, ...]
    notes: tuple[str, ...]


def dead_blocks(module: nn.Module, reading: Reading) -> Dead:
    """Find what a reading of the module never used.

    Raises:
        NetworkError: Unused numbers that are in no layer we know.
    """
    used = {id(tensor) for tensors in reading.tensors for tensor in tensors.values()}
    unused = list(_unused(module, "", used, reading.called))
    dead = {id(tensor) for _, block in unused for tensor in block.parameters()}
    for name, tensor in module.named_parameters():
        if id(tensor) not in used | dead:
            raise NetworkError(_loose(name, tensor.numel()))
    blocks: list[Unreached] = []
    for path, block in unused:
        if any(True for _ in block.parameters()):
            blocks += _chained(path, block, reading.shapes)
    notes = tuple(f"`{path}` is registered and never used." for path, _ in unused)
    return Dead(tuple(blocks), notes)


def _unused(
    module: nn.Module, prefix: str, used: set[int], called: frozenset[str]
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the largest modules of which no part is used."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        inside = any(place == path or place.startswith(f"{path}.") for place in called)
        if inside or any(id(tensor) in used for tensor in child.parameters()):
            yield from _unused(child, f"{path}.", used, called)
        elif any(_does_something(leaf) for leaf in child.modules()):
            yield path, child


def _does_something(module: nn.Module) -> bool:
    idle = (nn.Identity, nn.Sequential, nn.ModuleList, nn.ModuleDict)
    return not list(module.children()) and not isinstance(module, idle)


def _chained(path: str, block: nn.Module, shapes: tuple[Shape, ...]) -> list[Unreached]:
    chain = _Chain(shapes)
    for name, leaf in block.named_modules():
        if not list(leaf.children()):
            chain.add(f"{path}.{name}".rstrip("."), leaf)
    return chain.closed()


@dataclass(slots=True)
class _Chain:
    """Unused layers in the order they are registered, cut where one does not fit the last."""

    shapes: tuple[Shape, ...]
    done: list[Unreached] = field(default_factory=list)
    entry: Shape = ()
    shape: Shape = ()
    layers: list[Layer] = field(default_factory=list)

    def add(self, place: str, leaf: nn.Module) -> None:
        owned = sum(tensor.numel() for tensor in leaf.parameters())
        if not module_call(leaf, place).kind and owned:
            raise NetworkError(_loose(place, owned))
        if self._must_restart(leaf):
            self.closed()
            self.entry = self.shape = self._likely_shape(leaf)
        if self.shape:
            try:
                self._append(place, leaf)
            except (Unsayable, NetworkError) as obstacle:
                raise NetworkError(f"`{place}`, which is never used, {obstacle}.") from None

    def closed(self) -> list[Unreached]:
        """End the chain; return all chains so far."""
        if self.layers:
            self.done.append(Unreached(self.entry, tuple(self.layers)))
        self.layers = []
        return self.done

    def _append(self, place: str, leaf: nn.Module) -> None:
        call = module_call(leaf, place)
        layer: Layer | None = None
        if call.kind == "reshape":
            layer = Flatten() if isinstance(leaf, nn.Flatten) else None
        elif call.kind not in ("", "softmax", "log_softmax"):
            layer = layer_of(call, self.shape)
        if layer is not None:
            self.shape = layer.output_shape(self.shape)
            self.layers.append(layer)

    def _must_restart(self, leaf: nn.Module) -> bool:
        wanted = _wanted_channels(leaf)
        if wanted is None:
            return False
        is_map = len(self.shape) == MAP
        return not self.shape or self.shape[0] != wanted or is_map == isinstance(leaf, nn.Linear)

    def _likely_shape(self, leaf: nn.Module) -> Shape:
        """Return the last shape that occurs in the forward pass and fits the layer."""
        channels = _wanted_channels(leaf) or 1
        dims = 1 if isinstance(leaf, nn.Linear | nn.BatchNorm1d) else MAP
        fitting = [s for s in self.shapes if len(s) == dims and s[0] == channels]
        return fitting[-1] if fitting else (channels, *self.shapes[0][1:])[:dims]


def _wanted_channels(leaf: nn.Module) -> int | None:
    for name in ("in_channels", "in_features", "num_features"):
        if isinstance(found := getattr(leaf, name, None), int):
            return found
    return None


def _loose(place: str, numbers: int) -> str:
    return (
        f"`{place}`, {numbers:,} numbers, is registered and never used, and is in no layer that "
        "a network knows."
    )


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

"""Modules that a model registers and its forward pass never uses: counted, never run."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn

from smidgen.errors import NetworkError
from smidgen.network.blocks import Layer, Unreached
from smidgen.network.fx_calls import module_call
from smidgen.network.fx_layers import Unsayable, layer_of
from smidgen.network.fx_reading import Reading
from smidgen.network.layers import Flatten
from smidgen.network.shapes import MAP, Shape


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

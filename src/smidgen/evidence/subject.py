"""What a check looks at: a network or a watched module, reduced to the numbers limits are on."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from smidgen.evidence.limits import LAYER_WORDS
from smidgen.network.layers import LAYERS, Layer, kind_of
from smidgen.network.network import Network
from smidgen.network.shapes import MAP, Shape
from smidgen.network.trace import trace
from smidgen.reading.watched import Watched

_TORCH_KINDS = {name.lower(): kind_of(layer) for layer in LAYERS for name in layer.torch_names}
"""Of a module that was only watched, the classes of its layers are known."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model as limits see it.

    Args:
        name: What it is called.
        num_params: Trainable numbers reached, shared ones once.
        num_registered: The same with those that are never reached.
        num_buffers: Running statistics.
        num_macs: Multiply-accumulates for one image.
        kinds: How often each kind of layer runs; unreached ones do not count.
        epochs: Passes over the training images; None where nothing says.
        notes: What a person should know about these numbers.
        flash_bytes: Flash of the exported network on a Cortex-M0; None where nobody asked.
        ram_bytes: RAM there, stack included.
    """

    name: str
    num_params: int
    num_registered: int
    num_buffers: int
    num_macs: int
    kinds: Mapping[str, int]
    epochs: int | None = None
    notes: tuple[str, ...] = ()
    flash_bytes: int | None = None
    ram_bytes: int | None = None

    def count(self, word: str) -> int:
        """Return how many layers run of a kind named as in `LAYER_WORDS`."""
        return sum(self.kinds.get(kind, 0) for kind in LAYER_WORDS[word])


def subject_of_network(
    name: str, network: Network, epochs: int | None = None, notes: tuple[str, ...] = ()
) -> Subject:
    """Return what limits are on, of a network."""
    traced = trace(network)
    kinds = Counter(_kind(row.kind, row.output_shape) for row in traced.rows)
    kinds.update(_wrappers(network.layers))
    totals = traced.totals
    return Subject(
        name,
        totals.num_params,
        totals.num_params + totals.num_dead,
        totals.num_buffers,
        totals.num_macs,
        kinds,
        epochs,
        notes,
    )


def subject_of_watched(
    name: str, watched: Watched, epochs: int | None = None, notes: tuple[str, ...] = ()
) -> Subject:
    """Return what limits are on, of a module that could only be watched."""
    kinds = Counter(
        _kind(_TORCH_KINDS[row.kind.lower()], row.output_shape)
        for row in watched.rows
        if row.kind.lower() in _TORCH_KINDS
    )
    told = [*notes]
    if watched.num_frozen:
        told.append(
            f"Not counted: {watched.num_frozen:,} frozen numbers (`requires_grad` is False)."
        )
    if watched.num_loose:
        told.append(
            f"Not counted: {watched.num_loose:,} numbers that belong to no layer, as in a plain "
            "list of layers or a tensor that is no `nn.Parameter`."
        )
    told += [
        f"Watched, not read: {watched.obstacle}",
        "Layers written as functions are not among the kinds that were seen.",
    ]
    return Subject(
        name,
        watched.num_params,
        watched.num_params + watched.num_dead,
        watched.num_buffers,
        watched.num_macs,
        kinds,
        epochs,
        tuple(told),
    )


def _kind(kind: str, output_shape: Shape) -> str:
    one_position = len(output_shape) == MAP and output_shape[1:] == (1, 1)
    if kind == "avg_pool" and one_position:
        return "global_avg_pool"
    return kind


def _wrappers(layers: tuple[Layer, ...]) -> Iterator[str]:
    """Yield the kinds of the layers that hold layers, at any depth."""
    for layer in layers:
        if layer.paths:
            yield layer.kind
        for part in layer.paths:
            yield from _wrappers(part)

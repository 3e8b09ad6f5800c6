"""What a teacher would write in the margin of a network: each remark with its layer and reason.

Nothing here is an error; some of the best known small networks break one of these rules.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from smidgen.network.layers import (
    BatchNorm,
    Conv,
    DropoutBase,
    MaxPool,
)
from smidgen.network.network import INPUT, Graph, Network, Node, lower
from smidgen.network.shapes import show_shape
from smidgen.network.trace import Trace, trace

OBJECT_SHARE = 20 / 28
"""Side of the object as a share of the image's: MNIST digits are 20 pixels of 28."""

LAYERS_AFTER_POOLING = 2
"""How many layers with weights should still combine what the last max pooling has kept."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing worth changing, or worth knowing.

    Args:
        rule: A stable name, such as `linear-pair`.
        path: Where the layer stands in the network, as in the table; "" for the whole.
        text: What is the case and why it matters, in one or two sentences.
    """

    rule: str
    path: str
    text: str

    def to_plain(self) -> dict[str, str]:
        """Return the machine-readable form."""
        return asdict(self)


def review(network: Network, object_pixels: int | None = None) -> tuple[Remark, ...]:
    """Return the remarks on a network, in the order of its layers.

    Args:
        network: What to review.
        object_pixels: Side of what is to be recognized; by default 20 of 28 of the image's.
    """
    graph, table = network.graph, trace(network)
    if object_pixels is None:
        object_pixels = round(OBJECT_SHARE * min(network.input_shape[1:]))
    found = [
        *_linear_pairs(graph),
        *_biases(graph),
        *_short_sight(graph, table, object_pixels),
        *_late_pooling(graph),
        *_tail(graph),
        *_output(network),
        *_dead(network),
    ]
    places = {node.path: node.index for node in reversed(graph.nodes)}
    return tuple(sorted(found, key=lambda remark: places.get(remark.path, len(graph.nodes))))


def _linear_pairs(graph: Graph) -> Iterator[Remark]:
    source: dict[int, Node | None] = {INPUT: None}
    """The weighted layer of which a value is still a linear function."""
    for node in graph.nodes:
        before = source[node.inputs[0]] if len(node.inputs) == 1 else None
        is_weighted = node.layer.role == "weighted"
        if is_weighted and before is not None and not _is_separable_pair(before, node):
            yield Remark(
                "linear-pair",
                node.path,
                f"`{node.name}` follows `{before.name}` with no activation between: together they "
                "are one linear map, which a single layer could be. Put a `ReLU` between, or "
                "merge them.",
            )
        if is_weighted:
            source[node.index] = node
        else:
            source[node.index] = before if node.layer.is_linear else None


def _is_separable_pair(first: Node, second: Node) -> bool:
    """Whether a depthwise convolution meets its 1x1: a factorization that is meant."""
    pair = (first, second)
    depthwise, pointwise = [_is_depthwise(n) for n in pair], [_is_pointwise(n) for n in pair]
    return (depthwise[0] and pointwise[1]) or (pointwise[0] and depthwise[1])


def _is_depthwise(node: Node) -> bool:
    return isinstance(node.layer, Conv) and 1 < node.layer.groups == node.input_shape[0]


def _is_pointwise(node: Node) -> bool:
    layer = node.layer
    return isinstance(layer, Conv) and layer.kernel_size == 1 and layer.groups == 1


def _biases(graph: Graph) -> Iterator[Remark]:
    for node in graph.nodes:
        if not isinstance(node.layer, BatchNorm) or node.inputs[0] == INPUT:
            continue
        owner = graph.nodes[node.inputs[0]]
        if owner.layer.role == "weighted" and f"{owner.name}.bias" in owner.tensors:
            yield Remark(
                "bias-before-norm",
                owner.path,
                f"The bias of `{owner.name}` is subtracted again by the batch norm that follows: "
                f"{owner.output_shape[0]} parameters without effect. Set `bias=False`.",
            )


def _short_sight(graph: Graph, table: Trace, object_pixels: int) -> Iterator[Remark]:
    for node in graph.nodes:
        if len(node.input_shape) == 1 or node.input_shape[1:] == (1, 1) or node.inputs[0] == INPUT:
            continue
        whole = node.layer.role == "pool" and node.output_shape[1:] == (1, 1)
        sees = table.rows[node.inputs[0]].reach.receptive_field[1]
        if whole and sees < object_pixels:
            yield Remark(
                "short-sight",
                node.path,
                f"What `{node.name}` pools has seen {sees:g} pixels, and the object is about "
                f"{object_pixels}: positions are lost here before any value has seen the whole.",
            )


def _late_pooling(graph: Graph) -> Iterator[Remark]:
    pools = [
        node
        for node in graph.nodes
        if isinstance(node.layer, MaxPool) and node.output_shape[1:] != (1, 1)
    ]
    if not pools:
        return
    last = pools[-1]
    after = [n.name for n in graph.nodes[last.index :] if n.layer.role == "weighted"]
    if len(after) < LAYERS_AFTER_POOLING:
        yield Remark(
            "late-pooling",
            last.path,
            f"`{last.name}` throws positions away with {len(after)} layer of weights left to use "
            f"what it keeps; leave at least {LAYERS_AFTER_POOLING}.",
        )


def _tail(graph: Graph) -> Iterator[Remark]:
    """Remark on what happens to the class scores after the layer that makes them."""
    tail: list[Node] = []
    index = len(graph.nodes) - 1
    while index != INPUT and len(graph.nodes[index].inputs) == 1:
        node = graph.nodes[index]
        if node.layer.role == "weighted":
            for late in reversed(tail):
                yield from _late(late, node)
            return
        tail.append(node)
        index = node.inputs[0]


def _late(node: Node, scores: Node) -> Iterator[Remark]:
    after = f"`{node.name}` comes after `{scores.name}`, which makes the class scores"
    if node.layer.role == "activation":
        yield Remark(
            "activated-scores",
            node.path,
            f"{after}: evidence against a class is cut off, and with it the gradient.",
        )
    elif node.layer.role == "norm":
        yield Remark(
            "normalized-scores",
            node.path,
            f"{after}: it rescales them by the batch, so confidence cannot grow where it should.",
        )
    elif isinstance(node.layer, DropoutBase) and node.layer.rate > 0:
        yield Remark(
            "dropped-scores",
            node.path,
            f"{after}: in {100 * node.layer.rate:g} % of the cases the loss punishes a score that "
            "was erased, not one that was wrong.",
        )


def _output(network: Network) -> Iterator[Remark]:
    # Keras' losses expect probabilities, so its networks end in a softmax rightly
    if network.output == "softmax" and network.init == "torch":
        yield Remark(
            "softmax-output",
            "",
            "The model returns probabilities. `nn.CrossEntropyLoss` takes class scores and "
            "applies a softmax itself; a second one flattens the gradients. smidgen's loss knows.",
        )


def _dead(network: Network) -> Iterator[Remark]:
    for number, block in enumerate(network.unreached):
        specs = lower(block.layers, block.input_shape).tensors.values()
        size = sum(spec.size for spec in specs if spec.trainable)
        kinds = ", ".join(type(layer).__name__ for layer in block.layers)
        yield Remark(
            "dead-block",
            f"unreached.{number}",
            f"A block of {size:,} parameters on {show_shape(block.input_shape)} ({kinds}) is "
            "registered and never runs: it learns nothing, yet many counters include it.",
        )

"""The layer table: shapes, parameters, arithmetic and receptive field of every operation.

Counting rule: *parameters* are trainable numbers that the forward pass reaches, shared ones
once. Beside them, never mixed in: dead parameters (registered, unreached), buffers, Keras'
total (parameters + buffers) and the folded size (batch norms merged into the convolution or
dense layer right before them, where every norm can be). What other tools would print for the
arithmetic stands beside our multiply-accumulates, each by its own rule (`OtherCounts`).
"""

from dataclasses import asdict, dataclass

from smidgen.network.layers import BatchNorm, Layer
from smidgen.network.network import INPUT, Graph, Network, Node, lower
from smidgen.network.shapes import Shape, Window, num_elements


@dataclass(frozen=True, slots=True)
class OtherCounts:
    """One layer or network as other tools would count it, for one image.

    Args:
        torchinfo_mult_adds: "Total mult-adds" of torchinfo 1.8: every trainable number of a
            convolution (its bias too) once per output position, every other trainable number
            once per image (those of batch norms and slopes too).
        fvcore_flops: `FlopCountAnalysis` of fvcore 0.1.5 in evaluation mode: multiply-accumulates,
            plus two (without scale and shift: one) per value of a batch norm and one per value
            that a global average reads. It does not see a convolution that is written with
            `padding="same"`; write the number of cells.
        torch_flops: `torch.utils.flop_counter.FlopCounterMode`: two per multiply-accumulate.
    """

    torchinfo_mult_adds: int
    fvcore_flops: int
    torch_flops: int

    def __add__(self, other: "OtherCounts") -> "OtherCounts":
        return OtherCounts(
            self.torchinfo_mult_adds + other.torchinfo_mult_adds,
            self.fvcore_flops + other.fvcore_flops,
            self.torch_flops + other.torch_flops,
        )


NOTHING = OtherCounts(0, 0, 0)


def other_counts(layer: Layer, shape: Shape) -> OtherCounts:
    """Return the tools' counts of a layer on an input of this shape; shared weights count anew."""
    num_macs = layer.macs(shape)
    return OtherCounts(
        torchinfo_mult_adds=layer.torchinfo_mult_adds(shape),
        fvcore_flops=num_macs + layer.fvcore_extra(shape),
        torch_flops=2 * num_macs,
    )


Span = tuple[float, float]
"""Smallest and largest value over the paths from the input, and over rows and columns."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What one output value sees of the image, in pixels of the input.

    Args:
        receptive_field: Side of the square it can depend on.
        jump: Distance between the centers of neighboring outputs.
        start: Center of the first output, 0 being the center of the first pixel.
        padding: Pixels by which the padding so far reaches beyond the image.
    """

    receptive_field: Span
    jump: Span
    start: Span
    padding: Span


@dataclass(frozen=True, slots=True)
class Row:
    """One operation of the table.

    Args:
        path: Where the layer stands in the network.
        name: The operation's name; rows that share weights share it.
        kind: The layer's kind as in the exchange form.
        text: The layer as one would write it.
        input_shape: Shape of the (first) input, without the batch.
        output_shape: Shape of the output.
        num_params: Trainable numbers counted here; 0 where they are shared with a row above.
        num_buffers: Running statistics.
        num_macs: Multiply-accumulates for one image (convolutions and dense layers).
        num_activations: Values in the output for one image.
        reach: Receptive field and its companions.
        is_shared: Whether it applies weights that a row above owns.
        others: The arithmetic as other tools would count it.
    """

    path: str
    name: str
    kind: str
    text: str
    input_shape: Shape
    output_shape: Shape
    num_params: int
    num_buffers: int
    num_macs: int
    num_activations: int
    reach: Reach
    is_shared: bool
    others: OtherCounts

    def to_plain(self) -> dict[str, object]:
        """Return the row as the stable machine-readable form of `smidgen show --json`."""
        return {
            "path": self.path,
            "name": self.name,
            "kind": self.kind,
            "text": self.text,
            "input_shape": list(self.input_shape),
            "output_shape": list(self.output_shape),
            "num_params": self.num_params,
            "num_buffers": self.num_buffers,
            "num_macs": self.num_macs,
            "num_activations": self.num_activations,
            "receptive_field": _plain(self.reach.receptive_field),
            "jump": _plain(self.reach.jump),
            "start": _plain(self.reach.start),
            "padding": _plain(self.reach.padding),
            "is_shared": self.is_shared,
            **asdict(self.others),
        }


@dataclass(frozen=True, slots=True)
class Totals:
    """The network's size by every counting rule.

    Args:
        num_params: Trainable numbers reached by the forward pass, shared ones once.
        num_dead: Trainable numbers that are registered and never reached.
        num_buffers: Running statistics of the layers that run.
        num_dead_buffers: Running statistics of layers that never run.
        keras_total: What Keras calls total: `num_params` + `num_buffers`.
        folded: Numbers left when every batch norm is merged into the layer before it; None
            where there is no batch norm, or one that cannot be merged exactly.
        num_macs: Multiply-accumulates for one image.
        num_activations: Sum of all operations' outputs for one image.
        receptive_field: Side in pixels that one class score can depend on.
        others: The arithmetic as other tools would count it.
    """

    num_params: int
    num_dead: int
    num_buffers: int
    num_dead_buffers: int
    keras_total: int
    folded: int | None
    num_macs: int
    num_activations: int
    receptive_field: int
    others: OtherCounts

    @property
    def num_registered(self) -> int:
        """What counting every registered parameter gives: reached and dead."""
        return self.num_params + self.num_dead

    def to_plain(self) -> dict[str, int | None]:
        """Return the totals as the stable machine-readable form of `smidgen show --json`."""
        own = {name: getattr(self, name) for name in self.__slots__ if name != "others"}
        return own | asdict(self.others)


@dataclass(frozen=True, slots=True)
class Trace:
    """The rows of a network, in the order they run, and their totals."""

    rows: tuple[Row, ...]
    totals: Totals


def trace(network: Network) -> Trace:
    """Tabulate a network for one image."""
    graph = network.graph
    axes = [reaches(graph, axis) for axis in range(2)]
    rows = tuple(_row(node, _union([reach[node.index] for reach in axes])) for node in graph.nodes)
    dead = [
        spec
        for block in network.unreached
        for spec in lower(block.layers, block.input_shape).tensors.values()
    ]
    num_params = sum(row.num_params for row in rows)
    num_buffers = sum(row.num_buffers for row in rows)
    totals = Totals(
        num_params=num_params,
        num_dead=sum(spec.size for spec in dead if spec.trainable),
        num_buffers=num_buffers,
        num_dead_buffers=sum(spec.size for spec in dead if not spec.trainable),
        keras_total=num_params + num_buffers,
        folded=_folded(graph, num_params),
        num_macs=sum(row.num_macs for row in rows),
        num_activations=sum(row.num_activations for row in rows),
        receptive_field=int(rows[-1].reach.receptive_field[1]),
        others=sum((row.others for row in rows), NOTHING),
    )
    return Trace(rows, totals)


def _row(node: Node, reach: Reach) -> Row:
    specs = node.tensors.values()
    return Row(
        path=node.path,
        name=node.name,
        kind=node.layer.kind,
        text=repr(node.layer) if len(node.inputs) == 1 else f"{type(node.layer).__name__}",
        input_shape=node.input_shape,
        output_shape=node.output_shape,
        num_params=sum(s.size for s in specs if s.trainable) if node.is_first_use else 0,
        num_buffers=sum(s.size for s in specs if not s.trainable),
        num_macs=node.layer.macs(node.input_shape),
        num_activations=num_elements(node.output_shape),
        reach=reach,
        is_shared=not node.is_first_use,
        others=other_counts(node.layer, node.input_shape),
    )


def reaches(graph: Graph, axis: int) -> dict[int, Reach]:
    """Return what every value sees of the image along rows (axis 0) or columns (axis 1)."""
    found = {INPUT: Reach((1, 1), (1, 1), (0, 0), (0, 0))}
    for node in graph.nodes:
        seen = _union([found[index] for index in node.inputs])
        window = node.layer.window(node.input_shape) if len(node.inputs) == 1 else None
        found[node.index] = seen if window is None else _through(seen, window, axis)
    return found


def _through(seen: Reach, window: Window, axis: int) -> Reach:
    kernel, stride, before = window.extent[axis], window.stride[axis], window.before[axis]
    low, high = seen.jump
    return Reach(
        receptive_field=_add(seen.receptive_field, ((kernel - 1) * low, (kernel - 1) * high)),
        jump=(low * stride, high * stride),
        start=_add(
            seen.start,
            _sorted(((kernel - 1) / 2 - before) * low, ((kernel - 1) / 2 - before) * high),
        ),
        padding=_add(seen.padding, (before * low, before * high)),
    )


def _union(reaches: list[Reach]) -> Reach:
    return Reach(
        *(
            (
                min(getattr(r, name)[0] for r in reaches),
                max(getattr(r, name)[1] for r in reaches),
            )
            for name in Reach.__slots__
        )
    )


def _add(a: Span, b: Span) -> Span:
    return (a[0] + b[0], a[1] + b[1])


def _sorted(a: float, b: float) -> Span:
    return (min(a, b), max(a, b))


def _plain(span: Span) -> list[float | int]:
    return [int(x) if float(x).is_integer() else x for x in span]


def _folded(graph: Graph, num_params: int) -> int | None:
    norms = [node for node in graph.nodes if isinstance(node.layer, BatchNorm)]
    if not norms:
        return None
    readers: dict[int, int] = {}
    names: dict[str, int] = {}
    for node in graph.nodes:
        names[node.name] = names.get(node.name, 0) + 1
        for index in node.inputs:
            readers[index] = readers.get(index, 0) + 1
    for norm in norms:
        source = norm.inputs[0]
        if source == INPUT or readers[source] > 1:
            return None
        owner = graph.nodes[source]
        if owner.layer.role != "weighted" or names[owner.name] > 1:
            return None
        learned = sum(spec.size for spec in norm.tensors.values() if spec.trainable)
        has_bias = f"{owner.name}.bias" in owner.tensors
        num_params += (0 if has_bias else norm.output_shape[0]) - learned
    return num_params

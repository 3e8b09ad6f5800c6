"""The account of a module that was watched while it ran: what `watching.watch` gives."""

from dataclasses import asdict, dataclass
from typing import Any

from smidgen.network.shapes import Shape


@dataclass(frozen=True, slots=True)
class WatchedRow:
    """One call of a module that has no modules inside.

    Args:
        path: Its attribute path in the model.
        kind: Its class.
        input_shape: Shape of the first input, without the batch.
        output_shape: Shape of the output, without the batch; () where it is no single tensor.
        num_params: Numbers that are learned; 0 where a call above counted them.
        num_frozen: Numbers that are not learned (`requires_grad` is False).
        num_buffers: Running statistics and the like.
        num_macs: Multiply-accumulates for one image, of matrix products and convolutions.
        receptive_field: Rows and columns of the image that the value in the middle of the output
            depends on, within the image; None where the output is no map.
        is_shared: Whether it was called before.
    """

    path: str
    kind: str
    input_shape: Shape
    output_shape: Shape
    num_params: int
    num_frozen: int
    num_buffers: int
    num_macs: int
    receptive_field: tuple[int, int] | None
    is_shared: bool


@dataclass(frozen=True, slots=True)
class WatchedFunction:
    """A function or a method of tensors that was called outside of every layer.

    Args:
        name: Torch's name, such as `adaptive_avg_pool2d`.
        input_shape: Shape of the first tensor, without the batch.
        output_shape: Shape of the result, without the batch.
    """

    name: str
    input_shape: Shape
    output_shape: Shape


@dataclass(frozen=True, slots=True)
class Watched:
    """A module as watched.

    Args:
        rows: The calls in the order they ran.
        num_params: Learned numbers that the result depends on, shared ones once.
        num_frozen: Numbers that the result depends on and that are not learned.
        num_dead: Learned or frozen numbers that the result does not depend on.
        num_buffers: Buffers of the modules that ran; counters of batches left out.
        num_macs: Multiply-accumulates for one image, functional ones included.
        dead: Paths of the numbers that count as dead.
        obstacle: What stops the module from being a `Network`.
        num_loose: Numbers that the forward pass reads and that are neither parameters nor buffers
            of a layer: of modules in a plain list, of global tensors, of the model's own buffers.
        functions: What was called outside of every layer, in order.
        uncounted: Layers with matrices whose arithmetic nobody counts; `num_macs` lacks it.
    """

    rows: tuple[WatchedRow, ...]
    num_params: int
    num_frozen: int
    num_dead: int
    num_buffers: int
    num_macs: int
    dead: tuple[str, ...]
    obstacle: str
    num_loose: int = 0
    functions: tuple[WatchedFunction, ...] = ()
    uncounted: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Return the machine-readable form."""
        return asdict(self)

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> "Watched":
        """Read `to_plain`'s form after it went through JSON."""
        rows = tuple(
            WatchedRow(**{name: _tuples(item) for name, item in row.items()})
            for row in plain["rows"]
        )
        functions = tuple(
            WatchedFunction(**{name: _tuples(item) for name, item in each.items()})
            for each in plain.get("functions", ())
        )
        lists = {name: tuple(plain.get(name, ())) for name in ("dead", "uncounted")}
        return Watched(**{**plain, "rows": rows, "functions": functions, **lists})


def _tuples(item: Any) -> Any:
    return tuple(item) if isinstance(item, list) else item

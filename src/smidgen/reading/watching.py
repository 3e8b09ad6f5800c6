"""What can be said of a module that is no `Network`: counts, shapes and reach, by watching it run.

Counts are exact. A receptive field is measured: one row (then one column) of the image is made
NaN at a time, and whatever depends on it becomes NaN, through any operation.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from smidgen.network.shapes import Shape
from smidgen.reading.fx import prepared_copy
from smidgen.reading.watched import Watched, WatchedFunction, WatchedRow


def watch(
    module: nn.Module, input_shape: tuple[int, int, int] = (1, 28, 28), obstacle: str = ""
) -> Watched:
    """Run a module and count; it is not changed.

    Args:
        module: What to watch.
        input_shape: (channels, height, width) of the images.
        obstacle: What stopped the module from being read as a `Network`.

    Raises:
        NetworkError: The forward pass fails on images of this shape.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        twin = prepared_copy(module, input_shape)
        try:
            calls = _calls(twin, input_shape)
        except Exception:  # a model that squeezes takes the batch of one image for no batch
            calls = _calls(twin, input_shape, num_images=2)
        fields = _receptive_fields(twin, input_shape, len(calls.rows))
        reached = _reached(twin, input_shape, calls.ran)
    learned = {name: p.numel() for name, p in twin.named_parameters() if p.requires_grad}
    fixed = {name: p.numel() for name, p in twin.named_parameters() if not p.requires_grad}
    rows = tuple(
        WatchedRow(**row, receptive_field=seen)
        for row, seen in zip(calls.rows, fields, strict=True)
    )
    return Watched(
        rows=rows,
        num_params=sum(size for name, size in learned.items() if name in reached),
        num_frozen=sum(size for name, size in fixed.items() if name in reached),
        num_dead=sum(n for name, n in (learned | fixed).items() if name not in reached),
        num_buffers=sum(row.num_buffers for row in rows),
        num_macs=calls.num_macs,
        dead=tuple(name for name in learned | fixed if name not in reached),
        obstacle=obstacle,
        num_loose=calls.num_loose,
        functions=tuple(calls.functions),
        uncounted=tuple(calls.uncounted),
    )


@dataclass(slots=True)
class _Calls:
    rows: list[dict[str, Any]] = field(default_factory=list)
    ran: set[int] = field(default_factory=set)
    """Identities of the parameters of the modules that ran."""
    num_macs: int = 0
    num_loose: int = 0
    functions: list[WatchedFunction] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)


class _Functions(TorchFunctionMode):
    """Keeps the functions and methods that are called outside of layers, with their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[WatchedFunction] = []
        self.depth = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        outermost, self.depth = self.depth == 0, self.depth + 1
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            self.depth -= 1
        source = args[0] if args and isinstance(args[0], Tensor) else None
        if outermost and source is not None and isinstance(result, Tensor):
            name = getattr(func, "__name__", "")
            if not name.startswith("__get"):
                self.found.append(WatchedFunction(name, _shape(source), _shape(result)))
        return result


@contextmanager
def _plain_paths() -> Iterator[None]:
    """Let every layer do its arithmetic by operations that can be counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Reads(TorchDispatchMode):
    """Keeps the tensors that operations read and no operation made, by where they lie in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, Tensor] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        literal = func is torch.ops.aten.lift_fresh.default  # `torch.tensor(0.5)` in `forward`
        for tensor in [] if literal else _tensors((args, kwargs)):
            if _place(tensor) not in self._made:
                self.found.setdefault(_place(tensor), tensor)
        result = func(*args, **(kwargs or {}))
        self._made |= {_place(tensor) for tensor in _tensors(result)}
        return result


def _tensors(things: Any) -> list[Tensor]:
    return [thing for thing in tree_leaves(things) if isinstance(thing, Tensor)]


def _place(tensor: Tensor) -> int:
    dense = tensor.layout is torch.strided
    return tensor.untyped_storage().data_ptr() if dense else id(tensor)


def _calls(module: nn.Module, input_shape: Shape, num_images: int = 1) -> _Calls:
    calls = _Calls()
    functions = _Functions()
    counter = FlopCounterMode(display=False)
    before: list[int] = []
    paths = {leaf: path for path, leaf in module.named_modules()}
    seen: set[nn.Module] = set()

    def enter(leaf: nn.Module, inputs: Any) -> None:
        functions.depth += 1
        before.append(counter.get_total_flops())

    def leave(leaf: nn.Module, inputs: Any, output: Any) -> None:
        functions.depth -= 1
        flops = counter.get_total_flops() - before.pop()
        if flops == 0 and leaf not in seen and any(p.dim() > 1 for p in leaf.parameters()):
            calls.uncounted.append(f"{paths[leaf]} ({type(leaf).__name__})")
        fresh = [p for p in leaf.parameters() if id(p) not in calls.ran]
        calls.ran |= {id(p) for p in leaf.parameters()}
        first = next((x for x in inputs if isinstance(x, Tensor)), None)
        calls.rows.append(
            {
                "path": paths[leaf],
                "kind": type(leaf).__name__,
                "input_shape": _shape(first),
                "output_shape": _shape(output),
                "num_params": sum(p.numel() for p in fresh if p.requires_grad),
                "num_frozen": sum(p.numel() for p in fresh if not p.requires_grad),
                "num_buffers": 0 if leaf in seen else _num_buffers(leaf),
                "num_macs": flops // (2 * num_images),
                "is_shared": leaf in seen,
            }
        )
        seen.add(leaf)

    module.eval()
    reads, images = _Reads(), torch.zeros(num_images, *input_shape)
    # a fast path and a fused LSTM do arithmetic that the counter does not see
    with _hooked(module, enter, leave), _plain_paths(), functions, counter, reads, torch.no_grad():
        module(images)
    calls.num_macs = counter.get_total_flops() // (2 * num_images)
    calls.functions = functions.found
    buffers = (buffer for leaf in seen for buffer in leaf.buffers())
    known = {_place(tensor) for tensor in (images, *module.parameters(), *buffers)}
    calls.num_loose = sum(x.numel() for place, x in reads.found.items() if place not in known)
    return calls


def _receptive_fields(
    module: nn.Module, input_shape: Shape, num_calls: int
) -> list[tuple[int, int] | None]:
    """Measure what the middle of each call's output depends on, in rows and in columns."""
    # in float32 some convolutions mix values, and with them NaN, over whole tiles; not in float64
    module.double()
    extents = [_extents(module, input_shape, axis) for axis in range(2)]
    module.float()
    if any(len(found) != num_calls for found in extents):  # NaN may change which modules run
        return [None] * num_calls
    return [
        None if rows is None or columns is None else (rows, columns)
        for rows, columns in zip(*extents, strict=True)
    ]


def _extents(module: nn.Module, input_shape: Shape, axis: int) -> list[int | None]:
    size = input_shape[1 + axis]
    images = torch.zeros(size, *input_shape, dtype=torch.float64)
    for place in range(size):
        images[place].select(1 + axis, place).fill_(torch.nan)
    found: list[int | None] = []

    def leave(leaf: nn.Module, inputs: Any, output: Any) -> None:
        is_map = isinstance(output, Tensor) and output.dim() == 4 and len(output) == size
        touched = None
        if is_map:
            middle = output[:, :, output.shape[2] // 2, output.shape[3] // 2]
            touched = middle.isnan().any(1).nonzero().flatten()
        extent = None if touched is None or len(touched) == 0 else int(touched[-1] - touched[0]) + 1
        found.append(extent)

    with (
        torch.no_grad(),
        _hooked(module, lambda leaf, inputs: None, leave),
        suppress(Exception),  # what stumbles over NaN has no measured field
    ):
        module(images)
    return found


def _reached(module: nn.Module, input_shape: Shape, ran: set[int]) -> set[str]:
    """Return the names of the parameters that the result depends on."""
    parameters = dict(module.named_parameters())
    wanted = {name: p.requires_grad for name, p in parameters.items()}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
        parameter.grad = None
    try:
        output = module(torch.randn(2, *input_shape))
        output.sum().backward()
        return {name for name, p in parameters.items() if p.grad is not None}
    except (RuntimeError, AttributeError):  # no single tensor, or no gradient: who ran counts
        return {name for name, p in parameters.items() if id(p) in ran}
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(wanted[name])


@contextmanager
def _hooked(
    module: nn.Module,
    enter: Callable[[nn.Module, Any], None],
    leave: Callable[[nn.Module, Any, Any], None],
) -> Iterator[None]:
    """Watch every module that has no modules inside."""
    leaves = [leaf for leaf in module.modules() if not list(leaf.children())]
    handles = [leaf.register_forward_pre_hook(enter) for leaf in leaves]
    handles += [leaf.register_forward_hook(leave) for leaf in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _num_buffers(module: nn.Module) -> int:
    return sum(
        buffer.numel()
        for name, buffer in module.named_buffers()
        if name.split(".")[-1] != "num_batches_tracked"
    )


def _shape(thing: Any) -> Shape:
    return tuple(thing.shape[1:]) if isinstance(thing, Tensor) else ()

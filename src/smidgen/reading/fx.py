"""A module's forward pass as a torch.fx graph: what every node gives, and where it stands."""

import copy
import inspect
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn.parameter import is_lazy

from smidgen.errors import NetworkError
from smidgen.network.shapes import Shape, show_shape

BATCH = 3
"""Images in the batch that shapes are read from: unlike any usual number of channels."""

_MADE = "_made_in_forward_"


@dataclass(frozen=True, slots=True)
class Traced:
    """A traced forward pass.

    Args:
        module: The module that was traced.
        graph: Its operations in training mode.
        values: What each node gave for a batch of `BATCH` images: for tensors their shape.
        drops_in_eval: Places where dropout is on in evaluation, too.
    """

    module: nn.Module
    graph: fx.Graph
    values: dict[fx.Node, Any]
    drops_in_eval: tuple[str, ...]

    @property
    def result(self) -> fx.Node:
        """The node whose value the forward pass returns."""
        returned = next(node for node in self.graph.nodes if node.op == "output").args[0]
        if not isinstance(returned, fx.Node):
            raise NetworkError(
                "`forward` returns several values; it must return the class scores alone."
            )
        return returned


def prepared_copy(module: nn.Module, input_shape: Shape) -> nn.Module:
    """Return an independent float32 copy on the CPU that has seen one batch.

    Raises:
        NetworkError: The forward pass fails on images of this shape.
    """
    try:
        twin = copy.deepcopy(module, _computed_tensors(module)).cpu().eval()
    except (RuntimeError, TypeError) as problem:
        raise NetworkError(f"The module cannot be copied: {first_line(problem)}.") from problem
    try:
        with torch.no_grad():
            if any(map(is_lazy, twin.parameters())):  # sizes of lazy layers come from the images
                twin(torch.zeros(BATCH, *input_shape))
            twin.float()(torch.zeros(BATCH, *input_shape))
    except Exception as problem:
        raise NetworkError(
            f"`forward` fails on images of {show_shape(input_shape)}: "
            f"{type(problem).__name__}: {first_line(problem)}{_at(problem)}."
        ) from problem
    return twin


def _computed_tensors(module: nn.Module) -> dict[int, Tensor]:
    """Return copies of the tensors that layers compute for themselves, as old `weight_norm` does.

    They hang on a gradient and cannot be copied with the module; the next call makes them anew.
    """
    return {
        id(thing): thing.detach().clone()
        for part in module.modules()
        for thing in vars(part).values()
        if isinstance(thing, Tensor) and not thing.is_leaf
    }


def trace_forward(module: nn.Module, input_shape: Shape) -> Traced:
    """Trace a module that `prepared_copy` gave; it is left in training mode.

    Raises:
        NetworkError: The forward pass decides by the values of tensors, or cannot be traced.
    """
    module.eval()
    evaluated = _trace(module)
    drops = tuple(where(node) for node in evaluated.nodes if _always_drops(node))
    _forget_made(module)
    module.train()
    graph = _trace(module)
    interpreter = _Recorder(fx.GraphModule(module, graph).eval())
    with torch.no_grad():
        interpreter.run(torch.zeros(BATCH, *input_shape))
    _forget_made(module)
    module.train()
    return Traced(module, graph, interpreter.values, drops)


def where(node: fx.Node) -> str:
    """Return where an operation stands: the module's path, or the function and its line."""
    line = node.meta.get("line", "")
    if node.op == "call_module":
        kind = type(owner_of(node)).__name__
        if str(node.target).startswith(_MADE):
            return f"`{kind}` made at {line}"
        return f"`{node.target}` ({kind})"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name == "getitem":
        name = "[...]"
    if name == "fn":  # functions that torch dispatches by a flag have no name of their own
        name = node.name.rstrip("_0123456789") or name
    return f"`{name}`" + (f" at {line}" if line else "")


def owner_of(node: fx.Node) -> nn.Module:
    """Return the module that a `call_module` node calls."""
    return node.meta["module"]


def first_line(problem: BaseException) -> str:
    """Return the first line of an error's text, without a full stop."""
    return (str(problem).strip().splitlines() or ["no reason given"])[0].strip().rstrip(".")


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps every value; of tensors the shape."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.values[n] = Shaped(result.shape) if isinstance(result, Tensor) else result
        return result


class Shaped(tuple[int, ...]):
    """The shape of a node that is a tensor, batch included; other nodes may be mere tuples."""


class _Tracer(fx.Tracer):
    """Keeps torch's layers whole, subclasses that add no forward included, and notes lines."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if super().is_leaf_module(m, module_qualified_name):
            return True
        bases = [c for c in type(m).__mro__ if c.__module__.startswith("torch.nn.modules")]
        return (
            bool(bases)
            and bases[0] not in (nn.Module, nn.Sequential)
            and (type(m).forward is bases[0].forward)
        )

    def path_of_module(self, mod: nn.Module) -> str:
        try:
            return super().path_of_module(mod)
        except NameError:
            if any(True for _ in (*mod.parameters(), *mod.buffers())):
                raise NetworkError(
                    f"`forward` makes a {type(mod).__name__} with new numbers at every call"
                    f"{_at_line(_calling_line())}; make it in `__init__`."
                ) from None
        # a pool or an activation made where it is used does what one made before would do
        name = f"{_MADE}{len(self.root._modules)}"
        self.root.add_module(name, mod)
        self.submodule_paths = None
        return name

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, target, *args, **kwargs)
        node.meta["line"] = _calling_line()
        if kind == "call_module":
            node.meta["module"] = self.root.get_submodule(target)
        return node


def _forget_made(module: nn.Module) -> None:
    for name in [name for name in module._modules if name.startswith(_MADE)]:
        del module._modules[name]


def _at_line(line: str) -> str:
    return f" ({line})" if line else ""


def _trace(module: nn.Module) -> fx.Graph:
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    try:
        return _Tracer().trace(module, concrete_args=defaults or None)
    except NetworkError:
        raise
    except TraceError as problem:
        raise NetworkError(
            f"`forward` decides by the values or shapes of tensors{_at(problem)}; "
            "a network is one fixed list of operations."
        ) from problem
    except Exception as problem:
        raise NetworkError(
            f"`forward` cannot be traced: {type(problem).__name__}: "
            f"{first_line(problem)}{_at(problem)}."
        ) from problem


def _always_drops(node: fx.Node) -> bool:
    if node.op == "call_module":  # one that is made in `forward` never hears of `eval()`
        return "Dropout" in type(owner_of(node)).__name__ and owner_of(node).training
    is_dropout = node.op == "call_function" and "dropout" in getattr(node.target, "__name__", "")
    training = node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)
    return is_dropout and training is True


def _calling_line() -> str:
    """Return the line of the user's code that the tracer is at, as `net.py:12`."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code is not _trace.__code__:
        if _is_own_code(frame):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _at(problem: BaseException) -> str:
    """Return the innermost line of the user's code that led to an error, as ` (net.py:12)`."""
    own = ""
    for frame, number in traceback.walk_tb(problem.__traceback__):
        if _is_own_code(frame):
            own = f" ({Path(frame.f_code.co_filename).name}:{number})"
    return own


def _is_own_code(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").split(".")[0] not in ("torch", "smidgen")

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

from smidgen.errors import NetworkError
from smidgen.network.shapes import Shape, show_shape

BATCH = 3
"""Images in the batch that shapes are read from: unlike any usual number of channels."""


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
        twin = copy.deepcopy(module).cpu().float().eval()
    except (RuntimeError, TypeError) as problem:
        raise NetworkError(f"The module cannot be copied: {first_line(problem)}.") from problem
    try:
        with torch.no_grad():
            twin(torch.zeros(BATCH, *input_shape))
    except Exception as problem:
        raise NetworkError(
            f"`forward` fails on images of {show_shape(input_shape)}: "
            f"{type(problem).__name__}: {first_line(problem)}{_at(problem)}."
        ) from problem
    return twin


def trace_forward(module: nn.Module, input_shape: Shape) -> Traced:
    """Trace a module that `prepared_copy` gave; it is left in training mode.

    Raises:
        NetworkError: The forward pass decides by the values of tensors, or cannot be traced.
    """
    module.eval()
    evaluated = _trace(module)
    drops = tuple(where(node) for node in evaluated.nodes if _always_drops(node))
    module.train()
    graph = _trace(module)
    interpreter = _Recorder(fx.GraphModule(module, graph).eval())
    with torch.no_grad():
        interpreter.run(torch.zeros(BATCH, *input_shape))
    module.train()
    return Traced(module, graph, interpreter.values, drops)


def where(node: fx.Node) -> str:
    """Return where an operation stands: the module's path, or the function and its line."""
    line = node.meta.get("line", "")
    if node.op == "call_module":
        return f"`{node.target}` ({type(owner_of(node)).__name__})"
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

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, target, *args, **kwargs)
        node.meta["line"] = _calling_line()
        if kind == "call_module":
            node.meta["module"] = self.root.get_submodule(target)
        return node


def _trace(module: nn.Module) -> fx.Graph:
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    try:
        return _Tracer().trace(module, concrete_args=defaults or None)
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

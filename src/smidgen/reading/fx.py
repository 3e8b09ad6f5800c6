"""A module's forward pass as a torch.fx graph: what every node calls, gives, and where it stands.

`nn.ReLU(inplace=True)`, `F.relu(x)`, `torch.relu(x)` and `x.relu_()` are one call here, with one
set of arguments.
"""

import copy
import inspect
import operator
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
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


@dataclass(frozen=True, slots=True)
class Call:
    """One operation.

    Args:
        kind: What it does, such as `conv` or `relu`; "" where we have no word for it.
        arguments: By torch's names, the tensors it works on included as nodes.
        module: The module that was called, or None for functions and methods.
        where: Its place, for messages.
        in_place: Whether it changes its input.
    """

    kind: str
    arguments: Mapping[str, Any]
    module: nn.Module | None
    where: str
    in_place: bool = False


_REQUIRED: Any = object()
_POOL = {"kernel_size": _REQUIRED, "stride": None, "padding": 0}
_SIGNATURES: dict[str, dict[str, Any]] = {
    "relu": {"inplace": False},
    "leaky_relu": {"negative_slope": 0.01, "inplace": False},
    "max_pool": _POOL | {"dilation": 1, "ceil_mode": False, "return_indices": False},
    "avg_pool": _POOL | {"ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    "adaptive_avg_pool": {"output_size": _REQUIRED},
    "adaptive_max_pool": {"output_size": _REQUIRED, "return_indices": False},
    "log_softmax": {"dim": None},
    "softmax": {"dim": None},
    "dropout": {"p": 0.5, "training": True, "inplace": False},
    "dropout2d": {"p": 0.5, "training": True, "inplace": False},
    "reshape": {},
    "mean": {"dim": None, "keepdim": False},
    "amax": {"dim": None, "keepdim": False},
    "concat": {"dim": 0},
    "add": {"other": _REQUIRED, "alpha": 1},
    "multiply": {"other": _REQUIRED},
    "divide": {"other": _REQUIRED, "rounding_mode": None},
    "negate": {},
}
"""Arguments after the first, in torch's order, with torch's defaults."""

_MODULES: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.Linear: "linear",
    nn.BatchNorm1d: "batch_norm",
    nn.BatchNorm2d: "batch_norm",
    nn.PReLU: "prelu",
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.MaxPool2d: "max_pool",
    nn.AvgPool2d: "avg_pool",
    nn.AdaptiveAvgPool2d: "adaptive_avg_pool",
    nn.AdaptiveMaxPool2d: "adaptive_max_pool",
    nn.LogSoftmax: "log_softmax",
    nn.Softmax: "softmax",
    nn.Dropout: "dropout",
    nn.Dropout2d: "dropout2d",
    nn.Flatten: "reshape",
    nn.Unflatten: "reshape",
    nn.Identity: "reshape",
}

_FUNCTIONS: dict[Callable[..., Any], str] = {
    F.relu: "relu",
    F.relu_: "relu",
    torch.relu: "relu",
    torch.relu_: "relu",
    F.leaky_relu: "leaky_relu",
    F.leaky_relu_: "leaky_relu",
    F.max_pool2d: "max_pool",
    torch.max_pool2d: "max_pool",
    F.avg_pool2d: "avg_pool",
    F.adaptive_avg_pool2d: "adaptive_avg_pool",
    F.adaptive_max_pool2d: "adaptive_max_pool",
    F.log_softmax: "log_softmax",
    torch.log_softmax: "log_softmax",
    F.softmax: "softmax",
    torch.softmax: "softmax",
    F.dropout: "dropout",
    F.dropout2d: "dropout2d",
    torch.flatten: "reshape",
    torch.reshape: "reshape",
    torch.squeeze: "reshape",
    torch.unsqueeze: "reshape",
    torch.mean: "mean",
    torch.amax: "amax",
    torch.cat: "concat",
    torch.concat: "concat",
    torch.concatenate: "concat",
    torch.add: "add",
    operator.add: "add",
    operator.iadd: "add",
    torch.mul: "multiply",
    operator.mul: "multiply",
    operator.imul: "multiply",
    torch.div: "divide",
    operator.truediv: "divide",
    operator.itruediv: "divide",
    torch.neg: "negate",
    operator.neg: "negate",
}

_METHODS = {
    "relu": "relu",
    "flatten": "reshape",
    "view": "reshape",
    "reshape": "reshape",
    "squeeze": "reshape",
    "unsqueeze": "reshape",
    "contiguous": "reshape",
    "log_softmax": "log_softmax",
    "softmax": "softmax",
    "mean": "mean",
    "amax": "amax",
    "add": "add",
    "mul": "multiply",
    "div": "divide",
    "neg": "negate",
}

_IN_PLACE = (operator.iadd, operator.imul, operator.itruediv, F.relu_, torch.relu_, F.leaky_relu_)


def read_call(node: fx.Node) -> Call:
    """Say what a node calls; `kind` is "" where it is nothing we know."""
    if node.op == "call_module":
        return module_call(owner_of(node), where(node), node.args[0])
    if node.op == "call_function":
        kind = _FUNCTIONS.get(node.target, "")  # type: ignore[call-overload]  # a function here
        changes = node.target in _IN_PLACE
    else:
        name = str(node.target)
        changes = name.endswith("_") and not name.endswith("__")
        kind = _METHODS.get(name.rstrip("_"), "") if node.op == "call_method" else ""
    arguments = _bound(kind, node) if kind else None
    if arguments is None:
        return Call("", {}, None, where(node))
    changes = changes or arguments.get("inplace") is True
    return Call(kind, arguments, None, where(node), changes)


def module_call(module: nn.Module, place: str, operand: Any = None) -> Call:
    """Say what calling a module does; `kind` is "" where it is nothing we know."""
    kind = next((kind for base, kind in _MODULES.items() if _runs_as(module, base)), "")
    arguments = {
        name: getattr(module, name, default) for name, default in _SIGNATURES.get(kind, {}).items()
    }
    in_place = arguments.get("inplace") is True
    return Call(kind, {"input": operand, **arguments}, module, place, in_place)


def _runs_as(module: nn.Module, base: type[nn.Module]) -> bool:
    # parametrized layers change their class, and compute their weights anew at every call
    return (
        isinstance(module, base)
        and type(module).forward is base.forward
        and not hasattr(module, "parametrizations")
    )


def _bound(kind: str, node: fx.Node) -> dict[str, Any] | None:
    """Return the arguments by name, or None for a form of the call that we do not know."""
    names = ["tensors" if kind == "concat" else "input", *_SIGNATURES[kind]]
    if kind == "reshape":
        return {"input": node.args[0]} if node.args else None
    if len(node.args) > len(names):
        return None
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    if kind == "concat" and "axis" in given:
        given["dim"] = given["axis"]
    bound = {**_SIGNATURES[kind], **given}
    return None if any(bound.get(name) is _REQUIRED for name in names) else bound

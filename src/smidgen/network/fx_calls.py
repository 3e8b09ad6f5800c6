"""What a node of a torch.fx graph calls: torch's modules, functions and methods under one name.

`nn.ReLU(inplace=True)`, `F.relu(x)`, `torch.relu(x)` and `x.relu_()` are one call here, with one
set of arguments.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from smidgen.network.fx_tracing import owner_of, where


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

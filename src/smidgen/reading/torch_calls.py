"""What one call of torch does, and which of our layers says exactly that.

`nn.ReLU(inplace=True)`, `F.relu(x)`, `torch.relu(x)` and `x.relu_()` are one call here, with one
set of arguments. All words stand in one table, `_WORDS`; the rule of each gives a layer, or raises
`Unsayable` with what stands in the way: an option that no layer has.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Dropout2d,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    PReLU,
    ReLU,
)
from smidgen.network.shapes import MAP, Shape, pair, show_shape
from smidgen.reading.fx import owner_of, where

Size = int | tuple[int, int]

_REQUIRED: Any = object()
_IN_PLACE = (operator.iadd, operator.imul, operator.itruediv, F.relu_, torch.relu_, F.leaky_relu_)


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
        name: getattr(module, name, default) for name, default in _arguments_of(kind).items()
    }
    in_place = arguments.get("inplace") is True
    return Call(kind, {"input": operand, **arguments}, module, place, in_place)


def _runs_as(module: nn.Module, base: type[nn.Module]) -> bool:
    # parametrized layers change their class, old `weight_norm` leaves a tensor: both compute their
    # weights anew at every call
    return (
        isinstance(module, base)
        and type(module).forward is base.forward
        and not hasattr(module, "parametrizations")
        and "weight" not in vars(module)
    )


def _bound(kind: str, node: fx.Node) -> dict[str, Any] | None:
    """Return the arguments by name, or None for a form of the call that we do not know."""
    names = ["tensors" if kind == "concat" else "input", *_arguments_of(kind)]
    if kind == "reshape":
        return {"input": node.args[0]} if node.args else None
    if len(node.args) > len(names):
        return None
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    if kind == "concat" and "axis" in given:
        given["dim"] = given["axis"]
    bound = {**_arguments_of(kind), **given}
    return None if any(bound.get(name) is _REQUIRED for name in names) else bound


def _arguments_of(kind: str) -> Mapping[str, Any]:
    return _WORDS[kind].arguments if kind else {}


class Unsayable(Exception):  # noqa: N818 - it is no error until somebody says where it happened
    """An option of a call that no layer has; the text continues "`conv1` (Conv2d) ..."."""


def layer_of(call: Call, shape: Shape) -> Layer | None:
    """Return the layer of a call with one tensor, or None for one that passes its input on."""
    layer = _WORDS[call.kind].layer
    assert layer is not None, call.kind
    return layer(call, shape)


def tensors_of(module: nn.Module | None) -> dict[str, Tensor]:
    """Return a module's parameters and running statistics by the short names of our layers."""
    if module is None:
        return {}
    owned = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    return {name: tensor for name, tensor in owned.items() if name != "num_batches_tracked"}


def _conv(call: Call, shape: Shape) -> Layer:
    conv = cast(nn.Conv2d, call.module)
    if conv.padding_mode != "zeros":
        raise Unsayable(f"pads with `{conv.padding_mode}`; a network pads with zeros")
    apart = _size(conv.dilation)
    if not isinstance(apart, int):
        raise Unsayable(f"has dilation {_shown(apart)}; a network's are equal for rows and columns")
    padding = 0 if conv.padding == "valid" else conv.padding
    return Conv(
        conv.out_channels,
        _size(conv.kernel_size),
        stride=_stride(conv.stride),
        padding="same" if padding == "same" else _size(cast(Any, padding)),
        groups=conv.groups,
        bias=conv.bias is not None,
        dilation=apart,
    )


def _linear(call: Call, shape: Shape) -> Layer:
    linear = cast(nn.Linear, call.module)
    if len(shape) == MAP:
        raise Unsayable(f"works on the last axis of a {show_shape(shape)} map; flatten it first")
    return Dense(linear.out_features, bias=linear.bias is not None)


def _batch_norm(call: Call, shape: Shape) -> Layer:
    norm = cast(nn.BatchNorm2d, call.module)
    if not norm.track_running_stats:
        raise Unsayable("keeps no running statistics; a network's batch norm does")
    if norm.momentum is None:
        raise Unsayable("averages over all batches (`momentum=None`); give it a number")
    return BatchNorm(norm.eps, norm.momentum, scale=norm.affine, shift=norm.affine)


def _group_norm(call: Call, shape: Shape) -> Layer:
    norm = cast(nn.GroupNorm, call.module)
    return GroupNorm(norm.num_groups, norm.eps, norm.affine)


def _instance_norm(call: Call, shape: Shape) -> Layer:
    norm = cast(nn.InstanceNorm2d, call.module)
    if norm.track_running_stats:
        raise Unsayable("keeps running statistics; a network's norms of single images do not")
    return GroupNorm(shape[0], norm.eps, norm.affine)


def _layer_norm(call: Call, shape: Shape) -> Layer:
    sizes, learned = call.arguments["normalized_shape"], call.module is not None
    if learned:
        norm = cast(nn.LayerNorm, call.module)
        learned = norm.elementwise_affine
        if learned and norm.bias is None:
            raise Unsayable("has a gain and no shift; a network's norms have both or neither")
    if tuple(sizes) != shape:
        raise Unsayable(f"normalizes {_shown(sizes)} of {show_shape(shape)} values, not all")
    if learned and len(shape) == MAP:
        raise Unsayable(
            f"learns a gain for each of {show_shape(shape)} values; a network's norms have one "
            f"for each channel: `nn.GroupNorm(1, {shape[0]})`"
        )
    return GroupNorm(1, float(call.arguments["eps"]), learned)


def _prelu(call: Call, shape: Shape) -> Layer:
    return PReLU(shared=cast(nn.PReLU, call.module).num_parameters != shape[0])


def _max_pool(call: Call, shape: Shape) -> Layer:
    if call.arguments["return_indices"]:
        raise Unsayable("returns indices")
    if set(pair(call.arguments["dilation"])) != {1}:
        raise Unsayable(f"has dilation {_shown(call.arguments['dilation'])}; a network has none")
    return _whole_windows(MaxPool(*_pool_sizes(call.arguments)), call, shape)


def _avg_pool(call: Call, shape: Shape) -> Layer:
    if call.arguments["divisor_override"] is not None:
        raise Unsayable("divides by another number than the window's size")
    layer = AvgPool(*_pool_sizes(call.arguments))
    if layer.padding != 0 and not call.arguments["count_include_pad"]:
        raise Unsayable("leaves padded cells out of its means; a network counts them as zeros")
    return _whole_windows(layer, call, shape)


def _pool_sizes(arguments: Mapping[str, Any]) -> tuple[Size, int | None, Size]:
    kernel = _size(arguments["kernel_size"])
    stride = arguments["stride"]
    # F.max_pool2d(x, 2, []) is torch's own spelling of "as the kernel"
    own = stride is None or stride in ([], ()) or _size(stride) == kernel
    return kernel, None if own else _stride(stride), _size(arguments["padding"])


def _whole_windows(layer: MaxPool | AvgPool, call: Call, shape: Shape) -> Layer:
    if call.arguments["ceil_mode"]:
        window = layer.window(shape)
        for axis in range(2):
            extent = shape[1 + axis] + window.before[axis] + window.after[axis]
            if (extent - window.kernel[axis]) % window.stride[axis]:
                raise Unsayable(
                    f"rounds up (`ceil_mode`) on a {show_shape(shape)} map; a network drops "
                    "incomplete windows"
                )
    return layer


def _adaptive_avg(call: Call, shape: Shape) -> Layer | None:
    kernel = _adaptive(call, shape)
    if kernel == shape[1:]:
        return GlobalAvgPool()
    return None if kernel == (1, 1) else AvgPool(_size(kernel))


def _adaptive_max(call: Call, shape: Shape) -> Layer | None:
    if call.arguments["return_indices"]:
        raise Unsayable("returns indices")
    kernel = _adaptive(call, shape)
    if kernel == shape[1:]:
        return GlobalMaxPool()
    return None if kernel == (1, 1) else MaxPool(_size(kernel))


def _adaptive(call: Call, shape: Shape) -> tuple[int, ...]:
    """Return the window, equal everywhere, that gives the same."""
    _need_map(shape)
    wanted = call.arguments["output_size"]
    sizes = (wanted, wanted) if wanted is None or isinstance(wanted, int) else tuple(wanted)
    kernel = []
    for size, out in zip(shape[1:], sizes, strict=True):
        out = size if out is None else out
        if size % out:
            raise Unsayable(
                f"makes {out} of {size} rows or columns, by windows of unequal size; "
                "use one that divides"
            )
        kernel.append(size // out)
    return tuple(kernel)


def _dropout(call: Call, shape: Shape) -> Layer | None:
    if not call.arguments["training"]:
        return None
    rate = float(call.arguments["p"])
    if rate >= 1:
        raise Unsayable("drops everything (p = 1)")
    return Dropout(rate)


def _dropout2d(call: Call, shape: Shape) -> Layer | None:
    layer = _dropout(call, shape)
    if layer == Dropout(0.0) or layer is None:
        return layer
    is_map = len(shape) == MAP and shape[1:] != (1, 1)
    return Dropout2d(cast(Dropout, layer).rate) if is_map else layer


def _whole_mean(call: Call, shape: Shape) -> Layer:
    return _over_the_map(call, shape, GlobalAvgPool())


def _whole_max(call: Call, shape: Shape) -> Layer:
    return _over_the_map(call, shape, GlobalMaxPool())


def _over_the_map(call: Call, shape: Shape, layer: Layer) -> Layer:
    dim = call.arguments["dim"]
    axes = dim if isinstance(dim, list | tuple) else (dim,)
    if None in axes or len(shape) != MAP or {axis % (MAP + 1) for axis in axes} != {2, 3}:
        raise Unsayable(f"reduces over axes {_shown(dim)}; a network reduces whole maps: (2, 3)")
    return layer


def _multiply(call: Call, shape: Shape) -> Layer:
    return Multiply(_constant(call))


def _divide(call: Call, shape: Shape) -> Layer:
    factor = _constant(call)
    if call.arguments["rounding_mode"] is not None or factor == 0:
        raise Unsayable("is no plain division by a number other than 0")
    return Multiply(1 / factor)


def _constant(call: Call) -> float:
    pair_given = (call.arguments["input"], call.arguments["other"])
    numbers = [x for x in pair_given if isinstance(x, int | float)]
    if len(numbers) != 1 or (call.kind == "divide" and numbers[0] is pair_given[0]):
        raise Unsayable("combines two tensors; a network multiplies by fixed numbers only")
    return float(numbers[0])


def _need_map(shape: Shape) -> None:
    if len(shape) != MAP:
        raise Unsayable(f"pools {show_shape(shape)} values that are no map")


def _size(size: Any) -> Size:
    rows, columns = pair(size) if isinstance(size, int) else (tuple(size) * 2)[:2]
    return rows if rows == columns else (rows, columns)


def _stride(stride: Any) -> int:
    size = _size(stride)
    if not isinstance(size, int):
        raise Unsayable(f"has stride {_shown(size)}; a network's are equal for rows and columns")
    return size


def _shown(sizes: Any) -> str:
    return "x".join(str(size) for size in sizes) if isinstance(sizes, list | tuple) else str(sizes)


@dataclass(frozen=True, slots=True)
class _Word:
    """One thing that torch can do, under all its names.

    Args:
        layer: Which layer of ours does it on a shape, None where it does nothing; by default none
            alone does, and whoever reads a forward pass decides.
        arguments: Those after the first, in torch's order, with torch's defaults.
        modules: The classes that do it.
        functions: The functions that do it.
        methods: The methods of tensors that do it; those with `_` behind work in place.
    """

    layer: Callable[[Call, Shape], Layer | None] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()
    methods: tuple[str, ...] = ()


_POOL = {"kernel_size": _REQUIRED, "stride": None, "padding": 0}
_DROPOUT = {"p": 0.5, "training": True, "inplace": False}
_WORDS: dict[str, _Word] = {
    "conv": _Word(_conv, modules=(nn.Conv2d,)),
    "linear": _Word(_linear, modules=(nn.Linear,)),
    "batch_norm": _Word(_batch_norm, modules=(nn.BatchNorm1d, nn.BatchNorm2d)),
    "group_norm": _Word(_group_norm, modules=(nn.GroupNorm,)),
    "instance_norm": _Word(_instance_norm, modules=(nn.InstanceNorm2d,)),
    "layer_norm": _Word(
        _layer_norm,
        {"normalized_shape": _REQUIRED, "weight": None, "bias": None, "eps": 1e-5},
        (nn.LayerNorm,),
        (F.layer_norm,),
    ),
    "prelu": _Word(_prelu, modules=(nn.PReLU,)),
    "relu": _Word(
        lambda call, shape: ReLU(),
        {"inplace": False},
        (nn.ReLU,),
        (F.relu, F.relu_, torch.relu, torch.relu_),
        ("relu",),
    ),
    "leaky_relu": _Word(
        lambda call, shape: LeakyReLU(float(call.arguments["negative_slope"])),
        {"negative_slope": 0.01, "inplace": False},
        (nn.LeakyReLU,),
        (F.leaky_relu, F.leaky_relu_),
    ),
    "max_pool": _Word(
        _max_pool,
        _POOL | {"dilation": 1, "ceil_mode": False, "return_indices": False},
        (nn.MaxPool2d,),
        (F.max_pool2d, torch.max_pool2d),
    ),
    "avg_pool": _Word(
        _avg_pool,
        _POOL | {"ceil_mode": False, "count_include_pad": True, "divisor_override": None},
        (nn.AvgPool2d,),
        (F.avg_pool2d,),
    ),
    "adaptive_avg_pool": _Word(
        _adaptive_avg,
        {"output_size": _REQUIRED},
        (nn.AdaptiveAvgPool2d,),
        (F.adaptive_avg_pool2d,),
    ),
    "adaptive_max_pool": _Word(
        _adaptive_max,
        {"output_size": _REQUIRED, "return_indices": False},
        (nn.AdaptiveMaxPool2d,),
        (F.adaptive_max_pool2d,),
    ),
    "log_softmax": _Word(
        None,
        {"dim": None},
        (nn.LogSoftmax,),
        (F.log_softmax, torch.log_softmax),
        ("log_softmax",),
    ),
    "softmax": _Word(None, {"dim": None}, (nn.Softmax,), (F.softmax, torch.softmax), ("softmax",)),
    "dropout": _Word(_dropout, _DROPOUT, (nn.Dropout,), (F.dropout,)),
    "dropout2d": _Word(_dropout2d, _DROPOUT, (nn.Dropout2d,), (F.dropout2d,)),
    "reshape": _Word(
        modules=(nn.Flatten, nn.Unflatten, nn.Identity),
        functions=(torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze),
        methods=("flatten", "view", "reshape", "squeeze", "unsqueeze", "contiguous"),
    ),
    "mean": _Word(
        _whole_mean, {"dim": None, "keepdim": False}, functions=(torch.mean,), methods=("mean",)
    ),
    "amax": _Word(
        _whole_max, {"dim": None, "keepdim": False}, functions=(torch.amax,), methods=("amax",)
    ),
    "concat": _Word(None, {"dim": 0}, functions=(torch.cat, torch.concat, torch.concatenate)),
    "add": _Word(
        None,
        {"other": _REQUIRED, "alpha": 1},
        functions=(torch.add, operator.add, operator.iadd),
        methods=("add",),
    ),
    "multiply": _Word(
        _multiply,
        {"other": _REQUIRED},
        functions=(torch.mul, operator.mul, operator.imul),
        methods=("mul",),
    ),
    "divide": _Word(
        _divide,
        {"other": _REQUIRED, "rounding_mode": None},
        functions=(torch.div, operator.truediv, operator.itruediv),
        methods=("div",),
    ),
    "negate": _Word(
        lambda call, shape: Multiply(-1.0),
        functions=(torch.neg, operator.neg),
        methods=("neg",),
    ),
}
_MODULES = {cls: kind for kind, word in _WORDS.items() for cls in word.modules}
_FUNCTIONS = {function: kind for kind, word in _WORDS.items() for function in word.functions}
_METHODS = {name: kind for kind, word in _WORDS.items() for name in word.methods}

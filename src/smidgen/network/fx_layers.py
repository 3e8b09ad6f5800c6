"""Which of our layers says exactly what one call of torch does; None where it does nothing.

Every function takes the call and the shape it works on, and raises `Unsayable` with what stands
in the way: an option that no layer of ours has.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from smidgen.network.blocks import Layer
from smidgen.network.fx_calls import Call
from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    GlobalMaxPool,
    LeakyReLU,
    MaxPool,
    Multiply,
    PReLU,
    ReLU,
)
from smidgen.network.shapes import MAP, Shape, pair, show_shape

Size = int | tuple[int, int]


class Unsayable(Exception):  # noqa: N818 - it is no error until somebody says where it happened
    """An option of a call that no layer has; the text continues "`conv1` (Conv2d) ..."."""


def layer_of(call: Call, shape: Shape) -> Layer | None:
    """Return the layer of a call with one tensor, or None for one that passes its input on."""
    return _LAYERS[call.kind](call, shape)


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
    if set(conv.dilation) != {1}:
        raise Unsayable(f"has dilation {_shown(conv.dilation)}; a network has none")
    padding = 0 if conv.padding == "valid" else conv.padding
    return Conv(
        conv.out_channels,
        _size(conv.kernel_size),
        stride=_stride(conv.stride),
        padding="same" if padding == "same" else _size(cast(Any, padding)),
        groups=conv.groups,
        bias=conv.bias is not None,
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


def _prelu(call: Call, shape: Shape) -> Layer:
    slopes = cast(nn.PReLU, call.module).num_parameters
    if slopes != shape[0]:
        raise Unsayable(
            f"learns {slopes} slope for {shape[0]} channels; a network learns one per channel: "
            f"`nn.PReLU({shape[0]})`"
        )
    return PReLU()


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
    if len(shape) != MAP or shape[1:] != (1, 1):
        raise Unsayable(
            f"drops whole channels of {show_shape(shape)}; a network's dropout drops single "
            "values: use `nn.Dropout`"
        )
    return layer


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


_LAYERS: dict[str, Callable[[Call, Shape], Layer | None]] = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "prelu": _prelu,
    "relu": lambda call, shape: ReLU(),
    "leaky_relu": lambda call, shape: LeakyReLU(float(call.arguments["negative_slope"])),
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": _adaptive_avg,
    "adaptive_max_pool": _adaptive_max,
    "dropout": _dropout,
    "dropout2d": _dropout2d,
    "mean": _whole_mean,
    "amax": _whole_max,
    "multiply": _multiply,
    "divide": _divide,
    "negate": lambda call, shape: Multiply(-1.0),
}

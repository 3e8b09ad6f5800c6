"""The layers that pool: windows and whole maps, largest value or mean."""

from dataclasses import field
from typing import Literal

from smidgen.errors import NetworkError
from smidgen.network.base import LayerBase
from smidgen.network.shapes import (
    Padding,
    Positive,
    Shape,
    Size,
    Window,
    need_map,
    pair,
    whole_map,
    window_of,
)
from smidgen.values import value


class _Pool(LayerBase):
    kernel_size: Size
    stride: Positive | None
    padding: Padding

    def output_shape(self, shape: Shape) -> Shape:
        need_map(shape)
        window = self.window(shape)
        for axis in range(2):
            if 2 * max(window.before[axis], window.after[axis]) > window.kernel[axis]:
                raise NetworkError(
                    f"`padding` {self.padding} is more than half the kernel "
                    f"{window.kernel[0]}x{window.kernel[1]}"
                )
        return (shape[0], *window.output_size(shape))

    def window(self, shape: Shape) -> Window:
        stride = pair(self.kernel_size) if self.stride is None else self.stride
        return window_of(self.kernel_size, stride, self.padding, shape)


@value(NetworkError)
class MaxPool(_Pool):
    """The largest value of each window; incomplete windows at the far edges are dropped.

    `stride` None means the kernel size. Padded cells never win.
    """

    label = "maxpool"
    kernel_size: Size
    stride: Positive | None = None
    padding: Padding = 0
    kind: Literal["max_pool"] = field(default="max_pool", kw_only=True, repr=False)


@value(NetworkError)
class AvgPool(_Pool):
    """The mean of each window; incomplete windows at the far edges are dropped.

    `stride` None means the kernel size. Padded cells count as zeros if padding is a number
    (PyTorch) and do not count if it is "same" (Keras).
    """

    label = "avgpool"
    kernel_size: Size
    stride: Positive | None = None
    padding: Padding = 0
    kind: Literal["avg_pool"] = field(default="avg_pool", kw_only=True, repr=False)


class _GlobalPool(LayerBase):
    def output_shape(self, shape: Shape) -> Shape:
        need_map(shape)
        return (shape[0], 1, 1)

    def window(self, shape: Shape) -> Window:
        return whole_map(shape)


@value(NetworkError)
class GlobalAvgPool(_GlobalPool):
    """The mean of each channel's map: (C, H, W) -> (C, 1, 1)."""

    label = "globalavgpool"
    kind: Literal["global_avg_pool"] = field(default="global_avg_pool", kw_only=True, repr=False)


@value(NetworkError)
class GlobalMaxPool(_GlobalPool):
    """The largest value of each channel's map: (C, H, W) -> (C, 1, 1)."""

    label = "globalmaxpool"
    kind: Literal["global_max_pool"] = field(default="global_max_pool", kw_only=True, repr=False)

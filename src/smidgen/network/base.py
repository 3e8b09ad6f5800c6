"""`LayerBase`: the questions that every layer answers."""

from dataclasses import MISSING, fields
from typing import ClassVar

from smidgen.network.shapes import Shape, TensorSpec, Window


class LayerBase:
    """What every layer answers; the defaults are those of an elementwise layer."""

    label: ClassVar[str] = ""
    """How tensors and rows of this kind are named: `conv1`, `conv2`, ..."""

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output's shape, without the batch; raises NetworkError if it does not fit."""
        return shape

    def tensors(self, shape: Shape) -> tuple[TensorSpec, ...]:
        """Return the arrays the layer owns for an input of this shape."""
        return ()

    def macs(self, shape: Shape) -> int:
        """Return the multiply-accumulates for one image (convolutions and dense layers only)."""
        return 0

    def window(self, shape: Shape) -> Window | None:
        """Return how far an output looks, or None for elementwise layers."""
        return None

    def __repr__(self) -> str:
        """Return the layer as one would write it: defaults left out."""
        shown = []
        for item in fields(self):  # type: ignore[arg-type]  # every layer is a dataclass
            given = getattr(self, item.name)
            if item.default is MISSING:
                shown.append(repr(given))
            elif item.repr and given != item.default:
                shown.append(f"{item.name}={given!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

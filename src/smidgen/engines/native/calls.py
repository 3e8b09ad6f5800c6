"""Kernel calls as data, before anybody knows where in memory things will be."""

from dataclasses import dataclass

from smidgen.engines.native.stages import Halo, flat_map
from smidgen.network.shapes import Shape, Window


@dataclass(frozen=True, slots=True)
class Area:
    """A map in memory: its shape and the border around it."""

    shape: Shape
    halo: Halo = (0, 0, 0, 0)

    @property
    def pitch(self) -> int:
        """Vectors from row to row."""
        return flat_map(self.shape)[2] + self.halo[1] + self.halo[3]

    @property
    def plane(self) -> int:
        """Vectors from channel to channel."""
        return (flat_map(self.shape)[1] + self.halo[0] + self.halo[2]) * self.pitch

    @property
    def size(self) -> int:
        """Vectors in all, border included."""
        return flat_map(self.shape)[0] * self.plane

    @property
    def origin(self) -> int:
        """Where the first value stands, behind the border."""
        return self.halo[0] * self.pitch + self.halo[1]

    def as_row(self) -> "Area":
        """Return the same memory as maps of one row; only without a border."""
        channels, height, width = flat_map(self.shape)
        return Area((channels, 1, height * width))

    def __str__(self) -> str:
        channels, height, width = flat_map(self.shape)
        return f"(Map){{{channels}, {height}, {width}, {self.pitch}, {self.plane}}}"


@dataclass(frozen=True, slots=True)
class Buffer:
    """One piece of working memory of a block.

    Args:
        name: Unique, such as `value3` or `gradient3`.
        area: The map that it holds.
        is_value: Whether it is a value of the forward pass, which can be computed again.
    """

    name: str
    area: Area
    is_value: bool = False


@dataclass(frozen=True, slots=True)
class At:
    """A place in a buffer: its first value, or so many vectors behind it."""

    buffer: Buffer
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel call.

    Args:
        function: The kernel.
        arguments: Places in buffers, and C text for everything else.
        what: Which operation it belongs to, for the comment and the profile.
        kind: Which kind of work it is, for the profile.
        num_macs: Multiply-accumulates for one image.
    """

    function: str
    arguments: tuple[At | str, ...]
    what: str = ""
    kind: str = "other"
    num_macs: int = 0

    @property
    def buffers(self) -> list[Buffer]:
        """What it reads or writes."""
        return [argument.buffer for argument in self.arguments if isinstance(argument, At)]


Part = list[Call]
"""What one thread does for one block between two barriers."""


def show_window(window: Window) -> str:
    """Return a window as C."""
    numbers = (*window.kernel, *window.stride, *window.before)
    return f"(Window){{{', '.join(map(str, numbers))}}}"


def show_float(number: float) -> str:
    """Return a float literal that C reads back to the same single."""
    return f"{number!r}f" if "." in repr(number) or "e" in repr(number) else f"{number!r}.0f"

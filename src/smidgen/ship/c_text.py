"""Pieces of C text: arrays, and the kernels that lie beside this file."""

from collections.abc import Sequence
from importlib.resources import files

_LINE_COLUMNS = 100


def array_text(kind: str, name: str, numbers: Sequence[int]) -> str:
    """Print a constant array."""
    lines, line = [], "   "
    for number in numbers:
        piece = f" {number},"
        if len(line) + len(piece) > _LINE_COLUMNS:
            lines.append(line)
            line = "   "
        line += piece
    return "\n".join(
        [f"static const {kind} {name}[{len(numbers)}] NAME_IN_FLASH = {{", *lines, line, "};"]
    )


def resource(name: str) -> str:
    """Return the text of a file of this package."""
    return files("smidgen.ship").joinpath(name).read_text(encoding="utf-8")

"""Pieces of C text: arrays, and the kernels that lie beside this file."""

import re
from collections.abc import Sequence
from importlib.resources import files

from smidgen.ship.integer import IntegerNetwork

_LINE_COLUMNS = 100
_UNSAFE = r"[^\w .,:;()+=%@#/-]|/(?=\*)|(?<=\*)/"


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


def about_lines(network: IntegerNetwork) -> list[str]:
    """Return what comments say of a network: where it comes from, and its classes.

    Names may be anybody's: whatever could end a comment or a string is left out.
    """
    said = {**network.source, "classes": ", ".join(network.class_names)}
    return [f"{key}: {re.sub(_UNSAFE, '?', text)}"[:200] for key, text in said.items()]


def with_halves(text: str, are_plain: bool, array: str) -> str:
    """Say in the small form's text with what the sums of depthwise convolutions begin.

    Args:
        text: With the marks `@@start`, `@@halves`, `@@next_halves` and `@@all_halves`.
        are_plain: Whether all begin with the half that rounds; else they are read from an array.
        array: Its name.
    """
    marks = {
        "@@start": "(1 << @depthwise_shift >> 1)" if are_plain else "NAME_READ32(start + c)",
        "@@all_halves": "" if are_plain else f"const int32_t *start = {array};",
        "@@next_halves": "" if are_plain else "if (@separable) start += @channels;",
    }
    for mark, meant in marks.items():
        line = rf"^ *{mark}\n" if not meant else mark
        text = re.sub(line, meant, text, flags=re.MULTILINE)
    return text

"""Tables as values, for templates: columns that can be sorted, cells that link or stand out."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, whether it holds numbers, and what the title means."""

    title: str
    is_number: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell.

    Args:
        text: What is shown.
        order: What it is sorted by, where the text does not say it.
        link: Where it leads; only to files beside the page and to places on it.
        css: Class of the cell, such as `heat-3` or `strong`.
        note: Said when the pointer is on it.
    """

    text: str
    order: float | str | None = None
    link: str = ""
    css: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row is its heading.

    Args:
        caption: What it holds, in one line; names it for screen readers.
        columns: From left to right.
        rows: Cells, as many in each row as there are columns.
        is_sortable: Whether a reader may sort it.
        name: Its id on the page, which search fields refer to.
        shows_caption: Whether the caption is seen, too.
        css: Further classes of the table.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    is_sortable: bool = False
    name: str = ""
    shows_caption: bool = False
    css: str = ""


def cells(*values: object) -> list[Cell]:
    """Return plain cells: numbers with thousands separators, None as a dash, text as it is."""
    return [value if isinstance(value, Cell) else _cell(value) for value in values]


def interval_text(low: float, high: float) -> str:
    """Return an interval of shares in percent, within 0 and 100: `99.377 to 99.448`."""
    return f"{100 * max(low, 0.0):.3f} to {100 * min(high, 1.0):.3f}"


def _cell(value: object) -> Cell:
    if value is None:
        return Cell("–", order=float("-inf"))
    if isinstance(value, int):
        return Cell(f"{value:,}", order=value)
    return Cell(str(value))

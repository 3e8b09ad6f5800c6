"""Plain tables that read well in a terminal, a pipe and a log."""

from collections.abc import Sequence

from smidgen.evidence.wording import percent

__all__ = ["percent", "table"]


def table(header: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """Return aligned columns.

    Args:
        header: Column titles.
        rows: Cells; numbers are written with thousands separators, None as a dash.
        left: How many columns, from the first, are aligned to the left; the rest to the right.
    """
    cells = [list(header), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        padded = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else ""
    return f"{cell:,}" if isinstance(cell, int) else str(cell)

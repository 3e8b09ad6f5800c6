"""Plain tables that read well in a terminal, a pipe and a log."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smidgen.network.trace import Totals


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


def totals_table(totals: "Totals") -> str:
    """Return the table of totals that `show` and `inspect` print."""
    others = totals.others
    rows = [
        ["parameters (trainable, reached, shared once)", totals.num_params],
        ["dead (registered, never reached)", totals.num_dead],
        ["buffers (running statistics)", totals.num_buffers],
        ["Keras total (parameters + buffers)", totals.keras_total],
        ["folded (batch norms merged)", totals.folded],
        ["MACs (multiply-accumulates, one image)", totals.num_macs],
        ["  as torchinfo counts (mult-adds, biases and norms too)", others.torchinfo_mult_adds],
        ["  as fvcore counts (norms and global means too)", others.fvcore_flops],
        ["  as torch's flop counter counts (two per MAC)", others.torch_flops],
        ["activations (values, one image)", totals.num_activations],
        ["receptive field (pixels)", totals.receptive_field],
    ]
    return table(["total", ""], rows)

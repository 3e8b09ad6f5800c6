"""How values look in a notebook: drawings and tables, in the notebook's own colors.

`register` tells IPython by name which function shows which class, so that nothing loads before
it is shown.
"""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smidgen.data.dataset import Dataset
    from smidgen.evidence.proof import Proof
    from smidgen.network.network import Network
    from smidgen.network.trace import Trace
    from smidgen.runs.record import RunRecord

_STYLE = (
    "border-collapse:collapse;font-variant-numeric:tabular-nums;color:inherit;"
    "background:transparent"
)
_CURVE = (320, 90)
"""Pixels of the small plot of a run."""


def network_html(network: "Network") -> str:
    """Return a network's drawing with its counts below."""
    from smidgen.network.trace import trace
    from smidgen.report.diagram import diagram

    totals = trace(network).totals
    words = (
        f"{totals.num_params:,} parameters, {totals.num_macs:,} MACs, receptive field "
        f"{totals.receptive_field} pixels"
    )
    # the drawing has dark ink: a light card keeps it readable in a dark notebook
    card = "display:inline-block;background:#fff;border-radius:8px;padding:4px"
    return f'<div style="{card}">{diagram(network)}</div><div>{words}</div>'


def trace_html(table: "Trace") -> str:
    """Return the layer table: shape, parameters, MACs and receptive field of each operation."""
    from smidgen.network.shapes import show_shape

    rows = [
        (
            row.text,
            show_shape(row.output_shape),
            f"{row.num_params:,}",
            f"{row.num_macs:,}",
            f"{row.reach.receptive_field[1]:g}",
        )
        for row in table.rows
    ]
    totals = table.totals
    last = (
        "in all",
        "",
        f"{totals.num_params:,}",
        f"{totals.num_macs:,}",
        str(totals.receptive_field),
    )
    return _table(("layer", "output", "parameters", "MACs", "receptive field"), [*rows, last])


def record_html(record: "RunRecord") -> str:
    """Return what a run reached, its curve, and its epochs."""
    result = record.result
    reached = (
        "not finished" if result is None else f"{100 * result.accuracy:.2f} % on {result.split}"
    )
    head = f"<b>{escape(record.recipe.name)}</b>, seed {record.seed}: {reached}"
    rows = [
        (
            str(epoch.epoch),
            f"{epoch.train_loss:.4f}",
            f"{100 * epoch.train_accuracy:.2f} %",
            f"{100 * epoch.eval_accuracy:.2f} %",
            f"{epoch.eval_num_errors:,}",
        )
        for epoch in record.epochs
    ]
    names = ("epoch", "train loss", "train", record.epochs[0].split if record.epochs else "test")
    curve = _curve([epoch.eval_num_errors for epoch in record.epochs])
    return f"<div>{head}</div>{curve}{_table((*names, 'errors'), rows)}"


def proof_html(proof: "Proof") -> str:
    """Return a proof's statements, a row each."""
    from smidgen.evidence.wording import proof_rows

    return _table(("", f"{proof.recipe}, {len(proof.seeds)} seeds"), proof_rows(proof))


def plain_html(thing: Any) -> str:
    """Return what `to_plain` says of a value, a row each, without its longer parts."""
    rows = [
        (key.replace("_", " "), _short(given))
        for key, given in thing.to_plain().items()
        if not isinstance(given, dict | list)
    ]
    return _table(("", type(thing).__name__), rows)


def dataset_html(dataset: "Dataset") -> str:
    """Return a data set's sizes and classes."""
    from smidgen.network.shapes import show_shape

    rows = [
        ("images", show_shape(dataset.image_shape)),
        ("train", f"{len(dataset.train):,}"),
        ("test", f"{len(dataset.test):,}"),
        ("classes", ", ".join(dataset.class_names[:12])),
        ("SHA-256", f"{dataset.sha256[:16]}..."),
    ]
    return _table(("", dataset.name), rows)


SHOWN: dict[tuple[str, str], Callable[[Any], str]] = {
    ("smidgen.network.network", "Network"): network_html,
    ("smidgen.network.trace", "Trace"): trace_html,
    ("smidgen.runs.record", "RunRecord"): record_html,
    ("smidgen.training.run", "Run"): lambda run: record_html(run.record),
    ("smidgen.evidence.proof", "Proof"): proof_html,
    ("smidgen.evidence.compare", "Comparison"): plain_html,
    ("smidgen.data.dataset", "Dataset"): dataset_html,
}
"""Module and name of a class, and what shows it."""


def register(shell: Any) -> None:
    """Tell an IPython shell how our values look."""
    formatter = shell.display_formatter.formatters["text/html"]
    for (module, name), show in SHOWN.items():
        formatter.for_type_by_name(module, name, show)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = _row("th", heads)
    body = "".join(_row("td", row) for row in rows)
    return f"<table style='{_STYLE}'><thead>{head}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    inside = "".join(f"<{tag} style='text-align:left'>{escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"


def _curve(errors: Sequence[int]) -> str:
    """Return errors after each epoch as a small line, on a logarithmic scale."""
    from math import log

    if len(errors) < 2:
        return ""
    heights = [log(max(1, count)) for count in errors]
    low, high = min(heights), max(heights)
    width, height = _CURVE
    points = " ".join(
        f"{4 + place * (width - 8) / (len(heights) - 1):.1f},"
        f"{height - 4 - (each - low) / ((high - low) or 1) * (height - 8):.1f}"
        for place, each in enumerate(heights)
    )
    title = f"errors after each epoch: {errors[0]:,} at first, {errors[-1]:,} at last"
    return (
        f'<svg width="{width}" height="{height}" role="img"><title>{title}</title>'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="2"/></svg>'
    )


def _short(given: object) -> str:
    return f"{given:.6g}" if isinstance(given, float) else str(given)

"""Points of accuracy against cost in, the page of the frontier out."""

from collections.abc import Mapping, Sequence

from smidgen.evidence.wording import CLAIM_SEEDS, percent
from smidgen.report.frontier_figures import SHORT_COSTS, SHORT_MEASURED, frontier_plots
from smidgen.report.frontier_points import GRADES, MEASURED, Point, front
from smidgen.report.page import render
from smidgen.report.tables import Cell, Column, Table, cells, interval_text


def make_frontier_page(
    points: Sequence[Point],
    dataset: str = "mnist",
    proof_links: Mapping[str, str] | None = None,
    target: float | None = None,
) -> str:
    """Return the page of the frontier.

    Args:
        points: What it shows; may be empty.
        dataset: Of which data set.
        proof_links: Where the proof of a recipe is, by the recipe's name; others are not linked.
        target: The accuracy whose least cost the titles say, a share; None for 99.4 %.

    Raises:
        ReportError: The extra `report` is not installed.
    """
    plots = frontier_plots(points, dataset, target)
    sections = [("plot", "Plot"), ("table", "Table"), ("grades", "Evidence")]
    return render(
        "frontier.html",
        title=f"The frontier on {dataset}",
        sections=sections if points else [],
        dataset=dataset,
        lede=_lede(points, dataset),
        plots=plots,
        toggles=[(f"plot-{plot.name}", SHORT_COSTS[plot.name]) for plot in plots],
        table_of_points=_table(points, proof_links or {}),
        table_of_sources=_source_table(points),
        grades=GRADES,
        measured=MEASURED,
        claim_seeds=CLAIM_SEEDS,
    )


def _lede(points: Sequence[Point], dataset: str) -> str:
    ours = [point for point in points if point.is_ours]
    proven = [point for point in front(points, "num_params") if point.is_ours]
    if not ours:
        return f"Nothing was proved on {dataset} yet. `smidgen prove smidgen/quick` makes a start."
    if not proven:
        return f"{len(ours)} networks of ours, none with the {CLAIM_SEEDS} seeds of a claim yet."
    first, last = proven[0], proven[-1]
    if first is last:
        return (
            f"Proven as a mean over {first.n} random seeds: {100 * first.accuracy:.2f} % with "
            f"{first.num_params:,} parameters."
        )
    return (
        f"Proven as means over random seeds: from {100 * first.accuracy:.2f} % with "
        f"{first.num_params:,} parameters to {100 * last.accuracy:.2f} % with {last.num_params:,}."
    )


def _table(points: Sequence[Point], links: Mapping[str, str]) -> Table:
    columns = [
        Column("network", is_number=False),
        Column("parameters"),
        Column("MACs", note="Multiply-accumulates for one image"),
        Column("accuracy"),
        Column("n", note="Random seeds"),
        Column("95 % interval"),
        Column("seconds", note="Median training time on one core"),
        Column("measured", is_number=False, note="See below what is worth what"),
        Column("at the end", note="After the last epoch, where that is known and another"),
        Column("evidence", is_number=False, note="See below what is worth what"),
    ]
    rows = [_row(point, links) for point in _ordered(points)]
    caption = "Every network on the plot, ours first"
    return Table(caption, columns, rows, is_sortable=True, name="points", css="named")


def _source_table(points: Sequence[Point]) -> Table:
    columns = [Column(title, is_number=False) for title in ("network", "layers", "source")]
    rows = [
        cells(
            point.name,
            Cell(point.network or "–", css="long"),
            Cell(". ".join(filter(None, (point.source, point.note))) or "–", css="long"),
        )
        for point in _ordered(points)
    ]
    return Table("Layers and source of every network", columns, rows, css="texts")


def _ordered(points: Sequence[Point]) -> list[Point]:
    return sorted(points, key=lambda point: (not point.is_ours, point.num_params))


def _row(point: Point, links: Mapping[str, str]) -> list[Cell]:
    digits = 3 if point.measured == "mean" else 2
    interval = None
    if point.low is not None and point.high is not None:
        interval = Cell(f"{interval_text(point.low, point.high)} %", order=point.low)
    seconds = None if point.seconds is None else Cell(f"{point.seconds:.1f}", order=point.seconds)
    last = None if point.last is None else Cell(percent(point.last), order=point.last)
    evidence, note = "proved", ""
    if point.grade is not None:
        evidence, note = point.grade, GRADES[point.grade]
    elif not point.is_proven:
        evidence, note = "few seeds", f"A claim takes {CLAIM_SEEDS}"
    return cells(
        Cell(point.name, link=links.get(point.name, "")),
        point.num_params,
        point.num_macs,
        Cell(f"{100 * point.accuracy:.{digits}f} %", order=point.accuracy, css="strong"),
        point.n,
        interval,
        seconds,
        Cell(SHORT_MEASURED[point.measured], note=MEASURED[point.measured]),
        last,
        Cell(evidence, note=note),
    )

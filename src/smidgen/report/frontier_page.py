"""Points of accuracy against cost in, the page of the frontier out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smidgen.evidence.wording import CLAIM_SEEDS, percent
from smidgen.report.figures import (
    LEAST_ERROR,
    Label,
    Plot,
    drawable,
    figure_of,
    is_narrow,
    size_axis,
    tip,
    write_labels,
)
from smidgen.report.frontier_points import (
    GRADES,
    MEASURED,
    Cost,
    Measured,
    Point,
    front,
)
from smidgen.report.page import Cell, Column, Table, cells, interval_text, render
from smidgen.report.style import BLUE, CARD, GRAY, MUTED, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS: dict[Cost, str] = {
    "num_params": "parameters",
    "num_macs": "multiply-accumulates per image",
    "seconds": "seconds of training on one core",
}
SHORT_COSTS = {
    "frontier-parameters": "parameters",
    "frontier-macs": "MACs",
    "frontier-seconds": "seconds",
}
"""Of each plot by its name, what buttons say."""
SHORT_MEASURED: dict[Measured, str] = {
    "mean": "mean over seeds",
    "last": "one run, last epoch",
    "best": "best on the test set",
    "unknown": "not known",
}
_NAMES: dict[Cost, str] = {"num_params": "parameters", "num_macs": "macs", "seconds": "seconds"}
_MARKERS: dict[Measured, tuple[str, float]] = {
    "mean": ("o", 8.0),
    "last": ("s", 7.0),
    "best": ("^", 7.5),
    "unknown": ("x", 7.0),
}
_ERROR_TICKS = (
    0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 90.0,
)  # fmt: skip
_LONGEST_TIP = 230
TARGET = 0.994
"""The accuracy that titles ask for if nobody names another, a share."""


def frontier_plots(
    points: Sequence[Point], dataset: str, target: float | None = None
) -> list[Plot]:
    """Return a plot for each cost of which at least one point is known; target as a share."""
    plots = []
    for cost in COSTS:
        known = [point for point in points if point.cost(cost) is not None]
        plots += [frontier_plot(known, cost, dataset, target)] if known else []
    return plots


def frontier_plot(
    points: Sequence[Point], cost: Cost, dataset: str, target: float | None = None
) -> Plot:
    """Return error against one cost, both logarithmic, with the front of proven means."""
    target = TARGET if target is None else target
    best = front(points, cost)
    listed = "; ".join(
        f"{point.name}: {_amount(point, cost)}, {100 * point.accuracy:.3f} %, n = {point.n}"
        for point in best
    )

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        _draw_front(axes, best, cost)
        for point in sorted(points, key=lambda point: point.is_ours):
            _draw_point(axes, point, cost)
        costs = [point.cost(cost) or 1.0 for point in points]
        size_axis(axes, [min(costs) / 1.4, *costs], COSTS[cost])  # room for the first label
        _error_axis(axes, points)
        _legend(axes, points)
        write_labels(axes, _labels([point for point in best if point.is_ours], cost, target))

    return Plot(
        name=f"frontier-{_NAMES[cost]}",
        title=_finding(best, cost, target),
        caption=(
            f"Errors on the test set of {dataset}. Filled dots: our means over random seeds with "
            "95 % intervals; pale, where seeds are too few for a claim. Hollow: told by others. "
            "The line is the front of proven means; what lies beyond it is a claim."
        ),
        description=f"On the front: {listed}." if listed else "No point is proven.",
        draw=draw,
        height=520,
        narrow_height=430,
    )


def _finding(best: Sequence[Point], cost: Cost, target: float) -> str:
    """Say what the cheapest proven point at the target is, or the best there is."""
    if not best:
        return "Nothing is proven yet: that takes 20 seeds"
    good = [point for point in best if point.accuracy >= target]
    if good:
        return f"{100 * target:g} % as a proven mean takes {_amount(good[0], cost)}"
    top = best[-1]
    return (
        f"No proven mean is at {100 * target:g} %: the best is {100 * top.accuracy:.2f} %, with "
        f"{_amount(top, cost)}"
    )


def _amount(point: Point, cost: Cost) -> str:
    amount = point.cost(cost) or 0.0
    if cost == "seconds":
        return f"{amount:.1f} seconds"
    return f"{int(amount):,} {'parameters' if cost == 'num_params' else 'MACs'}"


def _error(accuracy: float) -> float:
    return 100.0 * (1.0 - float(drawable([accuracy])[0]))


def _draw_front(axes: "Axes", best: Sequence[Point], cost: Cost) -> None:
    """Draw the front as stairs: at a cost between two points, the cheaper one is what one has."""
    if not best:
        return
    xs = [point.cost(cost) or 1.0 for point in best]
    ys = [_error(point.accuracy) for point in best]
    axes.step([*xs, xs[-1] * 40.0], [*ys, ys[-1]], where="post", color=BLUE, lw=1.4, alpha=0.6)


def _draw_point(axes: "Axes", point: Point, cost: Cost) -> None:
    x, y = point.cost(cost) or 1.0, _error(point.accuracy)
    marker, size = _MARKERS[point.measured]
    color = BLUE if point.is_ours else GRAY if point.grade == "E" else ORANGE
    # an interval that includes no errors at all has no end on a logarithmic axis
    if point.low is not None and point.high is not None and point.high < 1.0:
        ends = [_error(point.high), _error(point.low)]
        axes.plot([x, x], ends, color=color, lw=1, alpha=0.5, zorder=3)
    if point.last is not None:
        axes.plot([x, x], [y, _error(point.last)], color=color, lw=0.9, alpha=0.7, zorder=2)
        axes.plot([x], [_error(point.last)], "_", color=color, ms=6, alpha=0.8, zorder=2)
    look: dict[str, Any] = {"mfc": CARD, "mec": color, "mew": 1.5, "zorder": 4}
    if point.is_ours:
        alpha = 1.0 if point.is_proven else 0.45
        look = {"mfc": color, "mec": color, "mew": 0, "alpha": alpha, "zorder": 5}
    (mark,) = axes.plot([x], [y], marker, ms=size, **look)
    tip(mark, tip_of(point))


def tip_of(point: Point) -> str:
    """Return what is shown of a point when the pointer is on it."""
    lines = [point.name]
    size = f"{point.num_params:,} parameters"
    lines.append(size if point.num_macs is None else f"{size}, {point.num_macs:,} MACs")
    if point.measured == "mean":
        text = f"{100 * point.accuracy:.3f} %, mean of {point.n} seeds"
        if point.low is not None and point.high is not None:
            text += f" ({interval_text(point.low, point.high)})"
    else:
        text = f"{percent(point.accuracy)}: {MEASURED[point.measured]}"
    lines.append(text)
    if point.last is not None:
        lines.append(f"{percent(point.last)} after its last epoch")
    if point.grade is not None:
        lines.append(f"evidence {point.grade}: {GRADES[point.grade]}")
    lines += [line for line in (point.note, point.network) if line]
    text = "\n".join(lines)
    return text if len(text) <= 2 * _LONGEST_TIP else f"{text[: 2 * _LONGEST_TIP]} ..."


def _error_axis(axes: "Axes", points: Sequence[Point]) -> None:
    errors = [_error(point.accuracy) for point in points]
    # intervals do not count: one that is wider than all points are apart would flatten the rest
    low, high = max(min(errors) / 1.4, 100 * LEAST_ERROR / 2), min(max(errors) * 1.4, 100.0)
    axes.set_ylim(high, low)  # fewer errors are up
    ticks = [tick for tick in _ERROR_TICKS if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks], color=MUTED)
    axes.minorticks_off()
    axes.set_ylabel("errors (%, logarithmic)")


def _labels(best: Sequence[Point], cost: Cost, target: float) -> list[Label]:
    """Return the accuracies of our points on the front: at the target, the best, then by cost."""
    at_target = [point for point in best if point.accuracy >= target]
    first = {point.name: point for point in [*at_target[:1], *best[-1:], *best]}
    return [
        Label(f"{100 * point.accuracy:.2f} %", point.cost(cost) or 1.0, _error(point.accuracy))
        for point in first.values()
    ]


def _legend(axes: "Axes", points: Sequence[Point]) -> None:
    from matplotlib.lines import Line2D

    def entry(label: str, **look: object) -> Line2D:
        return Line2D([], [], ls="", label=label, **look)  # type: ignore[arg-type]

    hollow = {"mfc": CARD, "mec": ORANGE, "mew": 1.5}
    entries = [entry("ours: mean over seeds", marker="o", color=BLUE, ms=8)]
    told = {point.measured for point in points if not point.is_ours}
    entries += [
        entry(f"told: {text}", marker=_MARKERS[kind][0], ms=_MARKERS[kind][1], **hollow)
        for kind, text in SHORT_MEASURED.items()
        if kind in told - {"unknown"}
    ]
    if any(point.grade == "E" for point in points):
        entries.append(entry("cannot be checked", marker="x", color=GRAY, ms=7))
    narrow = is_narrow(figure_of(axes))
    axes.legend(
        handles=entries,
        loc="upper left" if not narrow else "upper center",
        bbox_to_anchor=None if not narrow else (0.45, -0.16),
        ncols=1,
        handletextpad=0.3,
    )


def make_frontier_page(
    points: Sequence[Point],
    dataset: str = "mnist",
    proof_links: Mapping[str, str] | None = None,
    target: float | None = None,
    home: str = "",
) -> str:
    """Return the page of the frontier.

    Args:
        points: What it shows; may be empty.
        dataset: Of which data set.
        proof_links: Where the proof of a recipe is, by the recipe's name; others are not linked.
        target: The accuracy whose least cost the titles say, a share; None for 99.4 %.
        home: As for `run_page`.

    Raises:
        ReportError: The extra `report` is not installed.
    """
    plots = frontier_plots(points, dataset, target)
    sections = [("plot", "Plot"), ("table", "Table"), ("grades", "Evidence")]
    return render(
        "frontier.html",
        home=home,
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

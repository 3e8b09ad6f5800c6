"""Everything in a store in, the first page of its site out: what there is, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from smidgen.evidence.statements import spread
from smidgen.evidence.wording import CLAIM_SEEDS, percent
from smidgen.recipes.catalogue import LADDERS
from smidgen.report.frontier_figures import frontier_plots
from smidgen.report.frontier_points import Point
from smidgen.report.page import render
from smidgen.report.site_pages import FRONTIER, Kind, ladder_file, proof_file, run_file
from smidgen.report.tables import Cell, Column, Table, cells, interval_text
from smidgen.runs.listing import ListedRun


@dataclass(frozen=True, slots=True)
class SiteContent:
    """What the first page of a site shows.

    Args:
        runs: Finished and unfinished.
        proofs: Groups of runs that differ in nothing but the seed, at least two in each.
        points: Of the frontier.
        pages: Files that there are to link to.
        problems: A line for each run or page that could not be shown.
    """

    runs: Sequence[ListedRun]
    proofs: Sequence[Kind]
    points: Sequence[Point]
    pages: frozenset[str]
    problems: tuple[str, ...]


def make_index_page(content: SiteContent) -> str:
    """Return the first page of a site; raises ReportError without the extra `report`."""
    ladders = [name for name in LADDERS if ladder_file(name) in content.pages]
    sections = [("proofs", "Proofs")] if content.proofs else []
    sections += [("frontier", "Frontier")]
    sections += [("ladders", "Ladders")] if ladders else []
    sections += [("runs", "Runs")]
    sections += [("problems", "Problems")] if content.problems else []
    plots = frontier_plots(content.points, "mnist")
    return render(
        "site.html",
        title="What was trained here",
        sections=sections,
        lede=_lede(content),
        proofs=_proof_table(content) if content.proofs else None,
        claim_seeds=CLAIM_SEEDS,
        frontier=FRONTIER if FRONTIER in content.pages else "",
        plot=plots[0] if plots else None,
        ladders=[(name, ladder_file(name)) for name in ladders],
        runs=_run_table(content) if content.runs else None,
        problems=content.problems,
    )


def _lede(content: SiteContent) -> str:
    if not content.runs:
        return "Nothing yet. `smidgen train` makes a run, and this page again shows it."
    recipes = len({run.recipe for run in content.runs})
    unfinished = sum(run.accuracy is None for run in content.runs)
    text = f"{_counted(len(content.runs), 'run')} of {_counted(recipes, 'recipe')}"
    text += f", {unfinished} of them unfinished" if unfinished else ""
    proven = sum(
        len(kind) >= CLAIM_SEEDS and kind[0].protocol == "final" for kind in content.proofs
    )
    return f"{text}; {_counted(proven, 'proof')} with the {CLAIM_SEEDS} seeds of a claim."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _proof_table(content: SiteContent) -> Table:
    columns = [
        Column("recipe", is_number=False),
        Column("engine", is_number=False),
        Column("protocol", is_number=False),
        Column("data", is_number=False),
        Column("parameters"),
        Column("n", note="Random seeds"),
        Column("mean accuracy"),
        Column("sd", note="Standard deviation over seeds, in points"),
        Column("95 % interval"),
        Column("seconds", note="Median training time of a run"),
    ]
    rows = [_proof_row(kind, content.pages) for kind in content.proofs]
    rows.sort(key=lambda row: row[4].order if isinstance(row[4].order, int) else 0)
    return Table("Means over random seeds", columns, rows, True, "proof-table", css="named")


def _proof_row(kind: Kind, pages: frozenset[str]) -> list[Cell]:
    first, seen = kind[0], spread([row.accuracy for row in kind])
    interval, sd = seen.interval, seen.sd
    assert interval is not None
    assert sd is not None
    seconds = spread([row.train_seconds for row in kind]).median
    note = "" if first.selection == "last epoch" else first.selection
    return cells(
        Cell(first.recipe, link=_link(proof_file(kind), pages)),
        first.engine,
        Cell(f"{first.protocol}*" if note else first.protocol, note=note),
        first.dataset,
        first.num_params,
        seen.n,
        Cell(f"{100 * seen.mean:.3f} %", order=seen.mean, css="strong"),
        Cell(f"{100 * sd:.3f}", order=sd),
        Cell(f"{interval_text(interval.low, interval.high)} %", order=interval.low),
        Cell(f"{seconds:.1f}", order=seconds),
    )


def _run_table(content: SiteContent) -> Table:
    columns = [
        Column("run", is_number=False),
        Column("recipe", is_number=False),
        Column("seed"),
        Column("protocol", is_number=False),
        Column("engine", is_number=False),
        Column("parameters"),
        Column("accuracy"),
        Column("errors"),
        Column("seconds", note="Of training"),
        Column("started (UTC)", is_number=False),
    ]
    rows = [_run_row(run, content.pages) for run in reversed(content.runs)]
    return Table("Every run, the latest first", columns, rows, True, "run-table", css="named")


def _run_row(run: ListedRun, pages: frozenset[str]) -> list[Cell]:
    accuracy, seconds = run.accuracy, run.train_seconds
    return cells(
        Cell(run.run, link=_link(run_file(run.run), pages)),
        run.recipe,
        run.seed,
        run.protocol,
        run.engine,
        run.num_params,
        Cell("unfinished", order=-1.0)
        if accuracy is None
        else Cell(percent(accuracy), order=accuracy, css="strong", note=f"on {run.split}"),
        run.num_errors,
        None if seconds is None else Cell(f"{seconds:.1f}", order=seconds),
        Cell(run.started[:16].replace("T", " "), order=run.started),
    )


def _link(name: str, pages: frozenset[str]) -> str:
    return quote(name) if name in pages else ""

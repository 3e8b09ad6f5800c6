"""A run in, its page out: how it went, what it gets wrong, what it is, how to repeat it."""

from smidgen.evidence.answers import calibration
from smidgen.evidence.wording import percent
from smidgen.report import run_text as words
from smidgen.report.figures import Plot
from smidgen.report.network_pictures import first_filters, network_drawing
from smidgen.report.page import Cell, Column, Table, cells, render
from smidgen.report.probe import Probe
from smidgen.report.run_plots import run_plots
from smidgen.report.run_view import (
    LABEL_ERROR,
    MOST_TILES,
    Mistake,
    RunView,
    mistakes,
    pair_key,
    tiles,
)

_MOST_MATRIX = 26
"""Classes up to which the whole confusion matrix is shown."""


def run_page(view: RunView, followed: Probe | None = None, home: str = "") -> str:
    """Return the page of a run as HTML.

    Args:
        view: The run.
        followed: One image on its way through the network, if it was asked for.
        home: The file of a page beside it to lead to, if any.
    """
    plots = {plot.name: plot for plot in run_plots(view)}
    found, errors = mistakes(view), tiles(view)
    record, result = view.record, view.record.result
    return render(
        "run.html",
        home=home,
        title=f"{record.recipe.name}, seed {record.seed}",
        sections=_sections(view, plots, followed),
        view=view,
        record=record,
        result=result,
        words=words,
        percent=percent,
        plots=plots,
        stats=_stats(view),
        epochs=_epoch_table(view),
        matrix=_matrix(view),
        mistakes=found,
        pair_table=_pair_table(view) if len(record.data.class_names) > _MOST_MATRIX else None,
        tiles=errors,
        most_tiles=MOST_TILES,
        options=_options(view, found),
        calibration=None if view.answers is None else calibration(view.answers),
        drawing=network_drawing(record.recipe.network),
        layers=_layer_table(view),
        filters=first_filters(record.recipe.network, view.weights),
        followed=followed,
        recipe_json=record.recipe.to_json(),
    )


def _sections(
    view: RunView, plots: dict[str, Plot], followed: Probe | None
) -> list[tuple[str, str]]:
    has_answers = view.answers is not None
    every = [
        ("course", "Training", "accuracy" in plots),
        ("errors", "Errors", has_answers),
        ("confidence", "Confidence", has_answers),
        ("network", "Network", True),
        ("image", "One image", followed is not None),
        ("analysis", "Analysis", bool(words.analysis(view))),
        ("recipe", "Recipe", True),
        ("repeat", "Repeat", True),
    ]
    return [(name, text) for name, text, is_there in every if is_there]


def _stats(view: RunView) -> list[tuple[str, str, str, str]]:
    """Return the numbers at the top: value, what it is, remark, tone."""
    record, result = view.record, view.record.result
    promises = view.promises()
    shown = []
    if result is not None:
        which = f"{words.ON_TEST}; last {percent(result.last_accuracy)}"
        note = f"{words.uncertainty(view)}{f'; {which}' if view.is_selected else ''}"
        shown += [
            (percent(result.accuracy), f"accuracy on {result.split}", note, ""),
            (f"{result.num_errors:,}", "errors", f"in {result.num_images:,} images", ""),
        ]
    shown.append((f"{record.num_params:,}", "parameters", f"{record.num_macs:,} MACs", ""))
    seconds = record.train_seconds or sum(epoch.train_seconds for epoch in record.epochs)
    threads = f"{record.environment.engine} engine, {record.environment.threads} threads"
    if record.environment.threads == 1:
        threads = threads.removesuffix("s")
    shown.append((f"{seconds:.1f} s", "of training", threads, ""))
    if promises:
        broken = [promise.what for promise in promises if not promise.is_kept]
        limits = "; ".join(f"{promise.what} {promise.limit}" for promise in promises)
        if broken:
            shown.append(("not kept", f"budget: {', '.join(broken)}", limits, "bad"))
        else:
            shown.append(("kept", "budget", limits, "good"))
    return shown


def _epoch_table(view: RunView) -> Table:
    last, best = len(view.record.epochs), 0
    if view.record.result is not None:
        best = view.record.result.best_epoch
    rows = []
    for epoch in view.record.epochs:
        marks = [
            name
            for name, at in (("last", last), ("best", best))
            if epoch.epoch == at and view.record.result is not None
        ]
        text = " ".join([str(epoch.epoch), *marks])
        rows.append(
            cells(
                Cell(text, order=epoch.epoch, css="strong" if marks else ""),
                percent(epoch.eval_accuracy),
                epoch.eval_num_errors,
                f"{epoch.eval_loss:.4f}",
                percent(epoch.train_accuracy),
                f"{epoch.train_loss:.4f}",
                f"{epoch.lr_last:.3g}",
                f"{epoch.train_seconds:.2f}",
            )
        )
    split = view.record.epochs[-1].split if view.record.epochs else ""
    titles = [f"{split} accuracy", "errors", f"{split} loss", "training accuracy"]
    titles += ["training loss", "learning rate", "seconds"]
    columns = [Column("epoch", is_number=False), *map(Column, titles)]
    return Table("Every epoch", columns, rows, is_sortable=True, name="epochs")


def _layer_table(view: RunView) -> Table:
    total = view.trace.totals.num_params
    rows = [cells(*words.layer_cells(row, total)) for row in view.trace.rows]
    columns = [
        Column(title, is_number=place > 2) for place, title in enumerate(words.LAYER_COLUMNS)
    ]
    return Table("Every layer of the network", columns, rows, name="layers")


def _matrix(view: RunView) -> list[list[tuple[int, str, str, bool]]]:
    """Return the confusion matrix: count, color, key and whether on the diagonal, cell by cell."""
    names = view.record.data.class_names
    if view.answers is None or len(names) > _MOST_MATRIX:
        return []
    counts = view.answers.confusion()
    worst = max(
        (int(counts[i, j]) for i in range(len(names)) for j in range(len(names)) if i != j),
        default=1,
    )
    return [
        [
            (
                int(count),
                "" if i == j or not count else f"heat-{max(1, round(5 * count / worst))}",
                pair_key(i, j),
                i == j,
            )
            for j, count in enumerate(row)
        ]
        for i, row in enumerate(counts)
    ]


def _pair_table(view: RunView) -> Table:
    rows = [cells(each.true_name, each.given_name, each.count) for each in mistakes(view)[:100]]
    columns = [Column("is", False), Column("taken for", False), Column("images")]
    return Table("What is taken for what", columns, rows, is_sortable=True, name="pairs")


def _options(view: RunView, found: list[Mistake]) -> list[tuple[str, str]]:
    options = [("", "all of them")]
    if any(int(i) in view.label_errors for i in (view.answers.wrong if view.answers else [])):
        options.append((LABEL_ERROR, "those whose label is known to be wrong"))
    return options + [
        (each.key, f"{each.true_name} taken for {each.given_name} ({each.count})") for each in found
    ]

"""`smidgen runs`: what was trained here."""

import csv
import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smidgen.cli.options import RunName, RunsDir, store_at
from smidgen.cli.tables import table
from smidgen.evidence.wording import percent

if TYPE_CHECKING:
    from smidgen.runs.listing import ListedRun
    from smidgen.runs.record import Environment, RunRecord
    from smidgen.runs.store import RunStore

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def runs(
    context: typer.Context,
    runs_dir: RunsDir = None,
    recipe: Annotated[
        str, typer.Option(help="Only runs of this recipe; * and ? stand for any characters.")
    ] = "*",
    sort: Annotated[
        Literal["started", "run", "recipe", "seed", "params", "accuracy", "seconds"],
        typer.Option(help="What to sort by; accuracy from the highest down."),
    ] = "started",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """List the runs made here, oldest first; show, remove and export them.

    Unfinished runs can be resumed with `smidgen train --resume RUN`.

    For example:

        smidgen runs

        smidgen runs --recipe 'era-s7/*' --sort accuracy
    """
    if context.invoked_subcommand is not None:
        context.obj = runs_dir
        return
    from smidgen.runs.listing import list_runs

    store = store_at(runs_dir)
    rows, problems = list_runs(store, recipe, sort)
    _warn(problems)
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
    elif rows:
        print(_table(rows))
    elif recipe == "*":
        print(f"No runs in `{store.root}` yet. `smidgen train` makes one.")
    else:
        print(f"No runs of `{recipe}` in `{store.root}`.")


@app.command()
def show(
    context: typer.Context,
    run: RunName,
    runs_dir: RunsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole record.")] = False,
) -> None:
    """Show one run: what was trained, where, every epoch, and what came out.

    For example:

        smidgen runs show last
    """
    folder = _store(context, runs_dir).find(run)
    record = folder.record()
    print(record.to_json() if as_json else _page(folder.name, record))


@app.command()
def rm(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="As for `show`.")],
    runs_dir: RunsDir = None,
) -> None:
    """Delete runs, finished or not, and print which.

    For example:

        smidgen runs rm smidgen-quick-s1-5a9cef1c
    """
    store = _store(context, runs_dir)
    # all names are looked up before anything is deleted: a typo deletes nothing
    found = {folder.path: folder for folder in [store.find(name) for name in names]}
    for folder in found.values():
        store.remove(folder)
        print(f"Deleted {folder.path}")


@app.command()
def export(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--csv", metavar="FILE", help="File to write.")],
    runs_dir: RunsDir = None,
) -> None:
    """Write a table of all finished runs, one line each, accuracies as shares.

    For example:

        smidgen runs export --csv runs.csv
    """
    from smidgen.files import write_atomically
    from smidgen.runs.listing import finished_rows
    from smidgen.runs.rows import RunRow

    rows, problems = finished_rows(_store(context, runs_dir))
    _warn(problems)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(RunRow))
    writer.writerows(dataclasses.astuple(row) for row in rows)
    write_atomically(output, text.getvalue().encode())
    print(f"{output}: {len(rows)} runs")


@app.command()
def rebuild(context: typer.Context, runs_dir: RunsDir = None) -> None:
    """Link identities to runs anew, from the folders; needed only if something seems wrong.

    For example:

        smidgen runs rebuild
    """
    from smidgen.runs.listing import finished_rows

    store = _store(context, runs_dir)
    store.link()
    rows, problems = finished_rows(store)
    _warn(problems)
    print(f"{len(rows)} finished runs indexed")


def _store(context: typer.Context, runs_dir: Path | None) -> "RunStore":
    return store_at(runs_dir or context.obj)  # the option may stand before the subcommand


def _warn(problems: list[str]) -> None:
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)


def _table(rows: list["ListedRun"]) -> str:
    shown = [
        [
            row.run,
            row.recipe + ("*" if row.is_variant else ""),
            row.dataset,
            row.epochs,
            str(row.seed),
            row.protocol,
            row.engine,
            row.num_params,
            row.split or "unfinished",
            None if row.accuracy is None else percent(row.accuracy),
            row.num_errors,
            None if row.train_seconds is None else f"{row.train_seconds:.1f}",
        ]
        for row in rows
    ]
    header = ["run", "recipe", "data set", "epochs", "seed", "protocol", "engine", "params"]
    drawn = table([*header, "split", "accuracy", "errors", "seconds"], shown, left=3)
    if any(row.is_variant for row in rows):
        drawn += "\n\n* other settings than the catalogue's recipe of this name"
    return drawn


def _lanes(used: "Environment") -> str:
    if used.lanes is None:
        return ""
    if not used.build:
        return f", lanes: {used.lanes}"
    library = f"library {used.build['sha256'][:8]} by {used.build['compiler']}"
    return f", lanes: {used.lanes}, {library}"


def _page(name: str, record: "RunRecord") -> str:
    used, data, result = record.environment, record.data, record.result
    facts = [
        ("recipe", f"{record.recipe.name}, fingerprint {record.fingerprint[:8]}"),
        ("network", f"{record.num_params:,} parameters, {record.num_macs:,} MACs"),
        ("seed", f"{record.seed}, protocol {record.protocol}"),
        ("data", f"{data.name}, {data.num_train:,} training images, sha256 {data.sha256[:8]}"),
        *(
            ("teacher", f"{taught.run}, model {taught.model_sha256[:8]}")
            for taught in record.teachers
        ),
        ("engine", f"{used.engine} on {used.device}, threads: {used.threads}{_lanes(used)}"),
        ("machine", ", ".join(f"{key} {text}" for key, text in used.hardware.items())),
        ("software", ", ".join(f"{key} {text}" for key, text in used.versions.items())),
        ("started", record.started),
    ]
    if result is None:
        facts.append(("result", f"none yet; continue with `smidgen train --resume {name}`"))
    else:
        facts += [
            (
                "result",
                f"{percent(result.accuracy)} on {result.split}: {result.num_errors:,} errors in "
                f"{result.num_images:,} images; epoch {result.epoch}, {result.selection}",
            ),
            (
                "epochs' split",
                f"last {percent(result.last_accuracy)}, mean of the last five "
                f"{percent(result.mean_of_last_five)}, best {percent(result.best_accuracy)} "
                f"(epoch {result.best_epoch})",
            ),
            ("time", f"{record.train_seconds:.1f} s of training, {record.wall_seconds:.1f} s"),
        ]
    lines = [name, *(f"{key:<14}{text}" for key, text in facts)]
    return "\n".join([*lines, "", _epochs(record)]) if record.epochs else "\n".join(lines)


def _epochs(record: "RunRecord") -> str:
    header = ["epoch", "train loss", "train acc", "loss", "accuracy", "errors", "seconds", "lr"]
    rows = [
        [
            epoch.epoch,
            f"{epoch.train_loss:.4f}",
            percent(epoch.train_accuracy),
            f"{epoch.eval_loss:.4f}",
            percent(epoch.eval_accuracy),
            epoch.eval_num_errors,
            f"{epoch.train_seconds + epoch.eval_seconds:.2f}",
            f"{epoch.lr_last:.3g}",
        ]
        for epoch in record.epochs
    ]
    return table(header, rows, left=0)

"""`smidgen train`: one run, from a recipe to a number."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import (
    DataDir,
    Device,
    EngineOption,
    FitOption,
    InvertOption,
    LanesOption,
    Like,
    ProtocolOption,
    RunsDir,
    Setting,
    load_named,
    store_at,
)
from smidgen.evidence.wording import percent

if TYPE_CHECKING:
    from smidgen.data import Dataset
    from smidgen.data.images import Reading
    from smidgen.recipes.recipe import Recipe
    from smidgen.runs.record import RunRecord
    from smidgen.runs.store import RunFolder
    from smidgen.training.run import Run

Target = Annotated[
    str | None, typer.Argument(metavar="NAME", help="A recipe, a JSON file, or FILE.py:Class.")
]


def train(
    context: typer.Context,
    target: Target = None,
    like: Like = None,
    settings: Setting = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 1,
    data_dir: DataDir = None,
    invert: InvertOption = "auto",
    fit: FitOption = "resize",
    runs_dir: RunsDir = None,
    resume: Annotated[
        str | None, typer.Option(help="Continue an interrupted run: a name, prefix or `last`.")
    ] = None,
    protocol: ProtocolOption = "final",
    engine: EngineOption = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use.")] = None,
    lanes: LanesOption = None,
    device: Device = "cpu",
    or_stripes: Annotated[
        bool, typer.Option("--or-stripes", help="Without the data, show a run on drawn stripes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
    with_page: Annotated[
        bool, typer.Option("--report", help="Write the run's page into this folder at the end.")
    ] = False,
    opens: Annotated[
        bool, typer.Option("--open", help="Write the run's page and open it in a browser.")
    ] = False,
) -> None:
    """Train a recipe and print what it reached. Without a name: smidgen/quick.

    For example:

        smidgen train

        smidgen train eva4-s5/5 --protocol origin

        smidgen train smidgen/quick --set optimizer.lr=0.01 --seed 2

        smidgen train net.py:Net --like eva4-s5/5

        smidgen train --resume last
    """
    from smidgen.cli.live import TrainBoard, shown
    from smidgen.cli.targets import DEFAULT_RECIPE, trainable
    from smidgen.training.run import TrainOptions
    from smidgen.training.run import train as run_training

    if as_json and (with_page or opens):
        raise typer.BadParameter("not together with --json.", param_hint="'--report'")
    if with_page or opens:
        from smidgen.cli.report_command import require_for_pages

        require_for_pages()
    store = store_at(runs_dir)
    if resume is not None:
        _refuse_settings(context)
        run = _resume(store.find(resume), data_dir, threads)
    else:
        wanted = trainable(target or DEFAULT_RECIPE, settings, like)
        recipe, dataset = _load(wanted.recipe, data_dir, {"invert": invert, "fit": fit}, or_stripes)
        options = TrainOptions(protocol, engine, device, threads, wanted.source, lanes)
        with shown(TrainBoard(recipe.epochs)) as hear:
            run = run_training(recipe, dataset, store, seed, options, hear)
    _report(run, as_json)
    if with_page or opens:
        from smidgen.cli.report_command import write_run_page

        write_run_page(run.folder, opens, data_dir)


def _refuse_settings(context: typer.Context) -> None:
    kept = {"runs_dir", "data_dir", "threads", "resume", "as_json", "with_page", "opens"}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in kept and source is not None and source.name == "COMMANDLINE":
            given = parameter.opts[0] if parameter.param_type_name == "option" else "NAME"
            raise typer.BadParameter(
                f"a resumed run has its own settings; leave {given} out.",
                param_hint="'--resume'",
            )


def _resume(folder: "RunFolder", data_dir: Path | None, threads: int | None) -> "Run":
    from smidgen.cli.live import TrainBoard, shown
    from smidgen.data import load_dataset
    from smidgen.training.run import Run, resume

    record = folder.record()
    if folder.is_finished and record.result is not None:
        return Run(folder, record, was_there=True)
    dataset = load_dataset(record.recipe.dataset, data_dir, **record.data.reading)
    with shown(TrainBoard(record.recipe.epochs)) as hear:
        return resume(folder, dataset, hear, threads)


def _load(
    recipe: "Recipe", data_dir: Path | None, reading: "Reading", or_stripes: bool
) -> "tuple[Recipe, Dataset]":
    from smidgen.data import load_dataset
    from smidgen.errors import DownloadError

    try:
        return recipe, load_named(recipe.dataset, data_dir, **reading)
    except DownloadError as error:  # a folder that was named and lacks the files stays an error
        if not or_stripes:
            raise
        print(f"{error}\nShowing a run on the drawn `stripes` instead.", file=sys.stderr)
    # the drawn set is small: shorter batches give the schedule enough steps, and no teacher
    # has seen it
    shown = recipe.replace(
        name=f"{recipe.name}-on-stripes", dataset="stripes", batch_size=32, distillation=None
    )
    return shown, load_dataset("stripes")


def _report(run: "Run", as_json: bool) -> None:
    record = run.record
    result = record.result
    assert result is not None
    if as_json:
        print(json.dumps(_plain(run, record)))
        return
    if run.was_there:
        print("Already there: this very run was finished before.")
    selected = result.selection == "selected on the test set"
    which = f"best of {len(record.epochs)} epochs" if selected else "last epoch"
    print(
        f"{percent(result.accuracy)} on {result.split} ({which}): {result.num_errors:,} errors in "
        f"{result.num_images:,} images, {record.num_params:,} parameters, "
        f"{record.train_seconds:.1f} s of training, {record.wall_seconds:.1f} s in all."
    )
    if selected:
        print(
            f"Epoch {result.epoch} was selected on the test set, as the origin does. Last epoch: "
            f"{percent(result.last_accuracy)}; mean of the last five: "
            f"{percent(result.mean_of_last_five)}."
        )
    print(f"Its page: smidgen report {shlex.quote(str(run.folder.path))}")
    print(run.folder.path)


def _plain(run: "Run", record: "RunRecord") -> dict[str, object]:
    result, last = record.result, record.epochs[-1]
    assert result is not None
    # the last epoch's numbers, whatever epoch the protocol reports
    same_split = result.split == last.split
    return {
        "run": str(run.folder.path),
        "recipe": record.recipe.name,
        "seed": record.seed,
        "engine": record.environment.engine,
        "num_params": record.num_params,
        "accuracy": last.eval_accuracy if same_split else result.accuracy,
        "num_errors": last.eval_num_errors if same_split else result.num_errors,
        "epochs": len(record.epochs),
        "train_seconds": round(record.train_seconds, 3),
        "wall_seconds": round(record.wall_seconds, 3),
    }

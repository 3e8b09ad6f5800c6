"""`smidgen train`: one run, from a recipe to a number."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smidgen.cli.options import DataDir, RunsDir, Setting, recipe_from, store_at
from smidgen.cli.tables import percent

if TYPE_CHECKING:
    from smidgen.data import Dataset
    from smidgen.recipes.recipe import Recipe
    from smidgen.runs.record import RunRecord
    from smidgen.training.loop import Run, TrainOptions


def train(
    target: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A recipe, or a JSON file.")
    ] = None,
    settings: Setting = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 1,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
    resume: Annotated[
        str | None, typer.Option(help="Continue an interrupted run: a name, prefix or `last`.")
    ] = None,
    protocol: Annotated[
        Literal["final", "tune", "origin"],
        typer.Option(help="final: all images, last epoch on test. tune: hold out valid."),
    ] = "final",
    engine: Annotated[
        Literal["auto", "native", "torch"], typer.Option(help="What does the arithmetic.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use.")] = None,
    device: Annotated[str, typer.Option(help="A torch device, such as cpu or cuda.")] = "cpu",
    or_stripes: Annotated[
        bool, typer.Option("--or-stripes", help="Without the data, show a run on drawn stripes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
) -> None:
    """Train a recipe and print what it reached. Without a name: smidgen/quick.

    For example:

        smidgen train

        smidgen train eva4-s5/5 --protocol origin

        smidgen train smidgen/quick --set optimizer.lr=0.01 --seed 2

        smidgen train --resume last
    """
    from smidgen.training.loop import TrainOptions
    from smidgen.training.loop import train as run_training

    store = store_at(runs_dir)
    if resume is not None:
        if target is not None or settings:
            raise typer.BadParameter("a resumed run has its recipe.", param_hint="'--resume'")
        found = store.find(resume).record()
        recipe, seed, options = found.recipe, found.seed, _options_of(found)
    else:
        recipe = recipe_from(target or "smidgen/quick", settings)
        options = TrainOptions(protocol, engine, device, threads)
    recipe, dataset = _load(recipe, data_dir, or_stripes)
    if resume is not None and dataset.sha256 != found.data.sha256:
        from smidgen.errors import DataError

        raise DataError(
            f"`{resume}` was trained on other images than these of `{dataset.name}`. "
            "Point `--data-dir` at the images it began with."
        )
    from smidgen.cli.progress import progress_listener

    with progress_listener(recipe.epochs) as listener:
        run = run_training(recipe, dataset, store, seed, options, listener)
    _report(run, as_json)


def _options_of(record: "RunRecord") -> "TrainOptions":
    from smidgen.training.loop import TrainOptions

    used = record.environment
    return TrainOptions(record.protocol, used.engine, used.device, used.threads)


def _load(
    recipe: "Recipe", data_dir: Path | None, or_stripes: bool
) -> "tuple[Recipe, Dataset]":
    from smidgen.data import load_dataset
    from smidgen.errors import DataMissingError, DownloadError

    try:
        return recipe, load_dataset(recipe.dataset, data_dir)
    except (DataMissingError, DownloadError) as error:
        if not or_stripes:
            raise
        print(f"{error}\nShowing a run on the drawn `stripes` instead.", file=sys.stderr)
        # the drawn set is small: shorter batches give the schedule enough steps
        return (
            recipe.replace(name=f"{recipe.name}-on-stripes", dataset="stripes", batch_size=32),
            load_dataset("stripes"),
        )


def _report(run: "Run", as_json: bool) -> None:
    record = run.record
    result = record.result
    assert result is not None
    if as_json:
        line = {
            "run": str(run.folder.path),
            "recipe": record.recipe.name,
            "seed": record.seed,
            "engine": record.environment.engine,
            "num_params": record.num_params,
            "accuracy": result.last_accuracy
            if result.split == record.epochs[-1].split
            else result.accuracy,
            "num_errors": result.num_errors,
            "epochs": len(record.epochs),
            "train_seconds": round(record.train_seconds, 3),
            "wall_seconds": round(record.wall_seconds, 3),
        }
        print(json.dumps(line))
        return
    if run.was_there:
        print("Already there: this very run was finished before.")
    selected = result.selection == "selected on the test set"
    which = f"best of {len(record.epochs)} epochs" if selected else "last epoch"
    print(
        f"{percent(result.accuracy)} on {result.split} ({which}): {result.num_errors} errors in "
        f"{result.num_images:,} images, {record.num_params:,} parameters, "
        f"{record.train_seconds:.1f} s of training, {record.wall_seconds:.1f} s in all."
    )
    if selected:
        print(
            f"Epoch {result.epoch} was selected on the test set, as the origin does. Last epoch: "
            f"{percent(result.last_accuracy)}; mean of the last five: "
            f"{percent(result.mean_of_last_five)}."
        )
    print(run.folder.path)

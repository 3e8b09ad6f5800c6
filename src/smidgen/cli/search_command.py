"""`smidgen search`: a budget in, the best networks within it out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import (
    AsJson,
    DataDir,
    EngineOption,
    FitOption,
    InvertOption,
    On,
    Setting,
    Workers,
    load_named,
    place_of,
)
from smidgen.cli.tables import table
from smidgen.evidence.wording import percent

if TYPE_CHECKING:
    from smidgen.evidence.statistics import Interval
    from smidgen.search import SearchResult


def search(
    max_params: Annotated[int, typer.Option(min=1, help="Parameters at most.")],
    min_params: Annotated[
        int | None, typer.Option(min=0, help="Parameters at least (else half of the most).")
    ] = None,
    max_macs: Annotated[
        int | None,
        typer.Option(min=1, help="MACs for one image at most; fewer then count as better."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="RECIPE", help="Mutate this recipe's network, vary its settings."),
    ] = None,
    settings: Setting = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of a full training (else the recipe's, or 15).")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Random seeds of the last step: 4 means seeds 1 to 4.")
    ] = 4,
    hours: Annotated[float, typer.Option(help="After so long no further run begins.")] = 2.0,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="No more candidates than this (else by time).")
    ] = None,
    engine: EngineOption = "auto",
    workers: Workers = None,
    on: On = "local",
    search_seed: Annotated[int, typer.Option(min=0, help="Decides what is proposed.")] = 1,
    study: Annotated[
        Path | None, typer.Option(help="Folder of the search (else ./search-PARAMETERS).")
    ] = None,
    data_dir: DataDir = None,
    invert: InvertOption = "auto",
    fit: FitOption = "resize",
    runs_dir: Annotated[
        Path | None, typer.Option("--runs-dir", help="Folder of runs (else runs in the study).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for the best networks within a budget, on the validation images alone.

    It ends with recipes and the commands that prove them. The same command goes on where a
    stopped or killed search was.

    For example:

        smidgen search --max-params 1500

        smidgen search --max-params 1500 --epochs 30 --hours 8 --study night

        smidgen search --max-params 9000 --start smidgen/quick --max-macs 200000
    """
    from smidgen.cli.live import SearchBoard, shown
    from smidgen.cli.targets import trainable, with_settings
    from smidgen.runs.store import RunStore
    from smidgen.search import SearchOptions
    from smidgen.search import search as run_search
    from smidgen.search.settings import BASE

    if not hours > 0.0:
        raise typer.BadParameter(f"it must be above 0, not {hours:g}.", param_hint="'--hours'")
    if min_params is not None and min_params > max_params:
        raise typer.BadParameter(
            f"it must be from 0 to --max-params, which is {max_params:,}, not {min_params:,}.",
            param_hint="'--min-params'",
        )
    base = trainable(start, settings).recipe if start else with_settings(BASE, settings)
    options = SearchOptions(
        study=study or Path(f"search-{max_params}"),
        max_params=max_params,
        min_params=min_params,
        max_macs=max_macs,
        epochs=epochs,
        num_seeds=seeds,
        base=base,
        mutates=start is not None,
        hours=hours,
        num_candidates=candidates,
        engine=engine,
        workers=workers,
        seed=search_seed,
        place=place_of(on, runs_dir),
    )
    dataset = load_named(base.dataset, data_dir, invert, fit)
    store = RunStore(runs_dir) if runs_dir else None
    with shown(SearchBoard(options)) as on_event:
        result = run_search(dataset, options, on_event, store)
    print(json.dumps(result.to_plain()) if as_json else page(result))


def page(result: "SearchResult") -> str:
    """Return what a search came to as people read it."""
    counts = result.counts
    rows = [
        [
            row.num_params,
            row.num_macs,
            f"{row.loss:.4f}",
            None if row.loss_interval is None else _between(row.loss_interval, 1, 4),
            percent(row.accuracy),
            None if row.accuracy_interval is None else _between(row.accuracy_interval, 100, 2),
            row.seeds,
            str(file.relative_to(result.study)),
        ]
        for row, file in zip(result.front, result.files, strict=True)
    ]
    header = ["parameters", "MACs", "loss", "95 % interval", "accuracy", "95 % interval", "seeds"]
    best = min(range(len(result.front)), key=lambda place: result.front[place].loss)
    return "\n".join(
        [
            f"{counts.seen:,} candidates were measured on `valid` ({result.num_valid:,} images) in "
            f"{counts.runs:,} runs, {counts.train_seconds:,.0f} s of training; {counts.failed:,} "
            f"diverged. {counts.refused:,} were refused before training.",
            "The front by mean validation loss, which tells candidates apart a little better than "
            "accuracy does:",
            "",
            table([*header, "recipe"], rows, left=0),
            "",
            "Chosen by these numbers, hence flattered by them. What a network is worth, its proof "
            "says:",
            result.prove_commands[best],
            str(result.study / "summary.json"),
        ]
    )


def _between(interval: "Interval", factor: float, digits: int) -> str:
    low, high = factor * max(interval.low, 0.0), factor * interval.high
    return f"{low:.{digits}f} to {min(high, 100.0):.{digits}f}"

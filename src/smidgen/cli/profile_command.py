"""`smidgen profile`: where a training epoch's time goes."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from smidgen.cli.options import (
    DataDir,
    FitOption,
    InvertOption,
    Like,
    RunsDir,
    Setting,
    load_named,
    store_at,
)
from smidgen.cli.tables import table
from smidgen.evidence.wording import percent


def profile(
    target: Annotated[
        str, typer.Argument(metavar="NAME", help="A recipe, a run, a JSON file, or FILE.py:Class.")
    ],
    like: Like = None,
    settings: Setting = None,
    data_dir: DataDir = None,
    invert: InvertOption = "auto",
    fit: FitOption = "resize",
    num_images: Annotated[
        int, typer.Option("--images", min=1, help="Training images in the measured epoch.")
    ] = 12_800,
    runs_dir: RunsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Time a training epoch on the native engine, one thread, by layer and kind of work.

    The share of peak compares with the processor's multiply-adds in registers, measured in
    the same run.

    For example:

        smidgen profile smidgen/quick
    """
    from smidgen.cli.targets import trainable
    from smidgen.training.use import profile_recipe

    recipe = trainable(target, settings, like, store_at(runs_dir)).recipe
    rows = profile_recipe(recipe, load_named(recipe.dataset, data_dir, invert, fit), num_images)
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    total = sum(row.seconds for row in rows)
    shown = [
        [
            row.layer or "(all)",
            row.kind,
            f"{1e3 * row.seconds:.1f}",
            percent(row.seconds / total),
            f"{row.gflops:.1f}" if row.num_macs else None,
            percent(row.share_of_peak) if row.num_macs else None,
        ]
        for row in rows
    ]
    print(table(["layer", "kind", "ms", "of all", "GFLOP/s", "of peak"], shown, left=2))
    print(f"{1e3 * total:.1f} ms for {num_images:,} images on one thread.")

"""`smidgen ablate`: a recipe against variants of it, and which of them are better."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smidgen.cli.options import DataDir, Like, RunsDir, recipe_from, store_at

if TYPE_CHECKING:
    from smidgen.evidence.ablate import AblateListener, Variant
    from smidgen.evidence.ablation import AblationRow
    from smidgen.evidence.prove import ProveListener
    from smidgen.work.jobs import Message


def ablate(
    recipe_name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The base: a recipe, a JSON file, or FILE.py:Class."),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="VARIANT",
            help="A variant: KEY=VALUE, or several with ; between them; repeatable.",
        ),
    ] = None,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            metavar="VARIANT",
            help="A variant: the base with the network of a JSON file, FILE.py:Class, recipe or "
            "run; repeatable.",
        ),
    ] = None,
    recipes: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe", metavar="VARIANT", help="A variant: another recipe as it is; repeatable."
        ),
    ] = None,
    base_settings: Annotated[
        list[str] | None,
        typer.Option(
            "--base",
            metavar="KEY=VALUE",
            help="Change a setting of the base, before any variant; repeatable.",
        ),
    ] = None,
    like: Like = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="How many for each: 10 means seeds 1 to 10.")
    ] = 10,
    engine: Annotated[
        Literal["auto", "native", "torch"], typer.Option(help="What does the arithmetic.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="A torch device, such as cpu or cuda.")] = "cpu",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes at once, one thread each (else as many as cores)."),
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--md", metavar="FILE", help="Write the table as Markdown, too.")
    ] = None,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a recipe and variants of it with the same seeds and say which are better or worse.

    Each --set, --network and --recipe is one variant. A name of your own goes before it, with a
    colon and a space; settings go behind it, with semicolons. All are measured on `valid`: what
    chooses never sees the test images, so there is no --protocol here.

    Runs that were made before are not made again; a stopped ablation goes on where it was.

    For example:

        smidgen ablate smidgen/quick --set optimizer.lr=0.03 --set clean_epochs=0

        smidgen ablate smidgen/quick --set "hot: optimizer.lr=0.04; epochs=14"

        smidgen ablate smidgen/quick --network wide.json --seeds 20 --md wide.md
    """
    from smidgen.cli.ablation_page import markdown, page
    from smidgen.cli.data import data_progress
    from smidgen.cli.targets import student_recipe
    from smidgen.cli.variants import read_variants
    from smidgen.data import load_dataset
    from smidgen.errors import RunError
    from smidgen.evidence.ablate import AblateOptions, check_variants, planned_comparisons
    from smidgen.evidence.ablate import ablate as run_variants
    from smidgen.files import write_atomically

    given = (settings or [], networks or [], recipes or [])
    if not any(given):
        raise typer.BadParameter(
            "name at least one variant: --set KEY=VALUE, --network or --recipe.",
            param_hint="'--set'",
        )
    mine = student_recipe(recipe_name, base_settings, like)
    base = mine.recipe if mine else recipe_from(recipe_name, base_settings)
    source = mine.source if mine else b""
    variants = read_variants(base, source, *given, runs_dir)
    check_variants(base, variants)
    _warn_of_few(seeds, planned_comparisons(base, variants))
    with data_progress("bytes") as progress:
        dataset = load_dataset(base.dataset, data_dir, progress=progress)
    options = AblateOptions(engine, device, workers, source)
    listener = _listener(len(variants), workers)
    found = run_variants(
        base, variants, dataset, store_at(runs_dir), range(1, seeds + 1), options, listener
    )
    # first, for a file that cannot be written must not cost what was found
    print(json.dumps(found.to_plain()) if as_json else page(found), flush=True)
    if markdown_file is not None:
        options_given = {
            "--base": base_settings or [],
            "--like": [like] if like else [],
            "--set": given[0],
            "--network": given[1],
            "--recipe": given[2],
            "--seeds": [str(seeds)],
            "--engine": [] if engine == "auto" else [engine],
        }
        command = _command(recipe_name, options_given)
        write_atomically(markdown_file, markdown(found, command).encode())
    failed = [row for row in found.variants if row.verdict == "failed"]
    if failed:
        raise RunError(
            f"{len(failed)} of {len(variants)} variants could not be judged: "
            f"{', '.join(f'`{row.name}`' for row in failed)}. The table's remarks say why."
        )


def _warn_of_few(seeds: int, num_comparisons: int) -> None:
    """Say before hours are spent that so few seeds cannot give a verdict."""
    from smidgen.cli.ablation_page import too_few

    warning = too_few(seeds, num_comparisons)
    if warning:
        _print(warning)


def _listener(num_variants: int, workers: int | None) -> "AblateListener":
    from smidgen.cli.ablation_page import summary
    from smidgen.cli.proving import proving_listener
    from smidgen.evidence.ablate import AblateListener
    from smidgen.work.jobs import Failed

    diverged: set[str] = set()

    @contextmanager
    def proving(number: int, variant: "Variant") -> "Iterator[ProveListener]":
        _print(f"variant {number} of {num_variants}: {variant.name}" if number else "the base")
        with proving_listener(variant.recipe.epochs, workers) as listener:

            def hear(message: "Message") -> None:
                if isinstance(message, Failed) and message.diverged:
                    diverged.add(variant.name)
                    message = replace(message, reason="training diverged")
                listener.on_message(message)

            yield replace(listener, on_message=hear)

    def on_row(row: "AblationRow") -> None:
        if row.name in diverged:  # the page tells it in full, once
            row = replace(row, reason="training diverged")
        _print(summary(row))

    return AblateListener(proving, on_row)


def _command(name: str, options: dict[str, list[str]]) -> str:
    """Return the command that makes the same table again, wherever data and runs are."""
    words = ["smidgen", "ablate", name]
    for option, texts in options.items():
        for text in texts:
            words += [option, text]
    return shlex.join(words)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

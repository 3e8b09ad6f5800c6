"""`smidgen ablate`: a recipe against variants of it, and which of them are better."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import (
    AsJson,
    DataDir,
    Device,
    EngineOption,
    FitOption,
    InvertOption,
    LanesOption,
    Like,
    On,
    RunsDir,
    Workers,
    lanes_of,
    load_named,
    place_of,
    store_at,
)
from smidgen.cli.tables import table
from smidgen.evidence.wording import markdown_line, markdown_table, percent

if TYPE_CHECKING:
    from smidgen.evidence.ablation import (
        AblateEvent,
        Ablation,
        AblationRow,
        Change,
        Measure,
        Variant,
    )
    from smidgen.recipes.recipe import Recipe


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
    engine: EngineOption = "auto",
    device: Device = "cpu",
    workers: Workers = None,
    on: On = "local",
    lanes: LanesOption = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--md", metavar="FILE", help="Write the table as Markdown, too.")
    ] = None,
    data_dir: DataDir = None,
    invert: InvertOption = "auto",
    fit: FitOption = "resize",
    runs_dir: RunsDir = None,
    as_json: AsJson = False,
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
    from smidgen.cli.targets import read_variants, trainable
    from smidgen.errors import RunError
    from smidgen.evidence.ablation import AblateOptions, check_variants, planned_comparisons
    from smidgen.evidence.ablation import ablate as run_variants
    from smidgen.files import write_atomically

    given = (settings or [], networks or [], recipes or [])
    if not any(given):
        raise typer.BadParameter(
            "name at least one variant: --set KEY=VALUE, --network or --recipe.",
            param_hint="'--set'",
        )
    place = place_of(on, runs_dir)
    wanted = trainable(recipe_name, base_settings, like)
    base, source = wanted.recipe, wanted.source
    variants = read_variants(base, source, *given, runs_dir)
    check_variants(base, variants)
    _warn_of_few(seeds, planned_comparisons(base, variants))
    dataset = load_named(base.dataset, data_dir, invert, fit)
    options = AblateOptions(engine, device, workers, source, place, lanes_of(on, lanes, engine))
    store = store_at(runs_dir)
    with _display(workers, base, variants) as on_event:
        found = run_variants(base, variants, dataset, store, range(1, seeds + 1), options, on_event)
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
    warning = too_few(seeds, num_comparisons)
    if warning:
        _print(warning)


@contextmanager
def _display(
    workers: int | None, base: "Recipe", variants: "list[Variant]"
) -> "Iterator[Callable[[AblateEvent], None]]":
    """Show the runs, and each row when its seeds have ended."""
    from smidgen.cli.live import RunsBoard, shown
    from smidgen.evidence.ablation import BASE, RowDone
    from smidgen.training.events import Note
    from smidgen.work.jobs import Outcome

    names = {base.fingerprint(): BASE} | {v.recipe.fingerprint(): v.name for v in variants}
    diverged: set[str] = set()
    with shown(RunsBoard(workers, names)) as display:

        def hear(event: "AblateEvent") -> None:
            # the page tells it in full, once
            if isinstance(event, Outcome) and event.diverged:
                diverged.add(event.spec.recipe.fingerprint())
                event = replace(event, reason="training diverged")
            elif isinstance(event, RowDone):
                row = event.row
                if row.fingerprint in diverged:
                    row = replace(row, reason="training diverged")
                display(Note(summary(row)))
                return
            display(event)

        yield hear


def _command(name: str, options: dict[str, list[str]]) -> str:
    """Return the command that makes the same table again, wherever data and runs are."""
    words = ["smidgen", "ablate", name]
    for option, texts in options.items():
        for text in texts:
            words += [option, text]
    return shlex.join(words)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_HEADER = (
    "variant",
    "params",
    "MACs",
    "n",
    "accuracy",
    "points",
    "95 % interval",
    "loss",
    "difference",
    "95 % interval",
    "seconds",
    "verdict",
)


def page(found: "Ablation") -> str:
    """Return an ablation as people read it in a terminal."""
    rows = [[*_HEADER], *(_cells(row) for row in (found.base, *found.variants))]
    width = max(len(str(row[-1])) for row in rows)
    header, *cells = ([*row[:-1], str(row[-1]).ljust(width)] for row in rows)
    parts = [
        f"{found.recipe} and {_counted(len(found.variants), 'variant')}\n{_sample(found)}",
        table([str(title) for title in header], cells),
        "\n".join(_rules(found)),
    ]
    told = [f"{name}: {text}" for name, text in _remarks(found)]
    return "\n\n".join([*parts, "\n".join(told)] if told else parts)


def markdown(found: "Ablation", command: str) -> str:
    """Return an ablation as a page of Markdown, with the command that made it."""
    rows = [_cells(row) for row in (found.base, *found.variants)]
    told = [f"- {markdown_line(name)}: {markdown_line(text)}" for name, text in _remarks(found)]
    parts = [
        f"# Ablation of `{found.recipe}`",
        _sample(found).replace("\n", " "),
        markdown_table(_HEADER, rows, {0, len(_HEADER) - 1}),
        *_rules(found),
        *(["\n".join(told)] if told else []),
        f"Made on {'; '.join(found.processors)} with {'; '.join(found.versions)}:",
        f"    {command}",
    ]
    return "\n\n".join(parts) + "\n"


def summary(row: "AblationRow") -> str:
    """Say in one line what a row came to, before all are judged."""
    if row.measured is None:
        return f"{row.name}: {row.reason}"
    text = f"{row.name}: {percent(row.measured.accuracy.mean)}"
    if row.accuracy is not None:
        text += f" ({_points(row.accuracy.mean)} points)"
    text += f", loss {row.measured.loss.mean:.4f}"
    if row.loss is not None:
        text += f" ({row.loss.mean:+.4f})"
    return f"{text}; {row.reason}" if row.reason else text


def verdict_of(row: "AblationRow") -> str:
    """Say whether a variant is better or worse, by what, or what it would take to tell."""
    better, worse = _by(row.measures_saying("better")), _by(row.measures_saying("worse"))
    match row.verdict:
        case "mixed":
            return f"mixed: better {better}, worse {worse}"
        case "better" | "worse":
            return f"{row.verdict} {better or worse}"
        case "cannot tell" if row.measured is not None and len(row.measured.seeds) == 1:
            return "cannot tell from one seed"
        case "cannot tell" if row.seeds_needed is None:
            return "no difference to be seen"
        case "cannot tell":
            return f"cannot tell, needs about {row.seeds_needed:,} seeds"
    return row.verdict or ""


def too_few(seeds: int, num_comparisons: int) -> str:
    """Say that so few seeds cannot give a verdict; empty where they can."""
    from smidgen.evidence.ablation import fewest_seeds

    fewest = fewest_seeds(num_comparisons)
    if seeds >= fewest:
        return ""
    return (
        f"{_counted(seeds, 'seed')} cannot call anything better or worse: "
        f"{_counted(num_comparisons, 'comparison')} need at least {fewest} seeds."
    )


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _by(measures: "list[Measure]") -> str:
    return f"by {' and '.join(measures)}" if measures else ""


def _sample(found: "Ablation") -> str:
    first, last = found.seeds[0], found.seeds[-1]
    listed = f"{first} to {last}" if last - first == len(found.seeds) - 1 > 0 else _joined(found)
    return (
        f"Random seeds {listed} on {found.dataset}, protocol {found.protocol}, "
        f"{found.engine} engine;\n"
        f"accuracy and loss on the {found.num_images:,} images of `{found.split}` after the last "
        "epoch. The test images were not looked at."
    )


def _joined(found: "Ablation") -> str:
    return ", ".join(str(seed) for seed in found.seeds)


def _cells(row: "AblationRow") -> list[object]:
    measured = row.measured
    cells: list[object] = [row.name, row.num_params, row.num_macs]
    if measured is None:
        return [*cells, 0, *[None] * 7, verdict_of(row)]
    return [
        *cells,
        len(measured.seeds),
        percent(measured.accuracy.mean),
        *_change(row.accuracy, "accuracy"),
        f"{measured.loss.mean:.4f}",
        *_change(row.loss, "loss"),
        f"{measured.train_seconds.mean:.1f}",
        verdict_of(row),
    ]


def _change(change: "Change | None", measure: "Measure") -> list[object]:
    if change is None:
        return ["", ""]

    def written(number: float) -> str:
        return _points(number) if measure == "accuracy" else f"{number:+.4f}"

    interval = change.interval
    between = None if interval is None else f"{written(interval.low)} to {written(interval.high)}"
    return [written(change.mean), between]


def _points(share: float) -> str:
    return f"{100 * share:+.3f}"


def _rules(found: "Ablation") -> list[str]:
    """Return the sentences that say how to read the table."""
    count = found.num_comparisons
    if not count:
        return []
    rules = [
        "Differences are variant minus base, paired by seed; their intervals are Student's, of "
        "single comparisons, not corrected.",
        f"Verdicts are corrected for the {_counted(count, 'comparison')} of this table: they ask "
        "for a sign-flip test that holds by Holm's method and a BCa bootstrap interval without 0.",
    ]
    warning = too_few(len(found.seeds), count)
    if warning:
        rules.append(warning)
    if any(row.verdict in ("better", "mixed") for row in found.variants):
        rules.append(
            "What is chosen here has yet to be proved: `smidgen prove` with at least 20 seeds."
        )
    return rules


def _remarks(found: "Ablation") -> list[tuple[str, str]]:
    """Return what is to be said of single variants, each with its name."""
    told = []
    for row in found.variants:
        if row.changes:
            told.append((row.name, "; ".join(row.changes)))
        if not row.loss_judged:
            told.append((row.name, "trained to minimize another loss, so its loss decides nothing"))
        if row.measures_saying("better") + row.measures_saying("worse") == ["accuracy"]:
            told += _images(row, found.split)
        if row.reason:
            told.append((row.name, row.reason))
    return told


def _images(row: "AblationRow", split: str) -> list[tuple[str, str]]:
    if row.images is None or 0.0 not in row.images:
        return []
    text = f"that holds for these images of `{split}`; on others it might not"
    return [(row.name, f"{row.verdict} by accuracy alone; {text}")]

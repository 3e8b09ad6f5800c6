"""`smidgen compare`: which of two recipes is better, if that can be told."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import AsJson, DataDir, RunsDir, RunsProtocol, store_at
from smidgen.cli.tables import table
from smidgen.evidence.wording import difference_rows, percent, verdict_line

if TYPE_CHECKING:
    from smidgen.evidence.compare import Comparison, Side
    from smidgen.runs.store import RunStore

_SIDE_HELP = (
    "A recipe with runs here; NAME@native, NAME@mnist or NAME@1a2b3c4d for those of one engine, "
    "data set or fingerprint; or runs separated by commas."
)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=_SIDE_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    protocol: RunsProtocol = "final",
    num_seeds: Annotated[
        int | None,
        typer.Option(
            "--run", min=1, metavar="N", help="Train seeds 1 to N of both that are not there yet."
        ),
    ] = None,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
    as_json: AsJson = False,
) -> None:
    """Compare two recipes by their finished runs, paired by seed.

    Says *better* only where a sign-flip test and a bootstrap interval agree; otherwise how
    many seeds it would take to tell.

    For example:

        smidgen compare smidgen/quick eva4-s5/5

        smidgen compare smidgen/quick@native smidgen/quick@torch

        smidgen compare smidgen/quick smidgen/2k-15 --run 20
    """
    from smidgen.cli.targets import find_runs
    from smidgen.evidence.compare import compare as compare_runs

    store = store_at(runs_dir)
    if num_seeds is not None:
        if protocol != "final":
            raise typer.BadParameter(
                f"it trains under the protocol final; leave `--protocol {protocol}` out.",
                param_hint="'--run'",
            )
        _train_both((a, b), num_seeds, store, data_dir)
    found = compare_runs(find_runs(a, store, protocol), find_runs(b, store, protocol))
    print(json.dumps(found.to_plain()) if as_json else page(found))


def _train_both(
    words: tuple[str, str], num_seeds: int, store: "RunStore", data_dir: Path | None
) -> None:
    from smidgen.cli.measuring import train_seeds
    from smidgen.cli.targets import trainable
    from smidgen.errors import SmidgenError
    from smidgen.evidence.proof import STAY_EPOCHS

    wanted = [(side.recipe, side.source) for side in map(trainable, words)]
    for result in train_seeds(wanted, None, STAY_EPOCHS, num_seeds, store, data_dir):
        if isinstance(result, SmidgenError):
            raise result


def page(found: "Comparison") -> str:
    """Return a comparison as people read it, the verdict last."""
    header = ["", "recipe", "engine", "params", "mean accuracy", "sd", "seconds per run"]
    rows = [_row("A", found.a), _row("B", found.b)]
    parts = [
        f"{len(found.seeds)} seeds of {found.dataset}, protocol {found.protocol}, "
        f"accuracy on {found.split} after the last epoch",
        table(header, rows, left=3),
        "\n".join(f"{key:<14}{text}" for key, text in difference_rows(found)),
        verdict_line(found),
    ]
    return "\n\n".join(parts)


def _row(letter: str, side: "Side") -> list[object]:
    seen = side.accuracy
    return [
        letter,
        side.recipe,
        side.engine,
        side.num_params,
        percent(seen.mean),
        None if seen.sd is None else f"{100 * seen.sd:.3f}",
        f"{side.train_seconds.mean:.1f}",
    ]

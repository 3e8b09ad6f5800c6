"""`smidgen compare`: which of two recipes is better, if that can be told."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smidgen.cli.options import RunsDir, store_at
from smidgen.cli.tables import percent, table

if TYPE_CHECKING:
    from smidgen.evidence.compare import Comparison, PairedDifference, Side
    from smidgen.evidence.statistics import Interval

_SIDE_HELP = (
    "A recipe with runs here, NAME@torch or NAME@native for those of one engine, "
    "or runs separated by commas."
)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=_SIDE_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    protocol: Annotated[
        Literal["final", "tune", "origin"],
        typer.Option(help="Of which runs to take for a recipe's name."),
    ] = "final",
    runs_dir: RunsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare two recipes by their finished runs, paired by seed.

    Says *better* only where a sign-flip test and a bootstrap interval agree; otherwise how
    many seeds it would take to tell.

    For example:

        smidgen compare smidgen/quick eva4-s5/5

        smidgen compare smidgen/quick@native smidgen/quick@torch
    """
    from smidgen.evidence.compare import compare as compare_runs
    from smidgen.evidence.select import select_runs

    store = store_at(runs_dir)
    found = compare_runs(select_runs(store, a, protocol), select_runs(store, b, protocol))
    print(json.dumps(found.to_plain()) if as_json else page(found))


def page(found: "Comparison") -> str:
    """Return a comparison as people read it, the verdict last."""
    header = ["", "recipe", "engine", "params", "mean accuracy", "sd", "seconds per run"]
    rows = [_row("A", found.a), _row("B", found.b)]
    parts = [
        f"{len(found.seeds)} seeds of {found.dataset}, protocol {found.protocol}, "
        f"accuracy on {found.split} after the last epoch",
        table(header, rows, left=3),
        "\n".join(f"{key:<14}{text}" for key, text in _difference(found)),
        verdict_line(found),
    ]
    return "\n\n".join(parts)


def verdict_line(found: "Comparison") -> str:
    """Say who is better, or what it would take to tell."""
    difference = found.difference
    if difference.verdict == "cannot tell":
        return _cannot_tell(difference)
    names = _names(found)
    better, other = names if difference.verdict == "a is better" else names[::-1]
    text = f"{better} is better than {other} by {abs(100 * difference.mean):.3f} points."
    if found.images is not None and 0.0 in found.images:
        text += f" That holds for these images of {found.split}; on others it might not."
    return text


def _cannot_tell(difference: "PairedDifference") -> str:
    if difference.n == 1:
        return "Cannot tell from one seed: run more with `smidgen prove`."
    if difference.pairs_needed is None:
        return "Cannot tell, and no number of seeds would: there is no difference to be seen."
    return (
        f"Cannot tell, needs about {difference.pairs_needed:,} seeds if the true difference is "
        f"as large as here."
    )


def _names(found: "Comparison") -> tuple[str, str]:
    a, b = found.a, found.b
    if a.recipe != b.recipe:
        return a.recipe, b.recipe
    if a.engine != b.engine:
        return f"{a.recipe} on {a.engine}", f"{b.recipe} on {b.engine}"
    return f"A ({a.recipe})", f"B ({b.recipe})"


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


def _difference(found: "Comparison") -> list[tuple[str, str]]:
    difference = found.difference
    rows = [("A - B", f"{100 * difference.mean:+.3f} points")]
    if difference.interval is not None and difference.bootstrap is not None:
        rows += [
            ("over seeds", f"{_points(difference.interval)} (Student)"),
            ("", f"{_points(difference.bootstrap)} (BCa bootstrap)"),
            ("", f"sign-flip test: two-sided p = {difference.p_value:.2g}"),
        ]
    if found.images is not None:
        rows.append(("over images", f"{_points(found.images)} (bootstrap, seeds averaged)"))
    if found.left_out:
        listed = ", ".join(str(seed) for seed in found.left_out)
        rows.append(("left out", f"seeds that only one has: {listed}"))
    return rows


def _points(interval: "Interval") -> str:
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * interval.confidence:g} % interval {low:+.3f} to {high:+.3f} points"

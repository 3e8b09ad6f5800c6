"""`smidgen prove`: many seeds of one recipe, and what they say together."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smidgen.cli.options import DataDir, Like, RunsDir, Setting, recipe_from, store_at
from smidgen.cli.tables import percent, table

if TYPE_CHECKING:
    from smidgen.evidence.proof import AtTarget, ImageErrors, Proof, Spread
    from smidgen.evidence.statistics import Interval, Proportion

_CLAIM_SEEDS = 20


def prove(
    recipe_name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A recipe, a JSON file, or FILE.py:Class."),
    ],
    like: Like = None,
    settings: Setting = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many: 20 means seeds 1 to 20.")] = 20,
    target: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", help="Accuracy to reach, as 99.4 (else the recipe's)."),
    ] = None,
    stay: Annotated[
        int, typer.Option(min=1, help="How many last epochs at the target mean it stays there.")
    ] = 5,
    protocol: Annotated[
        Literal["final", "tune", "origin"],
        typer.Option(help="final: all images, last epoch on test. tune: hold out valid."),
    ] = "final",
    engine: Annotated[
        Literal["auto", "native", "torch"], typer.Option(help="What does the arithmetic.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="A torch device, such as cpu or cuda.")] = "cpu",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes at once, one thread each (else as many as cores)."),
    ] = None,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a recipe with many seeds and state what they say: mean, spread, share at the target.

    Seeds that were trained before are not trained again; a stopped proof goes on where it was.

    For example:

        smidgen prove smidgen/quick

        smidgen prove eva4-s5/5 --seeds 20 --target 99.4 --stay 5

        smidgen prove net.py:Net --like eva4-s5/5
    """
    from smidgen.cli.data import data_progress
    from smidgen.cli.proving import proving_listener
    from smidgen.cli.targets import student_recipe
    from smidgen.data import load_dataset
    from smidgen.errors import RunError
    from smidgen.evidence.prove import ProveOptions
    from smidgen.evidence.prove import prove as run_seeds

    share = None if target is None else share_of(target, "--target")
    mine = student_recipe(recipe_name, settings, like)
    recipe = mine.recipe if mine else recipe_from(recipe_name, settings)
    with data_progress("bytes") as progress:
        dataset = load_dataset(recipe.dataset, data_dir, progress=progress)
    source = mine.source if mine else b""
    options = ProveOptions(protocol, engine, device, workers, share, stay, source)
    with proving_listener(recipe.epochs, workers) as listener:
        proof = run_seeds(
            recipe, dataset, store_at(runs_dir), range(1, seeds + 1), options, listener
        )
    print(json.dumps(proof.to_plain()) if as_json else page(proof))
    if proof.failures:
        first = proof.failures[0]
        raise RunError(
            f"{len(proof.failures)} of {seeds} seeds gave no run, the first of them seed "
            f"{first.seed}: {first.reason}"
        )


def share_of(given: float, option: str) -> float:
    """Return a percentage as a share; refuses what must be a share already, or no percentage."""
    if 0.0 <= given <= 1.0:
        raise typer.BadParameter(
            f"{given:g} looks like a share; accuracies are written in percent, as 99.4.",
            param_hint=f"'{option}'",
        )
    if not 1.0 < given <= 100.0:
        raise typer.BadParameter(
            f"{given:g} is no percentage; accuracies are above 1 and at most 100, as 99.4.",
            param_hint=f"'{option}'",
        )
    return given / 100.0


def page(proof: "Proof") -> str:
    """Return a proof as people read it."""
    rows = _accuracy(proof)
    if proof.target is not None:
        rows += _target(proof.target)
    if proof.images is not None:
        rows += _images(proof.images)
    rows += [
        ("seconds per run", f"{_seconds(proof.train_seconds)} of training, one core"),
        ("", f"{_seconds(proof.wall_seconds)} in all, processes side by side"),
        ("machine", "; ".join(proof.processors)),
        ("software", "; ".join(proof.versions)),
    ]
    header = (
        f"{proof.recipe}: {proof.num_params:,} parameters, {proof.num_macs:,} MACs, "
        f"{proof.epochs} epochs of {proof.dataset}\n"
        f"{len(proof.seeds)} seeds, protocol {proof.protocol}, {proof.engine} engine; "
        f"accuracy on {proof.split} after the last epoch"
    )
    if len(proof.seeds) < _CLAIM_SEEDS or proof.protocol != "final":
        header += f"\nNo claim: that takes at least {_CLAIM_SEEDS} seeds, protocol final."
    width = max(len(key) for key, _ in rows)
    lines = [f"{key:<{width}}  {text}" for key, text in rows]
    return "\n".join([header, "", _seeds(proof), "", *lines])


def _seeds(proof: "Proof") -> str:
    header = ["seed", "accuracy", "errors", "at target from", "stays", "seconds"]
    rows = [
        [
            each.seed,
            percent(each.accuracy),
            each.num_errors,
            None if each.first_epoch is None else f"epoch {each.first_epoch}",
            each.stays,
            f"{each.train_seconds:.1f}",
        ]
        for each in proof.seeds
    ]
    if proof.target is None:
        header, rows = header[:3] + header[5:], [row[:3] + row[5:] for row in rows]
    return table(header, rows, left=0)


def _accuracy(proof: "Proof") -> list[tuple[str, str]]:
    seen = proof.accuracy
    rows = [("mean accuracy", percent(seen.mean))]
    if seen.interval is not None and seen.bootstrap is not None and seen.sd is not None:
        rows = [
            ("mean accuracy", f"{percent(seen.mean)}, {between(seen.interval)} (Student)"),
            ("", f"{' ' * len(percent(seen.mean))}  {between(seen.bootstrap)} (BCa bootstrap)"),
            ("standard deviation", f"{100 * seen.sd:.3f} points"),
        ]
    rows.append(
        (
            "min, median, max",
            f"{percent(seen.minimum)}, {percent(seen.median)}, {percent(seen.maximum)}",
        )
    )
    if proof.selected is not None:
        rows += [
            ("mean of last five", percent(proof.selected.mean_of_last_five)),
            ("best epoch", f"{percent(proof.selected.best)}, *selected on the test set*"),
        ]
    return rows


def _target(at: "AtTarget") -> list[tuple[str, str]]:
    goal = f"{100 * at.target:g} %"
    rows = [
        (f"at {goal} or above", _count(at.reached)),
        (f"and stay, last {at.stay_epochs} epochs", _count(at.stayed)),
    ]
    if at.p_value is not None:
        yes = "above it" if at.p_value <= 0.05 else "not shown to be above it"
        rows.append(("mean against target", f"{yes}, one-sided p = {at.p_value:.2g}"))
    first = at.median_first_epoch
    text = "never, for half of the seeds" if first is None else f"epoch {first:g} (median)"
    rows.append(("first at target", f"{text}; never for {at.never.count} of {at.never.total}"))
    return rows


def _images(images: "ImageErrors") -> list[tuple[str, str]]:
    text = f"{len(images.shared)} of {images.num_images:,} images ({images.ever} for any)"
    rows = [
        ("on other images", f"{between(images.interval)} (bootstrap over images)"),
        ("wrong for every seed", text),
    ]
    if images.shared:
        marked = [f"{i}*" if i in images.label_errors else str(i) for i in images.shared[:30]]
        more = f", ... ({len(images.shared) - 30} more)" if len(images.shared) > 30 else ""
        rows.append(("", ", ".join(marked) + more))
    if images.known_label_errors:
        rows.append(
            (
                "",
                f"* {len(images.label_errors)} of the {images.known_label_errors} images whose "
                "label is known to be wrong",
            )
        )
    return rows


def _count(found: "Proportion") -> str:
    return f"{found.count} of {found.total} seeds, {between(found.interval)} (Clopper-Pearson)"


def between(interval: "Interval") -> str:
    """Return an interval of shares as people read it, in percent and within 0 and 100."""
    low, high = max(interval.low, 0.0), min(interval.high, 1.0)
    return f"{100 * interval.confidence:g} % interval {100 * low:.2f} to {100 * high:.2f} %"


def _seconds(seen: "Spread") -> str:
    return f"{seen.mean:.1f} s (median {seen.median:.1f})"

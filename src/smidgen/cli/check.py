"""`smidgen check`: does a model keep its limits? Exit code 0 says yes, 3 no."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smidgen.cli.limits import (
    BudgetFile,
    Forbid,
    MaxEpochs,
    MaxMacs,
    MaxParams,
    MinAccuracy,
    Require,
    Stay,
    limits_from,
)
from smidgen.cli.options import DataDir, Like, RunsDir, recipe_from, store_at

if TYPE_CHECKING:
    from smidgen.cli.inspected import Inspected
    from smidgen.evidence.check import Checked
    from smidgen.evidence.limits import Limits
    from smidgen.evidence.subject import Subject
    from smidgen.recipes.recipe import Recipe

Prove = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Train seeds 1 to N that are not there yet.")
]


def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A recipe, a run, a JSON file, or FILE.py:Class, as net.py:Net or net.py:Net(8).",
        ),
    ],
    max_params: MaxParams = None,
    max_macs: MaxMacs = None,
    max_epochs: MaxEpochs = None,
    min_accuracy: MinAccuracy = None,
    stay: Stay = None,
    require: Require = None,
    forbid: Forbid = None,
    budget: BudgetFile = None,
    prove: Prove = None,
    like: Like = None,
    output: Annotated[
        Literal["text", "json", "junit", "github"],
        typer.Option("--format", help="For people, for programs, or for CI."),
    ] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
) -> None:
    """Hold a model against limits: exit code 0 if all are kept, 3 if not, 1 for an error.

    Without limits a recipe is held against its own budget. Accuracies are read from its
    finished runs of the protocol final, or made with --prove; of a run, its own is read.
    FILE.py:Class RUNS THAT FILE.

    For example:

        smidgen check era-s7/7 --max-params 10000 --require batchnorm,dropout --forbid linear

        smidgen check net.py:Net --max-params 8000 --min-accuracy 99.4 --stay 5 --prove 20

        smidgen check last --budget budget.json --format junit
    """
    from smidgen.cli.ci import github, junit
    from smidgen.evidence.check import lines_of

    if as_json and output not in ("text", "json"):
        raise typer.BadParameter("not together with --json.", param_hint="'--format'")
    limits = limits_from(
        (max_params, max_macs, max_epochs), (min_accuracy, stay), (require, forbid), budget
    )
    checked = _check(target, limits, like, prove, data_dir, runs_dir)
    if as_json or output == "json":
        print(json.dumps(checked.to_plain()))
    elif output == "junit":
        print(junit([checked]))
    elif output == "github":
        print(github(checked, target))
    else:
        verdict = "keeps" if checked.kept else "does not keep"
        print("\n".join([f"{checked.subject.name} {verdict} its limits", *lines_of(checked)]))
        for note in checked.subject.notes:
            print(f"note    {note}")
    if not checked.kept:
        raise typer.Exit(3)


def _check(
    target: str,
    limits: "Limits",
    like: str | None,
    num_seeds: int | None,
    data_dir: Path | None,
    runs_dir: Path | None,
) -> "Checked":
    from smidgen.cli.inspected import find
    from smidgen.cli.targets import DEFAULT_LIKE
    from smidgen.evidence.check import check as hold
    from smidgen.evidence.limits import limits_of, void_target
    from smidgen.reading.python_file import Limits as FileLimits

    settled = recipe_from(like or DEFAULT_LIKE)
    found = find(target, settled.network.input_shape, FileLimits(), runs_dir)
    if found.recipe is not None and like is not None:
        raise typer.BadParameter(
            f"it says how to train a network; `{target}` has settings of its own.",
            param_hint="'--like'",
        )
    void = ""
    if limits.is_empty and found.recipe is not None:
        limits, void = limits_of(found.recipe), void_target(found.recipe)
    if limits.is_empty:
        raise typer.BadParameter("no limit is given, as `--max-params 10000`.")
    subject = subject_of(found, target, settled)
    if void:
        subject = replace(subject, notes=(*subject.notes, void))
    proof = None
    if found.origin == "run" and (limits.needs_runs or num_seeds is not None):
        from smidgen.cli.measuring import proof_of_run

        if num_seeds is not None:
            raise typer.BadParameter(
                f"`{target}` is one run, measured as it is. Name its recipe to train seeds of it.",
                param_hint="'--prove'",
            )
        folder = store_at(runs_dir).find(target)
        proof = proof_of_run(folder, (limits.target_accuracy, limits.stay_epochs))
        told = f"Measured on this run alone: seed {proof.seeds[0].seed}, protocol {proof.protocol}."
        subject = replace(subject, notes=(*subject.notes, told))
    elif limits.needs_runs or num_seeds is not None:
        from smidgen.cli.measuring import proof_for
        from smidgen.cli.targets import recipe_like

        recipe = found.recipe or recipe_like(found, target, settled)
        asked = (limits.target_accuracy, limits.stay_epochs)
        proof = proof_for(recipe, found.source, asked, num_seeds, store_at(runs_dir), data_dir)
    return hold(subject, limits, proof)


def subject_of(found: "Inspected", target: str, settled: "Recipe") -> "Subject":
    """Return a model as limits see it, with the epochs that would train it."""
    from smidgen.cli.targets import shown_name
    from smidgen.evidence.subject import subject_of_network, subject_of_watched

    name = shown_name(found, target)
    if found.network is None:
        assert found.watched is not None
        return subject_of_watched(name, found.watched, settled.epochs, found.notes)
    epochs, notes = (found.recipe or settled).epochs, found.notes
    ours, theirs = found.network.num_classes, settled.network.num_classes
    if found.recipe is None and ours != theirs:
        notes += (f"It tells {ours} classes apart; `{settled.name}` needs {theirs}.",)
    return subject_of_network(name, found.network, epochs, notes)

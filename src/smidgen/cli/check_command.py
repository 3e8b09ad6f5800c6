"""`smidgen check`: does a model keep its limits? Exit code 0 says yes, 3 no."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from xml.etree import ElementTree

import typer

from smidgen.cli.options import (
    BudgetFile,
    DataDir,
    FitOption,
    Forbid,
    InvertOption,
    Like,
    MaxEpochs,
    MaxFlash,
    MaxMacs,
    MaxParams,
    MaxRam,
    MinAccuracy,
    Require,
    RunsDir,
    Stay,
    limits_from,
    store_at,
)
from smidgen.places import split_target

if TYPE_CHECKING:
    from smidgen.cli.targets import Model
    from smidgen.data.images import Reading
    from smidgen.evidence.check import Checked
    from smidgen.evidence.limits import Limits, Subject
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
    max_flash: MaxFlash = None,
    max_ram: MaxRam = None,
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
    invert: InvertOption = "auto",
    fit: FitOption = "resize",
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
    from smidgen.evidence.check import lines_of

    if as_json and output not in ("text", "json"):
        raise typer.BadParameter("not together with --json.", param_hint="'--format'")
    limits = limits_from(
        budget,
        max_params=max_params,
        max_macs=max_macs,
        max_flash=max_flash,
        max_ram=max_ram,
        max_epochs=max_epochs,
        min_accuracy=min_accuracy,
        stay=stay,
        require=require,
        forbid=forbid,
    )
    checked = _check(
        target, limits, like, prove, data_dir, {"invert": invert, "fit": fit}, runs_dir
    )
    if as_json or output == "json":
        print(json.dumps(checked.to_plain()))
    elif output == "junit":
        print(junit([checked]))
    elif output == "github":
        print(github(checked, target))
    else:
        verdict = "keeps" if checked.kept else "does not keep"
        if checked.unknown and not checked.broken:
            verdict = "may keep or break"
        print("\n".join([f"{checked.subject.name} {verdict} its limits", *lines_of(checked)]))
        for note in checked.subject.notes:
            print(f"note    {note}")
    if not checked.kept:
        raise typer.Exit(3 if checked.broken else 1)


def _check(
    target: str,
    limits: "Limits",
    like: str | None,
    num_seeds: int | None,
    data_dir: Path | None,
    reading: "Reading",
    runs_dir: Path | None,
) -> "Checked":
    from smidgen.cli.measuring import proof_for, proof_of_run
    from smidgen.cli.targets import DEFAULT_RECIPE, find_model, recipe_from, recipe_like
    from smidgen.evidence.check import check as hold
    from smidgen.evidence.limits import limits_of, void_target

    settled = recipe_from(like or DEFAULT_RECIPE)
    found = find_model(target, settled.network.input_shape, runs_dir=runs_dir)
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
    if limits.needs_export:
        subject = _with_board(subject, found)
    if void:
        subject = replace(subject, notes=(*subject.notes, void))
    proof = None
    if found.origin == "run" and (limits.needs_runs or num_seeds is not None):
        if num_seeds is not None:
            raise typer.BadParameter(
                f"`{target}` is one run, measured as it is. Name its recipe to train seeds of it.",
                param_hint="'--prove'",
            )
        folder = store_at(runs_dir).find(target)
        proof = proof_of_run(folder, limits.target_accuracy, limits.stay_epochs)
        told = f"Measured on this run alone: seed {proof.seeds[0].seed}, protocol {proof.protocol}."
        subject = replace(subject, notes=(*subject.notes, told))
    elif limits.needs_runs or num_seeds is not None:
        recipe = found.recipe or recipe_like(found, target, settled)
        proof = proof_for(
            recipe,
            found.source,
            limits.target_accuracy,
            limits.stay_epochs,
            num_seeds,
            store_at(runs_dir),
            data_dir,
            reading=reading,
        )
    return hold(subject, limits, proof)


def subject_of(found: "Model", target: str, settled: "Recipe") -> "Subject":
    """Return a model as limits see it, with the epochs that would train it."""
    from smidgen.cli.targets import shown_name
    from smidgen.evidence.limits import subject_of_network, subject_of_watched

    name = shown_name(found, target)
    if found.network is None:
        assert found.watched is not None
        return subject_of_watched(name, found.watched, settled.epochs, found.notes)
    epochs, notes = (found.recipe or settled).epochs, found.notes
    ours, theirs = found.network.num_classes, settled.network.num_classes
    if found.recipe is None and ours != theirs:
        notes += (f"It tells {ours} classes apart; `{settled.name}` needs {theirs}.",)
    return subject_of_network(name, found.network, epochs, notes)


def junit(found: "Sequence[Checked]") -> str:
    """Return JUnit's XML: a suite per model, a case per limit."""
    root = ElementTree.Element("testsuites", name="smidgen check")
    for checked in found:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_printable(checked.subject.name),
            tests=str(len(checked.limits)),
            failures=str(len(checked.broken)),
            errors=str(len(checked.unknown)),
        )
        for limit in checked.limits:
            name = f"{limit.name} {limit.limit}" if isinstance(limit.limit, str) else limit.name
            case = ElementTree.SubElement(
                suite, "testcase", classname=_printable(checked.subject.name), name=name
            )
            if not limit.kept:
                kind = "error" if limit.kept is None else "failure"
                failure = ElementTree.SubElement(case, kind, message=limit.text)
                failure.text = limit.text
    ElementTree.indent(root)
    declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return declaration + ElementTree.tostring(root, encoding="unicode")


def github(checked: "Checked", target: str) -> str:
    """Return GitHub's workflow commands: an error per broken limit, a line per kept one."""
    path, _ = split_target(target)
    place = f"file={_property(path)}," if path.endswith((".py", ".ipynb", ".json")) else ""
    lines = []
    for limit in checked.limits:
        text = _message(f"{checked.subject.name}: {limit.text}")
        if limit.kept:
            lines.append(f"kept {limit.name}: {text}")
        else:
            how = "unknown" if limit.kept is None else "not kept"
            lines.append(f"::error {place}title={_property(limit.name)} {how}::{text}")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Return text without the control characters that XML cannot hold."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def _with_board(subject: "Subject", found: "Model") -> "Subject":
    """Return a subject with the flash and RAM that its network takes when exported."""
    from smidgen.ship.artifacts import foreseen

    if found.network is None:
        return subject
    mean = 0.0 if found.recipe is None else found.recipe.normalization.eval_mean
    weight, is_measured = foreseen(found.network, mean)
    told = "" if is_measured else "Flash and RAM are estimated: no arm-none-eabi-gcc here."
    notes = (*subject.notes, told) if told else subject.notes
    return replace(subject, flash_bytes=weight.flash, ram_bytes=weight.ram, notes=notes)

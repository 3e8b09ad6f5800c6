"""`smidgen grade`: one row for every submission in a folder."""

import csv
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.check_command import Prove
from smidgen.cli.options import (
    BudgetFile,
    DataDir,
    Forbid,
    Like,
    MaxEpochs,
    MaxMacs,
    MaxParams,
    MinAccuracy,
    Require,
    RunsDir,
    Stay,
    limits_from,
    store_at,
)
from smidgen.evidence.wording import markdown_table, percent

if TYPE_CHECKING:
    from smidgen.cli.targets import Model
    from smidgen.evidence.grade import Grade, Submission
    from smidgen.evidence.limits import Limits
    from smidgen.evidence.proof import Proof
    from smidgen.reading.python_file import Limits as FileLimits
    from smidgen.recipes.recipe import Recipe
    from smidgen.runs.store import RunStore

_HEADER = ("submission", "model", "parameters", "registered", "Keras total", "MACs", "kept")
_OPTIONAL = ("accuracy", "sd", "seeds", "broken or failed", "notes")


def grade(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="One sub-folder or .py file per submission.")
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
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, not Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    time_limit: Annotated[float, typer.Option(min=1.0, help="Seconds each file may take.")] = 60.0,
    memory_limit: Annotated[
        float, typer.Option(min=0.25, help="GiB of memory each file may take.")
    ] = 2.0,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
) -> None:
    """Hold every submission in a folder against limits, and print one table.

    Of each file the only model is taken, or the one called Net or Model. A submission that
    fails costs its own row alone. Exit code 3 if any submission does not keep its limits or
    gives no model, else 0. The files ARE RUN, with your rights, with limits on time and memory.

    For example:

        smidgen grade submissions --max-params 10000 --require batchnorm

        smidgen grade submissions --min-accuracy 99.4 --prove 5 --like eva4-s5/5 --csv
    """
    from smidgen.cli.targets import DEFAULT_RECIPE, recipe_from
    from smidgen.evidence.grade import grades, passed_over, submissions
    from smidgen.reading.python_file import Limits as FileLimits

    if as_csv and as_json:
        raise typer.BadParameter("not together with --json.", param_hint="'--csv'")
    limits = limits_from(
        budget,
        max_params=max_params,
        max_macs=max_macs,
        max_epochs=max_epochs,
        min_accuracy=min_accuracy,
        stay=stay,
        require=require,
        forbid=forbid,
    )
    if limits.is_empty and prove is None:
        raise typer.BadParameter("no limit is given, as `--max-params 10000`.")
    settled = recipe_from(like or DEFAULT_RECIPE)
    grader = _Grader(
        settled,
        limits,
        FileLimits(time_limit, round(memory_limit * 2**30)),
        prove,
        store_at(runs_dir),
        data_dir,
    )
    work, done = submissions(folder), []
    if others := passed_over(folder):
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        print(f"Passed over, no Python files: {', '.join(others[:8])}{more}", file=sys.stderr)
    for each in grades(work, grader.grade):
        done.append(each)
        print(f"{len(done)} of {len(work)}: {_brief(each)}", file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps([each.to_plain() for each in done]))
    else:
        print(_csv(done) if as_csv else _markdown(done))
    if not all(each.kept for each in done):
        raise typer.Exit(3)


class _Grader:
    """Grades one submission after the other by the same measure."""

    def __init__(
        self,
        settled: "Recipe",
        limits: "Limits",
        file_limits: "FileLimits",
        num_seeds: int | None,
        store: "RunStore",
        data_dir: Path | None,
    ) -> None:
        self._settled, self._limits, self._file_limits = settled, limits, file_limits
        self._num_seeds, self._store, self._data_dir = num_seeds, store, data_dir

    def grade(self, submission: "Submission") -> "Grade":
        """Read, check and, if asked, train one; what accuracy costs it is its reason."""
        from smidgen.cli.check_command import subject_of
        from smidgen.cli.targets import find_model
        from smidgen.errors import InterruptedRunError, SmidgenError
        from smidgen.evidence.check import check
        from smidgen.evidence.grade import Grade

        limits, proof, reason = self._limits, None, ""
        shape = self._settled.network.input_shape
        found = find_model(submission.target, shape, self._file_limits)
        subject = subject_of(found, submission.target, self._settled)
        if limits.needs_runs or self._num_seeds is not None:
            try:
                proof = self._measure(found, submission.target)
            except InterruptedRunError:
                raise
            except SmidgenError as error:
                reason = str(error)
            if proof is None:
                limits = replace(limits, target_accuracy=None, stay_epochs=None)
        checked = check(subject, limits, proof)
        if proof is None:
            return Grade(submission, checked, reason=reason)
        return Grade(submission, checked, proof.accuracy.mean, proof.accuracy.sd)

    def _measure(self, found: "Model", target: str) -> "Proof":
        from smidgen.cli.measuring import proof_for
        from smidgen.cli.targets import recipe_like
        from smidgen.errors import RunError

        recipe = recipe_like(found, target, self._settled)
        proof = proof_for(
            recipe,
            found.source,
            self._limits.target_accuracy,
            self._limits.stay_epochs,
            self._num_seeds,
            self._store,
            self._data_dir,
        )
        if proof is None:
            raise RunError("It has no finished runs to measure. `--prove 5` makes some.")
        return proof


def _rows(done: "list[Grade]") -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells; columns that are empty in all rows are left out."""
    header = [*_HEADER, *_OPTIONAL]
    rows = [_cells(each) for each in done]
    optional = {"registered", "kept", *_OPTIONAL}
    shown = [
        place
        for place, title in enumerate(header)
        if title not in optional or any(row[place] for row in rows)
    ]
    return [header[place] for place in shown], [[row[place] for place in shown] for row in rows]


def _cells(each: "Grade") -> list[str]:
    checked = each.checked
    if checked is None:
        return [each.submission.name, "", "", "", "", "", "no", "", "", "", each.reason, ""]
    subject = checked.subject
    dead = subject.num_registered != subject.num_params
    broken = [f"{limit.name}: {limit.text}" for limit in checked.broken]
    return [
        each.submission.name,
        subject.name,
        f"{subject.num_params:,}",
        f"{subject.num_registered:,}" if dead else "",
        f"{subject.num_params + subject.num_buffers:,}",
        f"{subject.num_macs:,}",
        _verdict(each),
        "" if each.mean is None else percent(each.mean),
        "" if each.sd is None else f"{100 * each.sd:.3f}",
        str(checked.num_seeds or ""),
        "; ".join([*broken, *([each.reason] if each.reason else [])]),
        " ".join(subject.notes),
    ]


def _brief(each: "Grade") -> str:
    """Say how one submission went, for who waits for the table."""
    if each.checked is None:
        how = "gives no model"
    elif each.reason:
        how = "gives no accuracy"
    elif not each.checked.limits:
        how = f"reaches {percent(each.mean or 0.0)}"
    else:
        how = "keeps its limits" if each.kept else "does not keep its limits"
    return f"{each.submission.name} {how}"


def _verdict(each: "Grade") -> str:
    if not each.kept:
        return "no"
    return "yes" if each.checked is not None and each.checked.limits else ""


def _markdown(done: "list[Grade]") -> str:
    header, rows = _rows(done)
    numbers = {"parameters", "registered", "Keras total", "MACs", "accuracy", "sd", "seeds"}
    left = [place for place, title in enumerate(header) if title not in numbers]
    return markdown_table(header, rows, left)


def _csv(done: "list[Grade]") -> str:
    header, rows = _rows(done)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue().rstrip("\n")


def _harmless(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, and numbers without separators."""
    if cell.replace(",", "").isdigit():
        return cell.replace(",", "")
    return f"'{cell}" if cell.lstrip()[:1] in ("=", "+", "-", "@") else cell

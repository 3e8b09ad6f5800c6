"""`smidgen grade`: one row for every submission in a folder."""

import csv
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
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
    On,
    Require,
    RunsDir,
    Stay,
    limits_from,
    place_of,
    store_at,
)
from smidgen.evidence.wording import markdown_table, percent

if TYPE_CHECKING:
    from smidgen.cli.targets import Model
    from smidgen.errors import SmidgenError
    from smidgen.evidence.check import Grade, Submission
    from smidgen.evidence.limits import Limits, Subject
    from smidgen.evidence.proof import Proof
    from smidgen.reading.python_file import Limits as FileLimits
    from smidgen.recipes.recipe import Recipe
    from smidgen.runs.store import RunStore
    from smidgen.work.jobs import Place

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
    on: On = "local",
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
    from smidgen.evidence.check import passed_over, submissions
    from smidgen.extras import require as require_packages
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
        place_of(on, runs_dir),
    )
    work = submissions(folder)
    require_packages(
        "Reading submissions needs", "torch"
    )  # else each row would call its model broken
    if others := passed_over(folder):
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        print(f"Passed over, no Python files: {', '.join(others[:8])}{more}", file=sys.stderr)
    done = grader.grade(work)
    if as_json:
        print(json.dumps([each.to_plain() for each in done]))
    else:
        print(_csv(done) if as_csv else _markdown(done))
    if not all(each.kept or _verdict(each) == "?" for each in done):
        raise typer.Exit(3)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A submission that gave a model."""

    submission: "Submission"
    found: "Model"
    subject: "Subject"


class _Grader:
    """Grades submissions by the same measure."""

    def __init__(
        self,
        settled: "Recipe",
        limits: "Limits",
        file_limits: "FileLimits",
        num_seeds: int | None,
        store: "RunStore",
        data_dir: Path | None,
        place: "Place",
    ) -> None:
        self._place = place
        self._settled, self._limits, self._file_limits = settled, limits, file_limits
        self._num_seeds, self._store, self._data_dir = num_seeds, store, data_dir

    def grade(self, work: "list[Submission]") -> "list[Grade]":
        """Read and check all; train in one queue what is asked for. One grade each, in order."""
        from smidgen.evidence.check import Grade, guarded

        done: dict[int, Grade] = {}

        def enter(number: int, grade: "Grade") -> None:
            done[number] = grade
            print(f"{len(done)} of {len(work)}: {_brief(grade)}", file=sys.stderr, flush=True)

        readings: list[tuple[int, _Reading]] = []
        for number, each in enumerate(work):
            reading = guarded(each, partial(self._read, each))
            if isinstance(reading, Grade):
                enter(number, reading)
            elif self._num_seeds is not None:
                readings.append((number, reading))
            else:
                enter(number, guarded(each, partial(self._grade_as_it_is, reading)))

        def finish(place: int, result: "Proof | SmidgenError") -> None:
            number, reading = readings[place]
            enter(number, guarded(reading.submission, partial(self._finish, reading, result)))

        if readings:
            self._train([reading for _, reading in readings], finish)
        return [done[number] for number in range(len(work))]

    def _read(self, submission: "Submission") -> "_Reading | Grade":
        from smidgen.cli.check_command import subject_of
        from smidgen.cli.targets import find_model
        from smidgen.evidence.check import Grade

        if submission.reason:
            return Grade(submission, None, reason=submission.reason)
        shape = self._settled.network.input_shape
        found = find_model(submission.target, shape, self._file_limits)
        return _Reading(submission, found, subject_of(found, submission.target, self._settled))

    def _train(
        self, readings: "list[_Reading]", finish: "Callable[[int, Proof | SmidgenError], None]"
    ) -> None:
        """Train all in one queue; that one cannot be trained is told the same way."""
        from smidgen.cli.measuring import train_seeds
        from smidgen.errors import InterruptedRunError, SmidgenError
        from smidgen.evidence.proof import STAY_EPOCHS

        wanted, places, ended = [], [], set[int]()

        def on_proof(number: int, result: "Proof | SmidgenError") -> None:
            ended.add(places[number])
            finish(places[number], result)

        for place, reading in enumerate(readings):
            try:
                wanted.append((self._recipe(reading), reading.found.source))
                places.append(place)
            except SmidgenError as error:
                ended.add(place)
                finish(place, error)
        target, stay_epochs = self._limits.target_accuracy, self._limits.stay_epochs
        try:
            train_seeds(
                wanted,
                target,
                stay_epochs or STAY_EPOCHS,
                self._num_seeds or 1,
                self._store,
                self._data_dir,
                on_proof,
                self._place,
            )
        except InterruptedRunError:
            raise
        except SmidgenError as error:  # no images, no space: so it is for each
            for place in set(range(len(readings))) - ended:
                finish(place, error)

    def _recipe(self, reading: "_Reading") -> "Recipe":
        from smidgen.cli.targets import recipe_like

        return recipe_like(reading.found, reading.submission.target, self._settled)

    def _grade_as_it_is(self, reading: "_Reading") -> "Grade":
        """Grade by the runs that are there, if any limit asks for runs."""
        from smidgen.cli.measuring import proof_for
        from smidgen.errors import InterruptedRunError, RunError, SmidgenError

        if not self._limits.needs_runs:
            return self._finish(reading, None)
        try:
            proof = proof_for(
                self._recipe(reading),
                reading.found.source,
                self._limits.target_accuracy,
                self._limits.stay_epochs,
                None,
                self._store,
                self._data_dir,
            )
        except InterruptedRunError:
            raise
        except SmidgenError as error:
            return self._finish(reading, error)
        missing = RunError("It has no finished runs to measure. `--prove 5` makes some.")
        return self._finish(reading, proof or missing)

    def _finish(self, reading: "_Reading", result: "Proof | SmidgenError | None") -> "Grade":
        """Check a submission; why it has no accuracy is its reason."""
        from smidgen.errors import SmidgenError
        from smidgen.evidence.check import Grade, check

        limits = self._limits
        if result is None or isinstance(result, SmidgenError):
            if result is not None:
                limits = replace(limits, target_accuracy=None, stay_epochs=None)
            checked = check(reading.subject, limits, None)
            return Grade(reading.submission, checked, reason=str(result or ""))
        checked = check(reading.subject, limits, result)
        return Grade(reading.submission, checked, result.accuracy.mean, result.accuracy.sd)


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
    told = (*checked.broken, *checked.unknown)
    broken = [f"{limit.name}: {limit.text}" for limit in told]
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
        verdicts = {"?": "may keep or break its limits", "no": "does not keep its limits"}
        how = verdicts.get(_verdict(each), "keeps its limits")
    return f"{each.submission.name} {how}"


def _verdict(each: "Grade") -> str:
    if not each.kept:
        unknown = each.checked is not None and not each.reason and not each.checked.broken
        return "?" if unknown else "no"
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

"""`check` and `grade`: models and limits in, which are kept and by how much out.

Of a folder of submissions each is one row; what is broken costs its own row alone.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from smidgen.errors import InterruptedRunError, RecipeError, RunError
from smidgen.evidence.limits import Limits, Subject, layer_word
from smidgen.evidence.proof import Proof
from smidgen.recipes.parts import reaches, within


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit and how a model stands to it.

    Args:
        name: `max_params`, `max_macs`, `max_flash`, `max_ram`, `max_epochs`,
            `min_accuracy`, `stay`, `require` or
            `forbid`.
        value: What the model has: a number, a share in [0, 1], or how many such layers run.
        limit: What it may have at most, must have at least, or the kind of layer.
        kept: Whether it is kept; None where that cannot be told.
        text: All of it in one line, with by how much.
    """

    name: str
    value: int | float | None
    limit: int | float | str
    kept: bool | None
    text: str

    def to_plain(self) -> dict[str, Any]:
        """Return the machine-readable form."""
        return {
            "name": self.name,
            "value": self.value,
            "limit": self.limit,
            "kept": self.kept,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """A model and all its limits.

    Args:
        subject: The model.
        limits: In the order of `Limits`.
        num_seeds: Over how many runs accuracies are means; None without runs.
    """

    subject: Subject
    limits: tuple[Limit, ...]
    num_seeds: int | None = None

    @property
    def kept(self) -> bool:
        """Whether every limit is kept."""
        return all(limit.kept is True for limit in self.limits)

    @property
    def broken(self) -> tuple[Limit, ...]:
        """The limits that are not kept."""
        return tuple(limit for limit in self.limits if limit.kept is False)

    @property
    def unknown(self) -> tuple[Limit, ...]:
        """The limits of which nobody can tell whether they are kept."""
        return tuple(limit for limit in self.limits if limit.kept is None)

    def to_plain(self) -> dict[str, Any]:
        """Return the stable machine-readable form, described in docs/grading.md."""
        return {
            "target": self.subject.name,
            "kept": self.kept,
            "limits": [limit.to_plain() for limit in self.limits],
            "num_params": self.subject.num_params,
            "num_registered": self.subject.num_registered,
            "num_macs": self.subject.num_macs,
            "num_seeds": self.num_seeds,
            "notes": list(self.subject.notes),
        }


def check(subject: Subject, limits: Limits, proof: Proof | None = None) -> Checked:
    """Hold a model against limits.

    Args:
        subject: The model.
        limits: What it must keep.
        proof: What its runs say; accuracy limits need it, the others do not.

    Raises:
        RunError: An accuracy limit and no runs, or a limit on epochs that nothing tells of.
    """
    found = [*_sizes(subject, limits), *_layers(subject, limits)]
    if limits.target_accuracy is not None:
        if proof is None:
            raise RunError(
                f"`{subject.name}` has no finished runs to measure. `--prove 20` makes some."
            )
        found += _accuracy(limits.target_accuracy, limits.stay_epochs, proof)
    return Checked(subject, tuple(found), proof.accuracy.n if proof else None)


def _sizes(subject: Subject, limits: Limits) -> Iterator[Limit]:
    if limits.max_params is not None:
        text = ""
        if subject.num_registered != subject.num_params:
            text = f" ({subject.num_registered:,} registered)"
        yield _at_most("max_params", subject.num_params, limits.max_params, f"parameters{text}")
    if limits.max_macs is not None:
        yield _macs(subject, limits.max_macs)
    yield from _board(subject, limits)
    if limits.max_epochs is not None:
        if subject.epochs is None:
            raise RunError(
                f"Nothing says how many epochs `{subject.name}` is trained. `--like RECIPE` does."
            )
        yield _at_most("max_epochs", subject.epochs, limits.max_epochs, "epochs")


def _board(subject: Subject, limits: Limits) -> Iterator[Limit]:
    for name, given, limit, what in (
        ("max_flash", subject.flash_bytes, limits.max_flash, "flash"),
        ("max_ram", subject.ram_bytes, limits.max_ram, "RAM"),
    ):
        if limit is None:
            continue
        if given is None:
            raise RunError(
                f"Nothing says how much {what} `{subject.name}` takes: only networks that can be "
                "exported are measured."
            )
        yield _at_most(name, given, limit, f"bytes of {what} on a Cortex-M0")


def _macs(subject: Subject, limit: int) -> Limit:
    counted = _at_most("max_macs", subject.num_macs, limit, "multiply-accumulates")
    if not subject.uncounted or not counted.kept:
        return counted
    lacking = f"{subject.num_macs:,} multiply-accumulates without {', '.join(subject.uncounted)}"
    return replace(counted, kept=None, text=f"{lacking}, limit {limit:,}: cannot be told")


def _at_most(name: str, given: int, limit: int, what: str) -> Limit:
    left = limit - given
    verdict = f"{left:,} to spare" if left >= 0 else f"{-left:,} too many"
    return Limit(
        name, given, limit, within(given, limit), f"{given:,} {what}, limit {limit:,}: {verdict}"
    )


def _layers(subject: Subject, limits: Limits) -> Iterator[Limit]:
    for word in limits.require:
        count = subject.count(layer_word(word))
        text = f"{_layers_said(word, count)}, at least 1 required"
        kept = count > 0
        if not kept and subject.may_have(layer_word(word)):
            text, kept = f"{text}: cannot be told of functions", None
        yield Limit("require", count, layer_word(word), kept, text)
    for word in limits.forbid:
        count = subject.count(layer_word(word))
        text, kept = f"{_layers_said(word, count)}, none allowed", count == 0
        if kept and subject.may_have(layer_word(word)):
            text, kept = f"{text}: cannot be told of functions", None
        yield Limit("forbid", count, layer_word(word), kept, text)


def _layers_said(word: str, count: int) -> str:
    return f"{count or 'no'} {layer_word(word)} layer{'' if count == 1 else 's'}"


def _accuracy(target: float, stay_epochs: int | None, proof: Proof) -> Iterator[Limit]:
    n, mean = proof.accuracy.n, proof.accuracy.mean
    what = "after the last epoch" if n == 1 else "mean of the last epochs"
    over = f"n = {n}"
    if proof.accuracy.sd is not None:
        over += f", sd {100 * proof.accuracy.sd:.3f} points"
    kept = reaches(mean, target)
    points = 100 * abs(mean - target)
    verdict = f"{points:.3f} points {'to spare' if kept else 'short'}"
    yield Limit(
        "min_accuracy",
        mean,
        target,
        kept,
        f"{100 * mean:.3f} % {what} on {proof.split} ({over}), limit {100 * target:g} %: {verdict}",
    )
    if stay_epochs is None or proof.target is None:
        return
    stayed = proof.target.stayed.count
    yield Limit(
        "stay",
        stayed / n,
        1.0,
        stayed == n,
        f"{stayed} of {n} seeds are at {100 * target:g} % or above in each of their last "
        f"{stay_epochs} epochs, limit all: {_missing(n - stayed)}",
    )


def _missing(count: int) -> str:
    return "none missing" if count == 0 else f"{count} missing"


def lines_of(checked: Checked) -> Sequence[str]:
    """Return a line per limit, the broken ones first, then those that cannot be told."""
    words = {False: "broken ", None: "unknown", True: "kept   "}
    if not checked.unknown:
        words = {False: "broken", True: "kept  "}
    return [
        f"{word}  {one.name}: {one.text}"
        for kept, word in words.items()
        for one in checked.limits
        if one.kept is kept
    ]


Step = TypeVar("Step")

_USUAL_CLASSES = {"Net", "Model"}
_TOP_CLASS = re.compile(r"^class\s+(\w+)", re.MULTILINE)
_USUAL_FILES = ("model.py", "net.py", "network.py")


@dataclass(frozen=True, slots=True)
class Submission:
    """One person's work.

    Args:
        name: Of the file or the sub-folder.
        target: `path/to/file.py` or `path/to/file.py:Class`; "" where there is none to take.
        reason: Why there is none.
    """

    name: str
    target: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Grade:
    """What a submission came to.

    Args:
        submission: The work.
        checked: The model and its limits; None where it gave no model.
        mean: Mean accuracy over the seeds, if that was asked for.
        sd: Its standard deviation; None for one seed.
        reason: Why it gave no model, or no accuracy; else "".
    """

    submission: Submission
    checked: Checked | None
    mean: float | None = None
    sd: float | None = None
    reason: str = ""

    @property
    def kept(self) -> bool:
        """Whether there is a model, with all that was asked for, and it keeps every limit."""
        return self.checked is not None and not self.reason and self.checked.kept

    def to_plain(self) -> dict[str, Any]:
        """Return the stable machine-readable form, described in docs/grading.md."""
        checked = self.checked
        return {
            "submission": self.submission.name,
            "model": checked.subject.name if checked else None,
            "num_params": checked.subject.num_params if checked else None,
            "num_registered": checked.subject.num_registered if checked else None,
            "num_buffers": checked.subject.num_buffers if checked else None,
            "num_macs": checked.subject.num_macs if checked else None,
            "kept": self.kept,
            "limits": [limit.to_plain() for limit in checked.limits] if checked else [],
            "accuracy": self.mean,
            "accuracy_sd": self.sd,
            "num_seeds": checked.num_seeds if checked else None,
            "notes": list(checked.subject.notes) if checked else [],
            "reason": self.reason or None,
        }


def submissions(folder: Path) -> list[Submission]:
    """Return the submissions in a folder by name: its Python files and its sub-folders.

    Of a sub-folder that file is taken that is its only one, or the only one called model.py,
    net.py or network.py. Hidden entries and those that begin with `_` are no submissions.

    Raises:
        RecipeError: No such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise RecipeError(f"`{folder}` is no folder. Give the one that holds the submissions.")
    entries = sorted(each for each in folder.iterdir() if each.name[0] not in "._")
    found = [_of_folder(each) for each in entries if each.is_dir()]
    found += [_of_file(each.stem, each) for each in entries if _is_python(each)]
    if not found:
        raise RecipeError(
            f"`{folder}` holds no submissions: each is a Python file or a sub-folder with one."
        )
    return sorted(found, key=lambda each: each.name)


def passed_over(folder: Path) -> list[str]:
    """Return what in a folder is no submission and might be meant as one, by name.

    These are files of other kinds and links that lead nowhere; hidden entries and those that
    begin with `_` are left out on purpose.
    """
    return sorted(
        each.name
        for each in folder.iterdir()
        if each.name[0] not in "._" and not each.is_dir() and not _is_python(each)
    )


def guarded(submission: Submission, step: Callable[[], Step]) -> Step | Grade:
    """Return what a step of the grading gives; an error is the reason of its row alone."""
    try:
        return step()
    except InterruptedRunError:
        raise
    except Exception as problem:  # whatever it is, forty-nine others are waiting
        return Grade(submission, None, reason=_said(problem))


def _said(problem: Exception) -> str:
    text = " ".join(str(problem).split())
    known = type(problem).__module__ == "smidgen.errors"
    return text if known and text else f"{type(problem).__name__}: {text}"


def _is_python(path: Path) -> bool:
    return path.suffix == ".py" and path.is_file()


def _of_folder(folder: Path) -> Submission:
    files = sorted(each for each in folder.iterdir() if _is_python(each) and each.name[0] != "_")
    usual = [each for each in files if each.name in _USUAL_FILES]
    chosen = files if len(files) == 1 else usual
    if len(chosen) == 1:
        return _of_file(folder.name, chosen[0])
    if not files:
        return Submission(folder.name, "", "The folder holds no Python file.")
    listed = ", ".join(f"`{each.name}`" for each in files[:4])
    return Submission(
        folder.name, "", f"Which file? {listed}. Call the one with the model `model.py`."
    )


def _of_file(name: str, path: Path) -> Submission:
    """Name the class where one has a usual name; else the file must define one model only.

    The text is searched, not parsed: a file can be made that crashes Python's own parser.
    """
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return Submission(name, str(path))  # reading it again says what is wrong with it
    usual = set(_TOP_CLASS.findall(text)) & _USUAL_CLASSES
    return Submission(name, f"{path}:{usual.pop()}" if len(usual) == 1 else str(path))

"""`grade`: a folder of submissions in, one row each out; what is broken costs its own row alone."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from smidgen.errors import InterruptedRunError, RecipeError
from smidgen.evidence.check import Checked

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

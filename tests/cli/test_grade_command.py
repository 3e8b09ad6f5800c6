import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smidgen.cli import targets
from smidgen.errors import InterruptedRunError, NetworkError, RecipeError
from smidgen.evidence.check import Grade, Submission, guarded, submissions
from smidgen.reading.python_file import FileModel
from smidgen.reading.watched import Watched
from smidgen.recipes.catalogue import RECIPES
from smidgen.runs.store import RunFolder

Shell = Callable[..., Any]
NETWORK = RECIPES["era-s7/7"].network
MODEL = FileModel("Net", NETWORK, {}, "", None, (), b"source", "0" * 64)
SMALL = """\
from torch import nn
Block = nn.ReLU
class Part(nn.Module):
    def forward(self, x): return x
class Net(nn.Sequential):
    def __init__(self): super().__init__(nn.Conv2d(1, 10, 28), nn.Flatten())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with good work and bad, whose files are not really run."""
    work = tmp_path / "work"
    (work / "ann").mkdir(parents=True)
    (work / "ann" / "model.py").write_text("class Net: ...")
    (work / "ben").mkdir()
    (work / "cleo.py").write_text("class A: ...")
    (work / "_notes.py").write_text("")
    (work / "readme.txt").write_text("")

    def read(target: str, *more: object) -> FileModel:
        if "cleo" in target:
            raise NetworkError("`cleo.py` | fails when it is run:\nValueError.")
        return MODEL

    monkeypatch.setattr(targets, "read_python_file", read)
    return work


def test_one_row_each_in_markdown(shell: Shell, folder: Path) -> None:
    """Work that cannot be read has its reason in its row; bars and line ends break no row."""
    found = shell("grade", str(folder), "--max-params", "10000")

    assert found.code == 3
    assert found.out.splitlines() == [
        "| submission | model | parameters | registered | Keras total | MACs | kept "
        "| broken or failed |",
        "| --- | --- | --: | --: | --: | --: | --- | --- |",
        "| ann | model.py:Net | 8,932 | 11,268 | 9,108 | 694,256 | yes |  |",
        "| ben |  |  |  |  |  | no | The folder holds no Python file. |",
        "| cleo |  |  |  |  |  | no | `cleo.py` \\| fails when it is run: ValueError. |",
    ]


def test_notes_on_what_was_only_watched_stand_in_the_table(
    shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that is kept because numbers are frozen says so in the row."""
    watched = Watched((), 8, 20_800, 0, 0, 100, (), "because")
    model = FileModel("Net", None, {}, "", watched, (), b"source", "0" * 64)
    monkeypatch.setattr(targets, "read_python_file", lambda *given: model)

    rows = shell("grade", str(folder), "--max-params", "10000").out.splitlines()

    assert rows[0].endswith("| notes |")
    assert "| yes |  | Not counted: 20,800 frozen numbers (`requires_grad` is False). W" in rows[2]


def test_progress_and_what_is_passed_over_go_to_standard_error(shell: Shell, folder: Path) -> None:
    """Each submission is told when it is done, and every file that was not taken for one."""
    (folder / "dora.ipynb").write_text("{}")
    (folder / "emil.py").symlink_to(folder / "nowhere.py")

    assert shell("grade", str(folder), "--max-params", "8000").err.splitlines() == [
        "Passed over, no Python files: dora.ipynb, emil.py, readme.txt",
        "1 of 3: ann does not keep its limits",
        "2 of 3: ben gives no model",
        "3 of 3: cleo gives no model",
    ]


def test_csv_and_json(shell: Shell, folder: Path) -> None:
    """CSV has plain numbers and no formulas; JSON has every limit and the reason."""
    (folder / "=1+1.py").write_text("")
    (folder / "\t=2.py").write_text("")
    table = shell("grade", str(folder), "--max-params", "8000", "--csv")
    plain = json.loads(shell("grade", str(folder), "--max-params", "8000", "--json").out)

    rows = list(csv.DictReader(io.StringIO(table.out)))
    assert [row["submission"] for row in rows] == ["'\t=2", "'=1+1", "ann", "ben", "cleo"]
    assert rows[2]["parameters"] == "8932"
    assert rows[2]["broken or failed"].startswith("max_params: 8,932 parameters (11,268 regist")
    assert [each["kept"] for each in plain] == [False] * 5
    assert plain[2]["limits"][0]["limit"] == 8_000
    assert plain[3]["reason"] == "The folder holds no Python file."


def test_all_kept_ends_with_zero(shell: Shell, folder: Path) -> None:
    """Every submission gives a model and keeps its limits."""
    (folder / "ben").rmdir()
    (folder / "cleo.py").unlink()

    assert shell("grade", str(folder), "--max-params", "8932").code == 0
    assert shell("grade", str(folder), "--max-params", "8931").code == 3


def test_no_limit_is_wrong_usage(shell: Shell, folder: Path) -> None:
    """As for `check`: what is held against nothing keeps nothing."""
    found = shell("grade", str(folder))

    assert (found.code, found.out) == (2, "")
    assert "no limit is given, as `--max-params 10000`." in found.err


def test_accuracy_if_asked(
    shell: Shell, folder: Path, make_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean, deviation and n stand in the row; what cannot be trained says why and stays a row."""
    from smidgen.evidence.proof import proof_of

    proof = proof_of([make_run(seed, wrong=range(seed)) for seed in (1, 2)], 0.9)

    def train(wanted: list[Any], *given: Any) -> None:
        for place in range(len(wanted)):
            given[5](place, proof)

    monkeypatch.setattr("smidgen.cli.measuring.train_seeds", train)
    found = shell("grade", str(folder), "--prove", "2", "--min-accuracy", "90", "--csv")
    rows = list(csv.DictReader(io.StringIO(found.out)))

    assert (rows[0]["accuracy"], rows[0]["sd"], rows[0]["seeds"]) == ("96.25 %", "1.768", "2")
    assert rows[0]["kept"] == "yes"

    found = shell("grade", str(folder), "--prove", "2", "--csv")
    rows = list(csv.DictReader(io.StringIO(found.out)))
    assert found.err.splitlines()[-1] == "3 of 3: ann reaches 96.25 %"
    assert [(row["accuracy"], row["kept"]) for row in rows[:2]] == [("96.25 %", ""), ("", "no")]

    found = shell("grade", str(folder), "--min-accuracy", "90", "--json")
    row = json.loads(found.out)[0]
    assert found.err.splitlines()[1] == "1 of 3: ann gives no accuracy"
    assert (row["num_params"], row["kept"]) == (8_932, False)
    assert row["reason"] == "It has no finished runs to measure. `--prove 5` makes some."


_IN_NET = """import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        {}
"""


def test_broken_files_stop_nothing(shell: Shell, tmp_path: Path) -> None:
    """Really run: a file that aborts Python and one that is no Python stand beside a good one."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "good.py").write_text(SMALL)
    (tmp_path / "work" / "abort.py").write_text(_IN_NET.format("__import__('os').abort()"))
    (tmp_path / "work" / "typo.py").write_text("def (")

    found = shell(
        "grade", str(tmp_path / "work"), "--max-params", "9999", "--json", "--time-limit", "300"
    )

    rows = {row["submission"]: row for row in json.loads(found.out)}
    assert found.code == 3
    assert rows["abort"]["reason"] == "`abort.py:Net` crashed Python (SIGABRT)."
    assert rows["typo"]["reason"] == "`typo.py` is no valid Python: invalid syntax (line 1)."
    assert (rows["good"]["model"], rows["good"]["num_params"]) == ("good.py:Net", 7_850)


@pytest.mark.parametrize(
    ("files", "target", "reason"),
    [
        (["main.py"], "main.py", ""),
        (["model.py", "train.py"], "model.py", ""),
        (["a.py", "b.py"], "", "Which file? `a.py`, `b.py`. Call the one with the model `model.p"),
        (["_a.py", "b.txt"], "", "The folder holds no Python file."),
    ],
)
def test_which_file_of_a_folder(tmp_path: Path, files: list[str], target: str, reason: str) -> None:
    """The only one, or one with a usual name; else the row says so."""
    (tmp_path / "ann").mkdir()
    for name in files:
        (tmp_path / "ann" / name).write_text("")

    (found,) = submissions(tmp_path)

    assert found.name == "ann"
    assert found.target == (str(tmp_path / "ann" / target) if target else "")
    assert found.reason.startswith(reason)
    assert bool(found.reason) == bool(reason)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("class Block: ...\nclass Net: ...", ":Net"),
        ("class Model: ...", ":Model"),
        ("class Net: ...\nclass Model: ...", ""),
        ("class Other: ...", ""),
        ("def (", ""),
    ],
)
def test_which_class_of_a_file(tmp_path: Path, text: str, name: str) -> None:
    """One of the usual names decides; else the file must define one model only."""
    (tmp_path / "ann.py").write_text(text)

    (found,) = submissions(tmp_path)

    assert found.target == f"{tmp_path / 'ann.py'}{name}"


def test_no_submissions_is_an_error(tmp_path: Path) -> None:
    """A missing folder and an empty one are said to be so."""
    with pytest.raises(
        RecipeError, match=r"is no folder\. Give the one that holds the submissions"
    ):
        submissions(tmp_path / "none")
    with pytest.raises(RecipeError, match=r"holds no submissions: each is a Python file or a sub-"):
        submissions(tmp_path)


def test_only_an_interruption_stops_the_rest() -> None:
    """A bug is the reason of its row, with its kind; Ctrl-C means all of them."""
    work = Submission("a", "a.py")

    def fail() -> Grade:
        raise KeyError("no")

    def stop() -> Grade:
        raise InterruptedRunError("Stopped.", 2)

    assert guarded(work, fail) == Grade(work, None, reason="KeyError: 'no'")
    with pytest.raises(InterruptedRunError):
        guarded(work, stop)


def test_tables_exclude_each_other(shell: Shell, folder: Path) -> None:
    """CSV or JSON, not both."""
    assert shell("grade", str(folder), "--csv", "--json").code == 2

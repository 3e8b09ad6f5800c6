import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from smidgen.data import Dataset
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.events import listen
from smidgen.training.run import TrainOptions, resume, train

Shell = Callable[..., Any]
Make = Callable[..., RunFolder]

NET = """\
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, stride=2)
        self.norm = nn.BatchNorm2d(width)
        self.dead = nn.Linear(10, 10)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        return self.head(x.mean((2, 3)))
"""


def told(text: str) -> str:
    """Return what a usage error says, without its frame."""
    return " ".join(text.replace("│", " ").split())


@pytest.fixture
def net_file(tiny_file: str, tmp_path: Path) -> str:
    """Return a student's file of 98 parameters, 110 of them dead, beside the tiny recipe."""
    (tmp_path / "net.py").write_text(NET)
    return "net.py"


def test_kept_limits_end_with_zero(shell: Shell) -> None:
    """A line per limit on standard output; the line of a dead block says what is registered."""
    found = shell("check", "era-s7/7", "--max-params", "10000", "--forbid", "linear")

    assert (found.code, found.err) == (0, "")
    assert found.out.splitlines() == [
        "era-s7/7 keeps its limits",
        "kept    max_params: 8,932 parameters (11,268 registered), limit 10,000: 1,068 to spare",
        "kept    forbid: no linear layers, none allowed",
    ]


def test_a_broken_limit_ends_with_three(shell: Shell) -> None:
    """Value, limit and by how much stand in one line each."""
    found = shell("check", "era-s7/7", "--max-params", "8900", "--require", "dropout,residual")

    assert (found.code, found.err) == (3, "")
    assert found.out.splitlines() == [
        "era-s7/7 does not keep its limits",
        "broken  max_params: 8,932 parameters (11,268 registered), limit 8,900: 32 too many",
        "broken  require: no residual layers, at least 1 required",
        "kept    require: 8 dropout layers, at least 1 required",
    ]


def test_json_has_stable_keys(shell: Shell) -> None:
    """`--json` and `--format json` print the same object, and the exit code stays."""
    arguments = ("check", "era-s7/7", "--max-params", "8900", "--max-epochs", "15")
    found = shell(*arguments, "--json")
    plain = json.loads(found.out)

    assert found.code == 3
    assert plain["kept"] is False
    assert [{k: v for k, v in one.items() if k != "text"} for one in plain["limits"]] == [
        {"name": "max_params", "value": 8_932, "limit": 8_900, "kept": False},
        {"name": "max_epochs", "value": 15, "limit": 15, "kept": True},
    ]
    assert list(plain) == [
        *("target", "kept", "limits", "num_params", "num_registered", "num_macs", "num_seeds"),
        "notes",
    ]
    assert shell(*arguments, "--format", "json").out == found.out


def test_forms_for_ci(shell: Shell) -> None:
    """JUnit has a case per limit, with a failure if broken; GitHub an error per broken one."""
    arguments = ("check", "era-s7/7", "--max-params", "8900", "--max-epochs", "15", "--format")
    xml, commands = shell(*arguments, "junit"), shell(*arguments, "github")

    (suite,) = ElementTree.fromstring(xml.out)
    text = "8,932 parameters (11,268 registered), limit 8,900: 32 too many"
    assert (xml.code, commands.code) == (3, 3)
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("era-s7/7", "2", "1")
    assert [case.get("name") for case in suite] == ["max_params", "max_epochs"]
    assert suite[0][0].get("message") == text
    assert commands.out.splitlines() == [
        f"::error title=max_params not kept::era-s7/7: {text}",
        "kept max_epochs: era-s7/7: 15 epochs, limit 15: 0 to spare",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("smidgen/quick", "--min-accuracy", "0.994"), "0.994 looks like a share; accuracies are"),
        (("smidgen/quick", "--min-accuracy", "100"), "100 % leaves no error."),
        (("smidgen/quick", "--stay", "5"), "it needs an accuracy to stay at, as"),
        (("era-s7/as-told", "--require", "bachnorm"), "Did you mean `batchnorm`?"),
        (("smidgen/quick", "--like", "era-s7/7"), "`smidgen/quick` has settings of its own."),
        (
            ("smidgen/quick", "--require", "dropout", "--forbid", "dropout"),
            "`dropout` is both required and forbidden.",
        ),
        (("anchors/697", "--json", "--format", "junit"), "not together with --json."),
        ((), "Missing argument 'TARGET'."),
    ],
)
def test_wrong_usage_ends_with_two(shell: Shell, arguments: tuple[str, ...], text: str) -> None:
    """What cannot be meant is said before anything is looked at."""
    found = shell("check", *arguments)

    assert found.code == 2
    assert text in told(found.err)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nothing", "--max-params", "9"), "error: No recipe or run is called `nothing`."),
        (("era-s7/7", "--budget", "none.json"), "error: Cannot read `none.json`: No such file or"),
        (
            ("era-s7/7", "--budget", "typo.json"),
            "error: `typo.json`: unknown key `max_parms`. Did you mean `max_params`?",
        ),
        (
            ("era-s7/7", "--min-accuracy", "99.4"),
            "error: `era-s7/7` has no finished runs to measure. `--prove 20` makes some.",
        ),
    ],
)
def test_an_error_ends_with_one(
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    text: str,
) -> None:
    """One line on standard error, nothing on standard output."""
    monkeypatch.chdir(tmp_path)
    Path("typo.json").write_text('{"max_parms": 9999}')

    found = shell("check", *arguments)

    assert (found.code, found.out) == (1, "")
    assert found.err.startswith(text)
    assert found.err.count("\n") == 1


def test_a_budget_file_and_options_over_it(shell: Shell, tmp_path: Path) -> None:
    """Options go before the file's limits of the same name, the others stay."""
    budget = tmp_path / "budget.json"
    budget.write_text('{"max_params": 100, "max_epochs": 15, "require": ["batchnorm"]}')

    found = shell("check", "era-s7/7", "--budget", str(budget), "--max-params", "9000")

    assert found.code == 0
    assert [line.split()[1] for line in found.out.splitlines()[1:]] == [
        "max_params:",
        "max_epochs:",
        "require:",
    ]


def test_without_limits_a_recipe_is_held_against_its_own(shell: Shell) -> None:
    """What a recipe promises is checked; a recipe that promises nothing is wrong usage."""
    found = shell("check", "era-s7/2")

    assert found.code == 0
    assert "max_params: 9,048 parameters, limit 9,999: 951 to spare" in found.out


def test_accuracy_is_read_from_the_store(shell: Shell, tiny_file: str, make_run: Make) -> None:
    """The runs that are there are taken, with their number; nothing is trained."""
    for seed in (1, 2):
        make_run(seed, wrong=range(seed))

    found = shell("check", tiny_file, "--min-accuracy", "96", "--stay", "1", "--json")

    plain = json.loads(found.out)
    assert found.code == 3
    assert plain["num_seeds"] == 2
    assert [(one["name"], one["value"], one["kept"]) for one in plain["limits"]] == [
        ("min_accuracy", pytest.approx(0.9625), True),
        ("stay", 0.5, False),
    ]


def test_a_run_is_a_target(shell: Shell, make_run: Make) -> None:
    """A run is measured alone, whatever its protocol and the other runs of its recipe."""
    make_run(1, wrong=range(9))
    last = make_run(2, wrong=[0], protocol="tune")

    found = shell("check", "last", "--max-params", "700", "--min-accuracy", "97")

    assert found.code == 0
    assert found.out.splitlines() == [
        f"{last.name} keeps its limits",
        "kept    max_params: 612 parameters, limit 700: 88 to spare",
        "kept    min_accuracy: 97.500 % after the last epoch on test (n = 1), limit 97 %: "
        "0.500 points to spare",
        "note    Measured on this run alone: seed 2, protocol tune.",
    ]


def test_a_run_trains_no_seeds(shell: Shell, make_run: Make) -> None:
    """`--prove` is for what can be trained anew, and says what to name."""
    make_run(1)

    found = shell("check", "last", "--min-accuracy", "97", "--prove", "2")

    assert found.code == 2
    assert "`last` is one run, measured as it is. Name its recipe" in told(found.err)


def test_an_unfinished_run_is_not_measured(shell: Shell, make_run: Make) -> None:
    """Its size can be told, its accuracy cannot."""
    folder = make_run(1, finish=False)

    assert shell("check", "last", "--max-params", "700").code == 0
    found = shell("check", "last", "--min-accuracy", "97")
    assert (found.code, found.err) == (
        1,
        f"error: `{folder.name}` is not finished. "
        f"Continue it with `smidgen train --resume {folder.name}`.\n",
    )


def test_a_damaged_run_is_named(shell: Shell, tiny_file: str, make_run: Make) -> None:
    """A recipe's check says which of its runs is broken and what to do; other runs stay whole."""
    broken, whole = make_run(1), make_run(2)
    (broken.path / "predictions.safetensors").unlink()

    found = shell("check", tiny_file, "--min-accuracy", "97")

    assert (found.code, found.out) == (1, "")
    assert found.err.startswith(f"error: The run `{broken.name}` is damaged: Cannot read ")
    assert found.err.endswith(f"or remove it with `smidgen runs rm {broken.name}`.\n")
    assert shell("check", whole.name, "--min-accuracy", "97").code == 0


def test_a_damaged_run_is_named_with_prove_too(shell: Shell, tiny_file: str) -> None:
    """One line says which run, what and what to do; the runs made now stay, as do the others."""
    prove = ("check", tiny_file, "--min-accuracy", "5", "--prove")
    shell(*prove, "1")
    store = RunStore(Path("runs"))
    (broken,) = store.folders()
    damaged = broken.path / "predictions.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])

    found = shell(*prove, "2")

    *others, line = found.err.splitlines()
    assert (found.code, found.out) == (1, "")
    assert line.startswith(
        f"error: 1 of 2 seeds of `tiny` gave no run. Seed 1: The run `{broken.name}` is damaged: "
    )
    assert line.endswith(f". Restore it, or remove it with `smidgen runs rm {broken.name}`.")
    assert broken.name not in "".join(others)
    assert len(store.folders()) == 2

    shell("runs", "rm", broken.name)
    again = shell(*prove, "2")
    assert again.code == 0
    assert "1 of 2 seeds are there already" in again.err


def test_a_target_meant_for_another_data_set_is_no_limit(
    shell: Shell, make_run: Make, tiny_recipe: Recipe
) -> None:
    """A run whose recipe only took it over is not held against it, and a note says so."""
    budget = RECIPES["smidgen/quick"].budget
    moved = tiny_recipe.replace(name="smidgen/quick", budget=budget)
    make_run(1, name="smidgen/quick", recipe=moved)

    found = shell("check", "last")

    assert found.code == 0
    assert "min_accuracy" not in found.out
    assert found.out.splitlines()[-1] == (
        "note    Its target of 99.4 % is meant for mnist and left out."
    )


def test_a_file_is_trained_like_a_recipe(
    shell: Shell, net_file: str, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """The settings of `--like` train the file's network; its source and hash stay with the run."""
    arguments = ("--like", "tiny.json", "--prove", "1", "--min-accuracy", "2", "--max-params", "98")
    found = shell("check", "net.py:Net", *arguments)

    (folder,) = RunStore(tmp_path / "runs").folders()
    record = folder.record()
    assert (found.code, record.seed, record.recipe.name) == (0, 1, "net.py:Net")
    assert found.out.splitlines()[1] == (
        "kept    max_params: 98 parameters (208 registered), limit 98: 0 to spare"
    )
    assert "(n = 1), limit 2 %:" in found.out
    assert record.recipe.optimizer == tiny_recipe.optimizer
    assert record.recipe.network.input_shape == (1, 28, 28)
    assert (folder.path / "source.py").read_text() == NET
    assert record.source_sha256 == record.files["source.py"]


def test_another_number_of_classes_is_noted(shell: Shell, net_file: str, tmp_path: Path) -> None:
    """A file whose network could not be trained on the data says so beside its limits."""
    (tmp_path / net_file).write_text(NET.replace("(width, 10)", "(width, 9)"))

    assert shell("check", net_file, "--max-params", "98").out.splitlines()[-1] == (
        "note    It tells 9 classes apart; `smidgen/quick` needs 10."
    )


def test_train_takes_a_file(shell: Shell, net_file: str, tmp_path: Path) -> None:
    """`train FILE.py:Class(arguments)` trains it, keeps source and name, and finds it again."""
    arguments = ("train", "net.py:Net(3)", "--like", "tiny.json", "--engine", "torch")
    first, again = shell(*arguments), shell(*arguments, "--set", "name=other")

    (folder,) = RunStore(tmp_path / "runs").folders()
    assert (first.code, again.code) == (0, 0)
    assert folder.name.startswith("net.py-Net-3-s1-")
    assert again.out.startswith("Already there: this very run was finished before.")
    assert (folder.path / "source.py").read_text() == NET


def test_a_resumed_run_keeps_its_source(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """What is cut short after an epoch and continued ends with the file it began with."""
    store = RunStore(tmp_path / "runs")
    options = TrainOptions(engine="torch", threads=1, source=NET.encode())

    def stop(epoch: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train(tiny_recipe, stripes, store, 1, options, listen(on_epoch=stop))
    run = resume(store.find("last"), stripes)

    assert (run.folder.path / "source.py").read_text() == NET
    assert run.record.source_sha256 == hashlib.sha256(NET.encode()).hexdigest()
    assert run.folder.record() == run.record


def test_like_is_for_files(shell: Shell, tiny_file: str) -> None:
    """A recipe has settings of its own, and so has the default."""
    for command in (("train", tiny_file), ("prove", tiny_file), ("train",)):
        found = shell(*command, "--like", "tiny.json")
        assert found.code == 2
        assert "has settings of its own." in told(found.err)


def test_recipes_are_checked_without_torch() -> None:
    """Neither a catalogue name nor `--help` loads torch."""
    script = (
        "import sys; from smidgen.cli import main\n"
        "sys.argv = ['smidgen', 'check', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    for arguments in (["era-s7/7", "--max-params", "10000"], ["--help"]):
        ended = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120
        )
        assert ended.stdout.splitlines()[-1] == "False", ended.stderr

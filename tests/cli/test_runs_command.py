import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from smidgen.cli.app import app
from smidgen.errors import InUseError, RunError, UnknownNameError
from smidgen.files import locked
from smidgen.recipes.catalogue import get_recipe
from smidgen.runs.store import RunFolder, RunStore

Make = Callable[..., RunFolder]


def _run(*arguments: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["runs", *arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout, found.stderr


def test_no_runs_are_said_to_be_none(tmp_path: Path) -> None:
    """An empty store gets a sentence, and an empty array as JSON."""
    assert _run()[1] == f"No runs in `{tmp_path / 'runs'}` yet. `smidgen train` makes one.\n"
    assert _run("--json")[1] == "[]\n"


def test_runs_are_listed_as_a_table(make_run: Make) -> None:
    """One line per run, finished or not."""
    run = make_run(1, wrong=[1, 2])
    make_run(2, result=None, finish=False)

    lines = _run()[1].splitlines()

    assert lines[0].split() == [
        *("run", "recipe", "data", "set", "epochs", "seed", "protocol", "engine"),
        *("params", "split", "accuracy", "errors", "seconds"),
    ]
    assert lines[2].split() == [
        *(run.name, "tiny", "stripes", "3", "1", "final", "torch", "600"),
        *("test", "95.00", "%", "2", "4.5"),
    ]
    assert "unfinished" in lines[3]
    assert len(lines) == 4  # no footnote


def test_other_settings_than_the_catalogues_are_marked(make_run: Make) -> None:
    """A star behind the name, a line that says what it means, and a key in JSON."""
    quick = get_recipe("smidgen/quick")
    make_run(1, name="smidgen/quick", recipe=quick, fingerprint=quick.fingerprint())
    make_run(2, name="smidgen/quick")

    lines = _run()[1].splitlines()
    listed = json.loads(_run("--json")[1])

    assert [line.split()[1] for line in lines[2:4]] == ["smidgen/quick", "smidgen/quick*"]
    assert lines[-1] == "* other settings than the catalogue's recipe of this name"
    assert [row["is_variant"] for row in listed] == [False, True]
    assert [(row["dataset"], row["epochs"]) for row in listed] == [("stripes", 3)] * 2


def test_last_of_no_runs_says_how_to_make_one(tmp_path: Path) -> None:
    """Not that no run is called so."""
    with pytest.raises(RunError) as caught:
        _run("show", "last")

    assert str(caught.value) == (
        f"There are no runs in `{tmp_path / 'runs'}` yet; `smidgen train` makes one."
    )


def test_runs_are_chosen_and_sorted(make_run: Make) -> None:
    """`--recipe` takes a pattern, `--sort` a column."""
    make_run(1, name="b/1", wrong=[1, 2])
    make_run(2, name="b/2", wrong=[1])
    make_run(3, name="a")

    listed = json.loads(_run("--recipe", "b/*", "--sort", "accuracy", "--json")[1])

    assert [row["recipe"] for row in listed] == ["b/2", "b/1"]
    assert listed[0]["accuracy"] == 0.975
    assert _run("--recipe", "c")[1].startswith("No runs of `c` in `")


def test_a_run_is_shown(make_run: Make) -> None:
    """The page has the facts and every epoch; JSON is the whole record."""
    run = make_run(1, wrong=[1, 2])

    page = _run("show", "last")[1]
    plain = json.loads(_run("show", run.name, "--json")[1])

    assert page.splitlines()[0] == run.name
    assert "95.00 % on test: 2 errors in 40 images; epoch 3, last epoch" in page
    assert len(page.splitlines()) == 18  # 12 facts, and a table of 3 epochs
    assert plain["identity"] == run.record().identity


def test_an_unfinished_run_is_shown(make_run: Make) -> None:
    """It has no result yet; how to go on is said."""
    run = make_run(1, result=None, finish=False)

    assert f"none yet; continue with `smidgen train --resume {run.name}`" in _run("show", "last")[1]


def test_runs_are_deleted(make_run: Make, tmp_path: Path) -> None:
    """The named ones go, the others stay; the option may stand before the subcommand."""
    first, second, third = make_run(1), make_run(2), make_run(3, result=None, finish=False)

    code, text, _ = _run(
        "--runs-dir", str(tmp_path / "runs"), "rm", first.name, first.name, third.name
    )

    assert code == 0
    assert text == f"Deleted {first.path}\nDeleted {third.path}\n"
    assert [folder.name for folder in RunStore(tmp_path / "runs").folders()] == [second.name]


def test_a_typo_deletes_nothing(make_run: Make) -> None:
    """All names are looked up before the first run is deleted."""
    run = make_run(1)

    with pytest.raises(UnknownNameError):
        _run("rm", run.name, "nonsense")

    assert run.path.is_dir()


def test_a_run_in_use_is_not_deleted(make_run: Make, tmp_path: Path) -> None:
    """While a process trains it, it stays."""
    run = make_run(1, result=None, finish=False)

    with (
        locked(RunStore(tmp_path / "runs").lock_path(run.name)),
        pytest.raises(InUseError, match=r"^The run `tiny-s1-\w{8}` is in use by another process\."),
    ):
        _run("rm", run.name)

    assert run.path.is_dir()


def test_finished_runs_are_exported(make_run: Make, tmp_path: Path) -> None:
    """One line per finished run under a line of names."""
    make_run(1, wrong=[1, 2])
    make_run(2, result=None, finish=False)
    path = tmp_path / "runs.csv"

    assert _run("export", "--csv", str(path))[1] == f"{path}: 1 runs\n"

    with open(path, newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["recipe"], row["accuracy"], row["num_errors"]) == ("tiny", "0.95", "2")


def test_the_index_is_made_again(make_run: Make, tmp_path: Path) -> None:
    """`rebuild` counts what it found and warns of what it cannot read."""
    make_run(1)
    damaged = make_run(2).path / "record.json"
    damaged.write_text("{")

    code, text, errors = _run("rebuild")

    assert (code, text) == (0, "1 finished runs indexed\n")
    assert errors == f"warning: `{damaged}` is damaged: it is not JSON. Restore it.\n"


def test_seeds_are_names_and_errors_are_counts(make_run: Make) -> None:
    """A random seed is written as it is typed; a number of errors has its thousands apart."""
    result = make_run(1).record().result
    assert result is not None
    run = make_run(1234, result=replace(result, num_errors=8422, num_images=10_000))

    assert _run()[1].splitlines()[3].split()[4] == "1234"
    assert "8,422 errors in 10,000 images" in _run("show", run.name)[1]

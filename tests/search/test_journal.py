import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.data import Dataset
from smidgen.errors import RunError, SearchError
from smidgen.recipes.parts import AdamW
from smidgen.recipes.recipe import Recipe
from smidgen.search import SearchOptions, search
from smidgen.search.journal import Journal

from .conftest import Actor

Make = Callable[..., SearchOptions]


@pytest.fixture
def study(make_options: Make, stripes: Dataset) -> Path:
    """Return the folder of a small search that is done."""
    return search(stripes, make_options(num_candidates=3)).study


def complaint(make_options: Make, stripes: Dataset, **changes: object) -> str:
    """Return what a search says that cannot be continued; nothing was trained for it."""
    made = list(Actor.made)
    with pytest.raises(SearchError) as caught:
        search(stripes, make_options(**changes))
    assert Actor.made == made
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"max_params": 700}, "`max_params` 600, not 700."),
        ({"min_params": 10}, "`min_params` 300, not 10."),
        ({"epochs": 8}, "`epochs` 4, not 8."),
        ({"num_seeds": 3}, "`num_seeds` 2, not 3."),
        ({"mutates": True}, "`mutates` False, not True."),
        ({"seed": 2}, "`seed` 1, not 2."),
    ],
)
def test_another_search_does_not_go_on_here(
    make_options: Make, stripes: Dataset, study: Path, changes: dict[str, object], text: str
) -> None:
    """What decides the search is named with both values, and what to do."""
    assert complaint(make_options, stripes, **changes) == (
        f"`{study}` is a search with {text} Continue it with its own options, or begin another "
        "with another `--study`."
    )


def test_other_settings_are_another_search(
    make_options: Make, stripes: Dataset, study: Path, base: Recipe
) -> None:
    """A base recipe counts by its fingerprint."""
    changed = base.replace(optimizer=AdamW(lr=0.5))

    assert f"`base` {base.fingerprint()[:8]}..., not {changed.fingerprint()[:8]}...." in complaint(
        make_options, stripes, base=changed
    )


@pytest.mark.parametrize("line", [b"no json\n", b"[1, 2]\n", b"\n"])
def test_a_damaged_line_is_named(
    make_options: Make, stripes: Dataset, study: Path, line: bytes
) -> None:
    """A line in the middle that is no entry cannot come from a kill: a person has to look."""
    journal = study / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:4], line, *lines[5:]]))

    assert complaint(make_options, stripes) == (
        f"`{journal}` is damaged: line 5 is no entry. Restore it, or begin another search with "
        "another `--study`."
    )


@pytest.mark.parametrize(
    ("what", "missing"),
    [("study", b'"study_name"'), ("proposals", b'"num_params"'), ("options", b'"options"')],
)
def test_a_line_that_is_gone_is_noticed(
    make_options: Make, stripes: Dataset, study: Path, what: str, missing: bytes
) -> None:
    """Whichever kind of entry is lost, it is one line that names the journal."""
    journal = study / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if missing not in line))

    assert complaint(make_options, stripes).startswith(f"`{journal}` is damaged: ")


def test_a_line_that_was_cut_short_is_dropped(
    make_options: Make, stripes: Dataset, study: Path
) -> None:
    """What a killed process left of a line goes, with its lock; all else is as it was."""
    journal = study / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    journal.with_name("journal.log.lock").symlink_to(journal)

    search(stripes, make_options(num_candidates=3))

    assert journal.read_bytes() == whole


def test_optuna_reads_the_journal(make_options: Make, stripes: Dataset, study: Path) -> None:
    """Its own tools see candidates, their parameters, and the loss and size of the first step."""
    optuna = pytest.importorskip("optuna")
    backend = optuna.storages.journal.JournalFileBackend(str(study / "journal.log"))

    loaded = optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(backend))

    assert [trial.state.name for trial in loaded.trials] == ["COMPLETE"] * 3
    for trial in loaded.trials:
        assert trial.values[1] == trial.user_attrs["num_params"]
    assert all(0.0 < trial.params["lr"] < 1.0 for trial in loaded.trials[1:])
    assert loaded.user_attrs["options"]["max_params"] == 600


def test_optuna_is_asked_for_by_name(
    make_options: Make, stripes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it there is one line that says what to install, and no journal."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    options = make_options()

    assert complaint(make_options, stripes) == (
        "A search needs Optuna. Install it with `pip install optuna`."
    )
    assert not (options.study / "journal.log").exists()


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    """A study that is a file cannot hold a journal."""
    (tmp_path / "study").write_text("in the way")

    with pytest.raises(OSError, match="a file stands where a folder should be"):
        Journal(tmp_path / "study", 2, {})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"max_params": 0}, "`max_params` must be at least 1, not 0."),
        ({"epochs": 0}, "`epochs` must be at least 1, not 0."),
        ({"num_seeds": 0}, "`num_seeds` must be at least 1, not 0."),
        ({"hours": 0.0}, "`hours` must be above 0, not 0."),
        (
            {"min_params": 601},
            "`min_params` must be from 0 to `max_params`, which is 600, not 601.",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(
    make_options: Make, changes: dict[str, object], text: str
) -> None:
    """Each gets one line with the value and what would be right."""
    with pytest.raises(RunError) as caught:
        make_options(**changes)

    assert str(caught.value) == text

from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.runs.listing import SortKey, list_runs
from smidgen.runs.store import RunFolder, RunStore

Make = Callable[..., RunFolder]


@pytest.fixture
def store(make_run: Make, tmp_path: Path) -> RunStore:
    """Return a store of two recipes with three finished runs and an unfinished one."""
    make_run(3, wrong=[1], name="b/1", num_params=5, train_seconds=9.0)
    make_run(1, wrong=[1, 2], name="b/2", num_params=9, train_seconds=1.0)
    make_run(2, wrong=[1, 2, 3], name="a", num_params=7, train_seconds=5.0)
    make_run(4, name="a", num_params=7, result=None, finish=False)
    return RunStore(tmp_path / "runs")


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("started", [1, 2, 3, 4]),
        ("run", [2, 4, 3, 1]),
        ("recipe", [2, 4, 3, 1]),
        ("seed", [1, 2, 3, 4]),
        ("params", [3, 2, 4, 1]),
        ("accuracy", [3, 1, 2, 4]),
        ("seconds", [4, 1, 2, 3]),
    ],
)
def test_runs_are_sorted_as_asked(store: RunStore, sort: SortKey, expected: list[int]) -> None:
    """Accuracy counts from the highest down, the rest from the lowest up."""
    rows, problems = list_runs(store, sort=sort)

    assert [row.seed for row in rows] == expected
    assert problems == []


@pytest.mark.parametrize(
    ("recipe", "expected"), [("b/*", [1, 3]), ("a", [2, 4]), ("b/?", [1, 3]), ("c", [])]
)
def test_recipes_are_chosen_by_pattern(store: RunStore, recipe: str, expected: list[int]) -> None:
    """A star stands for any characters, a question mark for one."""
    assert [row.seed for row in list_runs(store, recipe)[0]] == expected


def test_unfinished_runs_have_no_result(store: RunStore) -> None:
    """A finished run is listed with its result, an unfinished one with None in its place."""
    rows = {row.seed: row for row in list_runs(store)[0]}

    finished, unfinished = rows[3], rows[4]
    assert (finished.split, finished.accuracy, finished.num_errors) == ("test", 0.975, 1)
    assert (unfinished.split, unfinished.accuracy, unfinished.train_seconds) == (None, None, None)


def test_a_damaged_unfinished_run_is_a_problem(store: RunStore) -> None:
    """Its record cannot be read, which is said; the others are listed."""
    record = next(store.root.glob("*.partial")) / "record.json"
    record.write_text("{")

    rows, problems = list_runs(store)

    assert len(rows) == 3
    assert problems == [f"`{record}` is damaged: it is not JSON. Restore it."]

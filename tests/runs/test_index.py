import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.runs.index import INDEX_FILE, RunIndex
from smidgen.runs.store import RunFolder, RunStore

Make = Callable[..., RunFolder]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Return the store that `make_run` writes into."""
    return RunStore(tmp_path / "runs")


def _seeds(store: RunStore) -> list[int]:
    runs, problems = store.index.runs()
    assert problems == []
    return [run.seed for run in runs]


def _drop_index(store: RunStore) -> None:
    for path in store.root.glob(f"{INDEX_FILE}*"):
        path.unlink()


def _settled(store: RunStore) -> bytes:
    """Return the bytes of the index with nothing left in SQLite's log."""
    database = sqlite3.connect(store.index.path)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return store.index.path.read_bytes()


def test_a_finished_run_is_in_the_index(make_run: Make, store: RunStore) -> None:
    """Finishing a run writes its row; nothing of the folder is read to list it."""
    run = make_run(3, wrong=[1, 2])
    record = run.record()

    (row,), _ = store.index.runs()

    assert (row.run, row.recipe, row.seed, row.engine) == (run.name, "tiny", 3, "torch")
    assert (row.accuracy, row.num_errors, row.split) == (0.95, 2, "test")
    assert (row.identity, row.fingerprint) == (record.identity, record.fingerprint)
    assert (row.epochs, row.num_params, row.train_seconds) == (3, 600, 4.5)


def test_listing_reads_no_record_that_it_knows(
    make_run: Make, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an index that is up to date, records stay closed."""
    make_run(1)
    make_run(2)
    monkeypatch.setattr("smidgen.runs.record.RunRecord.read", None)

    assert _seeds(store) == [1, 2]


def test_unfinished_runs_are_not_in_the_index(make_run: Make, store: RunStore) -> None:
    """A run without its final name is no finished run."""
    make_run(1)
    make_run(2, result=None, finish=False)

    assert _seeds(store) == [1]


def test_an_empty_store_has_an_empty_index(store: RunStore) -> None:
    """Listing nothing makes nothing: no folder, no file."""
    assert store.index.runs() == ([], [])
    assert not store.root.exists()


@pytest.mark.parametrize("disturb", ["delete", "garbage", "empty", "other version", "cut short"])
def test_whatever_happens_to_the_index_the_runs_are_listed(
    make_run: Make, store: RunStore, disturb: str
) -> None:
    """A missing, foreign or damaged index is made again without a word."""
    for seed in (1, 2, 3):
        make_run(seed)
    content = _settled(store)
    _drop_index(store)
    if disturb == "garbage":
        store.index.path.write_bytes(b"garbage" * 1_000)
    elif disturb == "empty":
        store.index.path.write_bytes(b"")
    elif disturb == "cut short":
        store.index.path.write_bytes(content[: len(content) // 2])
    elif disturb == "other version":
        with sqlite3.connect(store.index.path) as database:
            database.execute("PRAGMA user_version = 999")
        database.close()

    assert _seeds(store) == [1, 2, 3]
    assert _seeds(store) == [1, 2, 3]


def test_a_flipped_bit_in_the_index_never_shows(make_run: Make, store: RunStore) -> None:
    """Whichever bit of the file changes, the list stays that of the folders."""
    for seed in (1, 2):
        make_run(seed)
    expected = store.index.runs()
    content = _settled(store)

    for position in range(0, len(content), 61):
        _drop_index(store)
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        store.index.path.write_bytes(flipped)

        assert store.index.runs() == expected


def test_the_index_follows_the_folders(make_run: Make, store: RunStore, tmp_path: Path) -> None:
    """Runs that are copied in, deleted or replaced behind its back are noticed."""
    copied, deleted, replaced = (make_run(seed) for seed in (1, 2, 3))
    shutil.move(copied.path, tmp_path / "elsewhere")
    shutil.rmtree(deleted.path)
    assert _seeds(store) == [3]

    shutil.copytree(tmp_path / "elsewhere", copied.path)
    record = replaced.record()
    replaced.save_record(replace(record, seed=30, num_params=1))

    assert sorted(_seeds(store)) == [1, 30]
    fresh = RunIndex(store.root).runs()
    store.index.rebuild()
    assert store.index.runs() == fresh


def test_a_damaged_record_hides_no_other_run(make_run: Make, store: RunStore) -> None:
    """Its line says what is wrong; it is looked at again each time."""
    make_run(1)
    damaged = make_run(2)
    record = damaged.path / "record.json"
    record.write_text(record.read_text().replace("tiny", "tony", 1))

    for _ in range(2):
        runs, problems = store.index.runs()
        assert [run.seed for run in runs] == [1]
        assert problems == [
            f"`{record}` is damaged: its content does not match its SHA-256. Restore it."
        ]


def test_a_record_without_a_result_is_no_finished_run(make_run: Make, store: RunStore) -> None:
    """A folder with a final name whose record has none is a problem, not a run."""
    run = make_run(1)
    run.save_record(replace(run.record(), result=None))

    assert store.index.runs() == (
        [],
        [f"`{run.name}` is called as a finished run, but its record has no result."],
    )


def test_a_busy_index_is_left_alone(
    make_run: Make, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process writes, finishing a run and listing still work, from the folders."""
    make_run(1)
    monkeypatch.setattr("smidgen.runs.index._BUSY_SECONDS", 0.01)
    other = sqlite3.connect(store.index.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    make_run(2)
    listed = _seeds(store)
    other.execute("ROLLBACK")
    other.close()

    assert listed == [1, 2]
    assert _seeds(store) == [1, 2]


def test_a_folder_where_the_index_should_be_is_lived_with(make_run: Make, store: RunStore) -> None:
    """Without any index runs are finished and listed all the same."""
    store.index.path.mkdir(parents=True)

    make_run(1)

    assert _seeds(store) == [1]
    assert store.index.rebuild() == (1, [])


def test_what_sqlite_cannot_keep_is_listed_all_the_same(make_run: Make, store: RunStore) -> None:
    """A seed of 80 bits is a seed like any other."""
    make_run(2**80)
    make_run(1)

    assert sorted(_seeds(store)) == [1, 2**80]
    assert store.index.rebuild() == (2, [])


def test_rebuilding_counts_the_runs(make_run: Make, store: RunStore) -> None:
    """The index made from the folders alone is the one that grew run by run."""
    for seed in (1, 2, 3):
        make_run(seed)
    grown = store.index.runs()

    assert store.index.rebuild() == (3, [])
    assert store.index.runs() == grown


def test_removing_a_run_takes_it_from_the_index(make_run: Make, store: RunStore) -> None:
    """A removed run leaves neither a folder nor a row, nor what a killed removal left."""
    run, kept = make_run(1), make_run(2)
    (store.root / ".removed-older").mkdir()

    store.remove(run)

    assert _seeds(store) == [2]
    assert sorted(os.listdir(store.root)) == sorted(
        [kept.name, *(path.name for path in store.root.glob(f"{INDEX_FILE}*"))]
    )

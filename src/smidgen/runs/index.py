"""One SQLite file over all finished runs, so that listing them need not read every record.

The folders are the truth and the index a cache: it is written after a folder got its final
name, every reading compares it with the folders (names, times and sizes of their records)
and takes up what differs, and whatever is wrong with it, it is made again. So nothing is lost
when a process dies between the two, when folders are copied in, or when the index is deleted.
"""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from smidgen.errors import RunError
from smidgen.files import TEMPORARY_SUFFIX
from smidgen.runs.record import RunKind, RunRecord

INDEX_FILE = ".index.sqlite"
_VERSION = 1
"""Raised when the columns change; an index of another version is made again."""
_BUSY_SECONDS = 30.0
_NOT_DAMAGED = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
}
"""Where SQLite says one of these, the folders are read and the index left alone."""
_NOT_STORABLE = (OverflowError, UnicodeEncodeError)
"""SQLite keeps no seed beyond 64 bits and no folder name that is not Unicode."""

_Stamp = tuple[int, int]
"""Time of last change in nanoseconds and size in bytes of a record file."""


@dataclass(frozen=True, slots=True)
class IndexedRun:
    """What a list of runs shows of one finished run, and what tells runs apart.

    Args:
        run: Name of the run's folder.
        recipe: Name of its recipe.
        fingerprint: The recipe's.
        seed: The random seed.
        protocol: `tune`, `final` or `origin`.
        engine: `torch` or `native`.
        device: A torch device.
        threads: Cores it used.
        dataset: Name of the data set.
        data_sha256: Its hash.
        num_params: By the counting rule.
        num_macs: For one image.
        epochs: Passes over the training images.
        split: Where accuracy was measured.
        accuracy: A share in [0, 1].
        num_errors: Images wrong.
        selection: `last epoch`, or `selected on the test set`.
        train_seconds: Sum over epochs of the training part.
        wall_seconds: In all.
        started: UTC, ISO 8601.
        identity: 64 hexadecimal digits.
        results_version: Of the numbers.
    """

    run: str
    recipe: str
    fingerprint: str
    seed: int
    protocol: str
    engine: str
    device: str
    threads: int
    dataset: str
    data_sha256: str
    num_params: int
    num_macs: int
    epochs: int
    split: str
    accuracy: float
    num_errors: int
    selection: str
    train_seconds: float
    wall_seconds: float
    started: str
    identity: str
    results_version: int

    @property
    def kind(self) -> RunKind:
        """What it has in common with runs of other seeds."""
        return RunKind(
            fingerprint=self.fingerprint,
            protocol=self.protocol,  # type: ignore[arg-type]  # checked when it is made
            engine=self.engine,  # type: ignore[arg-type]
            data_sha256=self.data_sha256,
            device=self.device,
            threads=self.threads if self.engine == "torch" else None,
            results_version=self.results_version,
        )


_COLUMNS = [field.name for field in fields(IndexedRun)]
_ALL = ["mtime_ns", "num_bytes", "digest", *_COLUMNS]
_INSERT = f"INSERT OR REPLACE INTO runs VALUES ({', '.join('?' * len(_ALL))})"


class RunIndex:
    """The index of one folder of runs.

    Args:
        root: The folder of runs.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.path = root / INDEX_FILE

    def add(self, name: str, record: RunRecord | None = None) -> None:
        """Take up a run that just got its final name; never fails, for it is only a cache."""
        with contextlib.suppress(OSError, sqlite3.Error, RunError, *_NOT_STORABLE):
            file = self._root / name / "record.json"
            stamp = _stamp(file)
            row = _row(name, record or RunRecord.read(file))
            with self._writing() as database:
                database.execute(_INSERT, _cells(row, stamp))

    def runs(self) -> tuple[list[IndexedRun], list[str]]:
        """Return all finished runs, oldest first, and a line for each that cannot be read."""
        try:
            return self._read()
        except sqlite3.Error as error:
            # only the lowest byte tells the kind
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_DAMAGED:
                return self._from_folders()
            return self._made_again()
        except _NOT_STORABLE:
            return self._from_folders()

    def rebuild(self) -> tuple[int, list[str]]:
        """Make the index from the folders alone.

        Returns:
            How many runs it holds, and a line for each run that cannot be read.
        """
        found, problems = self._made_again()
        return len(found), problems

    def _made_again(self) -> tuple[list[IndexedRun], list[str]]:
        try:
            self._remove()
            return self._read()
        except (OSError, sqlite3.Error, *_NOT_STORABLE):
            return self._from_folders()

    def _read(self) -> tuple[list[IndexedRun], list[str]]:
        if not self._root.is_dir():
            return [], []
        with contextlib.closing(self._connect()) as database:
            known = _known(database)
        stamps = _stamps(self._root)  # after the index, so that no run between looks gone
        changed = dict(stamps.items() - {name: stamp for name, (stamp, _) in known.items()}.items())
        gone = known.keys() - stamps.keys()
        fresh, problems = _rows(self._root, changed)
        if fresh or gone:
            with self._writing() as database:
                database.executemany("DELETE FROM runs WHERE run = ?", [(name,) for name in gone])
                database.executemany(_INSERT, [_cells(row, changed[row.run]) for row in fresh])
        kept = [row for name, (_, row) in known.items() if name in stamps and name not in changed]
        return _sorted([*kept, *fresh]), problems

    def _from_folders(self) -> tuple[list[IndexedRun], list[str]]:
        rows, problems = _rows(self._root, _stamps(self._root))
        return _sorted(rows), problems

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(self._connect()) as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            # A cache need not survive power loss, only kills; waiting for the disk at every
            # close of the log made it four times slower.
            database.execute("PRAGMA synchronous = OFF")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                _create(database)
            elif version != _VERSION:
                raise _damaged()
        except BaseException:
            database.close()
            raise
        return database

    def _remove(self) -> None:
        # The main file first: SQLite drops the log of a database that is not there.
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def _create(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("BEGIN IMMEDIATE")
    columns = ", ".join(_ALL)
    database.execute(
        f"CREATE TABLE IF NOT EXISTS runs ({columns}, PRIMARY KEY (run)) WITHOUT ROWID"
    )
    database.execute(f"PRAGMA user_version = {_VERSION}")
    database.execute("COMMIT")


def _known(database: sqlite3.Connection) -> dict[str, tuple[_Stamp, IndexedRun]]:
    known = {}
    for mtime_ns, num_bytes, digest, *cells in database.execute("SELECT * FROM runs"):
        if digest != _digest((mtime_ns, num_bytes, *cells)):
            raise _damaged()
        known[cells[0]] = ((mtime_ns, num_bytes), IndexedRun(*cells))
    return known


def _cells(row: IndexedRun, stamp: _Stamp) -> tuple[object, ...]:
    cells = astuple(row)
    return (*stamp, _digest((*stamp, *cells)), *cells)


def _digest(cells: tuple[object, ...]) -> bytes:
    # SQLite has no checksums: without one a flipped bit would be an accuracy
    return hashlib.blake2b(repr(cells).encode(), digest_size=8).digest()


def _damaged() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("the index is of another version or was changed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _stamp(file: Path | str) -> _Stamp:
    status = os.stat(file)
    return status.st_mtime_ns, status.st_size


def _stamps(root: Path) -> dict[str, _Stamp]:
    """Return of which age and size the record of each finished run is."""
    found: dict[str, _Stamp] = {}
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        if not name.startswith(".") and not name.endswith(TEMPORARY_SUFFIX):
            with contextlib.suppress(OSError):  # no run, or one that is just being removed
                found[name] = _stamp(f"{root}/{name}/record.json")
    return found


def _rows(root: Path, names: Iterable[str]) -> tuple[list[IndexedRun], list[str]]:
    rows, problems = [], []
    for name in names:
        try:
            rows.append(_row(name, RunRecord.read(root / name / "record.json")))
        except RunError as error:
            problems.append(str(error))
    return rows, problems


def _row(name: str, record: RunRecord) -> IndexedRun:
    result, used = record.result, record.environment
    if result is None:
        raise RunError(f"`{name}` is called as a finished run, but its record has no result.")
    return IndexedRun(
        run=name,
        recipe=record.recipe.name,
        fingerprint=record.fingerprint,
        seed=record.seed,
        protocol=record.protocol,
        engine=used.engine,
        device=used.device,
        threads=used.threads,
        dataset=record.data.name,
        data_sha256=record.data.sha256,
        num_params=record.num_params,
        num_macs=record.num_macs,
        epochs=len(record.epochs),
        split=result.split,
        accuracy=result.accuracy,
        num_errors=result.num_errors,
        selection=result.selection,
        train_seconds=record.train_seconds,
        wall_seconds=record.wall_seconds,
        started=record.started,
        identity=record.identity,
        results_version=record.results_version,
    )


def _sorted(rows: list[IndexedRun]) -> list[IndexedRun]:
    return sorted(rows, key=lambda row: (row.started, row.run))

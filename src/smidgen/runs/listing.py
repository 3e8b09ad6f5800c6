"""A store in, rows of a table out, finished runs and unfinished ones."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Literal

from smidgen.errors import RunError
from smidgen.recipes.catalogue import RECIPES
from smidgen.runs.rows import RunRow, read_row
from smidgen.runs.store import PARTIAL, RunFolder, RunStore

_READERS = 4

SortKey = Literal["started", "run", "recipe", "seed", "params", "accuracy", "seconds"]


@dataclass(frozen=True, slots=True)
class ListedRun:
    """What is shown of a run; the last four are None until it is finished.

    Args:
        run: Name of its folder.
        recipe: Name of its recipe.
        seed: The random seed.
        protocol: `tune`, `final` or `origin`.
        engine: `torch` or `native`.
        num_params: By the counting rule.
        dataset: Name of the data set.
        epochs: Passes over the training images, of an unfinished run those planned.
        is_variant: Whether its settings differ from the catalogue's recipe of that name.
        started: UTC, ISO 8601.
        split: Where accuracy was measured.
        accuracy: A share in [0, 1].
        num_errors: Images wrong.
        train_seconds: Sum over epochs of the training part.
    """

    run: str
    recipe: str
    seed: int
    protocol: str
    engine: str
    num_params: int
    dataset: str
    epochs: int
    is_variant: bool
    started: str
    split: str | None = None
    accuracy: float | None = None
    num_errors: int | None = None
    train_seconds: float | None = None


def list_runs(
    store: RunStore, recipe: str = "*", sort: SortKey = "started"
) -> tuple[list[ListedRun], list[str]]:
    """List what was trained.

    Args:
        store: Where.
        recipe: Recipe names to take; `*` and `?` stand for any characters.
        sort: What to sort by; accuracy from the highest down, the rest from the lowest up.

    Returns:
        The runs, and a line for each one that cannot be read.
    """
    rows, problems = finished_rows(store)
    listed = [_finished(row) for row in rows]
    for record in store.root.glob(f"*{PARTIAL}/record.json"):
        try:
            listed.append(_unfinished(RunFolder(record.parent)))
        except RunError as error:  # one damaged record must not hide the others
            problems.append(str(error))
    chosen = [row for row in listed if fnmatchcase(row.recipe, recipe)]
    return sorted(chosen, key=_ORDERS[sort]), problems


def finished_rows(store: RunStore) -> tuple[list[RunRow], list[str]]:
    """Return all finished runs, oldest first, and a line for each that cannot be read."""
    rows: list[RunRow] = []
    problems: list[str] = []

    def read(name: str) -> RunRow | str | None:
        folder = store.root / name
        try:
            return read_row(folder)
        except RunError as error:
            return str(error) if (folder / "record.json").exists() else None  # else it is no run

    names = os.listdir(store.root) if store.root.is_dir() else []
    names = [name for name in names if not name.startswith(".") and not name.endswith(PARTIAL)]
    with ThreadPoolExecutor(_READERS) as pool:  # while one waits for the disk, another parses
        for found in pool.map(read, names, chunksize=64):
            if isinstance(found, RunRow):
                rows.append(found)
            elif found is not None:
                problems.append(found)
    return sorted(rows, key=lambda row: (row.started, row.run)), problems


def _finished(row: RunRow) -> ListedRun:
    return ListedRun(
        row.run,
        row.recipe,
        row.seed,
        row.protocol,
        row.engine,
        row.num_params,
        row.dataset,
        row.epochs,
        _is_variant(row.recipe, row.fingerprint),
        row.started,
        row.split,
        row.accuracy,
        row.num_errors,
        row.train_seconds,
    )


def _unfinished(folder: RunFolder) -> ListedRun:
    record = folder.record()
    return ListedRun(
        folder.name,
        record.recipe.name,
        record.seed,
        record.protocol,
        record.environment.engine,
        record.num_params,
        record.data.name,
        record.recipe.epochs,
        _is_variant(record.recipe.name, record.fingerprint),
        record.started,
    )


def _is_variant(name: str, fingerprint: str) -> bool:
    return name in RECIPES and _fingerprint(name) != fingerprint


@cache
def _fingerprint(name: str) -> str:
    return RECIPES[name].fingerprint()


_ORDERS: dict[SortKey, Callable[[ListedRun], Any]] = {
    "started": lambda row: (row.started, row.run),
    "run": lambda row: row.run,
    "recipe": lambda row: (row.recipe, row.seed, row.run),
    "seed": lambda row: (row.seed, row.recipe, row.run),
    "params": lambda row: (row.num_params, row.recipe, row.seed),
    "accuracy": lambda row: (1.0 if row.accuracy is None else -row.accuracy, row.run),
    "seconds": lambda row: (row.train_seconds or 0.0, row.run),
}

"""What a person writes for "these runs" in, finished runs that differ only in the seed out."""

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from itertools import combinations

from smidgen.errors import RunError, UnknownNameError
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.recipe import Recipe
from smidgen.runs.listing import finished_rows
from smidgen.runs.record import Protocol, RunKind
from smidgen.runs.rows import RunRow
from smidgen.runs.store import RunFolder, RunStore

_SHORT = 8
_FEWEST_DIGITS = 4
"""Fewer digits of a fingerprint are taken for a typing error."""
_MOST_LISTED = 8


def select_runs(store: RunStore, query: str, protocol: Protocol = "final") -> list[RunFolder]:
    """Return the runs that a recipe's name or a list of runs stands for.

    Args:
        store: Where to look.
        query: A recipe's name, of which all finished runs of the protocol are taken; the same
            with `@` and an engine, a data set or the start of a fingerprint behind it, or
            several of these, as `smidgen/quick@native@mnist`; or runs, separated by commas,
            each a path, a name, a unique prefix or `last`.
        protocol: Of which runs to take for a recipe's name.

    Raises:
        RunError: The recipe's runs differ in more than the seed and the name does not say
            which are meant; or a run is unfinished.
        UnknownNameError: Neither a recipe with runs here nor runs.
    """
    rows = finished_rows(store)[0]
    name, parts = split_selector(query, {row.recipe for row in rows} | RECIPES.keys())
    of_recipe = [row for row in rows if row.recipe == name]
    fitting = [row for row in of_recipe if row.protocol == protocol]
    kinds = _narrowed(fitting, parts)
    if len(kinds) == 1:
        return [RunFolder(store.root / row.run) for row in kinds[0]]
    if kinds:
        listed = _listed(name, fitting, kinds, parts)
        raise RunError(f"`{query}` has {len(kinds)} kinds of runs. Say which: {listed}.")
    if fitting:
        listed = _listed(name, fitting, kinds_of(fitting))
        raise RunError(
            f"No finished runs of `{name}` under the protocol `{protocol}` fit "
            f"`@{'@'.join(parts)}`. There are: {listed}."
        )
    if of_recipe or name in RECIPES:
        raise RunError(
            f"There are no finished runs of `{name}` under the protocol `{protocol}` in "
            f"`{store.root}`. `smidgen prove {name}` makes some."
        )
    return _named_runs(store, query, rows)


def split_selector(query: str, names: Container[str]) -> tuple[str, list[str]]:
    """Return a recipe's name and what stands behind it, each after an `@`.

    Args:
        query: As in `select_runs`.
        names: The recipes that are known; a query that begins with none comes back whole.
    """
    pieces = query.split("@")
    for end in range(len(pieces), 0, -1):  # a recipe's own name may hold an @
        name = "@".join(pieces[:end])
        if name in names:
            return name, pieces[end:]
    return query, []


def selector_of(store: RunStore, runs: Sequence[str]) -> str:
    """Return what to write for exactly these runs: what `select_runs` takes.

    Args:
        store: Where they are.
        runs: Names of finished runs that differ only in the seed.
    """
    rows, wanted = finished_rows(store)[0], set(runs)
    for first in (row for row in rows if row.run == runs[0]):
        alike = [r for r in rows if (r.recipe, r.protocol) == (first.recipe, first.protocol)]
        (kind,) = (kind for kind in kinds_of(alike) if first in kind)
        if {row.run for row in kind} == wanted:
            return _selector(first.recipe, alike, kind, [first.engine])
    return ",".join(runs)  # not all of their kind, or of several names


def runs_of(
    store: RunStore,
    recipe: Recipe,
    protocol: Protocol = "final",
    rows: Sequence[RunRow] | None = None,
) -> list[RunFolder]:
    """Return the finished runs of a recipe, whatever its name, that differ only in the seed.

    Where there are several kinds, such as of both engines, that with the most seeds is taken,
    the earliest of equals. Empty where there are none.

    Args:
        store: Where to look.
        recipe: Whose runs.
        protocol: Of which runs to take.
        rows: What the store's index holds, where it was read before.
    """
    fingerprint = recipe.fingerprint()
    there = finished_rows(store)[0] if rows is None else rows
    kinds = kinds_of(
        row for row in there if row.fingerprint == fingerprint and row.protocol == protocol
    )
    if not kinds:
        return []
    most = max(kinds, key=lambda rows: len({row.seed for row in rows}))
    return [RunFolder(store.root / row.run) for row in most]


def kinds_of(rows: Iterable[RunRow]) -> list[list[RunRow]]:
    """Return rows grouped so that those of a group differ only in the seed, in order.

    Rows that do not tell their lanes go with those that do, where these have all the same.
    """
    pairs = [(row.kind, row) for row in rows]
    known: dict[RunKind, set[RunKind]] = defaultdict(set)
    for kind, _ in pairs:
        if kind.lanes is not None:
            known[replace(kind, lanes=None)].add(kind)
    kinds: dict[RunKind, list[RunRow]] = defaultdict(list)
    for kind, row in pairs:
        fitting = known.get(kind, set())
        kinds[next(iter(fitting)) if len(fitting) == 1 else kind].append(row)
    return list(kinds.values())


def _named_runs(store: RunStore, query: str, rows: Sequence[RunRow]) -> list[RunFolder]:
    found = []
    for part in query.split(","):
        try:
            folder = store.find(part.strip())
        except UnknownNameError:
            newest = rows[::-1]
            known = [*dict.fromkeys(row.recipe for row in newest), *(row.run for row in newest)]
            where = f"Recipes with runs and runs are looked for in `{store.root}`."
            raise UnknownNameError("recipe or run", part.strip(), known, where) from None
        if not folder.is_finished:
            raise RunError(
                f"`{folder.name}` is not finished. Continue it with "
                f"`smidgen train --resume {folder.name}`."
            )
        found.append(folder)
    return found


def _narrowed(rows: Sequence[RunRow], parts: Sequence[str]) -> list[list[RunRow]]:
    kinds = kinds_of(row for row in rows if all(_fits(row, part) for part in parts))
    current = RECIPES[rows[0].recipe].fingerprint() if rows and rows[0].recipe in RECIPES else None
    # a recipe that was changed since, or tried with other settings, keeps its name
    return [kind for kind in kinds if kind[0].fingerprint == current] or kinds


def _fits(row: RunRow, part: str) -> bool:
    if part in _words(row):
        return True
    hashes = (row.fingerprint, row.data_sha256)
    return len(part) >= _FEWEST_DIGITS and any(each.startswith(part) for each in hashes)


def _words(row: RunRow) -> list[str]:
    """Return what may stand behind an `@` for a run, what reads best first."""
    return [
        row.engine,
        row.dataset,
        row.device,
        *([f"threads={row.threads}"] if row.engine == "torch" else []),
        *([f"lanes={row.lanes}"] if row.lanes is not None else []),
        row.fingerprint[:_SHORT],
        row.data_sha256[:_SHORT],
        f"results={row.results_version}",
    ]


def _selector(name: str, rows: Sequence[RunRow], kind: list[RunRow], parts: Sequence[str]) -> str:
    words = [word for word in _words(kind[0]) if word not in parts]
    for count in range(len(words) + 1):
        for more in combinations(words, count):
            if _narrowed(rows, [*parts, *more]) == [kind]:
                return "@".join([name, *parts, *more])
    return ",".join(row.run for row in kind)  # two fingerprints that begin alike


def _listed(
    name: str,
    rows: Sequence[RunRow],
    kinds: Sequence[list[RunRow]],
    parts: Sequence[str] | None = None,
) -> str:
    """Return what to write for each kind after the given parts, or after engine and data set."""
    several = len({kind[0].epochs for kind in kinds}) > 1
    texts = []
    for kind in kinds[: -_MOST_LISTED - 1 : -1]:
        epochs = f", epochs: {kind[0].epochs}" if several else ""
        first = [kind[0].engine, kind[0].dataset] if parts is None else parts
        texts.append(f"`{_selector(name, rows, kind, first)}` (runs: {len(kind)}{epochs})")
    more = f", ... ({len(kinds) - _MOST_LISTED} more)" if len(kinds) > _MOST_LISTED else ""
    return ", ".join(texts) + more

"""What a person writes for "these runs" in, finished runs that differ only in the seed out."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from smidgen.engines.choose import EngineName
from smidgen.errors import RunError, UnknownNameError
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.recipe import Recipe
from smidgen.runs.index import IndexedRun
from smidgen.runs.record import Protocol
from smidgen.runs.store import RunFolder, RunStore

_ENGINES: tuple[EngineName, ...] = ("torch", "native")


def select_runs(store: RunStore, query: str, protocol: Protocol = "final") -> list[RunFolder]:
    """Return the runs that a recipe's name or a list of runs stands for.

    Args:
        store: Where to look.
        query: A recipe's name, of which all finished runs of the protocol are taken; the same
            with `@torch` or `@native` behind it; or runs, separated by commas, each a path, a
            name, a unique prefix or `last`.
        protocol: Of which runs to take for a recipe's name.

    Raises:
        RunError: The recipe's runs differ in more than the seed and the name does not say
            which are meant; or a run is unfinished.
        UnknownNameError: Neither a recipe with runs here nor runs.
    """
    name, at, engine = query.rpartition("@")
    if not at or engine not in _ENGINES:
        name, engine = query, ""
    rows = store.index.runs()[0]
    of_recipe = [row for row in rows if row.recipe == name]
    fitting = [
        row
        for row in of_recipe
        if row.protocol == protocol and row.engine == (engine or row.engine)
    ]
    if fitting:
        return [RunFolder(store.root / row.run) for row in _one_kind(query, fitting)]
    if of_recipe or name in RECIPES:
        on = f" on the {engine} engine" if engine else ""
        raise RunError(
            f"There are no finished runs of `{name}` under the protocol `{protocol}`{on} in "
            f"`{store.root}`. `smidgen prove {name}` makes some."
        )
    return _named_runs(store, query, rows)


def runs_of(
    store: RunStore,
    recipe: Recipe,
    protocol: Protocol = "final",
    rows: Sequence[IndexedRun] | None = None,
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
    there = store.index.runs()[0] if rows is None else rows
    kinds = kinds_of(
        row for row in there if row.fingerprint == fingerprint and row.protocol == protocol
    )
    if not kinds:
        return []
    most = max(kinds, key=lambda rows: len({row.seed for row in rows}))
    return [RunFolder(store.root / row.run) for row in most]


def kinds_of(rows: Iterable[IndexedRun]) -> list[list[IndexedRun]]:
    """Return rows grouped so that those of a group differ only in the seed, in order."""
    kinds: dict[tuple[object, ...], list[IndexedRun]] = defaultdict(list)
    for row in rows:
        kinds[_kind(row)].append(row)
    return list(kinds.values())


def _named_runs(store: RunStore, query: str, rows: Sequence[IndexedRun]) -> list[RunFolder]:
    found = []
    for part in query.split(","):
        try:
            folder = store.find(part.strip())
        except UnknownNameError:
            known = [*dict.fromkeys(row.recipe for row in rows), *(row.run for row in rows)]
            where = f"Recipes with runs and runs are looked for in `{store.root}`."
            raise UnknownNameError("recipe or run", part.strip(), known, where) from None
        if not folder.is_finished:
            raise RunError(
                f"`{folder.name}` is not finished. Continue it with "
                f"`smidgen train --resume {folder.name}`."
            )
        found.append(folder)
    return found


def _one_kind(query: str, rows: Sequence[IndexedRun]) -> Sequence[IndexedRun]:
    kinds = kinds_of(rows)
    current = RECIPES[rows[0].recipe].fingerprint() if rows[0].recipe in RECIPES else None
    # a recipe that was changed since, or tried with other settings, keeps its name
    chosen = [kind for kind in kinds if kind[0].fingerprint == current] or kinds
    if len(chosen) == 1:
        return chosen[0]
    listed = "; ".join(_describe(kind) for kind in chosen)
    raise RunError(
        f"`{query}` has {len(chosen)} kinds of runs: {listed}. Say which with `@torch` or "
        "`@native`, or name the runs, separated by commas."
    )


def _kind(row: IndexedRun) -> tuple[object, ...]:
    threads = row.threads if row.engine == "torch" else None
    return (
        row.fingerprint,
        row.protocol,
        row.engine,
        row.device,
        threads,
        row.data_sha256,
        row.results_version,
    )


def _describe(kind: Sequence[IndexedRun]) -> str:
    first = kind[0]
    threads = f", threads: {first.threads}" if first.engine == "torch" else ""
    return (
        f"{len(kind)} of {first.engine} on {first.device}{threads}, {first.dataset}, "
        f"such as `{first.run}`"
    )

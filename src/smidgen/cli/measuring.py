"""Accuracy for `check`, `grade` and `ladder`: from runs that are there, or made now."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smidgen.data.images import Reading
    from smidgen.errors import SmidgenError
    from smidgen.evidence.proof import Proof
    from smidgen.recipes.recipe import Recipe
    from smidgen.runs.store import RunFolder, RunStore
    from smidgen.work.jobs import Place


def proof_for(
    recipe: "Recipe",
    source: bytes,
    target: float | None,
    stay_epochs: int | None,
    num_seeds: int | None,
    store: "RunStore",
    data_dir: Path | None,
    reading: "Reading | None" = None,
) -> "Proof | None":
    """Return what the runs of a recipe under the protocol final say.

    Args:
        recipe: What was, or is, trained; its budget is not what is asked here.
        source: The Python file that its network was read from, if it was.
        target: The accuracy to reach, a share, if any.
        stay_epochs: How many last epochs must be there; None for the usual number.
        num_seeds: Train seeds 1 to so many, where they are not there; None to train nothing.
        store: Where runs are.
        data_dir: Where the images are.
        reading: How images of a folder are read, if it was said.

    Returns:
        None if there are no runs of this network and none were asked for.

    Raises:
        RunError: A run is damaged, or a seed gave none; or there are runs of this network with
            other settings alone.
        SmidgenError: As `prove`.
    """
    from smidgen.errors import SmidgenError
    from smidgen.evidence.proof import STAY_EPOCHS, proof_of
    from smidgen.evidence.select import runs_of

    stay_epochs = stay_epochs or STAY_EPOCHS
    if num_seeds is None:
        runs = runs_of(store, recipe)
        if not runs:
            _refuse_other_settings(recipe, store)
            return None
        _check_whole(runs)
        return proof_of(runs, target, stay_epochs)
    wanted = [(recipe, source)]
    (result,) = train_seeds(
        wanted, target, stay_epochs, num_seeds, store, data_dir, reading=reading
    )
    if isinstance(result, SmidgenError):
        raise result
    return result


def proof_of_run(folder: "RunFolder", target: float | None, stay_epochs: int | None) -> "Proof":
    """Return what one run says, whatever its protocol; target and stay are as for `proof_for`.

    Raises:
        RunError: It is unfinished or damaged.
    """
    from smidgen.errors import RunError
    from smidgen.evidence.proof import STAY_EPOCHS, proof_of
    from smidgen.training.checkpoints import why_unfinished

    if not folder.is_finished:
        raise RunError(why_unfinished(folder))
    _check_whole([folder])
    return proof_of([folder], target, stay_epochs or STAY_EPOCHS)


def _check_whole(runs: "Sequence[RunFolder]") -> None:
    """Name the run that is damaged, and what to do, before a statement about all fails of it."""
    from smidgen.errors import RunError
    from smidgen.work.queue import why_damaged

    for run in runs:
        reason = why_damaged(run)
        if reason:
            raise RunError(reason)


def _refuse_other_settings(recipe: "Recipe", store: "RunStore") -> None:
    from smidgen.errors import RunError
    from smidgen.runs.listing import finished_rows
    from smidgen.runs.store import RunFolder

    others = [
        row
        for row in finished_rows(store)[0]
        if (row.recipe, row.protocol) == (recipe.name, "final")
        # files of the same name hold the networks of different people
        and RunFolder(store.root / row.run).record().recipe.network == recipe.network
    ]
    if others:
        count = f"{len(others)} finished run{'' if len(others) == 1 else 's'}"
        raise RunError(
            f"`{recipe.name}` has {count}, but none with {_settings_named(recipe)}. "
            "`--prove 20` makes some."
        )


def _settings_named(recipe: "Recipe") -> str:
    from smidgen.cli.targets import DEFAULT_RECIPE
    from smidgen.recipes.catalogue import RECIPES

    if recipe.name in RECIPES:
        like = RECIPES[recipe.name]
    else:
        like = RECIPES[DEFAULT_RECIPE].for_network(recipe.name, recipe.network)
    if like.fingerprint() != recipe.fingerprint():
        return "these settings"
    return f"the settings of `{recipe.name if recipe.name in RECIPES else DEFAULT_RECIPE}`"


def train_seeds(
    wanted: "Sequence[tuple[Recipe, bytes]]",
    target: float | None,
    stay_epochs: int,
    num_seeds: int,
    store: "RunStore",
    data_dir: Path | None,
    on_proof: "Callable[[int, Proof | SmidgenError], None]" = lambda number, result: None,
    place: "Place | None" = None,
    reading: "Reading | None" = None,
) -> "list[Proof | SmidgenError]":
    """Train what is missing of seeds 1 to `num_seeds` of several recipes, all in one queue.

    Args:
        wanted: Each recipe, and the Python file that its network was read from, if it was.
        target: As for `proof_for`.
        stay_epochs: As there.
        num_seeds: How many of each.
        store: Where runs are.
        data_dir: Where the images are.
        on_proof: Called with the number of each recipe when its runs have ended.
        place: Where runs are made; None for processes of this machine.
        reading: As for `proof_for`.

    Returns:
        For each recipe its proof, or why there is none: an error, or a seed that gave no run.
    """
    from smidgen.cli.live import RunsBoard, shown
    from smidgen.cli.options import load_named
    from smidgen.evidence.prove import Claim, Proven, ProveOptions, prove_all
    from smidgen.recipes.parts import Budget
    from smidgen.work.local import Local

    names = dict.fromkeys(recipe.dataset for recipe, _ in wanted)
    datasets = {name: load_named(name, data_dir, **(reading or {})) for name in names}
    claims = [
        # a limit that is broken is for the check to say; it must not stop the training
        Claim(recipe.replace(budget=Budget()), datasets[recipe.dataset], seeds, source)
        for seeds in [range(1, num_seeds + 1)]
        for recipe, source in wanted
    ]
    options = ProveOptions(target=target, stay_epochs=stay_epochs, place=place or Local)
    with shown(RunsBoard(None)) as display:

        def on_event(event: object) -> None:
            display(event)
            if isinstance(event, Proven):
                on_proof(event.number, _complete(event.result, num_seeds))

        results = prove_all(claims, store, options, on_event)
    return [_complete(result, num_seeds) for result in results]


def _complete(result: "Proof | SmidgenError", num_seeds: int) -> "Proof | SmidgenError":
    """Return a proof that has all its seeds, else the error that says what is missing."""
    from smidgen.errors import RunError, SmidgenError
    from smidgen.evidence.wording import failures_line

    if isinstance(result, SmidgenError) or not result.failures:
        return result
    return RunError(
        f"{len(result.failures)} of {num_seeds} seeds of `{result.recipe}` gave no run. "
        f"{failures_line(result.failures)}"
    )

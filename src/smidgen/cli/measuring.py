"""Accuracy for `check`, `grade` and `ladder`: from runs that are there, or made now."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smidgen.data import Dataset
    from smidgen.evidence.proof import Proof
    from smidgen.recipes.recipe import Recipe
    from smidgen.runs.store import RunStore


def proof_for(
    recipe: "Recipe",
    source: bytes,
    asked: tuple[float | None, int | None],
    num_seeds: int | None,
    store: "RunStore",
    data_dir: Path | None,
) -> "Proof | None":
    """Return what the runs of a recipe under the protocol final say.

    Args:
        recipe: What was, or is, trained; its budget is not what is asked here.
        source: The Python file that its network was read from, if it was.
        asked: The accuracy to reach, a share, and how many last epochs must stay there.
        num_seeds: Train seeds 1 to so many, where they are not there; None to train nothing.
        store: Where runs are.
        data_dir: Where the images are.

    Returns:
        None if there are no runs and none were asked for.

    Raises:
        RunError: A seed gave no run.
        SmidgenError: As `prove`.
    """
    from smidgen.evidence.select import runs_of
    from smidgen.evidence.statements import STAY_EPOCHS, proof_of

    target, stay_epochs = asked
    stay_epochs = stay_epochs or STAY_EPOCHS
    if num_seeds is None:
        runs = runs_of(store, recipe)
        return proof_of(runs, target, stay_epochs) if runs else None
    return train_seeds(recipe, source, (target, stay_epochs), num_seeds, store, data_dir)


def train_seeds(
    recipe: "Recipe",
    source: bytes,
    asked: tuple[float | None, int],
    num_seeds: int,
    store: "RunStore",
    data_dir: Path | None,
) -> "Proof":
    """Train what is missing of seeds 1 to `num_seeds`; raises RunError if a seed gave no run."""
    from smidgen.cli.proving import proving_listener
    from smidgen.errors import RunError
    from smidgen.evidence.prove import ProveOptions, prove
    from smidgen.recipes.parts import Budget

    target, stay_epochs = asked
    dataset = _load(recipe.dataset, data_dir)
    options = ProveOptions(target=target, stay_epochs=stay_epochs, source=source)
    # a limit that is broken is for the check to say; it must not stop the training
    free = recipe.replace(budget=Budget())
    with proving_listener(recipe.epochs, None) as listener:
        proof = prove(free, dataset, store, range(1, num_seeds + 1), options, listener)
    if proof.failures:
        first = proof.failures[0]
        raise RunError(
            f"{len(proof.failures)} of {num_seeds} seeds of `{recipe.name}` gave no run, the first "
            f"of them seed {first.seed}: {first.reason}"
        )
    return proof


def _load(name: str, data_dir: Path | None) -> "Dataset":
    from smidgen.cli.data import data_progress
    from smidgen.data import load_dataset

    with data_progress("bytes") as progress:
        return load_dataset(name, data_dir, progress=progress)

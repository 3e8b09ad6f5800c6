"""Where a run stands after an epoch, in one file; and whether an unfinished one can go on."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from smidgen.engines.contract import Engine
from smidgen.errors import EngineError, RunError
from smidgen.files import storage_errors, write_atomically
from smidgen.runs.record import EpochRecord, RunRecord
from smidgen.runs.store import RunFolder
from smidgen.runs.tensors import load_tensors, save_tensors
from smidgen.training.splits import best_index
from smidgen.values import from_plain, to_plain

DIVERGED = "diverged.json"
"""In the folder of a run that met NaN or infinity: `{"epoch": N}`."""


def note_divergence(folder: RunFolder, epoch: int) -> None:
    """Write down in which epoch a run met NaN or infinity, atomically."""
    write_atomically(folder.path / DIVERGED, json.dumps({"epoch": epoch}).encode())


def forget_divergence(folder: RunFolder) -> None:
    """Remove what an earlier sitting wrote down; this one will see for itself."""
    with storage_errors(folder.path):
        (folder.path / DIVERGED).unlink(missing_ok=True)


def why_unfinished(folder: RunFolder) -> str:
    """Say why a run has no result and what to do about it."""
    try:
        epoch = json.loads((folder.path / DIVERGED).read_bytes())["epoch"]
    except (OSError, ValueError, LookupError, TypeError):
        return (
            f"`{folder.name}` is not finished. "
            f"Continue it with `smidgen train --resume {folder.name}`."
        )
    return (
        f"`{folder.name}` diverged in epoch {epoch} (numbers not finite) and would do so again if "
        "continued. Train with a lower `optimizer.lr`."
    )


BEST = "best.safetensors"
"""Full state after the best epoch so far, where the protocol selects by it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The epochs that are done, and the wall time they took over all sittings."""

    epochs: tuple[EpochRecord, ...] = ()
    wall_seconds: float = 0.0


def save_checkpoint(
    folder: RunFolder, engine: Engine, record: RunRecord, progress: Progress, keeps_best: bool
) -> None:
    """Write the state after the last epoch of `progress`, atomically; keeps the one before it.

    Args:
        folder: Where the run stands.
        engine: Holds the state.
        record: The run's record.
        progress: The epochs up to now.
        keeps_best: Whether the state of the best epoch is kept as well.

    Raises:
        StorageError: The disk is full; earlier checkpoints are untouched.
    """
    epoch, state = len(progress.epochs), engine.state()
    metadata = {
        "identity": record.identity,
        "epochs": json.dumps([to_plain(done) for done in progress.epochs]),
        "wall_seconds": repr(progress.wall_seconds),
    }
    if keeps_best and best_index(progress.epochs) == epoch - 1:
        # first, so that no checkpoint ever stands without the best state it refers to
        save_tensors(folder.path / BEST, state, metadata)
    folder.save_checkpoint(epoch, state, metadata)


def restore_newest(
    folder: RunFolder,
    engine: Engine,
    record: RunRecord,
    on_note: Callable[[str], None],
    needs_best: bool = False,
) -> Progress:
    """Put the newest undamaged checkpoint into the engine; a fresh start if there is none.

    Args:
        folder: Where the run stands.
        engine: Freshly made.
        record: The run's record.
        on_note: Told, in a line, of each checkpoint that cannot be used.
        needs_best: Whether a checkpoint is of use only with the state of its best epoch.
    """
    for epoch in reversed(folder.checkpoints()):
        try:
            progress = _restore(folder, epoch, engine, record, needs_best)
        except (RunError, EngineError) as problem:
            on_note(f"Going back before epoch {epoch}: {problem}")
            continue
        folder.drop_checkpoints_before(epoch)  # where a kill came between writing and dropping
        return progress
    return Progress()


def restore_best(folder: RunFolder, engine: Engine, progress: Progress) -> None:
    """Put the state after the best epoch into the engine.

    Raises:
        RunError: It is missing, damaged or that of another epoch.
    """
    state, metadata = load_tensors(folder.path / BEST)
    epoch = best_index(progress.epochs) + 1
    if len(_epochs(metadata, BEST)) != epoch:
        raise RunError(f"`{folder.path / BEST}` is not the state after epoch {epoch}.")
    engine.load_state(state)


def epochs_so_far(folder: RunFolder, record: RunRecord) -> tuple[EpochRecord, ...]:
    """Return the epochs that the newest readable checkpoint of an unfinished run tells of."""
    for epoch in reversed(folder.checkpoints()):
        try:
            _, metadata = folder.load_checkpoint(epoch)
            return _epochs(metadata, f"checkpoint {epoch}")
        except (RunError, LookupError, ValueError):  # an earlier one may do
            continue
    return record.epochs


def _restore(
    folder: RunFolder, epoch: int, engine: Engine, record: RunRecord, needs_best: bool
) -> Progress:
    state, metadata = folder.load_checkpoint(epoch)
    if metadata.get("identity") not in (record.identity, record.spec.first_identity()):
        raise RunError(f"checkpoint {epoch} in `{folder.path}` belongs to another run.")
    progress = Progress(_epochs(metadata, f"checkpoint {epoch}"), float(metadata["wall_seconds"]))
    if needs_best:
        _, about_best = load_tensors(folder.path / BEST)
        best = len(_epochs(about_best, BEST))
        # one of a later epoch was written just before a crash; that epoch is done again
        if best <= epoch and best != best_index(progress.epochs) + 1:
            raise RunError(f"`{folder.path / BEST}` does not go with it.")
    engine.load_state(state)
    return progress


def _epochs(metadata: dict[str, str], where: str) -> tuple[EpochRecord, ...]:
    plain = json.loads(metadata["epochs"])
    return tuple(from_plain(EpochRecord, epoch, RunError, where) for epoch in plain)

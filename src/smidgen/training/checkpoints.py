"""Where a run stands after an epoch: the engine's full state and the epochs so far, in one file."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from smidgen.engines.contract import Engine
from smidgen.errors import EngineError, RunError
from smidgen.runs.record import EpochRecord, RunRecord
from smidgen.runs.store import RunFolder
from smidgen.values import from_plain, to_plain


@dataclass(frozen=True, slots=True)
class Progress:
    """The epochs that are done, and the wall time they took over all sittings."""

    epochs: tuple[EpochRecord, ...] = ()
    wall_seconds: float = 0.0


def save_checkpoint(
    folder: RunFolder, engine: Engine, record: RunRecord, progress: Progress
) -> None:
    """Write the state after the last epoch of `progress`, atomically; keeps the one before it.

    Raises:
        StorageError: The disk is full; earlier checkpoints are untouched.
    """
    metadata = {
        "identity": record.identity,
        "epochs": json.dumps([to_plain(epoch) for epoch in progress.epochs]),
        "wall_seconds": repr(progress.wall_seconds),
    }
    folder.save_checkpoint(len(progress.epochs), engine.state(), metadata)


def restore_newest(
    folder: RunFolder, engine: Engine, record: RunRecord, on_note: Callable[[str], None]
) -> Progress:
    """Put the newest undamaged checkpoint into the engine; a fresh start if there is none."""
    for epoch in reversed(folder.checkpoints()):
        try:
            progress = _restore(folder, epoch, engine, record)
        except (RunError, EngineError) as problem:
            on_note(f"Going back one epoch: {problem}")
            continue
        return progress
    return Progress()


def _restore(folder: RunFolder, epoch: int, engine: Engine, record: RunRecord) -> Progress:
    state, metadata = folder.load_checkpoint(epoch)
    if metadata.get("identity") != record.identity:
        raise RunError(f"Checkpoint {epoch} in `{folder.path}` belongs to another run.")
    epochs = tuple(
        from_plain(EpochRecord, plain, RunError, f"checkpoint {epoch}")
        for plain in json.loads(metadata["epochs"])
    )
    engine.load_state(state)
    return Progress(epochs, float(metadata["wall_seconds"]))

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smidgen.data import Dataset
from smidgen.engines.torch_engine import TorchEngine
from smidgen.errors import RunError
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord, RunRecord
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.checkpoints import (
    DIVERGED,
    Progress,
    forget_divergence,
    note_divergence,
    restore_best,
    restore_newest,
    save_checkpoint,
    why_unfinished,
)
from smidgen.training.run import TrainOptions, blank_record, specify
from smidgen.training.splits import splits_for


@pytest.fixture
def record(tiny_recipe: Recipe, stripes: Dataset) -> RunRecord:
    """Return the record of a run that has not begun."""
    spec = specify(tiny_recipe, stripes, 1, TrainOptions(engine="torch", threads=1))
    return blank_record(spec, stripes, splits_for("final", tiny_recipe, stripes))


@pytest.fixture
def engine(tiny_recipe: Recipe, stripes: Dataset) -> TorchEngine:
    """Return an engine that has not trained."""
    return TorchEngine(tiny_recipe.network, tiny_recipe, stripes.train.images, stripes.train.labels)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return where an unfinished run stands."""
    return RunStore(tmp_path).partial("x")


def epochs_of(*errors: int) -> tuple[EpochRecord, ...]:
    """Return epochs with so many errors in 40 images."""
    return tuple(
        EpochRecord(i, 1 / 3, 0.9, "test", 0.4, (40 - n) / 40, n, 1.0, 1.0, 1.0, 0.1, 0.1)
        for i, n in enumerate(errors, start=1)
    )


def marked(engine: TorchEngine, number: int) -> None:
    """Make an engine's state tell which epoch it is from."""
    state = engine.state()
    engine.load_state(state | {"step": np.array(number, np.int64)})


def save_all(
    folder: RunFolder, engine: TorchEngine, record: RunRecord, *errors: int, best: bool = True
) -> None:
    """Save a checkpoint after each of some epochs."""
    epochs = epochs_of(*errors)
    for number in range(1, len(epochs) + 1):
        marked(engine, number)
        save_checkpoint(folder, engine, record, Progress(epochs[:number], number * 0.1), best)


def test_progress_comes_back(folder: RunFolder, engine: TorchEngine, record: RunRecord) -> None:
    """Epochs, wall time and state are those of the newest checkpoint."""
    save_all(folder, engine, record, 5, 4, 3, best=False)
    marked(engine, 99)

    found = restore_newest(folder, engine, record, lambda note: None)

    assert found == Progress(epochs_of(5, 4, 3), 3 * 0.1)
    assert engine.state()["step"] == 3
    assert not (folder.path / "best.safetensors").exists()


def test_nothing_saved_is_a_fresh_start(
    folder: RunFolder, engine: TorchEngine, record: RunRecord
) -> None:
    """Without a checkpoint a run begins at the beginning, without a note."""
    notes: list[str] = []

    assert restore_newest(folder, engine, record, notes.append) == Progress()
    assert notes == []


@pytest.mark.parametrize(
    ("errors", "best"), [((5, 4, 3), 3), ((3, 4, 5), 1), ((4, 3, 3), 2), ((3, 3, 3), 1)]
)
def test_the_best_state_is_kept(
    folder: RunFolder,
    engine: TorchEngine,
    record: RunRecord,
    errors: tuple[int, ...],
    best: int,
) -> None:
    """The state after the first best epoch can be had back at any later time."""
    save_all(folder, engine, record, *errors)

    restore_best(folder, engine, Progress(epochs_of(*errors)))

    assert engine.state()["step"] == best


def test_a_best_state_of_another_epoch_is_refused(
    folder: RunFolder, engine: TorchEngine, record: RunRecord
) -> None:
    """The best state must be that of the epoch that the log calls best."""
    save_all(folder, engine, record, 5, 4, 3)

    with pytest.raises(RunError) as caught:
        restore_best(folder, engine, Progress(epochs_of(5, 3, 4)))

    assert str(caught.value) == (
        f"`{folder.path / 'best.safetensors'}` is not the state after epoch 2."
    )


def test_a_best_state_from_just_before_a_crash_is_no_obstacle(
    folder: RunFolder, engine: TorchEngine, record: RunRecord
) -> None:
    """Where a crash came between the best state and its checkpoint, that epoch is done again."""
    save_all(folder, engine, record, 5, 4, 3)
    (folder.path / "checkpoint-0003.safetensors").unlink()

    found = restore_newest(folder, engine, record, pytest.fail, needs_best=True)

    assert found.epochs == epochs_of(5, 4)


@pytest.mark.parametrize("damage", ["missing", "stale"])
def test_a_checkpoint_without_its_best_state_is_no_use(
    folder: RunFolder, engine: TorchEngine, record: RunRecord, damage: str
) -> None:
    """A lost or older best state sends a run back to its beginning, with notes."""
    save_all(folder, engine, record, 5)
    old = (folder.path / "best.safetensors").read_bytes()
    save_all(folder, engine, record, 5, 4, 4)
    (folder.path / "best.safetensors").unlink()
    if damage == "stale":
        (folder.path / "best.safetensors").write_bytes(old)
    notes: list[str] = []

    found = restore_newest(folder, engine, record, notes.append, needs_best=True)

    assert found == Progress()
    assert [note.split(":")[0] for note in notes] == [
        "Going back before epoch 3",
        "Going back before epoch 2",
    ]
    assert all("best.safetensors" in note for note in notes)


def test_another_identity_is_passed_over(
    folder: RunFolder, engine: TorchEngine, record: RunRecord
) -> None:
    """Checkpoints of another run are never taken for this one's."""
    save_all(folder, engine, dataclasses.replace(record, identity="0" * 64), 5)
    notes: list[str] = []

    assert restore_newest(folder, engine, record, notes.append) == Progress()
    assert len(notes) == 1


def test_superfluous_checkpoints_are_dropped(
    folder: RunFolder, engine: TorchEngine, record: RunRecord
) -> None:
    """What a kill between writing and dropping left is dropped when the run goes on."""
    save_all(folder, engine, record, 5, 4)
    kept = (folder.path / "checkpoint-0001.safetensors").read_bytes()
    save_all(folder, engine, record, 5, 4, 3)
    (folder.path / "checkpoint-0001.safetensors").write_bytes(kept)

    restore_newest(folder, engine, record, pytest.fail)

    assert folder.checkpoints() == [2, 3]


@pytest.fixture
def unfinished(make_run: Callable[..., RunFolder]) -> RunFolder:
    """Return the folder of an unfinished run."""
    return make_run(1, finish=False)


def test_what_diverged_is_not_to_be_continued(unfinished: RunFolder) -> None:
    """The epoch is kept in the run's folder, until a new sitting sees for itself."""
    goes_on = (
        f"`{unfinished.name}` is not finished. "
        f"Continue it with `smidgen train --resume {unfinished.name}`."
    )
    assert why_unfinished(unfinished) == goes_on

    note_divergence(unfinished, 3)
    assert why_unfinished(unfinished) == (
        f"`{unfinished.name}` diverged in epoch 3 (numbers not finite) and would do so again if "
        "continued. Train with a lower `optimizer.lr`."
    )

    forget_divergence(unfinished)
    forget_divergence(unfinished)
    assert why_unfinished(unfinished) == goes_on


@pytest.mark.parametrize("content", ["", "[]", "{}", "3"])
def test_a_damaged_note_says_nothing(unfinished: RunFolder, content: str) -> None:
    """Then the run counts as one that was stopped."""
    (unfinished.path / DIVERGED).write_text(content)

    assert " is not finished. " in why_unfinished(unfinished)

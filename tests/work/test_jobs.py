from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.data import Dataset
from smidgen.files import locked
from smidgen.recipes.parts import Adam
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunStore
from smidgen.training.loop import Run, TrainOptions
from smidgen.work.jobs import (
    Busy,
    EpochDone,
    Failed,
    Finished,
    Job,
    Message,
    Note,
    Started,
    Task,
    train_task,
)

Make = Callable[[int], Task]


@pytest.fixture
def job(stripes: Dataset, tmp_path: Path) -> Job:
    """Return the job that `train_tiny` does by hand."""
    options = TrainOptions(engine="torch", threads=1)
    return Job(stripes, RunStore(tmp_path / "runs"), options)


@pytest.fixture
def task(tiny_recipe: Recipe) -> Make:
    """Return a function that makes a task of a seed."""
    return lambda seed: Task(tiny_recipe, seed)


def test_a_worker_tells_how_a_seed_goes(job: Job, task: Make) -> None:
    """Start, every epoch with its accuracy, and the name of the finished run."""
    told: list[Message] = []

    ended = train_task(job, task(3), told.append)

    record = job.store.find("last").record()
    assert told[0] == Started(3, 0)
    assert [message.epoch for message in told if isinstance(message, EpochDone)] == [1, 2, 3]
    assert [message.accuracy for message in told if isinstance(message, EpochDone)] == [
        epoch.eval_accuracy for epoch in record.epochs
    ]
    assert ended == Finished(3, job.store.find("last").name)


def test_a_run_that_is_there_is_finished_at_once(
    job: Job, task: Make, train_tiny: Callable[..., Run]
) -> None:
    """Nothing is trained again, so there is nothing to tell."""
    run = train_tiny(seed=2)
    told: list[Message] = []

    assert train_task(job, task(2), told.append) == Finished(2, run.folder.name)
    assert told == []


def test_a_damaged_checkpoint_is_told(job: Job, task: Make, train_tiny: Callable[..., Run]) -> None:
    """Notes of the training reach the listener with their seed."""
    run = train_tiny(seed=2)
    partial = job.store.partial(run.folder.name)
    run.folder.path.rename(partial.path)
    newest = partial.path / "checkpoint-0003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    told: list[Message] = []

    train_task(job, task(2), told.append)

    note = next(message for message in told if isinstance(message, Note))
    assert note.seed == 2
    assert "epoch 3" in note.text


def test_a_seed_in_use_is_busy(
    job: Job, task: Make, train_tiny: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that another process holds is no failure: the seed's turn comes later."""
    name = train_tiny(seed=1).folder.name
    job.store.remove(job.store.find(name))
    waited: list[float] = []
    monkeypatch.setattr("smidgen.work.jobs.time.sleep", waited.append)

    with locked(job.store.lock_path(name)):
        ended = train_task(job, task(1), lambda message: None)

    assert ended == Busy(1)
    assert waited == [0.5]


def test_a_deliberate_error_is_the_reason(job: Job, task: Make) -> None:
    """What smidgen says of a seed that cannot be trained is passed on as it is."""
    (job.store.root.parent / "runs").write_text("a file in the way")

    ended = train_task(job, task(1), lambda message: None)

    assert isinstance(ended, Failed)
    assert not ended.diverged
    assert ended.reason.startswith("Cannot write `")


def test_a_bug_is_named_with_its_place(
    job: Job, task: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error costs its seed alone and says where it came from."""

    def broken(*given: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("smidgen.work.jobs.train", broken)

    ended = train_task(job, task(1), lambda message: None)

    assert isinstance(ended, Failed)
    assert ended.reason.startswith("ZeroDivisionError: by nothing (")
    assert "test_jobs.py, line " in ended.reason


def test_training_that_diverges_says_so(job: Job, task: Make) -> None:
    """Numbers that are not finite are told apart from everything else that can go wrong."""
    diverging = task(1).recipe.replace(optimizer=Adam(lr=1e30))

    ended = train_task(job, Task(diverging, 1), lambda message: None)

    assert isinstance(ended, Failed)
    assert ended.diverged
    assert ended.reason.startswith("Training met a number that")

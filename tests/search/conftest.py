"""Searches in moments: an actor answers every run at once, with a loss that its recipe decides."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ClassVar

import pytest

from smidgen.network.layers import BatchNorm, Conv, Dense, Flatten, GlobalAvgPool, ReLU
from smidgen.network.network import Network
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord, Result, RunRecord
from smidgen.runs.store import run_name
from smidgen.search import SearchOptions
from smidgen.search.settings import BASE
from smidgen.training.listener import Listener
from smidgen.training.loop import prepare
from smidgen.work import local
from smidgen.work.jobs import Finished, Job, Message, Task

NETWORK = Network((Conv(8, 3), BatchNorm(), ReLU(), GlobalAvgPool(), Flatten(), Dense(10)))


class Actor:
    """Plays a process that trains: a run takes no time and its loss is drawn from its recipe."""

    made: ClassVar[list[tuple[str, int, int]]] = []
    """Recipe's fingerprint, epochs and seed of every run that was really made."""
    jobs: ClassVar[list[Job]] = []
    answer: ClassVar[Callable[[Task], Message | None]] = lambda task: None
    """Says how a run ends, if not as usual."""
    pipes: ClassVar[list[Connection]] = []

    cannot_start = False

    def __init__(self, job: Job, parcel: object, task: Task) -> None:
        self.job = job
        Actor.jobs.append(job)
        self.pipe, self.theirs = Pipe()
        Actor.pipes += [self.pipe, self.theirs]
        self.give(task)

    def give(self, task: Task) -> bool:
        """Take a task and answer."""
        self.task = task
        self.theirs.send(Actor.answer(task) or play(self.job, task))
        return True

    def note_life(self, message: object) -> None:
        """Do nothing: an actor is always alive."""

    def why_hanging(self, waited: float, patience: object) -> str:
        """Never hang."""
        return ""

    def send_signal(self, number: int) -> None:
        """Do nothing: there is no process."""

    def end(self, deadline: float) -> None:
        """Leave the stage."""
        self.pipe.close()

    dismiss = lambda self: self.end(0.0)  # noqa: E731

    def last_words(self) -> str:
        """Say how it ended."""
        return "it died"


def play(job: Job, task: Task) -> Finished:
    """Write the run that training would have left, unless it is there."""
    record, _ = prepare(task.recipe, job.dataset, task.seed, job.options, Listener())
    if (there := job.store.finished(record.spec)) is not None:
        return Finished(task.seed, there.name)
    Actor.made.append((task.recipe.fingerprint(), task.recipe.epochs, task.seed))
    folder = job.store.partial(run_name(task.recipe.name, task.seed, record.identity))
    finished = _finished(record, loss_of(task))
    folder.save_record(finished)
    return Finished(task.seed, job.store.finish(folder, finished).name)


def loss_of(task: Task) -> float:
    """Return a loss that shrinks with epochs, and differs by network and a little by seed."""
    text = f"{task.recipe.network.to_json()} {task.recipe.optimizer.lr}"
    quality = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32
    return 0.05 + 0.2 * quality + 0.3 / task.recipe.epochs + 0.001 * task.seed


def _finished(record: RunRecord, loss: float) -> RunRecord:
    accuracy = 1.0 - loss / 4
    epoch = EpochRecord(
        record.recipe.epochs, 0.5, 0.9, "valid", loss, accuracy, 3, 2.0, 0.5, 80.0, 0.1, 0.1
    )
    result = Result("valid", accuracy, 3, 20, 1, "last epoch", accuracy, accuracy, accuracy, 1)
    return replace(record, epochs=(epoch,), result=result, train_seconds=2.0)


@pytest.fixture(autouse=True)
def _actors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let actors stand for processes."""
    Actor.made, Actor.jobs, Actor.pipes, Actor.answer = [], [], [], lambda task: None
    monkeypatch.setattr(local, "_Worker", Actor)
    yield
    for pipe in Actor.pipes:
        pipe.close()


@pytest.fixture
def base() -> Recipe:
    """Return the settings that a search varies, on the drawn data."""
    return BASE.replace(dataset="stripes", network=NETWORK, batch_size=32)


@pytest.fixture
def make_options(base: Recipe, tmp_path: Path) -> Callable[..., SearchOptions]:
    """Return a function that makes the options of a small search, changed as asked."""

    def made(**changes: object) -> SearchOptions:
        plain: dict[str, object] = {
            "study": tmp_path / "study",
            "max_params": 600,
            "epochs": 4,
            "num_seeds": 2,
            "base": base,
            "num_candidates": 6,
            "engine": "torch",
            "workers": 1,
        }
        return SearchOptions(**{**plain, **changes})  # type: ignore[arg-type]

    return made

"""Searches in moments: an actor answers every run at once, with a loss that its recipe decides."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from smidgen.network.layers import BatchNorm, Conv, Dense, Flatten, GlobalAvgPool, ReLU
from smidgen.network.network import Network
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord, Result, RunRecord, RunSpec
from smidgen.runs.store import run_name
from smidgen.search import SearchOptions
from smidgen.search.settings import BASE
from smidgen.training.run import Run, blank_record
from smidgen.training.splits import splits_for
from smidgen.work.inline import Inline
from smidgen.work.jobs import Job, Outcome, Shared

NETWORK = Network((Conv(8, 3), BatchNorm(), ReLU(), GlobalAvgPool(), Flatten(), Dense(10)))


class Actor(Inline):
    """Plays a place where runs are made: one takes no time, its loss is drawn from its recipe."""

    made: ClassVar[list[tuple[str, int, int]]] = []
    """Recipe's fingerprint, epochs and seed of every run that was really made."""
    stages: ClassVar[list[Shared]] = []
    answer: ClassVar[Callable[[Job], Outcome | None]] = lambda job: None
    """Says how a run ends, if not as usual."""

    def __init__(self, shared: Shared, workers: int = 1) -> None:
        super().__init__(shared, workers)
        Actor.stages.append(shared)

    def _make(self, job: Job, tell: object) -> Outcome:
        return Actor.answer(job) or play(self._shared, job.spec)


def play(shared: Shared, spec: RunSpec) -> Outcome:
    """Write the run that training would have left, unless it is there."""
    if (there := shared.store.finished(spec)) is not None:
        return Outcome(spec, Run(there, there.record(), was_there=True))
    Actor.made.append((spec.recipe.fingerprint(), spec.recipe.epochs, spec.seed))
    dataset = shared.datasets[spec.data_sha256]
    record = blank_record(spec, dataset, splits_for(spec.protocol, spec.recipe, dataset))
    folder = shared.store.partial(run_name(spec.recipe.name, spec.seed, record.identity))
    finished = _finished(record, loss_of(spec))
    folder.save_record(finished)
    return Outcome(spec, Run(shared.store.finish(folder, finished), finished))


def loss_of(spec: RunSpec) -> float:
    """Return a loss that shrinks with epochs, and differs by network and a little by seed."""
    text = f"{spec.recipe.network.to_json()} {spec.recipe.optimizer.lr}"
    quality = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32
    return 0.05 + 0.2 * quality + 0.3 / spec.recipe.epochs + 0.001 * spec.seed


def _finished(record: RunRecord, loss: float) -> RunRecord:
    accuracy = 1.0 - loss / 4
    epochs = tuple(
        EpochRecord(number, 0.5, 0.9, "valid", loss, accuracy, 3, 2.0, 0.5, 80.0, 0.1, 0.1)
        for number in range(1, record.recipe.epochs + 1)
    )
    result = Result("valid", accuracy, 3, 20, 1, "last epoch", accuracy, accuracy, accuracy, 1)
    return replace(record, epochs=epochs, result=result, train_seconds=2.0)


@pytest.fixture(autouse=True)
def _actors() -> None:
    """Let every test begin with an empty stage."""
    Actor.made, Actor.stages, Actor.answer = [], [], lambda job: None


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
            "place": Actor,
        }
        return SearchOptions(**{**plain, **changes})  # type: ignore[arg-type]

    return made

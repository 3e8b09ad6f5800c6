"""What a run to make is, how it is made, and what is told of it."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from smidgen.data.dataset import Dataset
from smidgen.errors import InterruptedRunError, InUseError, NonFiniteError, SmidgenError
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord, RunRecord
from smidgen.runs.store import RunStore
from smidgen.training.listener import Listener
from smidgen.training.loop import TrainOptions, train

_BUSY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """What every run has in common."""

    dataset: Dataset
    store: RunStore
    options: TrainOptions


@dataclass(frozen=True, slots=True)
class Task:
    """One run to make."""

    recipe: Recipe
    seed: int


@dataclass(frozen=True, slots=True)
class Started:
    """A seed begins, or goes on after the epochs that were done before."""

    seed: int
    num_epochs: int


@dataclass(frozen=True, slots=True)
class EpochDone:
    """A seed finished an epoch: accuracy after it, seconds it took."""

    seed: int
    epoch: int
    accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Note:
    """A line that a person should read."""

    seed: int
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A seed is finished; `run` is its folder's name."""

    seed: int
    run: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Another process is training this seed just now."""

    seed: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A seed gave no run, and why; `diverged` if it trained and met NaN or infinity."""

    seed: int
    reason: str
    diverged: bool = False


Message = Started | EpochDone | Note | Finished | Busy | Failed


def train_task(
    job: Job,
    task: Task,
    tell: Callable[[Message], None],
    on_step: Callable[[], None] = lambda: None,
) -> Message:
    """Make one run, tell how it goes, and return how it ended.

    Args:
        job: What all runs have in common.
        task: The run.
        tell: Called with what happens.
        on_step: Called at every step of training, and often besides.

    Raises:
        InterruptedRunError: SIGTERM came; the finished epochs are saved.
    """
    seed = task.seed

    def on_start(record: RunRecord) -> None:
        tell(Started(seed, len(record.epochs)))

    def on_epoch(epoch: EpochRecord) -> None:
        seconds = epoch.train_seconds + epoch.eval_seconds
        tell(EpochDone(seed, epoch.epoch, epoch.eval_accuracy, seconds))

    def on_note(text: str) -> None:
        tell(Note(seed, text))

    listener = Listener(
        on_start=on_start,
        on_step=lambda done, total: on_step(),
        on_epoch=on_epoch,
        on_note=on_note,
    )
    try:
        run = train(task.recipe, job.dataset, job.store, seed, job.options, listener)
    except InterruptedRunError:
        raise
    except InUseError:
        time.sleep(_BUSY_SECONDS)  # before the parent hands it out again
        return Busy(seed)
    except NonFiniteError as error:
        return Failed(seed, str(error), diverged=True)
    except SmidgenError as error:
        return Failed(seed, str(error))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # a bug; the other runs need not suffer from it
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Failed(
            seed, f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        )
    return Finished(seed, run.folder.name)

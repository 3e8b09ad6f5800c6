"""One process of a pool: takes runs to make from a pipe, trains them, tells how it goes."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait

from smidgen.data.dataset import Dataset
from smidgen.errors import InterruptedRunError, InUseError, NonFiniteError, SmidgenError
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord, RunRecord
from smidgen.runs.store import RunStore
from smidgen.training.listener import Listener
from smidgen.training.loop import TrainOptions, train

_BUSY_SECONDS = 0.5
_LAST_SECONDS = 10.0


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


def work(job: Job, pipe: Connection) -> None:
    """Make run after run, until None comes or the parent is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        while (task := pipe.recv()) is not None:
            pipe.send(train_task(job, task, pipe.send))
    except (EOFError, OSError):
        sys.exit(1)  # nobody is left to listen
    except InterruptedRunError as error:
        sys.exit(error.exit_code)  # the parent said so; the finished epochs are saved


def train_task(job: Job, task: Task, tell: Callable[[Message], None]) -> Message:
    """Make one run, tell how it goes, and return how it ended.

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

    listener = Listener(on_start=on_start, on_epoch=on_epoch, on_note=on_note)
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


def _end_with_parent() -> None:
    """Stop in good order when the parent dies, at once if that does not end us."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_LAST_SECONDS)
    os._exit(1)

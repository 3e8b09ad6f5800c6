"""What a run to make is, how it is made, what is told of it, and what comes of it.

A place where runs are made is an `Executor`: `Inline` here and now, `Local` in processes of this
machine. A remote one is a file of the same kind. It sends `Job` and, once per node, the data by
hash; there it calls `run_one` with a store of its own in a scratch folder, streams the events,
and sends the finished folder as bytes (`runs.parcel`), which the driver verifies and renames into
its own store before it yields the outcome. A mirror of the newest checkpoint, sent the same way as
a partial folder, lets the run go on elsewhere when the node is lost: `run_one` continues whatever
its store holds. Losses are retried by the executor, `MOST_RETRIES` times a run; what fails by
itself is not.
"""

import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from smidgen.data.dataset import Dataset
from smidgen.errors import InterruptedRunError, InUseError, NonFiniteError, SmidgenError
from smidgen.files import write_atomically
from smidgen.runs.record import RunSpec
from smidgen.runs.store import RunStore
from smidgen.training.events import Began, EpochDone, Event, Note, Stepped
from smidgen.training.run import Run, make

MOST_RETRIES = 3
"""So often a run is tried again whose process or node died."""
TRACEBACK = "traceback.txt"
"""In the folder of an unfinished run that met a bug: where."""
_MOST_TRACEBACK = 32_000
"""Characters, the last ones."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run to make; small, but for the source.

    Args:
        spec: What decides its numbers.
        source: The Python file that its network was read from, if it was, to be kept with it.
    """

    spec: RunSpec
    source: bytes = b""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all runs of a queue have in common.

    Args:
        store: Where they are when they are finished.
        datasets: The images, by hash.
    """

    store: RunStore
    datasets: Mapping[str, Dataset]


@dataclass(frozen=True, slots=True)
class Busy:
    """Another process is making this run just now; it is asked for again later."""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """What happens to one run."""

    spec: RunSpec
    event: Began | EpochDone | Note | Busy


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Args:
        spec: The run.
        run: The finished run, which is in the store; None if there is none.
        reason: Why there is none, in one line.
        diverged: Whether it trained and met NaN or infinity: it would do so again.
        traceback: Of a bug, in full; `run_one` keeps it beside the run.
    """

    spec: RunSpec
    run: Run | None = None
    reason: str = ""
    diverged: bool = False
    traceback: str = ""


Source = Callable[[], Job | None]
"""Asked whenever a place is free, and after every outcome: the next run, or None for none now."""


class Executor(Protocol):
    """A place where runs are made; what it is made from is `Shared`, and how many at once."""

    def run(
        self,
        source: Source,
        on_event: Callable[[RunEvent], None],
        should_stop: Callable[[], bool],
    ) -> Iterator[Outcome]:
        """Make what a source gives until it gives no more, or it should stop.

        A consumer may decide by an outcome what the source gives next. When it should stop, what
        is under way ends without an outcome; its finished epochs are in the store.

        Raises:
            SmidgenError: No run at all can be made here.
        """
        ...


Place = Callable[[Shared, int], Executor]
"""Makes an executor from what is shared, and how many runs are made at once."""


def run_one(
    job: Job,
    shared: Shared,
    tell: Callable[[Began | EpochDone | Note], None],
    on_step: Callable[[], None] = lambda: None,
) -> Outcome | Busy:
    """Make one run, tell how it goes, and return how it ended.

    Args:
        job: The run.
        shared: Where it goes, and its images.
        tell: Called with what happens.
        on_step: Called at every step of training.

    Raises:
        InterruptedRunError: SIGTERM came; the finished epochs are saved.
        OSError: Nobody listens to `tell` any more.
    """
    spec = job.spec

    def on_event(event: Event) -> None:
        match event:
            case Stepped():
                on_step()
            case Began() | EpochDone() | Note():
                tell(event)
            case _:
                pass

    kept = _traceback_path(spec, shared.store)
    try:
        with contextlib.suppress(OSError):
            kept.unlink(missing_ok=True)  # of an earlier attempt
        dataset = shared.datasets[spec.data_sha256]
        return Outcome(spec, make(spec, dataset, shared.store, on_event, source=job.source))
    except InterruptedRunError:
        raise
    except InUseError:
        return Busy()
    except NonFiniteError as error:
        return Outcome(spec, reason=str(error), diverged=True)
    except SmidgenError as error:
        return Outcome(spec, reason=str(error))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # a bug; the other runs need not suffer from it
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        return with_traceback(Outcome(spec, reason=reason), traceback.format_exc(), shared.store)


def with_traceback(outcome: Outcome, text: str, store: RunStore) -> Outcome:
    """Keep where a bug is beside its run, if that can be written, and say so in the reason."""
    text = text[-_MOST_TRACEBACK:]
    path = _traceback_path(outcome.spec, store)
    try:
        write_atomically(path, text.encode(errors="replace"))
    except SmidgenError:
        return replace(outcome, traceback=text)
    reason = f"{outcome.reason.rstrip('.')}. All of it is in `{path}`."
    return replace(outcome, reason=reason, traceback=text)


def _traceback_path(spec: RunSpec, store: RunStore) -> Path:
    return store.unfinished(spec).path / TRACEBACK

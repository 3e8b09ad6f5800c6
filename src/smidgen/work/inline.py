"""`Inline`: runs made in this process, one after the other. For tests, and where none may start."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from smidgen.training.events import Began, EpochDone, Note
from smidgen.work.jobs import Busy, Job, Outcome, RunEvent, Shared, Source, run_one

BUSY_SECONDS = 0.5
"""How long to wait for a run that another process is making, before it is asked for again."""


class Inline:
    """Makes runs here, one after the other.

    Args:
        shared: What they have in common.
        workers: Not used; every executor is asked for so many at once.
    """

    def __init__(self, shared: Shared, workers: int = 1) -> None:
        del workers
        self._shared = shared

    def run(
        self,
        source: Source,
        on_event: Callable[[RunEvent], None],
        should_stop: Callable[[], bool],
    ) -> Iterator[Outcome]:
        """Make what a source gives; as `Executor.run`."""
        busy: deque[Job] = deque()
        while not should_stop():
            job = source()
            if job is None:
                if not busy:
                    return
                job = busy.popleft()
                time.sleep(BUSY_SECONDS)
            outcome = self._make(job, partial(_told, on_event, job))
            if isinstance(outcome, Busy):
                busy.append(job)
                on_event(RunEvent(job.spec, outcome))
            else:
                yield outcome

    def _make(self, job: Job, tell: Callable[[Began | EpochDone | Note], None]) -> Outcome | Busy:
        return run_one(job, self._shared, tell)


def _told(on_event: Callable[[RunEvent], None], job: Job, event: Began | EpochDone | Note) -> None:
    on_event(RunEvent(job.spec, event))

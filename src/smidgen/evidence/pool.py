"""Runs to make in, messages out: a pool of processes that loses no run to the death of another.

`concurrent.futures` gives up all that is left when one of its processes is killed; here the
run it was working on is reported, and a new process takes the next.
"""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from smidgen.errors import RunError
from smidgen.evidence.worker import Busy, Failed, Finished, Job, Message, Task, work
from smidgen.training.interrupts import StopRequest

_POLL_SECONDS = 0.1
_STOP_SECONDS = 5.0
"""A training step or an evaluation ends well within this; then the process is killed."""


class RunPool:
    """Makes runs on several processes, each one at a time.

    Args:
        job: What the runs have in common; sent once to each process.
        take: Asked whenever a process is free: the next run to make, or None if there is none
            now. After every message it is asked again.
        num_workers: How many processes at once.
    """

    def __init__(self, job: Job, take: Callable[[], Task | None], num_workers: int) -> None:
        self._job = job
        self._take_new = take
        self._again: deque[Task] = deque()
        self._num_workers = num_workers
        self._workers: list[_Worker] = []

    def run(self, should_stop: StopRequest) -> Iterator[tuple[Task, Message]]:
        """Yield what the processes tell of which run, until all are made or it should stop.

        Raises:
            RunError: A process cannot be started.
        """
        try:
            self._fill(should_stop)
            while self._workers and not should_stop():
                for connection in wait([w.pipe for w in self._workers], _POLL_SECONDS):
                    worker = next(w for w in self._workers if w.pipe is connection)
                    yield from self._hear(worker, should_stop)
                self._fill(should_stop)
        finally:
            self._end()

    def _hear(self, worker: "_Worker", should_stop: StopRequest) -> Iterator[tuple[Task, Message]]:
        task = worker.task
        try:
            message: Message = worker.pipe.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            yield task, Failed(task.seed, worker.last_words())
            return
        if isinstance(message, Busy):
            self._again.append(task)
        yield task, message  # first, for it may decide what is next
        if isinstance(message, Finished | Failed | Busy) and not should_stop():
            self._next(worker)

    def _take(self) -> Task | None:
        task = self._take_new()
        return self._again.popleft() if task is None and self._again else task

    def _next(self, worker: "_Worker") -> None:
        task = self._take()
        if task is not None:
            if worker.give(task):
                return
            self._again.append(task)
        self._workers.remove(worker)
        worker.dismiss()

    def _fill(self, should_stop: StopRequest) -> None:
        while len(self._workers) < self._num_workers and not should_stop():
            task = self._take()
            if task is None:
                return
            try:
                self._workers.append(_Worker(self._job, task))
            except OSError as error:
                raise RunError(
                    f"Cannot start a process to train in: {error.strerror or error}. In a script, "
                    'call this under `if __name__ == "__main__":`.'
                ) from error

    def _end(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()


class _Worker:
    """A process and the run it is working on."""

    def __init__(self, job: Job, task: Task) -> None:
        context = get_context("spawn")  # a fork would copy torch's threads in midair
        self.task = task
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=work, args=(job, theirs), daemon=True)
        with _without_interrupts():
            self.process.start()
        theirs.close()
        self.give(task)

    def give(self, task: Task) -> bool:
        """Hand out a run to make; False if the process is dead."""
        try:
            self.pipe.send(task)
        except OSError:
            return False
        self.task = task
        return True

    def dismiss(self) -> None:
        """Tell that there is nothing left to do, and wait for the end."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(_STOP_SECONDS)
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def last_words(self) -> str:
        """Say how the process ended; waits for it."""
        self.process.join(_STOP_SECONDS)
        self.process.kill()
        self.process.join()
        self.pipe.close()
        code = self.process.exitcode or 0
        if code < 0:
            name = signal.Signals(-code).name
            return f"its process was killed by {name}; was there enough memory?"
        return f"its process ended with exit code {code}"


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block SIGINT while a child is started: it inherits that, and a Ctrl-C reaches us alone.

    We then end the children by SIGTERM. A Ctrl-C that comes in between arrives afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - Windows
        yield
        return
    # spawning starts it if need be, and starting it unblocks SIGINT: so it is started first
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

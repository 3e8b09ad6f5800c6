"""Seeds in, messages out: a pool of processes that loses no seed to the death of another.

`concurrent.futures` gives up all that is left when one of its processes is killed; here the
seed it was working on is reported, and a new process takes the next.
"""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from smidgen.errors import RunError
from smidgen.evidence.worker import Busy, Failed, Finished, Job, Message, work
from smidgen.training.interrupts import StopRequest

_POLL_SECONDS = 0.1
_STOP_SECONDS = 5.0
"""A training step or an evaluation ends well within this; then the process is killed."""


class SeedPool:
    """Trains seeds on several processes, each on one at a time.

    Args:
        job: What the seeds have in common; sent once to each process.
        seeds: What to train, in this order.
        num_workers: How many processes at once.
    """

    def __init__(self, job: Job, seeds: Sequence[int], num_workers: int) -> None:
        self._job = job
        self._waiting = deque(seeds)
        self._num_workers = num_workers
        self._workers: list[_Worker] = []

    def run(self, should_stop: StopRequest) -> Iterator[Message]:
        """Yield what the processes tell, until all seeds are done or it should stop.

        Raises:
            RunError: A process cannot be started.
        """
        try:
            self._fill(should_stop)
            while self._workers and not should_stop():
                for connection in wait([w.pipe for w in self._workers], _POLL_SECONDS):
                    worker = next(w for w in self._workers if w.pipe is connection)
                    yield from self._hear(worker)
                self._fill(should_stop)
        finally:
            self._end()

    def _hear(self, worker: "_Worker") -> Iterator[Message]:
        try:
            message: Message = worker.pipe.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            yield Failed(worker.seed, worker.last_words())
            return
        if isinstance(message, Busy):
            self._waiting.append(message.seed)
        if isinstance(message, Finished | Failed | Busy):
            self._next(worker)
        yield message

    def _next(self, worker: "_Worker") -> None:
        if self._waiting and worker.give(self._waiting[0]):
            self._waiting.popleft()
            return
        self._workers.remove(worker)
        worker.dismiss()

    def _fill(self, should_stop: StopRequest) -> None:
        while self._waiting and len(self._workers) < self._num_workers and not should_stop():
            try:
                worker = _Worker(self._job, self._waiting[0])
            except OSError as error:
                raise RunError(
                    f"Cannot start a process to train in: {error.strerror or error}. In a script, "
                    'call this under `if __name__ == "__main__":`.'
                ) from error
            self._waiting.popleft()
            self._workers.append(worker)

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
    """A process and the seed it is working on."""

    def __init__(self, job: Job, seed: int) -> None:
        context = get_context("spawn")  # a fork would copy torch's threads in midair
        self.seed = seed
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=work, args=(job, theirs), daemon=True)
        with _without_interrupts():
            self.process.start()
        theirs.close()
        self.give(seed)

    def give(self, seed: int) -> bool:
        """Hand out a seed; False if the process is dead."""
        try:
            self.pipe.send(seed)
        except OSError:
            return False
        self.seed = seed
        return True

    def dismiss(self) -> None:
        """Tell that there are no seeds left, and wait for the end."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(_STOP_SECONDS)
        self.process.kill()
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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

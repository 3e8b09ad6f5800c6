"""Runs to make in, messages out: a pool of processes that loses no run to the death of another.

`concurrent.futures` gives up all that is left when one of its processes is killed, and
`multiprocessing` waits for ever for one that dies before it has read its work
(python/cpython#118981). Here a process is started with two numbers: of the nameless file that
holds the job, images and all, and of a pipe. It imports neither the caller's script nor anything
from the current folder. What it does not survive is tried again in a new one.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from smidgen.errors import RunError
from smidgen.files import storage_errors
from smidgen.training.interrupts import StopRequest
from smidgen.work.jobs import Busy, Failed, Finished, Job, Message, Note, Task
from smidgen.work.nameless import nameless_file, pack
from smidgen.work.worker import Beat, Ready

MOST_RETRIES = 3
"""So often a run is tried again whose process died."""
_POLL_SECONDS = 0.1
_STOP_SECONDS = 1.0
"""A step of training ends well within this; then the process is killed, and no epoch is lost."""
_END_POLL_SECONDS = 0.005
_PIPE_SECONDS = 5
"""A process that takes so long to read or write one message has stopped."""
_MOST_WORDS_BYTES = 64 * 1024
_START = "import json, sys; sys.path += json.loads(sys.argv.pop(1)); " + (
    "from smidgen.work.worker import spawn_main; spawn_main()"
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a process may be silent before it counts as hanging and is ended.

    Time in which we were stopped ourselves does not count.

    Args:
        start_seconds: Until it can be given work.
        silent_seconds: Without any sign of life, which comes every second.
        step_seconds: With signs of life but without a step of training, an epoch or an end.
    """

    start_seconds: float = 180.0
    silent_seconds: float = 90.0
    step_seconds: float = 1800.0


class RunPool:
    """Makes runs on several processes, each one at a time.

    Args:
        job: What the runs have in common; written once, for all processes.
        take: Asked whenever a process is free: the next run to make, or None if there is none
            now. After every message it is asked again.
        num_workers: How many processes at once; fewer if the system cannot start so many.
        patience: When a process counts as hanging.
    """

    def __init__(
        self,
        job: Job,
        take: Callable[[], Task | None],
        num_workers: int,
        patience: Patience | None = None,
    ) -> None:
        self._job = job
        self._take_new = take
        self._lost: deque[Task] = deque()
        self._busy: deque[Task] = deque()
        self._losses: Counter[Task] = Counter()
        self._num_workers = num_workers
        self._patience = patience or Patience()
        self._workers: list[_Worker] = []

    def run(self, should_stop: StopRequest) -> Iterator[tuple[Task, Message]]:
        """Yield what the processes tell of which run, until all are made or it should stop.

        Raises:
            RunError: Not one process can be started.
        """
        with _stopped_together(self._workers), _packed(self._job) as parcel:
            try:
                self._fill(parcel, should_stop)
                while self._workers and not should_stop():
                    yield from self._hear_all(should_stop)
                    self._fill(parcel, should_stop)
            finally:
                _end_all(self._workers)

    def _hear_all(self, should_stop: StopRequest) -> Iterator[tuple[Task, Message]]:
        before = time.monotonic()
        speaking = wait([worker.pipe for worker in self._workers], _POLL_SECONDS)
        waited = min(time.monotonic() - before, 1.0)  # we may have been stopped meanwhile
        for worker in list(self._workers):
            if worker.pipe in speaking:
                yield from self._hear(worker, should_stop)
            elif reason := worker.why_hanging(waited, self._patience):
                worker.end(0.0)
                yield from self._lose(worker, reason)

    def _hear(self, worker: "_Worker", should_stop: StopRequest) -> Iterator[tuple[Task, Message]]:
        try:
            message: Message | Beat | Ready = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._lose(worker, worker.last_words())
            return
        worker.note_life(message)
        match message:
            case Beat():
                return
            case Ready():
                if not worker.give(worker.task):
                    yield from self._lose(worker, worker.last_words())
                return
            case Busy():
                self._busy.append(worker.task)
        yield worker.task, message  # first, for it may decide what is next
        if isinstance(message, Finished | Failed | Busy) and not should_stop():
            self._next(worker)

    def _lose(self, worker: "_Worker", reason: str) -> Iterator[tuple[Task, Message]]:
        """Go on without a dead process; its run is tried again, or has failed once too often."""
        task = worker.task
        self._workers.remove(worker)
        if worker.cannot_start:
            self._lost.appendleft(task)
            self._do_with_fewer(reason)
            return
        self._losses[task] += 1
        if self._losses[task] <= MOST_RETRIES:
            self._lost.append(task)
            stop = "" if reason.endswith("?") else "."
            yield task, Note(task.seed, f"{reason}{stop} It is tried again.")
        else:
            yield task, Failed(task.seed, f"{reason} ({self._losses[task]} times)")

    def _do_with_fewer(self, reason: str) -> None:
        """Start no more processes than stand: one could not start, as no further one could."""
        self._num_workers = len(self._workers)
        if not self._workers:
            raise RunError(f"Cannot start a process to train in: {reason.rstrip('.')}.")

    def _take(self) -> Task | None:
        if self._lost:
            return self._lost.popleft()
        task = self._take_new()
        return self._busy.popleft() if task is None and self._busy else task

    def _next(self, worker: "_Worker") -> None:
        task = self._take()
        if task is not None:
            if worker.give(task):
                return
            self._lost.append(task)
        self._workers.remove(worker)
        worker.dismiss()

    def _fill(self, parcel: BinaryIO, should_stop: StopRequest) -> None:
        while len(self._workers) < self._num_workers and not should_stop():
            task = self._take()
            if task is None:
                return
            try:
                self._workers.append(_Worker(self._job, parcel, task))
            except OSError as error:
                self._lost.appendleft(task)
                self._do_with_fewer(error.strerror or str(error))


class _Worker:
    """A process and the run it is working on.

    Raises:
        OSError: The system starts no process.
    """

    def __init__(self, job: Job, parcel: BinaryIO, task: Task) -> None:
        del job  # which is in the parcel
        self.task = task
        self._is_ready = self._hangs = False
        self._silent, self._idle, self._progress = 0.0, 0.0, -1
        ours, theirs = socket.socketpair()
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _PIPE_SECONDS, 0))
        self.pipe = Connection(ours.detach())
        self._stderr = nameless_file("stderr")
        numbers = [parcel.fileno(), theirs.fileno()]
        try:
            # -P: a `socket.py` that lies where we were called is not Python's; a group of its
            # own: a Ctrl-C reaches us alone, and its compilers end with it
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, json.dumps(_places()), *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                pass_fds=numbers,
                process_group=0,
            )
        except OSError:
            self.pipe.close()
            self._stderr.close()
            raise
        finally:
            theirs.close()

    @property
    def cannot_start(self) -> bool:
        """Whether it ended by itself, or hung, before it could be given work."""
        return not self._is_ready and (self._hangs or self._process.returncode >= 0)

    def give(self, task: Task) -> bool:
        """Hand out a run to make; False if the process is dead."""
        try:
            self.pipe.send(task)
        except OSError:
            return False
        self.task = task
        return True

    def note_life(self, message: Message | Beat | Ready) -> None:
        """Take up a sign of life."""
        self._silent = 0.0
        if not isinstance(message, Beat):
            self._idle = 0.0
            self._is_ready = True
        elif message.progress != self._progress:
            self._idle, self._progress = 0.0, message.progress

    def why_hanging(self, waited: float, patience: Patience) -> str:
        """Count seconds without a word and return what is wrong if they were too many, else ""."""
        self._silent += waited
        self._idle += waited
        reason = ""
        if not self._is_ready and self._idle > patience.start_seconds:
            reason = f"its process did not start within {patience.start_seconds:g} seconds"
        elif self._silent > patience.silent_seconds:
            reason = f"its process gave no sign of life for {patience.silent_seconds:g} seconds"
        elif self._idle > patience.step_seconds:
            reason = f"its process made no step for {patience.step_seconds:g} seconds"
        self._hangs = bool(reason)
        return reason

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and those it started, if it is still there."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, number)

    def dismiss(self) -> None:
        """Tell that there is nothing left to do, and wait for the end."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.end(time.monotonic() + _STOP_SECONDS)

    def end(self, deadline: float) -> None:
        """Wait until a time of `time.monotonic()` and force the end then; frees all there is."""
        # until it is waited for, nobody else can get its number
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(_END_POLL_SECONDS)
        self.send_signal(signal.SIGKILL)  # what it started, too
        self._process.wait()
        self.pipe.close()
        self._stderr.close()

    def last_words(self) -> str:
        """Say how the process ended; waits for it."""
        deadline = time.monotonic() + _STOP_SECONDS
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(_END_POLL_SECONDS)
        words = self._last_line()
        self.end(0.0)
        code = self._process.returncode
        number = -code if code < 0 else code - 128  # as shells, and we, say it
        if number in set(signal.Signals):
            name = signal.Signals(number).name
            return f"its process was killed by {name}; was there enough memory?"
        return f"its process ended with exit code {code}{words and f': {words}'}"

    def _has_ended(self) -> bool:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, flags) is not None

    def _last_line(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _MOST_WORDS_BYTES))
        lines = self._stderr.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _end_all(workers: list[_Worker]) -> None:
    """Stop all in good order, those that do not stop at once by force."""
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    for worker in workers:
        worker.end(deadline)
    workers.clear()


def _places() -> list[str]:
    """Return where our process looks for modules, for the other one to look there last.

    The current folder is no such place, unless smidgen itself lies there.
    """
    home = str(Path(__file__).parents[2])
    here = {os.path.realpath(place) for place in ("", os.getcwd())}
    others = [place for place in sys.path if place and os.path.realpath(place) not in here]
    return list(dict.fromkeys([*others, home]))


@contextlib.contextmanager
def _packed(job: Job) -> Iterator[BinaryIO]:
    """Hold the parcel of a job; raises StorageError if there is no space for it."""
    with storage_errors(Path(tempfile.gettempdir())):
        parcel = pack(job)
    with parcel:
        yield parcel


@contextlib.contextmanager
def _stopped_together(workers: list[_Worker]) -> Iterator[None]:
    """Let Ctrl-Z stop the processes, too, and whatever wakes us wake them."""
    of_terminal = signal.SIGTSTP
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(of_terminal) is not signal.SIG_DFL
    ):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        for worker in workers:
            worker.send_signal(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        for worker in workers:
            worker.send_signal(signal.SIGCONT)

    signal.signal(of_terminal, stop)
    try:
        yield
    finally:
        signal.signal(of_terminal, signal.SIG_DFL)

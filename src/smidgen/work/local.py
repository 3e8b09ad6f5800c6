"""`Local`: runs made in processes of this machine; none is lost to the death of another.

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
from smidgen.training.events import Began, EpochDone, Note
from smidgen.work.jobs import (
    MOST_RETRIES,
    Busy,
    Job,
    Outcome,
    RunEvent,
    Shared,
    Source,
    with_traceback,
)
from smidgen.work.nameless import nameless_file, pack
from smidgen.work.worker import Beat, Ready

_POLL_SECONDS = 0.1
_STOP_SECONDS = 1.0
"""A step of training ends well within this; then the process is killed, and no epoch is lost."""
_END_POLL_SECONDS = 0.005
_PIPE_SECONDS = 5
"""A process that takes so long to read or write one message has stopped."""
_MOST_WORDS_BYTES = 64 * 1024
Message = Began | EpochDone | Note | Busy | Outcome | Beat | Ready
"""What a process may say."""
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


class Local:
    """Makes runs in several processes, each one at a time.

    Args:
        shared: What the runs have in common; written once, for all processes.
        workers: How many processes at once; fewer if the system cannot start so many.
        patience: When a process counts as hanging.
    """

    def __init__(self, shared: Shared, workers: int, patience: Patience | None = None) -> None:
        self._shared = shared
        self._num_workers = workers
        self._patience = patience or Patience()
        self._lost: deque[Job] = deque()
        self._busy: deque[Job] = deque()
        self._losses: Counter[str] = Counter()
        self._workers: list[_Worker] = []

    def run(
        self,
        source: Source,
        on_event: Callable[[RunEvent], None],
        should_stop: Callable[[], bool],
    ) -> Iterator[Outcome]:
        """Make what a source gives; as `Executor.run`.

        Raises:
            RunError: Not one process can be started.
            StorageError: There is no space for what the runs have in common.
        """
        with _packed(self._shared) as parcel, _ended_together(self._workers):
            self._fill(parcel, source, should_stop)
            while self._workers and not should_stop():
                for worker in self._speaking():
                    yield from self._hear(worker, source, on_event, should_stop)
                self._fill(parcel, source, should_stop)

    def _speaking(self) -> "list[_Worker]":
        """Wait a moment; return who has something to say, or has been silent for too long."""
        before = time.monotonic()
        pipes = wait([worker.pipe for worker in self._workers], _POLL_SECONDS)
        waited = min(time.monotonic() - before, 1.0)  # we may have been stopped meanwhile
        return [
            worker
            for worker in self._workers
            if worker.pipe in pipes or worker.is_hanging(waited, self._patience)
        ]

    def _hear(
        self,
        worker: "_Worker",
        source: Source,
        on_event: Callable[[RunEvent], None],
        should_stop: Callable[[], bool],
    ) -> Iterator[Outcome]:
        job = worker.job
        match worker.hear():
            case Beat():
                pass
            case Ready() if worker.give(job):
                pass
            case None | Ready():
                yield from self._lose(worker, on_event)
            case Outcome() as outcome:
                yield outcome  # first, for it may decide what is next
                if not should_stop():
                    self._next(worker, source)
            case Busy() as event:
                self._busy.append(job)
                on_event(RunEvent(job.spec, event))
                if not should_stop():
                    self._next(worker, source)
            case event:
                on_event(RunEvent(job.spec, event))

    def _lose(self, worker: "_Worker", on_event: Callable[[RunEvent], None]) -> Iterator[Outcome]:
        """Go on without a dead process; its run is tried again, or has failed once too often."""
        job, reason = worker.job, worker.last_words()
        self._workers.remove(worker)
        if worker.cannot_start:
            self._lost.appendleft(job)
            self._do_with_fewer(reason)
            return
        self._losses[job.spec.identity] += 1
        losses = self._losses[job.spec.identity]
        if losses <= MOST_RETRIES:
            self._lost.append(job)
            stop = "" if reason.endswith("?") else "."
            on_event(RunEvent(job.spec, Note(f"{reason}{stop} It is tried again.")))
            return
        outcome = Outcome(job.spec, reason=f"{reason} ({losses} times)")
        if worker.words:
            outcome = with_traceback(outcome, worker.words, self._shared.store)
        yield outcome

    def _do_with_fewer(self, reason: str) -> None:
        """Start no more processes than stand: one could not start, as no further one could."""
        self._num_workers = len(self._workers)
        if not self._workers:
            raise RunError(f"Cannot start a process to train in: {reason.rstrip('.')}.")

    def _take(self, source: Source) -> Job | None:
        if self._lost:
            return self._lost.popleft()
        job = source()
        return self._busy.popleft() if job is None and self._busy else job

    def _next(self, worker: "_Worker", source: Source) -> None:
        job = self._take(source)
        if job is not None:
            if worker.give(job):
                return
            self._lost.append(job)
        self._workers.remove(worker)
        worker.dismiss()

    def _fill(self, parcel: BinaryIO, source: Source, should_stop: Callable[[], bool]) -> None:
        while len(self._workers) < self._num_workers and not should_stop():
            job = self._take(source)
            if job is None:
                return
            try:
                self._workers.append(_Worker(parcel, job))
            except OSError as error:
                self._lost.appendleft(job)
                self._do_with_fewer(error.strerror or str(error))


class _Worker:
    """A process and the run it is working on.

    Raises:
        OSError: The system starts no process.
    """

    def __init__(self, parcel: BinaryIO, job: Job) -> None:
        self.job = job
        self.words = ""
        self._is_ready, self._why_hanging = False, ""
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
        return not self._is_ready and (bool(self._why_hanging) or self._process.returncode >= 0)

    def give(self, job: Job) -> bool:
        """Hand out a run to make; False if the process is dead."""
        try:
            self.pipe.send(job)
        except OSError:
            return False
        self.job = job
        return True

    def hear(self) -> Message | None:
        """Return what the process says; None if it is dead or hangs."""
        if self._why_hanging:
            return None
        try:
            message: Message = self.pipe.recv()
        except (EOFError, OSError):
            return None
        self._silent = 0.0
        if not isinstance(message, Beat):
            self._idle = 0.0
            self._is_ready = True
        elif message.progress != self._progress:
            self._idle, self._progress = 0.0, message.progress
        return message

    def is_hanging(self, waited: float, patience: Patience) -> bool:
        """Count seconds without a word; whether they were too many."""
        self._silent += waited
        self._idle += waited
        if not self._is_ready and self._idle > patience.start_seconds:
            self._why_hanging = f"did not start within {patience.start_seconds:g} seconds"
        elif self._silent > patience.silent_seconds:
            self._why_hanging = f"gave no sign of life for {patience.silent_seconds:g} seconds"
        elif self._idle > patience.step_seconds:
            self._why_hanging = f"made no step for {patience.step_seconds:g} seconds"
        return bool(self._why_hanging)

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
        """Say how the process ended, for which it is waited, or what it was ended for."""
        deadline = time.monotonic() + (0.0 if self._why_hanging else _STOP_SECONDS)
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(_END_POLL_SECONDS)
        self.words = self._written()
        self.end(0.0)
        if self._why_hanging:
            return f"its process {self._why_hanging}"
        code = self._process.returncode
        number = -code if code < 0 else code - 128  # as shells, and we, say it
        if number in set(signal.Signals):
            name = signal.Signals(number).name
            return f"its process was killed by {name}; was there enough memory?"
        lines = [line.strip() for line in self.words.splitlines() if line.strip()]
        return f"its process ended with exit code {code}{f': {lines[-1]}' if lines else ''}"

    def _has_ended(self) -> bool:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, flags) is not None

    def _written(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _MOST_WORDS_BYTES))
        return self._stderr.read().decode(errors="replace")


@contextlib.contextmanager
def _ended_together(workers: list[_Worker]) -> Iterator[None]:
    """Stop all at the end, in good order first and then by force; let Ctrl-Z stop them, too."""
    try:
        with _stopped_together(workers):
            yield
    finally:
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
def _packed(shared: Shared) -> Iterator[BinaryIO]:
    """Hold the parcel of what is shared; raises StorageError if there is no space for it."""
    with storage_errors(Path(tempfile.gettempdir())):
        parcel = pack(shared)
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

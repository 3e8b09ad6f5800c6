"""The process that `local` starts: takes runs to make from a pipe, trains them, tells how it goes.

Light until it is heard of: two threads, one that listens and one that gives signs of life, stand
before anything large is imported. The main thread trains, for signals are its own.
"""

import faulthandler
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

BEAT_SECONDS = 1.0
_LAST_SECONDS = 1.0
"""An orphan has so long to end in good order; its finished epochs are safe in any case."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life; `progress` changes with every step of training."""

    progress: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The process has started and can be given work."""


def spawn_main() -> None:
    """Make run after run, until None comes or the parent is gone.

    The arguments are numbers of open files: what is shared, and the pipe to the parent.
    """
    faulthandler.enable()
    parcel, pipe = (int(text) for text in sys.argv[1:3])
    os.set_inheritable(parcel, False)
    os.set_inheritable(pipe, False)
    parent = _Parent(Connection(pipe))
    from smidgen.errors import InterruptedRunError
    from smidgen.work.inline import BUSY_SECONDS
    from smidgen.work.jobs import Busy, run_one
    from smidgen.work.nameless import unpack

    shared = unpack(parcel)
    parent.tell(Ready())
    try:
        while (job := parent.jobs.get()) is not None:
            outcome = run_one(job, shared, parent.tell, parent.step)
            if isinstance(outcome, Busy):
                time.sleep(BUSY_SECONDS)  # before it is handed out again
            parent.tell(outcome)
    except OSError:
        sys.exit(1)  # nobody is left to listen
    except InterruptedRunError as error:
        sys.exit(error.exit_code)  # the parent said so; the finished epochs are saved


class _Parent:
    """The pipe to the parent, and the two threads that serve it."""

    def __init__(self, pipe: Connection) -> None:
        self.jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pipe, self._one_at_a_time = pipe, threading.Lock()
        self._progress = 0
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def tell(self, message: object) -> None:
        """Send a message; raises OSError if the parent is gone."""
        self._progress += 1
        self._send(message)

    def step(self) -> None:
        """Note that training went on by a step."""
        self._progress += 1

    def _send(self, message: object) -> None:
        with self._one_at_a_time:
            self._pipe.send(message)

    def _listen(self) -> None:
        try:
            while True:
                self.jobs.put(self._pipe.recv())
        except (EOFError, OSError):
            _end_group()

    def _beat(self) -> None:
        while True:
            try:
                self._send(Beat(self._progress))
            except OSError:
                return
            time.sleep(BEAT_SECONDS)


def _end_group() -> None:
    """Stop in good order when the parent dies, at once if that does not end us.

    Compilers that we started belong to our group and go with us.
    """
    os.killpg(os.getpgrp(), signal.SIGTERM)
    time.sleep(_LAST_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGKILL)

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from smidgen.errors import RunError
from smidgen.evidence import pool
from smidgen.evidence.pool import RunPool
from smidgen.evidence.worker import Busy, Failed, Finished, Job, Message, Task
from smidgen.training.interrupts import StopRequest

JOB: Any = None
RECIPE: Any = None
WORKER = pool._Worker
"""The real one; actors stand in its place."""


class Actor:
    """Plays a worker process: answers each task at once with the next line of its part."""

    made = 0
    busy: ClassVar[set[int]] = set()
    deadly: ClassVar[set[int]] = set()
    pipes: ClassVar[list[Connection]] = []

    def __init__(self, job: Job, task: Task) -> None:
        Actor.made += 1
        self.pipe, self.theirs = Pipe()
        Actor.pipes += [self.pipe, self.theirs]
        self.process = SimpleNamespace(
            terminate=lambda: None, kill=lambda: None, join=lambda seconds=None: None
        )
        self.give(task)

    def give(self, task: Task) -> bool:
        """Take a task and answer."""
        self.task, seed = task, task.seed
        if seed in Actor.deadly:
            self.theirs.close()
        elif seed in Actor.busy:
            Actor.busy.remove(seed)
            self.theirs.send(Busy(seed))
        else:
            self.theirs.send(Finished(seed, f"run {seed}"))
        return True

    def dismiss(self) -> None:
        """Leave the stage."""
        self.pipe.close()

    def last_words(self) -> str:
        """Say how it ended."""
        return "it died"


@pytest.fixture(autouse=True)
def _actors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let actors stand for processes."""
    Actor.made, Actor.busy, Actor.deadly, Actor.pipes = 0, set(), set(), []
    monkeypatch.setattr(pool, "_Worker", Actor)
    yield
    for pipe in Actor.pipes:
        pipe.close()


def _each(seeds: Iterable[int]) -> partial[Task | None]:
    """Return what gives a task for each seed, and then None."""
    return partial(next, iter([Task(RECIPE, seed) for seed in seeds]), None)


def _told(seeds: Iterable[int], workers: int) -> list[Message]:
    """Return all that a pool tells about seeds."""
    return [message for _, message in RunPool(JOB, _each(seeds), workers).run(StopRequest())]


def _ended(messages: list[Message], kind: type) -> list[int]:
    return [message.seed for message in messages if isinstance(message, kind)]


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_seed_is_trained_once(workers: int) -> None:
    """However many processes there are, each seed ends once, and none stands idle for nothing."""
    messages = _told([3, 1, 2], workers)

    assert sorted(_ended(messages, Finished)) == [1, 2, 3]
    assert Actor.made == min(workers, 3)


def test_a_dead_process_costs_its_seed_alone() -> None:
    """Its seed is reported with how it ended, and a new process takes the next."""
    Actor.deadly = {1, 3}

    messages = _told([1, 2, 3, 4], 1)

    failed = [message for message in messages if isinstance(message, Failed)]
    assert failed == [Failed(1, "it died"), Failed(3, "it died")]
    assert _ended(messages, Finished) == [2, 4]
    assert Actor.made == 3


def test_a_busy_seed_comes_last() -> None:
    """While another process trains it the others go first, and it is asked for again."""
    Actor.busy = {1}

    messages = _told([1, 2, 3], 1)

    assert _ended(messages, Busy) == [1]
    assert _ended(messages, Finished) == [2, 3, 1]


def test_a_stop_ends_the_pool() -> None:
    """Once told to stop, no further seed is handed out and the messages end."""
    stop = StopRequest()
    heard = []

    for _, message in RunPool(JOB, _each(range(1, 9)), 1).run(stop):
        heard.append(message)
        stop.signal_number = 2

    assert heard == [Finished(1, "run 1")]


_FIRST_CHILD = """
import signal
import smidgen.evidence.pool as pool

def blocked(job, pipe):
    pipe.recv()
    pipe.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

if __name__ == "__main__":
    pool.work = blocked
    workers = [pool._Worker(None, None) for _ in range(2)]
    print([worker.pipe.recv() for worker in workers])
    for worker in workers:
        worker.dismiss()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupt_reaches_no_process_of_the_pool(tmp_path: Path) -> None:
    """Ctrl-C is for all processes of a terminal; ours block it, the very first one too."""
    script = tmp_path / "script.py"
    script.write_text(_FIRST_CHILD)

    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)

    assert told.stdout == "[True, True]\n"


def test_a_process_that_cannot_start_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's reason is named, and what a script needs."""

    def refused(job: Job, task: Task) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(pool, "_Worker", refused)

    with pytest.raises(RunError) as caught:
        _told([1], 1)

    assert str(caught.value) == (
        "Cannot start a process to train in: Broken pipe. In a script, call this under "
        '`if __name__ == "__main__":`.'
    )


def test_a_process_that_does_not_go_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is still there when its time is up is killed, and its end awaited."""
    monkeypatch.setattr(pool, "_STOP_SECONDS", 0.0)
    worker = WORKER.__new__(WORKER)
    worker.pipe, theirs = Pipe()
    worker.process = get_context("spawn").Process(target=time.sleep, args=(600,))
    worker.process.start()

    worker.dismiss()
    theirs.close()

    assert worker.process.exitcode == -signal.SIGKILL


def test_what_is_next_may_depend_on_what_was_told() -> None:
    """A free process asks only after its message was heard, and again after every message."""
    heard: list[int] = []

    def take() -> Task | None:
        """Give seed n once n - 1 messages were heard, up to 3."""
        return Task(RECIPE, len(heard) + 1) if len(heard) < 3 else None

    for task, message in RunPool(JOB, take, 1).run(StopRequest()):
        heard.append(message.seed)
        assert message.seed == task.seed

    assert heard == [1, 2, 3]

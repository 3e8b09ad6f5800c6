from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from smidgen.errors import RunError
from smidgen.evidence import pool
from smidgen.evidence.pool import SeedPool
from smidgen.evidence.worker import Busy, Failed, Finished, Job, Message
from smidgen.training.interrupts import StopRequest

JOB: Any = None


class Actor:
    """Plays a worker process: answers each seed at once with the next line of its part."""

    made = 0
    busy: ClassVar[set[int]] = set()
    deadly: ClassVar[set[int]] = set()
    pipes: ClassVar[list[Connection]] = []

    def __init__(self, job: Job, seed: int) -> None:
        Actor.made += 1
        self.pipe, self.theirs = Pipe()
        Actor.pipes += [self.pipe, self.theirs]
        self.process = SimpleNamespace(
            terminate=lambda: None, kill=lambda: None, join=lambda seconds=None: None
        )
        self.give(seed)

    def give(self, seed: int) -> bool:
        """Take a seed and answer."""
        self.seed = seed
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


def _ended(messages: list[Message], kind: type) -> list[int]:
    return [message.seed for message in messages if isinstance(message, kind)]


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_seed_is_trained_once(workers: int) -> None:
    """However many processes there are, each seed ends once, and none stands idle for nothing."""
    messages = list(SeedPool(JOB, [3, 1, 2], workers).run(StopRequest()))

    assert sorted(_ended(messages, Finished)) == [1, 2, 3]
    assert Actor.made == min(workers, 3)


def test_a_dead_process_costs_its_seed_alone() -> None:
    """Its seed is reported with how it ended, and a new process takes the next."""
    Actor.deadly = {1, 3}

    messages = list(SeedPool(JOB, [1, 2, 3, 4], 1).run(StopRequest()))

    failed = [message for message in messages if isinstance(message, Failed)]
    assert failed == [Failed(1, "it died"), Failed(3, "it died")]
    assert _ended(messages, Finished) == [2, 4]
    assert Actor.made == 3


def test_a_busy_seed_comes_last() -> None:
    """While another process trains it the others go first, and it is asked for again."""
    Actor.busy = {1}

    messages = list(SeedPool(JOB, [1, 2, 3], 1).run(StopRequest()))

    assert _ended(messages, Busy) == [1]
    assert _ended(messages, Finished) == [2, 3, 1]


def test_a_stop_ends_the_pool() -> None:
    """Once told to stop, no further seed is handed out and the messages end."""
    stop = StopRequest()
    heard = []

    for message in SeedPool(JOB, range(1, 9), 1).run(stop):
        heard.append(message)
        stop.signal_number = 2

    assert heard == [Finished(1, "run 1")]


def test_a_process_that_cannot_start_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's reason is named, and what a script needs."""

    def refused(job: Job, seed: int) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(pool, "_Worker", refused)

    with pytest.raises(RunError) as caught:
        list(SeedPool(JOB, [1], 1).run(StopRequest()))

    assert str(caught.value) == (
        "Cannot start a process to train in: Broken pipe. In a script, call this under "
        '`if __name__ == "__main__":`.'
    )

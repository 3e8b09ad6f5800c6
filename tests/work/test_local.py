import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import pytest

from smidgen.data import Dataset
from smidgen.errors import RunError
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunStore
from smidgen.training.interrupts import StopRequest
from smidgen.training.loop import TrainOptions
from smidgen.work import local
from smidgen.work.jobs import Busy, EpochDone, Failed, Finished, Job, Message, Note, Started, Task
from smidgen.work.local import Patience, RunPool

JOB: Any = None
RECIPE: Any = None


class Actor:
    """Plays a worker process: answers each task at once with the next line of its part."""

    made = 0
    busy: ClassVar[set[int]] = set()
    deadly: ClassVar[set[int]] = set()
    pipes: ClassVar[list[Connection]] = []

    cannot_start = False

    def __init__(self, job: Job, parcel: object, task: Task) -> None:
        Actor.made += 1
        self.pipe, self.theirs = Pipe()
        Actor.pipes += [self.pipe, self.theirs]
        self.give(task)

    def give(self, task: Task) -> bool:
        """Take a task and answer."""
        self.task, seed = task, task.seed
        if seed in Actor.deadly:
            Actor.deadly.remove(seed)
            self.theirs.close()
        elif seed in Actor.busy:
            Actor.busy.remove(seed)
            self.theirs.send(Busy(seed))
        else:
            self.theirs.send(Finished(seed, f"run {seed}"))
        return True

    def note_life(self, message: object) -> None:
        """Do nothing: an actor is always alive."""

    def why_hanging(self, waited: float, patience: object) -> str:
        """Never hang."""
        return ""

    def send_signal(self, number: int) -> None:
        """Do nothing: there is no process."""

    def end(self, deadline: float) -> None:
        """Leave the stage."""
        self.pipe.close()

    def dismiss(self) -> None:
        """Leave the stage."""
        self.pipe.close()

    def last_words(self) -> str:
        """Say how it ended."""
        return "it died"


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let actors stand for processes."""
    Actor.made, Actor.busy, Actor.deadly, Actor.pipes = 0, set(), set(), []
    monkeypatch.setattr(local, "_Worker", Actor)
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


@pytest.mark.usefixtures("actors")
@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_seed_is_trained_once(workers: int) -> None:
    """However many processes there are, each seed ends once, and none stands idle for nothing."""
    messages = _told([3, 1, 2], workers)

    assert sorted(_ended(messages, Finished)) == [1, 2, 3]
    assert Actor.made == min(workers, 3)


@pytest.mark.usefixtures("actors")
def test_a_dead_process_costs_no_run() -> None:
    """What it was working on is made in a new process, and that is told."""
    Actor.deadly = {1, 3}

    messages = _told([1, 2, 3, 4], 1)

    notes = [message for message in messages if isinstance(message, Note)]
    assert notes == [Note(seed, "it died. It is tried again.") for seed in (1, 3)]
    assert sorted(_ended(messages, Finished)) == [1, 2, 3, 4]
    assert Actor.made == 3


@pytest.mark.usefixtures("actors")
def test_a_busy_seed_comes_last() -> None:
    """While another process trains it the others go first, and it is asked for again."""
    Actor.busy = {1}

    messages = _told([1, 2, 3], 1)

    assert _ended(messages, Busy) == [1]
    assert _ended(messages, Finished) == [2, 3, 1]


@pytest.mark.usefixtures("actors")
def test_a_stop_ends_the_pool() -> None:
    """Once told to stop, no further seed is handed out and the messages end."""
    stop = StopRequest()
    heard = []

    for _, message in RunPool(JOB, _each(range(1, 9)), 1).run(stop):
        heard.append(message)
        stop.signal_number = 2

    assert heard == [Finished(1, "run 1")]


@pytest.mark.usefixtures("actors")
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


# From here on the processes are real.


@pytest.fixture
def job(stripes: Dataset, tmp_path: Path) -> Job:
    """Return a job far larger than what a pipe holds."""
    return Job(stripes, RunStore(tmp_path / "runs"), TrainOptions(engine="torch", threads=1))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that puts a shell script in the interpreter's place."""

    def put(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\npython={shlex.quote(sys.executable)}\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return put


def _run(
    job: Job, recipe: Recipe, seeds: Iterable[int], workers: int = 1, **patience: float
) -> list[Message]:
    take = partial(next, iter([Task(recipe, seed) for seed in seeds]), None)
    pool = RunPool(job, take, workers, Patience(**patience))
    return [message for _, message in pool.run(StopRequest())]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo no such luck >&2; echo >&2; exit 3",
            "its process ended with exit code 3: no such luck",
        ),
        ("exit 0", "its process ended with exit code 0"),
        ('ulimit -v 50000; exec $python "$@"', "its process "),
    ],
)
def test_a_process_that_ends_while_it_starts_is_one_line(
    script: str, reason: str, job: Job, tiny_recipe: Recipe, stand_in: Callable[[str], None]
) -> None:
    """Where none can start, the last line that one wrote says why; nothing waits for ever."""
    stand_in(script)

    with pytest.raises(RunError) as caught:
        _run(job, tiny_recipe, [1, 2, 3], workers=2)

    assert str(caught.value).startswith(f"Cannot start a process to train in: {reason}")


@pytest.mark.parametrize("mode", [0o644, None])
def test_an_interpreter_that_cannot_be_executed_is_one_line(
    mode: int | None, job: Job, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's reason is named."""
    path = tmp_path / "python"
    if mode is not None:
        path.write_text("no program")
        path.chmod(mode)
    monkeypatch.setattr(sys, "executable", str(path))

    with pytest.raises(RunError) as caught:
        _run(job, tiny_recipe, [1, 2], workers=2)

    reason = "No such file or directory" if mode is None else "Permission denied"
    assert str(caught.value) == f"Cannot start a process to train in: {reason}."


def test_a_process_that_hangs_while_it_starts_is_ended(
    job: Job, tiny_recipe: Recipe, stand_in: Callable[[str], None]
) -> None:
    """Nobody waits longer than the limit for it."""
    stand_in("exec sleep 600")

    with pytest.raises(RunError, match=r"its process did not start within 0\.3 seconds\.$"):
        _run(job, tiny_recipe, [1], start_seconds=0.3)


def test_a_run_is_given_up_when_its_process_was_killed_four_times(
    job: Job, tiny_recipe: Recipe, stand_in: Callable[[str], None]
) -> None:
    """It is tried again three times; the runs after it have their turn."""
    stand_in("kill -9 $$")

    messages = _run(job, tiny_recipe, [1, 2])

    died = "its process was killed by SIGKILL; was there enough memory?"
    for seed in (1, 2):
        mine = [message for message in messages if message.seed == seed]
        assert mine == [
            *[Note(seed, f"{died} It is tried again.")] * 3,
            Failed(seed, f"{died} (4 times)"),
        ]


def test_a_killed_start_costs_no_run(
    job: Job, tiny_recipe: Recipe, stand_in: Callable[[str], None], tmp_path: Path
) -> None:
    """The first two processes are killed before they have read a word; the third makes the run."""
    stand_in(
        f'echo >> {tmp_path}/n; [ $(wc -l < {tmp_path}/n) -gt 2 ] || kill -9 $$; exec $python "$@"'
    )

    messages = _run(job, tiny_recipe, [7])

    assert [type(message) for message in messages[:2]] == [Note, Note]
    assert _ended(messages, Finished) == [7]
    assert _ended(messages, EpochDone) == [7, 7, 7]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_run_goes_on_where_its_process_died_or_hung(
    number: signal.Signals, job: Job, tiny_recipe: Recipe
) -> None:
    """Killed or stopped after its first epoch, it is taken up by a new process after that."""
    take = partial(next, iter([Task(tiny_recipe.replace(epochs=40), 1)]), None)
    pool = RunPool(job, take, 1, Patience(silent_seconds=4.0))
    messages: list[Message] = []

    for _, message in pool.run(StopRequest()):
        if isinstance(message, EpochDone) and not _ended(messages, EpochDone):
            pool._workers[0].send_signal(number)
        messages.append(message)

    starts = [message.num_epochs for message in messages if isinstance(message, Started)]
    assert starts[0] == 0
    assert starts[1] >= 1
    assert len(starts) == 2
    assert [message.epoch for message in messages if isinstance(message, EpochDone)][-1] == 40
    assert _ended(messages, Finished) == [1]
    (note,) = [message.text for message in messages if isinstance(message, Note)]
    assert note == (
        "its process was killed by SIGKILL; was there enough memory? It is tried again."
        if number == signal.SIGKILL
        else "its process gave no sign of life for 4 seconds. It is tried again."
    )


_SCRIPT = """
from pathlib import Path
from smidgen import ProveOptions, Recipe, RunStore, load_dataset, prove
recipe = Recipe.from_json(Path("tiny.json").read_text())
options = ProveOptions(engine="torch", workers=1)
print(len(prove(recipe, load_dataset("stripes"), RunStore(Path("runs")), [1, 2], options).seeds))
"""


@pytest.mark.parametrize("given", ["as a file", "on standard input"])
def test_a_script_needs_no_guard(given: str, tiny_recipe: Recipe, tmp_path: Path) -> None:
    """The processes import neither the caller's script nor a `socket.py` that lies beside it."""
    (tmp_path / "tiny.json").write_text(tiny_recipe.replace(epochs=1).to_json())
    (tmp_path / "script.py").write_text(_SCRIPT)
    if given == "on standard input":
        command, text = [sys.executable, "-P", "-"], _SCRIPT
        (tmp_path / "socket.py").write_text("raise RuntimeError('my own file was imported')")
    else:
        command, text = [sys.executable, "script.py"], ""

    ended = subprocess.run(command, cwd=tmp_path, input=text, capture_output=True, text=True)

    assert (ended.returncode, ended.stdout) == (0, "2\n"), ended.stderr

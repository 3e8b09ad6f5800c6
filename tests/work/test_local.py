import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest

from smidgen.errors import RunError
from smidgen.files import locked
from smidgen.recipes.recipe import Recipe
from smidgen.training.events import Began, EpochDone, Note
from smidgen.training.sitting import StopRequest
from smidgen.work.jobs import TRACEBACK, Busy, Job, Outcome, RunEvent, Shared
from smidgen.work.local import Local, Patience

Make = Callable[..., Job]


class Heard:
    """Makes jobs on this machine and remembers what is told of them."""

    def __init__(self, shared: Shared, workers: int = 1, **patience: float) -> None:
        self.local = Local(shared, workers, Patience(**patience))
        self.stop = StopRequest()
        self.events: list[tuple[int, object]] = []
        self.outcomes: list[Outcome] = []

    def run(
        self, jobs: Iterable[Job], on_event: Callable[[RunEvent], None] = lambda event: None
    ) -> None:
        """Make all that is given."""

        def hear(event: RunEvent) -> None:
            self.events.append((event.spec.seed, event.event))
            on_event(event)

        for outcome in self.local.run(partial(next, iter(list(jobs)), None), hear, self.stop):
            self.outcomes.append(outcome)

    def of(self, kind: type) -> list[int]:
        """Return the seeds of all events of a kind, in order."""
        return [seed for seed, event in self.events if isinstance(event, kind)]

    @property
    def notes(self) -> list[tuple[int, str]]:
        """The lines that a person should read."""
        return [(seed, event.text) for seed, event in self.events if isinstance(event, Note)]

    @property
    def made(self) -> list[int]:
        """Seeds of finished runs, in the order in which they ended."""
        return [outcome.spec.seed for outcome in self.outcomes if outcome.run is not None]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that puts a shell script in the interpreter's place."""

    def put(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\npython={shlex.quote(sys.executable)}\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return put


def test_every_run_is_made_once(shared: Shared, job: Make) -> None:
    """Two processes make three runs between them, each told of from its start to its end."""
    heard = Heard(shared, workers=2)

    heard.run(job(seed) for seed in (3, 1, 2))

    assert sorted(heard.made) == [1, 2, 3]
    assert sorted(heard.of(Began)) == [1, 2, 3]
    assert sorted(heard.of(EpochDone)) == [1] * 3 + [2] * 3 + [3] * 3
    for outcome in heard.outcomes:
        assert outcome.run is not None
        assert outcome.run.folder.record() == outcome.run.record
        assert shared.store.finished(outcome.spec) is not None
    assert heard.local._workers == []


def test_a_busy_run_comes_last(shared: Shared, job: Make) -> None:
    """While another process makes it the others go first, and it is asked for again."""
    heard = Heard(shared)
    heard.run([job(1)])
    name = shared.store.find("last").name
    shared.store.remove(shared.store.find("last"))
    held = locked(shared.store.lock_path(name))
    held.__enter__()

    def release(event: RunEvent) -> None:
        if isinstance(event.event, Began) and event.spec.seed == 2:
            held.__exit__(None, None, None)

    heard.run([job(1), job(2)], release)

    assert heard.of(Busy) == [1]
    assert heard.made == [1, 2, 1]


def test_a_stop_ends_all(shared: Shared, job: Make) -> None:
    """Once told to stop, no further run is handed out and those under way end without outcome."""
    heard = Heard(shared)

    def stop(event: RunEvent) -> None:
        if isinstance(event.event, EpochDone):
            heard.stop.signal_number = 2

    heard.run([job(1, epochs=50), job(2)], stop)

    assert heard.outcomes == []
    assert heard.of(Began) == [1]
    assert heard.local._workers == []
    assert [path.suffix for path in shared.store.root.glob("tiny*")] == [".partial"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo no luck >&2; echo >&2; exit 3", "its process ended with exit code 3: no luck."),
        ("exit 0", "its process ended with exit code 0."),
        ('ulimit -v 50000; exec $python "$@"', "its process "),
    ],
)
def test_a_process_that_ends_while_it_starts_is_one_line(
    script: str, reason: str, shared: Shared, job: Make, stand_in: Callable[[str], None]
) -> None:
    """Where none can start, the last line that one wrote says why; nothing waits for ever."""
    stand_in(script)

    with pytest.raises(RunError) as caught:
        Heard(shared, workers=2).run(job(seed) for seed in (1, 2, 3))

    assert str(caught.value).startswith(f"Cannot start a process to train in: {reason}")


@pytest.mark.parametrize("mode", [0o644, None])
def test_an_interpreter_that_cannot_be_executed_is_one_line(
    mode: int | None, shared: Shared, job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's reason is named."""
    path = tmp_path / "python"
    if mode is not None:
        path.write_text("no program")
        path.chmod(mode)
    monkeypatch.setattr(sys, "executable", str(path))

    with pytest.raises(RunError) as caught:
        Heard(shared, workers=2).run([job(1), job(2)])

    reason = "No such file or directory" if mode is None else "Permission denied"
    assert str(caught.value) == f"Cannot start a process to train in: {reason}."


def test_a_process_that_hangs_while_it_starts_is_ended(
    shared: Shared, job: Make, stand_in: Callable[[str], None]
) -> None:
    """Nobody waits longer than the limit for it."""
    stand_in("exec sleep 600")

    with pytest.raises(RunError, match=r"its process did not start within 0\.3 seconds\.$"):
        Heard(shared, start_seconds=0.3).run([job(1)])


def test_fewer_processes_do_where_no_more_can_start(
    shared: Shared, job: Make, stand_in: Callable[[str], None], tmp_path: Path
) -> None:
    """The second of three finds no memory, so to speak; the others make all runs."""
    first, second = tmp_path / "first", tmp_path / "second"
    dies = f"mkdir {first} 2> /dev/null || {{ mkdir {second} 2> /dev/null && exit 1; }}"
    stand_in(f'{dies}; exec $python "$@"')
    heard = Heard(shared, workers=2)

    heard.run([job(1, epochs=1), job(2, epochs=1)])

    assert sorted(heard.made) == [1, 2]
    assert second.is_dir()


def test_a_run_is_given_up_when_its_process_was_killed_four_times(
    shared: Shared, job: Make, stand_in: Callable[[str], None]
) -> None:
    """It is tried again three times; the runs after it have their turn."""
    stand_in("echo what it did >&2; kill -9 $$")
    heard = Heard(shared)

    heard.run([job(1), job(2)])

    died = "its process was killed by SIGKILL; was there enough memory?"
    assert sorted(heard.notes) == [
        (seed, f"{died} It is tried again.") for seed in (1, 1, 1, 2, 2, 2)
    ]
    assert [outcome.spec.seed for outcome in heard.outcomes] == [1, 2]
    for outcome in heard.outcomes:
        assert outcome.reason.startswith(f"{died} (4 times). All of it is in `")
        assert outcome.traceback == "what it did\n"
    assert len(list(shared.store.root.glob(f"*.partial/{TRACEBACK}"))) == 2


def test_a_killed_start_costs_no_run(
    shared: Shared, job: Make, stand_in: Callable[[str], None], tmp_path: Path
) -> None:
    """The first two processes are killed before they have read a word; the third makes the run."""
    count = f"echo >> {tmp_path}/n; [ $(wc -l < {tmp_path}/n) -gt 2 ]"
    stand_in(f'{count} || kill -9 $$; exec $python "$@"')
    heard = Heard(shared)

    heard.run([job(7)])

    assert [seed for seed, _ in heard.notes] == [7, 7]
    assert heard.made == [7]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_run_goes_on_where_its_process_died_or_hung(
    number: signal.Signals, shared: Shared, job: Make
) -> None:
    """Killed or stopped after its first epoch, it is taken up by a new process after that."""
    heard = Heard(shared, silent_seconds=4.0)

    def strike(event: RunEvent) -> None:
        if isinstance(event.event, EpochDone) and heard.of(EpochDone) == [1]:
            heard.local._workers[0].send_signal(number)

    heard.run([job(1, epochs=40)], strike)

    first, second = (len(e.record.epochs) for _, e in heard.events if isinstance(e, Began))
    assert first == 0
    assert second >= 1
    assert heard.made == [1]
    (run,) = [outcome.run for outcome in heard.outcomes]
    assert run is not None
    assert [epoch.epoch for epoch in run.record.epochs] == list(range(1, 41))
    (note,) = [text for _, text in heard.notes]
    assert note == (
        "its process was killed by SIGKILL; was there enough memory? It is tried again."
        if number == signal.SIGKILL
        else "its process gave no sign of life for 4 seconds. It is tried again."
    )


_SCRIPT = """
from pathlib import Path
from smidgen import ProveOptions, Recipe, RunStore, load_dataset, prove
recipe = Recipe.from_json(Path("tiny.json").read_text())
options = ProveOptions(engine="native", workers=1)
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


_ORPHANS = """
import sys
from functools import partial
from pathlib import Path
from smidgen.work.local import Local
from smidgen.work.nameless import unpack
shared, job = unpack(int(sys.argv[1]))
events = lambda event: print(local._workers[0]._process.pid, flush=True)
local = Local(shared, 1)
list(local.run(partial(next, iter([job]), None), events, lambda: False))
"""


def test_no_process_outlives_its_parent(shared: Shared, job: Make) -> None:
    """A parent that is killed takes its processes with it; their epochs stay."""
    from smidgen.work.nameless import pack

    with pack((shared, job(1, epochs=5_000))) as parcel:
        number = str(parcel.fileno())
        command = [sys.executable, "-c", _ORPHANS, number]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, pass_fds=[parcel.fileno()], text=True
        ) as parent:
            assert parent.stdout is not None
            lines = [parent.stdout.readline() for _ in range(3)]
            worker = os.pidfd_open(int(lines[-1]))
            parent.kill()
    waiting = select.select([worker], [], [], 120)[0]
    os.close(worker)

    assert waiting == [worker]
    assert next(shared.store.root.glob("tiny*.partial/checkpoint-*"))

"""How runs show themselves while they are made: a live table in a terminal, else plain lines."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from smidgen.cores import num_cores
from smidgen.evidence.wording import percent
from smidgen.runs.record import RunSpec
from smidgen.training.events import Began, EpochDone, Note
from smidgen.work.jobs import Busy, Outcome, RunEvent
from smidgen.work.queue import Planned

_MOST_ROWS = 30
"""A terminal has about so many lines; beyond, the runs that are done are left out."""


@dataclass(slots=True)
class RunState:
    """Where one run stands.

    Args:
        spec: The run.
        name: Of its recipe.
        state: `waiting`, `running`, `done`, `there`, `elsewhere` or `failed`.
        epoch: Epochs that are done.
        accuracy: After the last of them.
        seconds: Of each epoch seen.
        since: When the last of them ended, by `time.monotonic()`.
    """

    spec: RunSpec
    name: str
    state: str = "waiting"
    epoch: int = 0
    accuracy: float | None = None
    seconds: list[float] = field(default_factory=list)
    since: float = 0.0

    @property
    def epochs(self) -> int:
        """How many it will have."""
        return self.spec.recipe.epochs

    @property
    def seconds_left(self) -> float | None:
        """How long a running one will take by the pace of its epochs, if known."""
        if self.state != "running" or not self.seconds:
            return None
        pace = sum(self.seconds) / len(self.seconds)
        elapsed = min(time.monotonic() - self.since, pace)
        return pace * (self.epochs - self.epoch) - elapsed


class Board:
    """What is known of every run; drawn by rich as a table.

    Args:
        workers: How many runs are made at once.
        names: What recipes are called here, by fingerprint; others by their own name.
    """

    def __init__(self, workers: int, names: Mapping[str, str] | None = None) -> None:
        self.workers = workers
        self.runs: dict[str, RunState] = {}
        self._names = names or {}
        self._told: dict[str, str] = {}

    @property
    def shows_names(self) -> bool:
        """Whether there are runs of several recipes, so that seeds alone tell too little."""
        return len({run.name for run in self.runs.values()}) > 1

    def label(self, spec: RunSpec) -> str:
        """Return what a run is called: by its seed alone where all are of one recipe."""
        if not self.shows_names:
            return f"seed {spec.seed}"
        return f"{self.runs[spec.identity].name}, seed {spec.seed}"

    def _name(self, spec: RunSpec) -> str:
        return self._names.get(spec.recipe.fingerprint(), spec.recipe.name)

    def remark(self, event: object) -> str:
        """Return the line that a person should read of an event, if any: a reason only once."""
        match event:
            case Note(text):
                return text
            case RunEvent(spec, Note(text)):
                return f"{self.label(spec)}: {text}"
            case Outcome(spec, None, reason, diverged):
                # each diverges in a step of its own, for one reason
                mine = self.label(spec)
                first = self._told.setdefault("" if diverged else reason, mine)
                return f"{mine} failed: {reason if first == mine else f'as {first} did'}"
            case Planned(teachers=teachers) if teachers:
                listed = ", ".join(f"`{spec.recipe.name}` seed {spec.seed}" for spec in teachers)
                return f"First the teachers: {listed}."
        return ""

    def hear(self, event: object) -> None:
        """Take up what is told."""
        match event:
            case Planned(finished, missing):
                for each in finished:
                    result = each.run and each.run.record.result
                    accuracy = result.accuracy if result else None
                    state = "there" if each.run else "failed"
                    epochs = each.spec.recipe.epochs if each.run else 0
                    name = self._name(each.spec)
                    run = RunState(each.spec, name, state, epochs, accuracy)
                    self.runs[each.spec.identity] = run
                for spec in missing:
                    self.runs[spec.identity] = RunState(spec, self._name(spec))
            case RunEvent(spec, what):
                self._move(self.runs[spec.identity], what)
            case Outcome(spec, run):
                mine = self.runs[spec.identity]
                mine.state = "done" if run else "failed"
                mine.epoch = mine.epochs if run else mine.epoch

    @staticmethod
    def _move(run: RunState, event: Began | EpochDone | Note | Busy) -> None:
        match event:
            case Began(record):
                run.state, run.epoch = "running", len(record.epochs)
                run.since = time.monotonic()
            case EpochDone(record):
                run.epoch, run.accuracy = record.epoch, record.eval_accuracy
                run.seconds.append(record.train_seconds + record.eval_seconds)
                run.since = time.monotonic()
            case Busy():
                run.state = "elsewhere"

    def total_seconds_left(self) -> float | None:
        """Return how long all will take by the pace of all epochs so far, if known."""
        paces = [pace for run in self.runs.values() for pace in run.seconds]
        if not paces:
            return None
        opened = [run for run in self.runs.values() if run.state in ("waiting", "running")]
        epochs_left = sum(run.epochs - run.epoch for run in opened)
        at_once = min(self.workers, max(len(opened), 1))
        return sum(paces) / len(paces) * epochs_left / at_once

    def __rich__(self) -> Group:
        """Draw the table and the line under it."""
        closed = [key for key, run in self.runs.items() if run.state in ("done", "there")]
        hidden = set(closed[: max(0, len(self.runs) - _MOST_ROWS)])
        left = self.total_seconds_left()
        several = self.shows_names
        caption = f"{len(closed)} of {len(self.runs)} {'runs' if several else 'seeds'} finished"
        if left is not None:
            caption += f", about {clock(left)} left"
        drawn = Table(box=None, pad_edge=False)
        if several:
            drawn.add_column("recipe")
        for title in ("seed", "epoch", "accuracy", "left"):
            drawn.add_column(title, justify="right")
        drawn.add_column("")
        for key, run in self.runs.items():
            if key in hidden or (run.state == "waiting" and len(self.runs) > _MOST_ROWS):
                continue
            drawn.add_row(*([run.name] if several else []), *_cells(run))
        return Group(drawn, caption)


def _cells(run: RunState) -> list[str]:
    remaining = run.seconds_left
    return [
        str(run.spec.seed),
        f"{run.epoch}/{run.epochs}",
        "" if run.accuracy is None else percent(run.accuracy),
        "" if remaining is None else clock(remaining),
        {"there": "was there", "elsewhere": "another process"}.get(run.state, run.state),
    ]


@contextmanager
def proving_display(
    workers: int | None, names: Mapping[str, str] | None = None
) -> Iterator[Callable[[object], None]]:
    """Show runs while the body makes them; yields what is to be called with every event."""
    board = Board(workers or num_cores(), names)
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _printing(board)
        return
    with Live(board, console=console, refresh_per_second=4, transient=True):

        def hear(event: object) -> None:
            board.hear(event)
            if text := board.remark(event):
                console.print(text, markup=False, soft_wrap=True)

        yield hear


def _printing(board: Board) -> Callable[[object], None]:
    def hear(event: object) -> None:
        board.hear(event)
        text = board.remark(event)
        match event:
            case Planned(finished, missing, teachers):
                there = sum(each.run is not None for each in finished)
                num_asked = len(finished) + len(missing) - len(teachers)
                what = "runs" if board.shows_names else "seeds"
                _print(f"{there} of {num_asked} {what} are there already")
            case RunEvent(spec, EpochDone(record)):
                left = board.total_seconds_left()
                text = (
                    f"{board.label(spec)}: epoch {record.epoch} of {spec.recipe.epochs}, "
                    f"{percent(record.eval_accuracy)}"
                )
                text += f"; about {clock(left)} left in all" if left is not None else ""
            case Outcome(spec, run) if run is not None:
                text = f"{board.label(spec)}: finished"
        if text:
            _print(text)

    return hear


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Return a duration as people read it: 8 s, 2:05 or 1:02:05."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

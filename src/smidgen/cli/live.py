"""How commands show what they are doing, on standard error: live in a terminal, else plain lines.

A board takes up events (`training.events`, `work`, `search`) and knows how to draw itself and
which lines a log should get; `shown` decides, in one place, which of the two is wanted. Nothing is
redrawn where standard error is no terminal, whatever `FORCE_COLOR` says; `NO_COLOR` is obeyed.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from smidgen.cores import num_cores
from smidgen.evidence.wording import percent
from smidgen.runs.record import EpochRecord, RunRecord, RunSpec
from smidgen.training.events import Began, EpochDone, Note, OfTeacher, Stepped
from smidgen.work.jobs import Busy, Outcome, RunEvent
from smidgen.work.queue import Planned

if TYPE_CHECKING:
    from smidgen.data import Progress as DataProgress
    from smidgen.search import SearchOptions, SearchStatus

Hear = Callable[[object], None]
"""What is to be called with every event."""

_MOST_RUNS, _MOST_OF_FRONT = 30, 20
"""A terminal has about so many lines; beyond, finished runs and small networks are left out."""
GETTING_READY = "Getting ready; a new network is compiled first, once."


class Board(Protocol):
    """What is known of what is going on."""

    def hear(self, event: object) -> None:
        """Take up what is told."""
        ...

    def remark(self, event: object) -> str:
        """Return the line that stays on a screen and goes into a log, if any."""
        ...

    def line(self, event: object) -> str:
        """Return the line that only a log gets, for a screen shows the same live; if any."""
        ...

    def __rich__(self) -> RenderableType:
        """Draw what is known now."""
        ...


@contextmanager
def shown(board: Board) -> Iterator[Hear]:
    """Show what a board hears while the body runs; yields what is to be called with events."""
    if not is_live():

        def log(event: object) -> None:
            board.hear(event)
            for text in filter(None, (board.line(event), board.remark(event))):
                print(text, file=sys.stderr, flush=True)

        yield log
        return
    console = console_on_screen()
    with Live(board, console=console, refresh_per_second=4, transient=True):

        def draw(event: object) -> None:
            board.hear(event)
            if text := board.remark(event):
                console.print(text, markup=False, soft_wrap=True)

        yield draw


def is_live() -> bool:
    """Whether standard error is a screen that can be redrawn."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def console_on_screen() -> Console:
    """Return the console of what is redrawn; to be asked for only where that is wanted."""
    return Console(stderr=True, highlight=False)


class TrainBoard:
    """What is known of one run; drawn as a bar with its numbers in words.

    Args:
        epochs: How many it will have.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.begun_at: float | None = None
        self.finished_before = self.finished = 0
        self.share = 0.0
        self.last: EpochRecord | None = None
        self.lr: float | None = None
        self.images_per_second: float | None = None
        self._num_train = 0
        self._epoch_began = 0.0

    def hear(self, event: object) -> None:
        """Take up what is told."""
        now = time.monotonic()
        match event:
            case Began(record):
                self.begun_at, self._epoch_began = now, now
                self.epochs = record.recipe.epochs
                self.finished_before = self.finished = len(record.epochs)
                self.share, self.last = 0.0, record.epochs[-1] if record.epochs else None
                self._num_train = record.data.num_train
            case OfTeacher(event=inner):
                self.hear(inner)
            case Stepped(done, total, lr):
                self.share, self.lr = done / max(total, 1), lr
                if now > self._epoch_began and self.share > 0.0:
                    seconds = now - self._epoch_began
                    self.images_per_second = self.share * self._num_train / seconds
            case EpochDone(record):
                self.finished, self.share, self.last = record.epoch, 0.0, record
                self._epoch_began = now

    def remark(self, event: object) -> str:
        """Return the line of an event: a heading, an epoch, a note."""
        match event:
            case Note(text):
                return text
            case Began(record):
                return "\n".join([_run_heading(record), *map(_epoch_line, record.epochs)])
            case EpochDone(record):
                return _epoch_line(record)
            case OfTeacher(event=inner):
                return self.remark(inner)
        return ""

    def line(self, event: object) -> str:
        """Return "": a log gets the same lines."""
        return ""

    def seconds_left(self) -> float | None:
        """Return how long the rest takes by the pace so far, if any is known."""
        done = self.finished - self.finished_before + self.share
        if self.begun_at is None or done <= 0.0:
            return None
        rest = self.epochs - self.finished - self.share
        return (time.monotonic() - self.begun_at) / done * rest

    def words(self) -> str:
        """Return the numbers beside the bar."""
        if self.begun_at is None:
            return GETTING_READY
        done = (self.finished + self.share) / max(self.epochs, 1)
        parts = [
            f"{100 * done:.0f} %",
            f"epoch {min(self.finished + 1, self.epochs)}/{self.epochs}",
        ]
        left = self.seconds_left()
        parts += [] if left is None else [f"about {clock(left)} left"]
        if self.images_per_second is not None:
            parts.append(f"{self.images_per_second:,.0f} images/s")
        parts += [] if self.lr is None else [f"lr {self.lr:.3g}"]
        parts += [] if self.last is None else [f"last loss {self.last.train_loss:.4f}"]
        return ", ".join(parts)

    def __rich__(self) -> Table:
        """Draw the bar and the numbers, on one line as long as they fit."""
        drawn = Table.grid(padding=(0, 1))
        drawn.add_column(width=8)
        drawn.add_column(overflow="ellipsis", no_wrap=True)
        bar = ProgressBar(total=max(self.epochs, 1), completed=self.finished + self.share)
        drawn.add_row(bar, self.words())
        return drawn


def _run_heading(record: RunRecord) -> str:
    used = record.environment
    split = "valid" if record.data.num_valid else "test"
    return (
        f"{record.recipe.name}: {record.num_params:,} parameters, {record.num_macs:,} MACs; "
        f"{used.engine} engine, {used.threads} thread{'s' if used.threads > 1 else ''}; "
        f"seed {record.seed}, protocol {record.protocol}\n"
        f"epoch  train loss  train acc   {split:>5} acc  errors  seconds"
    )


def _epoch_line(epoch: EpochRecord) -> str:
    return (
        f"{epoch.epoch:5d}  {epoch.train_loss:10.4f}  {percent(epoch.train_accuracy):>9}"
        f"  {percent(epoch.eval_accuracy):>9}  {epoch.eval_num_errors:6d}"
        f"  {epoch.train_seconds + epoch.eval_seconds:7.2f}"
    )


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


class RunsBoard:
    """What is known of every run; drawn by rich as a table.

    Args:
        workers: How many runs are made at once; None for as many as there are cores.
        names: What recipes are called here, by fingerprint; others by their own name.
    """

    def __init__(self, workers: int | None, names: Mapping[str, str] | None = None) -> None:
        self.workers = workers or num_cores()
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

    def line(self, event: object) -> str:
        """Return the line that only a log gets: what is there, each epoch, each end."""
        match event:
            case RunEvent(spec, EpochDone(record)):
                left = self.total_seconds_left()
                text = (
                    f"{self.label(spec)}: epoch {record.epoch} of {spec.recipe.epochs}, "
                    f"{percent(record.eval_accuracy)}"
                )
                return text + (f"; about {clock(left)} left in all" if left is not None else "")
            case Outcome(spec, run) if run is not None:
                return f"{self.label(spec)}: finished"
            case Planned(finished, missing, teachers):
                there = sum(each.run is not None for each in finished)
                num_asked = len(finished) + len(missing) - len(teachers)
                what = "runs" if self.shows_names else "seeds"
                return f"{there} of {num_asked} {what} are there already"
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
        hidden = set(closed[: max(0, len(self.runs) - _MOST_RUNS)])
        left = self.total_seconds_left()
        several = self.shows_names
        caption = f"{len(closed)} of {len(self.runs)} {'runs' if several else 'seeds'} finished"
        if left is not None:
            caption += f", about {clock(left)} left"
        elif self.runs and all(run.state == "waiting" for run in self.runs.values()):
            caption += f". {GETTING_READY}"
        drawn = Table(box=None, pad_edge=False)
        if several:
            drawn.add_column("recipe")
        for title in ("seed", "epoch", "accuracy", "left"):
            drawn.add_column(title, justify="right")
        drawn.add_column("")
        for key, run in self.runs.items():
            if key in hidden or (run.state == "waiting" and len(self.runs) > _MOST_RUNS):
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


class SearchBoard:
    """What is known of a search; drawn by rich as a table.

    Args:
        options: What is searched for.
    """

    def __init__(self, options: "SearchOptions") -> None:
        self.title = f"At most {options.max_params:,} parameters, {options.full_epochs} epochs"
        self.status: SearchStatus | None = None
        self.running: dict[str, str] = {}

    def hear(self, event: object) -> None:
        """Take up where the search or one of its runs stands."""
        from smidgen.search import SearchStatus

        match event:
            case SearchStatus():
                self.status = event
            case RunEvent(spec, Began(record)):
                done = len(record.epochs)
                self.running[spec.identity] = f"{_run(spec)}: epoch {done}/{spec.recipe.epochs}"
            case RunEvent(spec, EpochDone(record)):
                self.running[spec.identity] = (
                    f"{_run(spec)}: epoch {record.epoch}/{spec.recipe.epochs}, "
                    f"{percent(record.eval_accuracy)}"
                )
            case RunEvent(spec, Busy()) | Outcome(spec):
                self.running.pop(spec.identity, None)

    def remark(self, event: object) -> str:
        """Return the line that a person should read of an event, if any."""
        match event:
            case Note(text):
                return text
            case RunEvent(spec, Note(text)):
                return f"{_run(spec)}: {text}"
            case Outcome(spec, reason=reason, diverged=True):
                return f"{_run(spec)} diverged: {reason}"
            case Planned(missing=missing) if missing:
                listed = ", ".join(f"`{spec.recipe.name}` seed {spec.seed}" for spec in missing)
                return f"First the teachers: {listed}."
        return ""

    def line(self, event: object) -> str:
        """Return the line that only a log gets: how the search stands, how each run ended."""
        from smidgen.search import SearchStatus

        match event:
            case SearchStatus():
                return self._standing(event)
            case RunEvent(spec, EpochDone(record)) if record.epoch == spec.recipe.epochs:
                reached = percent(record.eval_accuracy)
                return f"{_run(spec)}: {reached} after epoch {record.epoch}, its last"
        return ""

    def _standing(self, status: "SearchStatus") -> str:
        best = min(status.front, key=lambda row: row.loss, default=None)
        if best is None:
            return self.caption()
        return (
            f"{self.caption()}; best so far {percent(best.accuracy)}, loss {best.loss:.4f} with "
            f"{best.num_params:,} parameters"
        )

    def __rich__(self) -> Group:
        """Draw the front, what is running, and the line under it."""
        drawn = Table(box=None, pad_edge=False, title=self.title, title_justify="left")
        for column in ("parameters", "MACs", "valid loss", "accuracy", "seeds", "candidate"):
            drawn.add_column(column, justify="right")
        for row in self.status.front[-_MOST_OF_FRONT:] if self.status else []:
            drawn.add_row(
                f"{row.num_params:,}",
                f"{row.num_macs:,}",
                f"{row.loss:.4f}",
                percent(row.accuracy),
                str(row.seeds),
                str(row.candidate),
            )
        return Group(drawn, *self.running.values(), self.caption())

    def caption(self) -> str:
        """Return one line about how much was done."""
        if self.status is None:
            return "looking at what is there"
        counts = self.status.counts
        return (
            f"{counts.seen:,} candidates measured in {counts.runs:,} runs, {counts.failed:,} "
            f"diverged, {counts.refused:,} refused; no new run after "
            f"{clock(self.status.seconds_left)}"
        )


def _run(spec: RunSpec) -> str:
    return f"{spec.recipe.name}, seed {spec.seed}"


def clock(seconds: float) -> str:
    """Return a duration as people read it: 8 s, 2:05 or 1:02:05."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def data_progress(unit: Literal["bytes", "images"]) -> Iterator["DataProgress"]:
    """Give the callback that `smidgen.data` reports to: a bar on standard error in a terminal."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
    )

    console = console_on_screen()
    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        amount,
        console=console,
        transient=True,
        disable=not is_live(),
    )
    tasks: dict[str, TaskID] = {}

    def update(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what)
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield update

"""How `search` shows itself: a live table of the front in a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from smidgen.cli.proving import clock
from smidgen.evidence.wording import percent
from smidgen.search import SearchListener, SearchOptions, SearchStatus
from smidgen.work.jobs import (
    Busy,
    EpochDone,
    Failed,
    Finished,
    Message,
    Note,
    Started,
    Task,
)

_MOST_ROWS = 20
"""A terminal has about so many lines to spare; beyond, the largest networks are shown."""


class Board:
    """What is known of a search; drawn by rich as a table.

    Args:
        title: What is searched for.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.status: SearchStatus | None = None
        self.running: dict[tuple[str, int], str] = {}

    def update(self, status: SearchStatus) -> None:
        """Take up where the search stands."""
        self.status = status

    def hear(self, task: Task, message: Message) -> None:
        """Take up what a process told of a run."""
        key = (task.recipe.name, task.seed)
        match message:
            case Started():
                self.running[key] = f"{_run(task)}: epoch {message.num_epochs}/{_epochs(task)}"
            case EpochDone():
                self.running[key] = (
                    f"{_run(task)}: epoch {message.epoch}/{_epochs(task)}, "
                    f"{percent(message.accuracy)}"
                )
            case Finished() | Failed() | Busy():
                self.running.pop(key, None)

    def __rich__(self) -> Group:
        """Draw the front, what is running, and the line under it."""
        drawn = Table(box=None, pad_edge=False, title=self.title, title_justify="left")
        for column in ("parameters", "MACs", "valid loss", "accuracy", "seeds", "candidate"):
            drawn.add_column(column, justify="right")
        for row in self.status.front[-_MOST_ROWS:] if self.status else []:
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


@contextmanager
def searching_listener(options: SearchOptions) -> Iterator[SearchListener]:
    """Show a search while the body makes it."""
    board = Board(f"At most {options.max_params:,} parameters, {options.full_epochs} epochs")
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _printing(board)
        return
    with Live(board, console=console, refresh_per_second=4, transient=True):

        def note(text: str) -> None:
            console.print(text, markup=False, soft_wrap=True)

        def hear(task: Task, message: Message) -> None:
            board.hear(task, message)
            if text := _remark(task, message):
                note(text)

        yield SearchListener(board.update, hear, note)


def _printing(board: Board) -> SearchListener:
    def update(status: SearchStatus) -> None:
        board.update(status)
        best = min(status.front, key=lambda row: row.loss, default=None)
        text = board.caption()
        if best is not None:
            text += (
                f"; best so far {percent(best.accuracy)}, loss {best.loss:.4f} with "
                f"{best.num_params:,} parameters"
            )
        _print(text)

    def hear(task: Task, message: Message) -> None:
        text = _remark(task, message)
        if isinstance(message, EpochDone) and message.epoch == task.recipe.epochs:
            text = (
                f"{_run(task)}: {percent(message.accuracy)} after epoch {message.epoch}, its last"
            )
        if text:
            _print(text)

    return SearchListener(update, hear, _print)


def _remark(task: Task, message: Message) -> str:
    match message:
        case Note():
            return f"{_run(task)}: {message.text}"
        case Failed(diverged=True):
            return f"{_run(task)} diverged: {message.reason}"
    return ""


def _run(task: Task) -> str:
    return f"{task.recipe.name}, seed {task.seed}"


def _epochs(task: Task) -> int:
    return task.recipe.epochs


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

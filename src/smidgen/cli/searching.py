"""How `search` shows itself: a live table of the front in a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from smidgen.cli.proving import clock
from smidgen.evidence.wording import percent
from smidgen.runs.record import RunSpec
from smidgen.search import SearchOptions, SearchStatus
from smidgen.training.events import Began, EpochDone, Note
from smidgen.work.jobs import Busy, Outcome, RunEvent
from smidgen.work.queue import Planned

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
        self.running: dict[str, str] = {}

    def hear(self, event: object) -> None:
        """Take up where the search or one of its runs stands."""
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
def searching_display(options: SearchOptions) -> Iterator[Callable[[object], None]]:
    """Show a search while the body makes it; yields what is to be called with every event."""
    board = Board(f"At most {options.max_params:,} parameters, {options.full_epochs} epochs")
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _printing(board)
        return
    with Live(board, console=console, refresh_per_second=4, transient=True):

        def hear(event: object) -> None:
            board.hear(event)
            if text := _remark(event):
                console.print(text, markup=False, soft_wrap=True)

        yield hear


def _printing(board: Board) -> Callable[[object], None]:
    def hear(event: object) -> None:
        board.hear(event)
        text = _remark(event)
        match event:
            case SearchStatus():
                text = _standing(board, event)
            case RunEvent(spec, EpochDone(record)) if record.epoch == spec.recipe.epochs:
                reached = percent(record.eval_accuracy)
                text = f"{_run(spec)}: {reached} after epoch {record.epoch}, its last"
        if text:
            print(text, file=sys.stderr, flush=True)

    return hear


def _standing(board: Board, status: SearchStatus) -> str:
    best = min(status.front, key=lambda row: row.loss, default=None)
    if best is None:
        return board.caption()
    return (
        f"{board.caption()}; best so far {percent(best.accuracy)}, loss {best.loss:.4f} with "
        f"{best.num_params:,} parameters"
    )


def _remark(event: object) -> str:
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


def _run(spec: RunSpec) -> str:
    return f"{spec.recipe.name}, seed {spec.seed}"

"""How a run shows itself: a bar in a terminal, plain lines elsewhere; all on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from smidgen.evidence.wording import percent
from smidgen.runs.record import EpochRecord, RunRecord
from smidgen.training.events import (
    Began,
    EpochDone,
    Event,
    Note,
    OfTeacher,
    OnEvent,
    Stepped,
)

if TYPE_CHECKING:
    from smidgen.data import Progress as DataProgress

_COLUMNS = "epoch  train loss  train acc   {split:>5} acc  errors  seconds"


@contextmanager
def progress_listener(epochs: int) -> Iterator[OnEvent]:
    """Show a run while the body runs it."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _printing(
            lambda text: print(text, file=sys.stderr, flush=True), lambda done, total: None
        )
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task("training", total=epochs)

        def write(text: str) -> None:
            console.print(text, markup=False, soft_wrap=True)

        def advance(done: float, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield _printing(write, advance)


def _printing(write: Callable[[str], None], advance: Callable[[float, int], None]) -> OnEvent:
    finished = epochs = 0

    def on_event(event: Event) -> None:
        nonlocal finished, epochs
        match event:
            case Began(record=record):
                finished, epochs = len(record.epochs), record.recipe.epochs
                _write_start(record, write)
            case Stepped(done=done, total=total):
                advance(finished + done / max(total, 1), epochs)
            case EpochDone(record=epoch):
                finished = epoch.epoch
                advance(finished, epochs)
                write(_line(epoch))
            case Note(text=text):
                write(text)
            case OfTeacher(event=inner):
                on_event(inner)

    return on_event


def _write_start(record: RunRecord, write: Callable[[str], None]) -> None:
    used = record.environment
    write(
        f"{record.recipe.name}: {record.num_params:,} parameters, {record.num_macs:,} MACs; "
        f"{used.engine} engine, {used.threads} thread{'s' if used.threads > 1 else ''}; "
        f"seed {record.seed}, protocol {record.protocol}"
    )
    write(_COLUMNS.format(split="valid" if record.data.num_valid else "test"))
    for epoch in record.epochs:
        write(_line(epoch))


def _line(epoch: EpochRecord) -> str:
    return (
        f"{epoch.epoch:5d}  {epoch.train_loss:10.4f}  {percent(epoch.train_accuracy):>9}"
        f"  {percent(epoch.eval_accuracy):>9}  {epoch.eval_num_errors:6d}"
        f"  {epoch.train_seconds + epoch.eval_seconds:7.2f}"
    )


@contextmanager
def data_progress(unit: Literal["bytes", "images"]) -> Iterator["DataProgress"]:
    """Give the callback that `smidgen.data` reports to: a bar on standard error in a terminal."""
    from rich.progress import DownloadColumn, MofNCompleteColumn, TaskID

    console = Console(stderr=True)
    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        amount,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def update(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what)
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield update

"""How `prove` shows itself: a live table in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from smidgen.cores import num_cores
from smidgen.evidence.prove import ProveListener
from smidgen.evidence.wording import percent
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder
from smidgen.work.jobs import Busy, EpochDone, Failed, Finished, Message, Note, Started

_MOST_ROWS = 30
"""A terminal has about so many lines; beyond, the seeds that are done are left out."""


@dataclass(slots=True)
class SeedState:
    """Where one seed stands.

    Args:
        state: `waiting`, `running`, `done`, `there`, `elsewhere` or `failed`.
        epoch: Epochs that are done.
        accuracy: After the last of them.
        seconds: Of each epoch seen.
        since: When the last of them ended, by `time.monotonic()`.
    """

    state: str = "waiting"
    epoch: int = 0
    accuracy: float | None = None
    seconds: list[float] = field(default_factory=list)
    since: float = 0.0


class Board:
    """What is known of every seed; drawn by rich as a table."""

    def __init__(self, epochs: int, workers: int) -> None:
        self.epochs = self._epochs = epochs
        self.workers = workers
        self.seeds: dict[int, SeedState] = {}
        self._told: dict[str, int] = {}

    def remark(self, message: Message) -> str:
        """Return the line that a person should read of a message, if any: a reason only once."""
        match message:
            case Note():
                return f"seed {message.seed}: {message.text}"
            case Failed():
                # each diverges in a step of its own, for one reason
                cause = "" if message.diverged else message.reason
                first = self._told.setdefault(cause, message.seed)
                told = message.reason if first == message.seed else f"as seed {first} did"
                return f"seed {message.seed} failed: {told}"
        return ""

    def teach(self, epochs: int, seeds: list[int]) -> None:
        """Enter the seeds of a teacher, which are trained before all others."""
        self.epochs = epochs
        self.seeds = {seed: SeedState() for seed in seeds}

    def start(self, there: dict[int, RunFolder], missing: list[int]) -> None:
        """Enter all seeds; those that are there with the accuracy of their runs."""
        self.epochs, self.seeds = self._epochs, {}
        for seed, folder in there.items():
            result = folder.record().result
            self.seeds[seed] = SeedState("there", self.epochs, result and result.accuracy)
        self.seeds |= {seed: SeedState() for seed in missing}
        self.seeds = dict(sorted(self.seeds.items()))

    def hear(self, message: Message) -> None:
        """Take up what a process told."""
        seed = self.seeds[message.seed]
        match message:
            case Started():
                seed.state, seed.epoch = "running", message.num_epochs
                seed.since = time.monotonic()
            case EpochDone():
                seed.epoch, seed.accuracy = message.epoch, message.accuracy
                seed.seconds.append(message.seconds)
                seed.since = time.monotonic()
            case Finished():
                seed.state, seed.epoch = "done", self.epochs
            case Busy():
                seed.state = "elsewhere"
            case Failed():
                seed.state = "failed"

    def seconds_left(self, seed: SeedState) -> float | None:
        """Return how long a running seed will take by the pace of its epochs, if known."""
        if seed.state != "running" or not seed.seconds:
            return None
        pace = sum(seed.seconds) / len(seed.seconds)
        elapsed = min(time.monotonic() - seed.since, pace)
        return pace * (self.epochs - seed.epoch) - elapsed

    def total_seconds_left(self) -> float | None:
        """Return how long all will take by the pace of all epochs so far, if known."""
        paces = [pace for seed in self.seeds.values() for pace in seed.seconds]
        if not paces:
            return None
        open_seeds = [s for s in self.seeds.values() if s.state in ("waiting", "running")]
        epochs_left = sum(self.epochs - seed.epoch for seed in open_seeds)
        at_once = min(self.workers, max(len(open_seeds), 1))
        return sum(paces) / len(paces) * epochs_left / at_once

    def __rich__(self) -> Group:
        """Draw the table and the line under it."""
        closed = [s for s, state in self.seeds.items() if state.state in ("done", "there")]
        hidden = set(closed[: max(0, len(self.seeds) - _MOST_ROWS)])
        left = self.total_seconds_left()
        caption = f"{len(closed)} of {len(self.seeds)} seeds finished"
        if left is not None:
            caption += f", about {clock(left)} left"
        drawn = Table(box=None, pad_edge=False)
        for title in ("seed", "epoch", "accuracy", "left"):
            drawn.add_column(title, justify="right")
        drawn.add_column("")
        for number, seed in self.seeds.items():
            if number in hidden:
                continue
            remaining = self.seconds_left(seed)
            drawn.add_row(
                str(number),
                f"{seed.epoch}/{self.epochs}",
                "" if seed.accuracy is None else percent(seed.accuracy),
                "" if remaining is None else clock(remaining),
                {"there": "was there", "elsewhere": "another process"}.get(seed.state, seed.state),
            )
        return Group(drawn, caption)


@contextmanager
def proving_listener(epochs: int, workers: int | None) -> Iterator[ProveListener]:
    """Show a proof while the body makes it."""
    board = Board(epochs, workers or num_cores())
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _printing(board)
        return
    with Live(board, console=console, refresh_per_second=4, transient=True):

        def note(text: str) -> None:
            console.print(text, markup=False, soft_wrap=True)

        def hear(message: Message) -> None:
            board.hear(message)
            text = board.remark(message)
            if text:
                note(text)

        def teach(recipe: Recipe, seeds: list[int]) -> None:
            board.teach(recipe.epochs, seeds)
            note(_teaching(recipe, seeds))

        yield ProveListener(board.start, hear, note, teach)


def _printing(board: Board) -> ProveListener:
    def start(there: dict[int, RunFolder], missing: list[int]) -> None:
        board.start(there, missing)
        _print(f"{len(there)} of {len(there) + len(missing)} seeds are there already")

    def hear(message: Message) -> None:
        board.hear(message)
        text = board.remark(message)
        if isinstance(message, EpochDone):
            left = board.total_seconds_left()
            text = (
                f"seed {message.seed}: epoch {message.epoch} of {board.epochs}, "
                f"{percent(message.accuracy)}"
            )
            text += f"; about {clock(left)} left in all" if left is not None else ""
        elif isinstance(message, Finished):
            text = f"seed {message.seed}: finished"
        if text:
            _print(text)

    def teach(recipe: Recipe, seeds: list[int]) -> None:
        board.teach(recipe.epochs, seeds)
        _print(_teaching(recipe, seeds))

    return ProveListener(start, hear, _print, teach)


def _teaching(recipe: Recipe, seeds: list[int]) -> str:
    word = "seed" if len(seeds) == 1 else "seeds"
    return f"First the teacher `{recipe.name}`, {word} {', '.join(map(str, seeds))}."


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

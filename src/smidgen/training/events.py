"""What is told while a run is trained: plain data, small enough to be sent from elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass

from smidgen.runs.record import EpochRecord, RunRecord, RunSpec


@dataclass(frozen=True, slots=True)
class Began:
    """Training begins, or goes on after the epochs that are in the record."""

    record: RunRecord


@dataclass(frozen=True, slots=True)
class Stepped:
    """So many of the epoch's steps are done; told many times a second.

    Args:
        done: Steps done.
        total: Steps of the epoch.
        lr: Learning rate of the last one.
    """

    done: int
    total: int
    lr: float = 0.0


@dataclass(frozen=True, slots=True)
class EpochDone:
    """An epoch is finished and safe on disk."""

    record: EpochRecord


@dataclass(frozen=True, slots=True)
class Note:
    """A line that a person should read, such as which engine was chosen."""

    text: str


@dataclass(frozen=True, slots=True)
class OfTeacher:
    """What is told of a teacher that is trained first."""

    spec: RunSpec
    event: "Event"


Event = Began | Stepped | EpochDone | Note | OfTeacher
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""


def listen(
    on_start: Callable[[RunRecord], object] | None = None,
    on_step: Callable[[int, int], object] | None = None,
    on_epoch: Callable[[EpochRecord], object] | None = None,
    on_note: Callable[[str], object] | None = None,
) -> OnEvent:
    """Return a listener that calls these with what an event holds; of teachers, notes alone."""

    def on_event(event: Event) -> None:
        match event:
            case Began(record=record) if on_start:
                on_start(record)
            case Stepped(done=done, total=total) if on_step:
                on_step(done, total)
            case EpochDone(record=epoch) if on_epoch:
                on_epoch(epoch)
            case Note(text=text) | OfTeacher(event=Note(text=text)) if on_note:
                on_note(text)
            case _:
                pass

    return on_event


def on_note(tell: Callable[[Note], object]) -> OnEvent:
    """Return a listener that passes notes on, as `specify` makes them."""
    return listen(on_note=lambda text: tell(Note(text)))

"""What is told while a run is trained: plain data, small enough to be sent from elsewhere."""

from dataclasses import dataclass

from smidgen.runs.record import EpochRecord, RunRecord


@dataclass(frozen=True, slots=True)
class Began:
    """Training begins, or goes on after the epochs that are in the record."""

    record: RunRecord


@dataclass(frozen=True, slots=True)
class Stepped:
    """So many of the epoch's steps are done; told many times a second."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class EpochDone:
    """An epoch is finished and safe on disk."""

    record: EpochRecord


@dataclass(frozen=True, slots=True)
class Note:
    """A line that a person should read."""

    text: str

"""Who wants to know how a run goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from smidgen.runs.record import EpochRecord, RunRecord


@dataclass(frozen=True, slots=True)
class Listener:
    """What is told how a run goes on; every function may be left out.

    Args:
        on_start: Called once with the record as it is before the first (or next) epoch.
        on_step: Called with (steps done, steps) of the epoch, many times a second.
        on_epoch: Called with each finished epoch, once it is safe on disk.
        on_note: Called with a line a person should read, such as which engine was chosen.
        teacher: Told how teachers that must be trained first go on; None for notes alone.
    """

    on_start: Callable[[RunRecord], None] = lambda record: None
    on_step: Callable[[int, int], None] = lambda done, total: None
    on_epoch: Callable[[EpochRecord], None] = lambda record: None
    on_note: Callable[[str], None] = lambda text: None
    teacher: "Listener | None" = None

"""What the search asks for values: the part of an Optuna trial that is used here."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T", str, bool, int, float)


class Suggests(Protocol):
    """Gives a value for a name; the same one whenever the same name is asked for."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """Return a whole number, both ends included."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number, evenly or, if `log`, evenly in its logarithm."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        ...

"""What a search knows: its candidates, how far each has come, which run is next, and the front.

Successive halving without waiting: whenever a process is free, the best half of those that
finished a step goes on to the next one, else a new candidate begins. Nothing here reads a clock
or draws a number, so a search that is continued goes on as one that never stopped.

Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020, section 3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from smidgen.evidence.statistics import Interval, t_interval
from smidgen.recipes.recipe import Recipe
from smidgen.search.settings import shortened
from smidgen.values import to_plain

_HALVING = 2


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder a candidate climbs: so many epochs, with seeds 1 to `num_seeds`."""

    epochs: int
    num_seeds: int

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Epochs and seed of its runs."""
        return [(self.epochs, seed) for seed in range(1, self.num_seeds + 1)]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run reached on `valid` after its last epoch.

    Args:
        run: Name of its folder.
        loss: Mean cross-entropy.
        accuracy: A share in [0, 1].
        seconds: Of training.
    """

    run: str
    loss: float
    accuracy: float
    seconds: float


@dataclass(slots=True)
class Candidate:
    """One network with its settings.

    Args:
        number: From 0, in the order proposed.
        recipe: With all epochs.
        num_params: By the counting rule.
        num_macs: For one image.
        rung: How far it was let.
        measured: Its finished runs, by epochs and seed.
        failure: Why its training diverged, or "".
    """

    number: int
    recipe: Recipe
    num_params: int
    num_macs: int
    rung: int = 0
    measured: dict[tuple[int, int], Measured] = field(default_factory=dict)
    failure: str = ""

    def results(self, rung: Rung) -> list[Measured] | None:
        """Return what it reached at a step, in the order of seeds; None if runs are missing."""
        if self.failure or not all(run in self.measured for run in rung.runs):
            return None
        return [self.measured[run] for run in rung.runs]

    def loss(self, rung: Rung) -> float | None:
        """Return its mean loss at a step, or None if it has not finished it."""
        results = self.results(rung)
        return None if results is None else sum(m.loss for m in results) / len(results)

    def costs(self, with_macs: bool) -> tuple[int, ...]:
        """Return what should be small beside the loss."""
        return (self.num_params, self.num_macs) if with_macs else (self.num_params,)


def rungs_of(epochs: int, num_seeds: int) -> tuple[Rung, ...]:
    """Return the steps: a quarter, half and all of the epochs, then 2, 4, ... seeds."""
    lengths = sorted({max(1, round(epochs / divisor)) for divisor in (4, 2, 1)})
    rungs = [Rung(length, 1) for length in lengths]
    while rungs[-1].num_seeds < num_seeds:
        rungs.append(Rung(epochs, min(_HALVING * rungs[-1].num_seeds, num_seeds)))
    return tuple(rungs)


class Ledger:
    """The candidates of a search.

    Args:
        rungs: The steps each can climb.
        with_macs: Whether fewer multiply-accumulates count as an advantage.
        candidates: In the order proposed.
    """

    def __init__(
        self, rungs: Sequence[Rung], with_macs: bool, candidates: Iterable[Candidate] = ()
    ) -> None:
        self.rungs, self.with_macs = tuple(rungs), with_macs
        self.candidates = list(candidates)

    def ranked(self, number: int) -> list[Candidate]:
        """Return who finished a step, best first: by layers of the front, then by loss."""
        points = {
            one: (loss, *self.candidates[one].costs(self.with_macs))
            for one, loss in self._losses(number).items()
        }
        layers: list[list[int]] = []
        for one in sorted(points, key=lambda one: (points[one], one)):  # whoever beats it is before
            fitting = (
                layer for layer in layers if not any(beats(points[o], points[one]) for o in layer)
            )
            layer = next(fitting, None)
            if layer is None:
                layers.append([one])
            else:
                layer.append(one)
        return [self.candidates[one] for layer in layers for one in layer]

    def promotable(self, closing: bool = False) -> Candidate | None:
        """Return who may go on: in the better half of its step, and not let further yet.

        Those furthest on come first. When `closing`, for no further candidate will come, the best
        of each step goes on even if it is the only one.
        """
        for number in range(len(self.rungs) - 2, -1, -1):
            ranked = self.ranked(number)
            for candidate in ranked[: max(len(ranked) // _HALVING, closing)]:
                if candidate.rung == number:
                    return candidate
        return None

    def missing(self, candidate: Candidate) -> list[tuple[Recipe, int]]:
        """Return recipe and seed of the runs a candidate needs for the step it was let to."""
        if candidate.failure:
            return []
        return [
            (shortened(candidate.recipe, epochs), seed)
            for epochs, seed in self.rungs[candidate.rung].runs
            if (epochs, seed) not in candidate.measured
        ]

    def finished(self, candidate: Candidate) -> Rung | None:
        """Return the furthest step with all epochs that a candidate finished, if any."""
        full = [rung for rung in self.rungs if rung.epochs == self.rungs[-1].epochs]
        return next((r for r in reversed(full) if candidate.results(r) is not None), None)

    def highest(self, at_least: int = 1) -> int | None:
        """Return the furthest step that so many candidates finished, or None."""
        numbers = range(len(self.rungs) - 1, -1, -1)
        return next((n for n in numbers if len(self._losses(n)) >= at_least), None)

    def _losses(self, number: int) -> dict[int, float]:
        found = {c.number: c.loss(self.rungs[number]) for c in self.candidates}
        return {one: loss for one, loss in found.items() if loss is not None}


def beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether one point is nowhere larger than another and somewhere smaller."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


@dataclass(frozen=True, slots=True)
class FrontRow:
    """One network of the front.

    Args:
        candidate: Its number.
        recipe: What trains it.
        num_params: By the counting rule.
        num_macs: For one image.
        seeds: How many random seeds were trained for all epochs.
        loss: Mean cross-entropy on `valid` over the seeds, after the last epoch.
        loss_interval: Student's 95 % interval of that mean; None for one seed.
        accuracy: Mean accuracy on `valid`, a share in [0, 1].
        accuracy_interval: Its interval; None for one seed.
        runs: Names of the runs.
    """

    candidate: int
    recipe: Recipe
    num_params: int
    num_macs: int
    seeds: int
    loss: float
    loss_interval: Interval | None
    accuracy: float
    accuracy_interval: Interval | None
    runs: tuple[str, ...]

    def to_plain(self) -> dict[str, Any]:
        """Return the stable machine-readable form, without the recipe."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "recipe"}
        for name in ("loss_interval", "accuracy_interval"):
            interval = plain[name]
            plain[name] = None if interval is None else to_plain(interval)
        return plain | {"runs": list(self.runs)}


def front_of(ledger: Ledger) -> list[FrontRow]:
    """Return the networks that none beats, smallest first.

    Only those that were trained for all epochs take part. One network beats another if it has no
    more parameters (and MACs, where these count), no larger mean loss, and as many seeds or more:
    one lucky seed does not push out what several have shown.
    """
    rows = [
        _row(candidate, results)
        for candidate in ledger.candidates
        if (rung := ledger.finished(candidate)) and (results := candidate.results(rung))
    ]
    points = [(-row.seeds, row.loss, *_costs(row, ledger.with_macs)) for row in rows]
    kept = [
        row
        for row, point in zip(rows, points, strict=True)
        if not any(beats(other, point) for other in points)
    ]
    return sorted(kept, key=lambda row: (row.num_params, row.num_macs, row.loss))


def _costs(row: FrontRow, with_macs: bool) -> tuple[int, ...]:
    return (row.num_params, row.num_macs) if with_macs else (row.num_params,)


def _row(candidate: Candidate, results: list[Measured]) -> FrontRow:
    losses = [measured.loss for measured in results]
    accuracies = [measured.accuracy for measured in results]
    several = len(results) > 1
    return FrontRow(
        candidate=candidate.number,
        recipe=candidate.recipe,
        num_params=candidate.num_params,
        num_macs=candidate.num_macs,
        seeds=len(results),
        loss=sum(losses) / len(losses),
        loss_interval=t_interval(losses) if several else None,
        accuracy=sum(accuracies) / len(accuracies),
        accuracy_interval=t_interval(accuracies) if several else None,
        runs=tuple(measured.run for measured in results),
    )

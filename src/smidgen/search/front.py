"""A ledger in, the front out: which networks are the best of their size, and how sure that is."""

from dataclasses import dataclass
from typing import Any

from smidgen.evidence.statistics import Interval, t_interval
from smidgen.recipes.recipe import Recipe
from smidgen.search.ledger import Candidate, Ledger, Measured, beats
from smidgen.values import to_plain


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

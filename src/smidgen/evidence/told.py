"""A ladder and a store of runs in, what each step claims, reached here and shows out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.evidence.analysis import StepRuns, analyze, steps_before
from smidgen.evidence.select import runs_of
from smidgen.evidence.statements import finished_result, last_epoch, spread
from smidgen.network.trace import trace
from smidgen.recipes.ladder import Rung
from smidgen.recipes.recipe import Recipe
from smidgen.runs.listing import finished_rows
from smidgen.runs.record import ON_TEST, Protocol, RunRecord
from smidgen.runs.rows import RunRow
from smidgen.runs.store import RunStore

PROTOCOLS: tuple[Protocol, ...] = ("final", "origin", "tune")


@dataclass(frozen=True, slots=True)
class Reached:
    """What the runs of one protocol came to.

    Args:
        protocol: `final`, `origin` or `tune`.
        engine: What did the arithmetic.
        split: Where it was measured.
        n: How many seeds.
        mean: Of the last epochs' accuracy.
        sd: Its standard deviation; None for one seed.
        best: Mean of the best epochs, *selected on the test set*; None where none is selected.
    """

    protocol: Protocol
    engine: str
    split: str
    n: int
    mean: float
    sd: float | None
    best: float | None


@dataclass(frozen=True, slots=True)
class ToldStep:
    """One step of a ladder as it is told.

    Args:
        recipe: What is trained; its `about` holds target, claim and the author's analysis.
        result: What the author of the ladder saw.
        num_params: By the counting rule.
        reached: What was reached here, a row per protocol with runs.
        protocol: Of the runs that were analyzed; None without runs.
        analysis: What they say.
    """

    recipe: Recipe
    result: str
    num_params: int
    reached: tuple[Reached, ...]
    protocol: Protocol | None
    analysis: tuple[str, ...]

    def to_plain(self) -> dict[str, Any]:
        """Return the stable machine-readable form, described in docs/grading.md."""
        about = self.recipe.about
        claim = about.claim
        return {
            "recipe": self.recipe.name,
            "target": about.target,
            "num_params": self.num_params,
            "claimed_percent": claim.best_accuracy if claim else None,
            "claimed_result": self.result or None,
            "claimed_analysis": about.analysis or None,
            "reached": [
                {name: getattr(each, name) for name in Reached.__slots__} for each in self.reached
            ],
            "protocol": self.protocol,
            "analysis": list(self.analysis),
        }


def tell(rungs: Sequence[Rung], store: RunStore) -> list[ToldStep]:
    """Return every step with what its runs in the store say.

    All steps are analyzed by runs of one protocol: that of which most steps have runs, and
    `final` before `origin` before `tune`.

    Raises:
        RunError: A damaged run.
    """
    rows = finished_rows(store)[0]
    found = {
        protocol: [_records(store, rung.recipe, protocol, rows) for rung in rungs]
        for protocol in PROTOCOLS
    }
    chosen = max(PROTOCOLS, key=lambda protocol: sum(map(bool, found[protocol])))
    steps = [StepRuns(r.recipe, runs) for r, runs in zip(rungs, found[chosen], strict=True)]
    told = []
    for place, (step, before) in enumerate(steps_before(steps)):
        by_protocol: list[tuple[Protocol, tuple[RunRecord, ...]]] = [
            (protocol, found[protocol][place]) for protocol in PROTOCOLS
        ]
        told.append(
            ToldStep(
                recipe=step.recipe,
                result=rungs[place].result,
                num_params=trace(step.recipe.network).totals.num_params,
                reached=tuple(_reached(p, records) for p, records in by_protocol if records),
                protocol=chosen if step.records else None,
                analysis=analyze(step, before),
            )
        )
    return told


def _records(
    store: RunStore, recipe: Recipe, protocol: Protocol, rows: Sequence[RunRow]
) -> tuple[RunRecord, ...]:
    records = [run.record() for run in runs_of(store, recipe, protocol, rows)]
    return tuple(sorted(records, key=lambda record: record.seed))


def _reached(protocol: Protocol, records: Sequence[RunRecord]) -> Reached:
    results = [finished_result(record) for record in records]
    last = spread([last_epoch(record)[0] for record in records])
    selects = results[0].selection == ON_TEST
    return Reached(
        protocol=protocol,
        engine=records[0].environment.engine,
        split=results[0].split,
        n=last.n,
        mean=last.mean,
        sd=last.sd,
        best=sum(r.best_accuracy for r in results) / len(results) if selects else None,
    )

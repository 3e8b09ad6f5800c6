"""A ladder and a store of runs in, what each step claims, reached here and shows out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from smidgen.evidence.changes import changes
from smidgen.evidence.compare import paired_difference
from smidgen.evidence.proof import check_alike, finished_result, last_epoch, spread
from smidgen.evidence.select import runs_of
from smidgen.network.trace import trace
from smidgen.recipes.ladder import Rung
from smidgen.recipes.parts import within
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


TAIL_EPOCHS = 5
_CLEAR = 2.0
"""Differences of more than so many standard errors are called differences."""


@dataclass(frozen=True, slots=True)
class StepRuns:
    """A recipe and its finished runs of one kind, one per seed; perhaps none."""

    recipe: Recipe
    records: tuple[RunRecord, ...] = ()

    @property
    def protocol(self) -> str | None:
        """Of the runs; None without any."""
        return self.records[0].protocol if self.records else None


def analyze(step: StepRuns, before: StepRuns | None) -> tuple[str, ...]:
    """Return what the runs of a step say, one sentence or two per subject.

    Args:
        step: What is to be analyzed.
        before: The step before it in the ladder, if there is one.

    Raises:
        RunError: Runs that differ in more than the seed.
    """
    found = list(_budget(step.recipe))
    if step.records:
        check_alike(step.records)
        found += _gap(step)
        found += _capacity(step)
        found += _steadiness(step)
    if before is not None:
        found.append(_changed(step.recipe, before.recipe))
        if step.records:
            found.append(_progress(step, before))
    return tuple(found)


def _budget(recipe: Recipe) -> Iterator[str]:
    num_params = trace(recipe.network).totals.num_params
    budget = recipe.budget
    if budget.max_params is not None:
        yield _against(num_params, budget.max_params, "parameters")
    if budget.max_epochs is not None and not within(recipe.epochs, budget.max_epochs):
        yield _against(recipe.epochs, budget.max_epochs, "epochs")


def _against(given: int, limit: int, what: str) -> str:
    left = limit - given
    where = f"{left:,} under" if left > 0 else f"{-left:,} over" if left < 0 else "exactly"
    return f"{given:,} {what}: {where} the budget of {limit:,}."


def _gap(step: StepRuns) -> Iterator[str]:
    train, measured = _last_train(step), _last_accuracy(step)
    gap = train - measured
    split = finished_result(step.records[0]).split
    text = f"Training ends at {100 * train:.2f} % and {split} at {100 * measured:.2f} %"
    if gap > _CLEAR * _standard_error(step):
        yield f"{text}: {100 * gap:.2f} points of gap, it memorizes."
    elif gap < -_CLEAR * _standard_error(step):
        reasons = _hardships(step.recipe)
        yield f"{text}: training is the harder of the two{f' ({reasons})' if reasons else ''}."
    else:
        yield f"{text}: no gap to speak of."


def _hardships(recipe: Recipe) -> str:
    dropout = any(row.kind == "dropout" for row in trace(recipe.network).rows)
    augments = bool(recipe.augmentation.transforms) and recipe.clean_epochs == 0
    return " and ".join(["dropout"] * dropout + ["augmentation"] * augments)


def _capacity(step: StepRuns) -> Iterator[str]:
    """Say whether size holds it back: training has stopped rising below what it could memorize."""
    train, measured = _last_train(step), _last_accuracy(step)
    error = _standard_error(step)
    curve = np.mean([[e.train_accuracy for e in record.epochs] for record in step.records], axis=0)
    if len(curve) < 4:
        yield (
            f"{len(curve)} epoch{'' if len(curve) == 1 else 's'} cannot tell whether training has "
            "come to rest: more epochs before more parameters."
        )
        return
    gained = float(curve[-1] - curve[-4])
    if gained > _CLEAR * error:
        yield (
            f"Training still gained {100 * gained:.2f} points in the last three epochs: more "
            "epochs or a higher rate before more parameters."
        )
    elif train - measured <= _CLEAR * error:
        yield f"Training has come to rest and does not outrun it: capacity limits. {_where(step)}"
    else:
        yield f"Capacity does not limit: it can outrun the test on its own images. {_where(step)}"


def _where(step: StepRuns) -> str:
    rows = [row for row in trace(step.recipe.network).rows if row.num_params]
    largest = max(rows, key=lambda row: row.num_params)
    narrow = min((row for row in rows[:-1] or rows), key=lambda row: row.output_shape[0])
    whole = sum(row.num_params for row in rows)
    return (
        f"{100 * largest.num_params / whole:.0f} % of the parameters are in layer "
        f"{largest.path}, {largest.text}; the narrowest is layer {narrow.path} with "
        f"{narrow.output_shape[0]} channels."
    )


def _steadiness(step: StepRuns) -> Iterator[str]:
    tails = [
        [epoch.eval_accuracy for epoch in record.epochs[-TAIL_EPOCHS:]] for record in step.records
    ]
    length = len(tails[0])
    if length < 2:
        return
    swing = float(np.mean([max(tail) - min(tail) for tail in tails]))
    first, last = step.records[0].epochs[-length], step.records[0].epochs[-1]
    rate = f"the rate ends at {last.lr_last:.2g}"
    if math.isclose(first.lr_first, last.lr_last, rel_tol=1e-6):
        rate = f"the rate stays at {last.lr_last:.2g}"
    steady = swing <= _CLEAR * _standard_error(step)
    yield (
        f"The last {length} epochs {'are steady' if steady else 'swing'}: {100 * swing:.2f} points "
        f"between lowest and highest{_mean_of(step)}; {rate}."
    )


def _mean_of(step: StepRuns) -> str:
    return "" if len(step.records) == 1 else f" (mean of {len(step.records)} seeds)"


def _changed(recipe: Recipe, before: Recipe) -> str:
    found = changes(before, recipe)
    return f"Against `{before.name}`: {'; '.join(found) or 'nothing that counts'}."


def _progress(step: StepRuns, before: StepRuns) -> str:
    """Say whether the step is better than the one before by more than the seeds differ."""
    if not before.records:
        return f"`{before.recipe.name}` has no runs here, so the step cannot be weighed."
    ours, theirs = step.records[0], before.records[0]
    if ours.protocol != theirs.protocol or ours.data.sha256 != theirs.data.sha256:
        return f"`{before.recipe.name}` was measured in another way; the two cannot be compared."
    mine = {record.seed: last_epoch(record)[0] for record in step.records}
    other = {record.seed: last_epoch(record)[0] for record in before.records}
    seeds = sorted(mine.keys() & other.keys())
    if not seeds:
        return f"No seed in common with `{before.recipe.name}`, so the step cannot be weighed."
    found = paired_difference([mine[seed] for seed in seeds], [other[seed] for seed in seeds])
    text = f"{100 * found.mean:+.2f} points against `{before.recipe.name}`"
    if found.n == 1:
        return f"{text}, from one seed: whether that is more than noise cannot be told."
    if found.verdict == "cannot tell":
        needed = f"; it needs about {found.pairs_needed:,} seeds" if found.pairs_needed else ""
        return f"{text} over {found.n} seeds: not shown to be more than noise{needed}."
    word = "better" if found.mean > 0 else "worse"
    return f"{text} over {found.n} seeds: {word} by more than noise (p = {found.p_value:.2g})."


def _last_train(step: StepRuns) -> float:
    return float(np.mean([record.epochs[-1].train_accuracy for record in step.records]))


def _last_accuracy(step: StepRuns) -> float:
    return float(np.mean([last_epoch(record)[0] for record in step.records]))


def _standard_error(step: StepRuns) -> float:
    """Return the standard error of one accuracy on so many images; at least that of one error."""
    accuracy, images = _last_accuracy(step), finished_result(step.records[0]).num_images
    return max(math.sqrt(accuracy * (1.0 - accuracy) / images), 1.0 / images)


def steps_before(steps: Sequence[StepRuns]) -> Iterator[tuple[StepRuns, StepRuns | None]]:
    """Yield every step with the one before it; None before the first."""
    yield steps[0], None
    for before, step in pairwise(steps):
        yield step, before

"""`Ablation`: what variants of a recipe change, judged together. Plain data and its statistics.

Every variant is compared with the base twice, by accuracy and by loss. Among ten such
comparisons of equals one would be called different by luck in four tables of ten, so verdicts
are corrected for the number of comparisons in the table.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from smidgen.evidence.compare import ALPHA, PairedDifference
from smidgen.evidence.proof import Spread
from smidgen.evidence.statistics import Interval, pairs_needed
from smidgen.values import to_plain

Measure = Literal["accuracy", "loss"]
ChangeVerdict = Literal["better", "worse", "cannot tell"]
RowVerdict = Literal["better", "worse", "mixed", "cannot tell", "failed"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the seeds of one recipe came to after the last epoch.

    Args:
        seeds: In order.
        accuracies: Of each seed, shares in [0, 1].
        losses: Of each seed, mean cross-entropy.
        accuracy: Over seeds.
        loss: Over seeds.
        train_seconds: Of one run.
    """

    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]
    accuracy: Spread
    loss: Spread
    train_seconds: Spread


@dataclass(frozen=True, slots=True)
class Change:
    """By how much a variant differs from the base in one measure: variant - base, seed by seed.

    Args:
        mean: Mean difference.
        sd: Standard deviation of the differences; None for one seed, as are the next three.
        interval: Student's interval of the mean difference, not corrected.
        bootstrap: The BCa bootstrap interval, not corrected.
        p_value: Two-sided, of the sign-flip test, not corrected.
        adjusted_p: The same, corrected for all comparisons of the table by Holm's method; None
            where it is not among them.
        verdict: `better` or `worse` if the corrected test and the bootstrap both say so.
        seeds_needed: With how many seeds a true difference as large as the mean would be seen
            four times in five among as many comparisons; None if there is none.
    """

    mean: float
    sd: float | None = None
    interval: Interval | None = None
    bootstrap: Interval | None = None
    p_value: float | None = None
    adjusted_p: float | None = None
    verdict: ChangeVerdict = "cannot tell"
    seeds_needed: int | None = None


@dataclass(frozen=True, slots=True)
class AblationRow:
    """The base or one variant.

    Args:
        name: What it is called in the table.
        fingerprint: Its recipe's.
        num_params: By the counting rule.
        num_macs: For one image.
        epochs: Passes over the training images.
        changes: What it changes in the base, one phrase each.
        measured: What its seeds came to; None if there are no runs.
        accuracy: The change in accuracy; None for the base and where seeds are missing.
        loss: The change in loss; None as above.
        images: Interval of the change in accuracy, had other images of the kind been drawn.
        loss_judged: Whether the loss may decide: not where training minimizes another one.
        verdict: None for the base, and before all rows are judged.
        reason: Why seeds are missing.
    """

    name: str
    fingerprint: str
    num_params: int
    num_macs: int
    epochs: int
    changes: tuple[str, ...] = ()
    measured: Measured | None = None
    accuracy: Change | None = None
    loss: Change | None = None
    images: Interval | None = None
    loss_judged: bool = True
    verdict: RowVerdict | None = None
    reason: str = ""

    @property
    def seeds_needed(self) -> int | None:
        """With how many seeds one of the measures would tell; None if it is not known."""
        needed = [
            change.seeds_needed
            for change in (self.accuracy, self.loss)
            if change is not None and change.seeds_needed is not None
        ]
        return min(needed, default=None)

    def measures_saying(self, verdict: ChangeVerdict) -> list[Measure]:
        """Return the measures by which it is `better` or `worse`."""
        found: list[Measure] = []
        if self.accuracy is not None and self.accuracy.verdict == verdict:
            found.append("accuracy")
        if self.loss is not None and self.loss.verdict == verdict:
            found.append("loss")
        return found


@dataclass(frozen=True, slots=True)
class Ablation:
    """Variants of a recipe against it, paired by seed, measured on `valid`.

    Args:
        recipe: Name of the base.
        dataset: On which all were trained and measured.
        data_sha256: Its hash.
        split: On which part of it they were measured.
        num_images: In that part.
        protocol: Of all runs.
        engine: What did the arithmetic of all runs.
        device: Where.
        seeds: Of all runs.
        base: What the variants are compared with.
        variants: In the order given.
        num_comparisons: For how many comparisons the verdicts are corrected.
        processors: On which the base ran.
        versions: Of the software that it ran with, one text per set that occurs.
    """

    recipe: str
    dataset: str
    data_sha256: str
    split: str
    num_images: int
    protocol: str
    engine: str
    device: str
    seeds: tuple[int, ...]
    base: AblationRow
    variants: tuple[AblationRow, ...]
    num_comparisons: int
    processors: tuple[str, ...]
    versions: tuple[str, ...]

    def to_plain(self) -> dict[str, Any]:
        """Return the machine-readable form: dictionaries, lists, strings, numbers and None."""
        return to_plain(self)


def change_of(found: PairedDifference) -> Change:
    """Return a paired difference, variant - base, as a change that nobody has judged yet."""
    return Change(found.mean, found.sd, found.interval, found.bootstrap, found.p_value)


def count_comparisons(rows: Iterable[AblationRow]) -> int:
    """Return how many changes are judged: accuracy and, where it may decide, loss."""
    return sum(len(_judged(row)) for row in rows)


def fewest_seeds(num_comparisons: int) -> int:
    """Return with how many seeds a verdict is possible at all.

    The smallest p of a two-sided sign-flip test is 2 / 2^n, and the first step of Holm's method
    asks for 0.05 / comparisons.
    """
    return math.ceil(math.log2(2.0 * max(num_comparisons, 1) / ALPHA))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in the same order.

    Calling different what has a corrected p of at most 0.05 errs in at most 5 % of all tables,
    however the comparisons depend on each other; here they share the base.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def judge(rows: Sequence[AblationRow]) -> tuple[AblationRow, ...]:
    """Return the variants with their verdicts, corrected for all comparisons of the table."""
    keys: list[tuple[int, Measure]] = [
        (place, measure) for place, row in enumerate(rows) for measure in _judged(row)
    ]
    changes = [_change(rows[place], measure) for place, measure in keys]
    adjusted = holm([1.0 if each.p_value is None else each.p_value for each in changes])
    decided = {
        key: _decide(change, p_value, key[1], len(keys), rows[key[0]])
        for key, change, p_value in zip(keys, changes, adjusted, strict=True)
    }
    return tuple(
        _with_verdict(
            replace(
                row,
                accuracy=decided.get((place, "accuracy"), row.accuracy),
                loss=decided.get((place, "loss"), row.loss),
            )
        )
        for place, row in enumerate(rows)
    )


def _judged(row: AblationRow) -> list[Measure]:
    if row.accuracy is None:
        return []
    return ["accuracy", "loss"] if row.loss_judged else ["accuracy"]


def _change(row: AblationRow, measure: Measure) -> Change:
    change = row.accuracy if measure == "accuracy" else row.loss
    assert change is not None
    return change


def _decide(
    change: Change, adjusted_p: float, measure: Measure, num_comparisons: int, row: AblationRow
) -> Change:
    if change.sd is None or row.measured is None:
        return change
    verdict: ChangeVerdict = "cannot tell"
    if adjusted_p <= ALPHA and change.bootstrap is not None and 0.0 not in change.bootstrap:
        verdict = "better" if (change.mean > 0.0) == (measure == "accuracy") else "worse"
    needed = pairs_needed(change.mean, change.sd, alpha=ALPHA / num_comparisons)
    if needed is not None:
        needed = max(needed, fewest_seeds(num_comparisons))
        if verdict == "cannot tell":
            needed = max(needed, len(row.measured.seeds) + 1)  # so many were not enough
    return replace(change, adjusted_p=adjusted_p, verdict=verdict, seeds_needed=needed)


def _with_verdict(row: AblationRow) -> AblationRow:
    if row.accuracy is None:
        return replace(row, verdict="failed")
    better, worse = row.measures_saying("better"), row.measures_saying("worse")
    if better and worse:
        return replace(row, verdict="mixed")
    return replace(row, verdict="better" if better else "worse" if worse else "cannot tell")

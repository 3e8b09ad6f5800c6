"""Finished runs of one recipe in, everything that the page of their proof shows out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smidgen.evidence.limits import promised_target, void_target
from smidgen.evidence.proof import Proof
from smidgen.evidence.statements import STAY_EPOCHS, errors_allowed, proof_of
from smidgen.evidence.statistics import Proportion, paired_power, pairs_needed, proportion
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import RunRecord
from smidgen.runs.store import RunFolder

DIFFERENCES_POINTS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""From what nobody can see with a bearable number of seeds to what nobody can miss."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy after each epoch, a share, for one seed."""

    seed: int
    accuracies: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class HardImage:
    """An image that every seed gets wrong.

    Args:
        position: In the split, from 0.
        label: Name of the class it is labelled with.
        given: Name of the class that most seeds see in it.
        share: Of the seeds that see that, in [0, 1].
        is_label_error: Whether its label is known to be wrong.
    """

    position: int
    label: str
    given: str
    share: float
    is_label_error: bool


@dataclass(frozen=True, slots=True)
class PowerRow:
    """What it takes to see that two recipes differ.

    Args:
        points: The true difference of their mean accuracies, in percentage points.
        pairs: Seeds of each that see it four times in five; None beyond a million.
        seen: How often as many seeds as there are here would see it, in [0, 1].
    """

    points: float
    pairs: int | None
    seen: float


@dataclass(frozen=True, slots=True)
class ProofStory:
    """What the page of a proof shows.

    Args:
        proof: The statements.
        recipe: What was proved.
        curves: One per seed, by seed.
        at_target: After each epoch, the seeds at the target; empty without a target.
        staying: After each epoch, the seeds that are at the target from there to the last.
        hard: Images wrong for every seed, the surest error first.
        power: Empty for one seed, or if all seeds came to the same.
        notes: What is left out, and why, one sentence each.
    """

    proof: Proof
    recipe: Recipe
    curves: tuple[Curve, ...]
    at_target: tuple[Proportion, ...]
    staying: tuple[Proportion, ...]
    hard: tuple[HardImage, ...]
    power: tuple[PowerRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def mean_curve(self) -> tuple[float, ...]:
        """Mean over seeds of the accuracy after each epoch."""
        rows = [curve.accuracies for curve in self.curves]
        return tuple(float(mean) for mean in np.mean(rows, axis=0))


def tell_proof(
    runs: Sequence[RunFolder], target: float | None = None, stay_epochs: int = STAY_EPOCHS
) -> ProofStory:
    """Gather what the page of a proof shows.

    Args:
        runs: As for `proof_of`.
        target: A share in (0, 1]; None for what the recipe promises of this data set, if anything.
        stay_epochs: How many last epochs must be at the target to stay there.

    Raises:
        RunError: As `proof_of`.
    """
    pairs = sorted(((run.record(), run) for run in runs), key=lambda pair: pair[0].seed)
    records = [record for record, _ in pairs]
    void = void_target(records[0].recipe) if target is None and records else ""
    if target is None and records:
        target = promised_target(records[0].recipe)
    proof = proof_of([run for _, run in pairs], target, stay_epochs)
    at_target = _at_target(records, target)
    # from the end backwards: at the target here, and in every epoch after
    staying = np.logical_and.accumulate(at_target[:, ::-1], axis=1)[:, ::-1]
    return ProofStory(
        proof=proof,
        recipe=records[0].recipe,
        curves=tuple(_curve(record) for record in records),
        at_target=_counted(at_target),
        staying=_counted(staying),
        hard=_hard_images([run for _, run in pairs], proof, records[0]),
        power=power_rows(proof),
        notes=(void,) if void else (),
    )


def _curve(record: RunRecord) -> Curve:
    return Curve(record.seed, tuple(epoch.eval_accuracy for epoch in record.epochs))


def _at_target(records: Sequence[RunRecord], target: float | None) -> np.ndarray:
    """Return which seed is at the target after which epoch, bool (seeds, epochs)."""
    if target is None:
        return np.zeros((len(records), 0), bool)
    data = records[0].data
    num_images = data.num_test if records[0].epochs[0].split == "test" else data.num_valid
    errors = np.array([[epoch.eval_num_errors for epoch in record.epochs] for record in records])
    return errors <= errors_allowed(target, num_images)


def _counted(table: np.ndarray) -> tuple[Proportion, ...]:
    return tuple(proportion(int(count), len(table)) for count in table.sum(axis=0))


def _hard_images(
    runs: Sequence[RunFolder], proof: Proof, record: RunRecord
) -> tuple[HardImage, ...]:
    if proof.images is None or not proof.images.shared:
        return ()
    shared = np.array(proof.images.shared)
    names = record.data.class_names
    predictions = [run.predictions() for run in runs]
    labels = predictions[0]["labels"][shared]
    given = np.stack([each["logits"][shared].argmax(axis=1) for each in predictions])
    found = []
    for place, position in enumerate(proof.images.shared):
        votes = np.bincount(given[:, place], minlength=len(names))
        most = int(votes.argmax())
        found.append(
            HardImage(
                position=position,
                label=names[int(labels[place])],
                given=names[most],
                share=float(votes[most]) / len(runs),
                is_label_error=position in proof.images.label_errors,
            )
        )
    return tuple(sorted(found, key=lambda image: (-image.share, image.position)))


def power_rows(proof: Proof) -> tuple[PowerRow, ...]:
    """Return how many seeds see which difference, if the other recipe scatters as this one.

    Seeds of two recipes share nothing that makes them alike, so their difference scatters by
    the square root of two as much as one of them.
    """
    n, sd = proof.accuracy.n, proof.accuracy.sd
    if not sd:
        return ()
    spread = math.sqrt(2.0) * sd
    return tuple(
        PowerRow(
            points=points,
            pairs=pairs_needed(points / 100.0, spread),
            seen=paired_power(n, points / 100.0, spread),
        )
        for points in DIFFERENCES_POINTS
    )

"""Runs of two recipes in, one verdict out: better, or how many seeds it would take to tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from smidgen.errors import RunError
from smidgen.evidence.proof import (
    FEWEST_FOR_BOOTSTRAP,
    Spread,
    check_alike,
    finished_result,
    last_epoch,
    spread,
    wrong_images,
)
from smidgen.evidence.statistics import (
    Interval,
    Numbers,
    bca_of_mean,
    image_interval,
    pairs_needed,
    sign_flip_test,
    standard_deviation,
    t_interval,
)
from smidgen.runs.record import ON_TEST, RunRecord
from smidgen.runs.store import RunFolder
from smidgen.values import to_plain

ALPHA = 0.05

Verdict = Literal["a is better", "b is better", "cannot tell"]


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """What pairs of numbers, one pair per seed, say about the difference a - b.

    Args:
        n: Pairs.
        mean: Mean difference.
        verdict: Who is better, if the sign-flip test and the bootstrap both say so.
        sd: Standard deviation of the differences; None for one pair, as is the rest.
        interval: Student's interval of the mean difference.
        bootstrap: The BCa bootstrap interval; None for fewer than six pairs.
        p_value: Two-sided, of the sign-flip test.
        pairs_needed: With how many pairs a true difference as large as the mean would be seen
            four times in five; None if there is none, or beyond a million.
    """

    n: int
    mean: float
    verdict: Verdict
    sd: float | None = None
    interval: Interval | None = None
    bootstrap: Interval | None = None
    p_value: float | None = None
    pairs_needed: int | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared.

    Args:
        recipe: Name of the recipe.
        engine: What did the arithmetic.
        num_params: By the counting rule.
        accuracy: After the last epoch, over the paired seeds.
        train_seconds: Of one run.
    """

    recipe: str
    engine: str
    num_params: int
    accuracy: Spread
    train_seconds: Spread


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two recipes, paired by seed.

    Args:
        a: The first.
        b: The second.
        dataset: On which they were measured.
        split: On which part of it.
        protocol: Of all the runs.
        seeds: That both have.
        left_out: That only one has.
        difference: In accuracy, a - b, over seeds.
        images: Interval of that difference, had other images of the kind been drawn; None
            where an epoch was selected on the test set.
    """

    a: Side
    b: Side
    dataset: str
    split: str
    protocol: str
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    difference: PairedDifference
    images: Interval | None

    @property
    def verdict(self) -> Verdict:
        """`a is better`, `b is better` or `cannot tell`."""
        return self.difference.verdict

    def to_plain(self) -> dict[str, Any]:
        """Return the machine-readable form: dictionaries, lists, strings, numbers and None."""
        return to_plain(self)


def paired_difference(a: Numbers, b: Numbers) -> PairedDifference:
    """Compare two equally long rows of numbers, higher is better; at least one pair.

    Source: the rule that a paired bootstrap interval and a sign-flip test must both agree is
    from arXiv 2511.19794, 2025.
    """
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    mean = float(differences.mean())
    if len(differences) == 1:
        return PairedDifference(1, mean, "cannot tell")
    p_value = sign_flip_test(differences)
    has_bootstrap = len(differences) >= FEWEST_FOR_BOOTSTRAP
    bootstrap = bca_of_mean(differences) if has_bootstrap else None
    verdict: Verdict = "cannot tell"
    if p_value <= ALPHA and bootstrap is not None and 0.0 not in bootstrap:
        verdict = "a is better" if mean > 0.0 else "b is better"
    sd = standard_deviation(differences)
    needed = pairs_needed(mean, sd)
    if needed is not None and verdict == "cannot tell":
        needed = max(needed, len(differences) + 1)  # so many were not enough
    return PairedDifference(
        n=len(differences),
        mean=mean,
        verdict=verdict,
        sd=sd,
        interval=t_interval(differences),
        bootstrap=bootstrap,
        p_value=p_value,
        pairs_needed=needed,
    )


def compare(a: Sequence[RunFolder], b: Sequence[RunFolder]) -> Comparison:
    """Compare two recipes by the runs of the seeds that both have.

    Args:
        a: Finished runs that differ in nothing but the seed.
        b: The same.

    Raises:
        RunError: No seed in common; runs of one side that are no sample; or sides that were
            measured by another protocol or on other images.
    """
    ours, theirs = _by_seed(a), _by_seed(b)
    first, other = next(iter(ours.values()))[0], next(iter(theirs.values()))[0]
    _check_comparable(first, other)
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        raise RunError(
            f"`{first.recipe.name}` has runs of the seeds {_listed(ours)} and "
            f"`{other.recipe.name}` of {_listed(theirs)}: none in common to pair."
        )
    pairs_a, pairs_b = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    side_a, side_b = _side(pairs_a), _side(pairs_b)
    result = finished_result(first)
    images = None
    if ON_TEST not in (result.selection, finished_result(other).selection):
        wrong_a, wrong_b = ([run for _, run in pairs] for pairs in (pairs_a, pairs_b))
        images = image_interval(wrong_images(wrong_b), wrong_images(wrong_a))
    return Comparison(
        a=side_a,
        b=side_b,
        dataset=first.data.name,
        split=result.split,
        protocol=first.protocol,
        seeds=tuple(seeds),
        left_out=tuple(sorted(ours.keys() ^ theirs.keys())),
        difference=paired_difference(_accuracies(pairs_a), _accuracies(pairs_b)),
        images=images,
    )


_Pair = tuple[RunRecord, RunFolder]


def _by_seed(runs: Sequence[RunFolder]) -> dict[int, _Pair]:
    records = [run.record() for run in runs]
    check_alike(records)
    return {record.seed: (record, run) for record, run in zip(records, runs, strict=True)}


def _check_comparable(a: RunRecord, b: RunRecord) -> None:
    names = f"`{a.recipe.name}` and `{b.recipe.name}`"
    if a.protocol != b.protocol:
        raise RunError(
            f"{names} were run under the protocols `{a.protocol}` and `{b.protocol}`. "
            "Compare runs of one protocol."
        )
    if a.data.sha256 != b.data.sha256:
        raise RunError(
            f"{names} were trained and measured on other images (`{a.data.name}` "
            f"{a.data.sha256[:8]}, `{b.data.name}` {b.data.sha256[:8]}). Compare runs on the same."
        )
    split_a, split_b = finished_result(a).split, finished_result(b).split
    if split_a != split_b:
        raise RunError(f"{names} were measured on `{split_a}` and `{split_b}`.")


def _side(pairs: Sequence[_Pair]) -> Side:
    first = pairs[0][0]
    return Side(
        recipe=first.recipe.name,
        engine=first.environment.engine,
        num_params=first.num_params,
        accuracy=spread(_accuracies(pairs)),
        train_seconds=spread([record.train_seconds for record, _ in pairs]),
    )


def _accuracies(pairs: Sequence[_Pair]) -> list[float]:
    return [last_epoch(record)[0] for record, _ in pairs]


def _listed(seeds: dict[int, _Pair]) -> str:
    ordered = sorted(seeds)
    shown = ", ".join(str(seed) for seed in ordered[:5])
    return f"{shown}, ..." if len(ordered) > 5 else shown

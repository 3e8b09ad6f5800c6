"""Finished runs that differ in nothing but the seed in, a `Proof` out: what they say together."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smidgen.errors import RunError
from smidgen.evidence.answers import known_label_errors
from smidgen.evidence.statistics import (
    Interval,
    Proportion,
    bca_of_mean,
    image_interval,
    proportion,
    standard_deviation,
    t_interval,
    t_test_above,
)
from smidgen.runs.record import ON_TEST, EpochRecord, Result, RunRecord, differences
from smidgen.runs.store import RunFolder
from smidgen.values import to_plain


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one seed came to.

    Args:
        seed: The random seed.
        run: Name of its run.
        accuracy: After the last epoch, a share in [0, 1].
        num_errors: Images wrong after the last epoch.
        first_epoch: First epoch at the target, or None; also None without a target.
        stays: Whether the last epochs are all at the target.
        train_seconds: Sum over epochs of the training part.
        wall_seconds: In all.
    """

    seed: int
    run: str
    accuracy: float
    num_errors: int
    first_epoch: int | None
    stays: bool
    train_seconds: float
    wall_seconds: float


@dataclass(frozen=True, slots=True)
class SeedFailure:
    """A seed that gave no result, and why; `diverged` if it met NaN or infinity."""

    seed: int
    reason: str
    diverged: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """A number over seeds.

    Args:
        n: How many seeds.
        mean: Their mean.
        median: Their median.
        minimum: The lowest.
        maximum: The highest.
        sd: Standard deviation, n - 1 below; None for one seed.
        interval: Student's interval of the mean: the headline; None for one seed.
        bootstrap: The BCa bootstrap interval of the mean; None for fewer than six seeds.
    """

    n: int
    mean: float
    median: float
    minimum: float
    maximum: float
    sd: float | None = None
    interval: Interval | None = None
    bootstrap: Interval | None = None


@dataclass(frozen=True, slots=True)
class AtTarget:
    """How the seeds stand to a target.

    Args:
        target: A share in [0, 1].
        stay_epochs: How many last epochs "stays" asks for.
        reached: Seeds at or above the target after the last epoch.
        stayed: Seeds whose last epochs are all at or above the target.
        p_value: One-sided: how likely a mean this high if the true one were the target; None
            for one seed.
        median_first_epoch: Half of all seeds were at the target by then; None if half never
            were.
        never: Seeds that were not at the target after any epoch.
    """

    target: float
    stay_epochs: int
    reached: Proportion
    stayed: Proportion
    p_value: float | None
    median_first_epoch: float | None
    never: Proportion


@dataclass(frozen=True, slots=True)
class ImageErrors:
    """Which images of the split the seeds get wrong.

    Args:
        num_images: Images in the split.
        ever: How many are wrong for at least one seed.
        shared: Positions, from 0, of those that are wrong for every seed: the hard core.
        label_errors: Those of `shared` that are known to be labelled wrongly.
        known_label_errors: How many wrong labels are known in the split.
        interval: Of the accuracy, had other images of the kind been drawn.
    """

    num_images: int
    ever: int
    shared: tuple[int, ...]
    label_errors: tuple[int, ...]
    known_label_errors: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class Selected:
    """Where the origin's protocol selects the best epoch on the test set: the three side by side.

    Args:
        last: Mean over seeds of the last epoch's accuracy.
        mean_of_last_five: Mean over seeds of the mean of the last five epochs.
        best: Mean over seeds of the best epoch's accuracy, *selected on the test set*.
    """

    last: float
    mean_of_last_five: float
    best: float


@dataclass(frozen=True, slots=True)
class Proof:
    """What many seeds of one recipe say together.

    Args:
        recipe: The recipe's name.
        fingerprint: The recipe's.
        num_params: By the counting rule.
        num_macs: For one image.
        epochs: Passes over the training images.
        protocol: `final`, `tune` or `origin`.
        engine: What did the arithmetic.
        device: Where.
        dataset: Name of the data set.
        data_sha256: Its hash.
        split: Where accuracy was measured.
        seeds: One result per seed, by seed.
        accuracy: Over seeds, after the last epoch.
        train_seconds: Of one run.
        wall_seconds: Of one run.
        processors: On which the runs ran.
        versions: Of the software, one text per set that occurs.
        target: How the seeds stand to a target, if there is one.
        images: Which images are wrong; None where an epoch was selected on the test set.
        selected: The other accuracies, where an epoch was selected on the test set.
        failures: Seeds without a result.
    """

    recipe: str
    fingerprint: str
    num_params: int
    num_macs: int
    epochs: int
    protocol: str
    engine: str
    device: str
    dataset: str
    data_sha256: str
    split: str
    seeds: tuple[SeedResult, ...]
    accuracy: Spread
    train_seconds: Spread
    wall_seconds: Spread
    processors: tuple[str, ...]
    versions: tuple[str, ...]
    target: AtTarget | None = None
    images: ImageErrors | None = None
    selected: Selected | None = None
    failures: tuple[SeedFailure, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Return the machine-readable form: dictionaries, lists, strings, numbers and None."""
        return to_plain(self)


STAY_EPOCHS = 5
FEWEST_FOR_BOOTSTRAP = 6
"""Of five seeds a 95 % interval holds the true mean 84 times in 100, of three 71 times.

And below six pairs the sign-flip test reaches no 5 %, so that no interval can decide anything.
"""


def proof_of(
    runs: Sequence[RunFolder],
    target: float | None = None,
    stay_epochs: int = STAY_EPOCHS,
    failures: Sequence[SeedFailure] = (),
) -> Proof:
    """State what finished runs say together.

    Args:
        runs: At least one, one per seed, alike in all but the seed.
        target: A share in (0, 1], or None.
        stay_epochs: How many last epochs must be at the target to stay there.
        failures: Seeds that gave no run, to be passed on.

    Raises:
        RunError: No runs, an unfinished or damaged one, a seed twice, or runs that differ in
            more than the seed.
    """
    pairs = sorted(((run.record(), run) for run in runs), key=lambda pair: pair[0].seed)
    records = [record for record, _ in pairs]
    check_alike(records)
    first, result = records[0], finished_result(records[0])
    results = tuple(_seed_result(record, run, target, stay_epochs) for record, run in pairs)
    selects, num_images = result.selection == ON_TEST, result.num_images
    return Proof(
        recipe=first.recipe.name,
        fingerprint=first.fingerprint,
        num_params=first.num_params,
        num_macs=first.num_macs,
        epochs=first.recipe.epochs,
        protocol=first.protocol,
        engine=first.environment.engine,
        device=first.environment.device,
        dataset=first.data.name,
        data_sha256=first.data.sha256,
        split=result.split,
        seeds=results,
        accuracy=spread([each.accuracy for each in results]),
        train_seconds=spread([each.train_seconds for each in results]),
        wall_seconds=spread([each.wall_seconds for each in results]),
        processors=_distinct(r.environment.hardware.get("processor", "unknown") for r in records),
        versions=_distinct(_versions(record) for record in records),
        target=None if target is None else _at_target(results, target, stay_epochs, num_images),
        images=None if selects else _image_errors([run for _, run in pairs], first),
        selected=_selected(records) if selects else None,
        failures=tuple(failures),
    )


def spread(values: Sequence[float]) -> Spread:
    """Return mean, median, range; deviation and Student's interval from two values on.

    The bootstrap interval takes six.
    """
    array = np.asarray(values, np.float64)
    several = len(array) > 1
    return Spread(
        n=len(array),
        mean=float(array.mean()),
        median=float(np.median(array)),
        minimum=float(array.min()),
        maximum=float(array.max()),
        sd=standard_deviation(array) if several else None,
        interval=t_interval(array) if several else None,
        bootstrap=bca_of_mean(array) if len(array) >= FEWEST_FOR_BOOTSTRAP else None,
    )


def finished_result(record: RunRecord) -> Result:
    """Return a record's result; raises RunError if the run is not finished."""
    if record.result is None:
        raise RunError(
            f"Seed {record.seed} of `{record.recipe.name}` is not finished. Only finished runs "
            "are evidence; continue it first."
        )
    return record.result


def last_epoch(record: RunRecord) -> tuple[float, int]:
    """Return accuracy and number of errors after the last epoch, on the split of the result.

    Where an epoch was selected on the test set the result is not the last epoch's, but the
    epochs were measured on the same images.
    """
    result = finished_result(record)
    if result.selection == ON_TEST:
        return record.epochs[-1].eval_accuracy, record.epochs[-1].eval_num_errors
    return result.accuracy, result.num_errors


def wrong_images(runs: Sequence[RunFolder]) -> np.ndarray:
    """Return which run gets which image wrong, bool (runs, images).

    Raises:
        RunError: Damaged predictions, or runs that were measured on other images.
    """
    predictions = [run.predictions() for run in runs]
    labels = predictions[0]["labels"]
    for run, each in zip(runs, predictions, strict=True):
        if not np.array_equal(each["labels"], labels):
            raise RunError(f"`{run.name}` and `{runs[0].name}` were measured on other images.")
    return np.stack([each["logits"].argmax(axis=1) != labels for each in predictions])


def check_alike(records: Sequence[RunRecord]) -> None:
    """Refuse runs that are no sample: none, unfinished, a seed twice, different in more.

    Raises:
        RunError: Says what differs.
    """
    if not records:
        raise RunError("There are no finished runs to make a statement about.")
    seeds = [record.seed for record in records]
    for record in records:
        finished_result(record)
        different = differences(records[0].kind, record.kind)
        if different:
            raise RunError(
                f"The runs of `{records[0].recipe.name}` differ in more than the seed: "
                f"{', '.join(different)}. Take runs that are alike in the rest."
            )
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise RunError(f"Seed {twice} is there twice. Take one run of each seed.")


def _seed_result(
    record: RunRecord, run: RunFolder, target: float | None, stay_epochs: int
) -> SeedResult:
    accuracy, num_errors = last_epoch(record)
    at_target = [_is_at(epoch, record, target) for epoch in record.epochs]
    return SeedResult(
        seed=record.seed,
        run=run.name,
        accuracy=accuracy,
        num_errors=num_errors,
        first_epoch=at_target.index(True) + 1 if any(at_target) else None,
        stays=len(at_target) >= stay_epochs and all(at_target[-stay_epochs:]),
        train_seconds=record.train_seconds,
        wall_seconds=record.wall_seconds,
    )


def _is_at(epoch: EpochRecord, record: RunRecord, target: float | None) -> bool:
    num_images = record.data.num_test if epoch.split == "test" else record.data.num_valid
    return target is not None and epoch.eval_num_errors <= errors_allowed(target, num_images)


def errors_allowed(target: float, num_images: int) -> int:
    """Return how many errors an accuracy target leaves: 60 in 10,000 images for 0.994.

    Counting errors is exact where shares are not: 1 - 7 / 10000 < 99.93 / 100 in doubles.
    """
    return math.floor((1.0 - target) * num_images + 1e-6)


def _at_target(
    results: Sequence[SeedResult], target: float, stay_epochs: int, num_images: int
) -> AtTarget:
    accuracies = [each.accuracy for each in results]
    allowed, total = errors_allowed(target, num_images), len(results)
    firsts = [math.inf if each.first_epoch is None else each.first_epoch for each in results]
    median = float(np.median(firsts))
    return AtTarget(
        target=target,
        stay_epochs=stay_epochs,
        reached=proportion(sum(each.num_errors <= allowed for each in results), total),
        stayed=proportion(sum(each.stays for each in results), total),
        p_value=t_test_above(accuracies, target) if total > 1 else None,
        median_first_epoch=median if math.isfinite(median) else None,
        never=proportion(firsts.count(math.inf), total),
    )


def _image_errors(runs: Sequence[RunFolder], record: RunRecord) -> ImageErrors:
    wrong = wrong_images(runs)
    shared = np.flatnonzero(wrong.all(axis=0))
    is_test = finished_result(record).split == "test"
    known = known_label_errors(record.data.sha256) if is_test else frozenset[int]()
    error_rate = image_interval(wrong)
    return ImageErrors(
        num_images=wrong.shape[1],
        ever=int(wrong.any(axis=0).sum()),
        shared=tuple(int(image) for image in shared),
        label_errors=tuple(int(image) for image in shared if int(image) in known),
        known_label_errors=len(known),
        interval=Interval(1.0 - error_rate.high, 1.0 - error_rate.low, error_rate.confidence),
    )


def _selected(records: Sequence[RunRecord]) -> Selected:
    results = [finished_result(record) for record in records]
    return Selected(
        last=float(np.mean([result.last_accuracy for result in results])),
        mean_of_last_five=float(np.mean([result.mean_of_last_five for result in results])),
        best=float(np.mean([result.best_accuracy for result in results])),
    )


def _versions(record: RunRecord) -> str:
    return ", ".join(f"{name} {text}" for name, text in record.environment.versions.items())


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))

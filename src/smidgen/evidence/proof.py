"""`Proof`: what many random seeds of one recipe say together. Plain data."""

from dataclasses import dataclass
from typing import Any

from smidgen.evidence.statistics import Interval, Proportion
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

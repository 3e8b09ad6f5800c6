"""Class scores and labels of one run in, what its answers are worth out.

Pure NumPy: who was taken for whom, whether a model that says 90 % is right nine times in ten, and
which labels of a data set are known to be wrong.
"""

from dataclasses import dataclass

import numpy as np

from smidgen.errors import RunError
from smidgen.training.splits import softmax

NUM_BINS = 15


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model said of N images of C classes.

    Args:
        labels: int64 (N,), what they are.
        probabilities: float64 (N, C), what the model says they are; rows sum to 1.
    """

    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image, int64 (N,); a tie goes to the lower class."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the most probable class, float64 (N,)."""
        return self.probabilities.max(axis=1)

    @property
    def wrong(self) -> np.ndarray:
        """Positions of the images that are taken for another class, the surest error first."""
        found = np.flatnonzero(self.predicted != self.labels)
        return found[np.argsort(-self.confidence[found], kind="stable")]

    def confusion(self) -> np.ndarray:
        """Return int64 (C, C): how many images of class i (row) are taken for class j (column)."""
        num_classes = self.probabilities.shape[1]
        pairs = self.labels * num_classes + self.predicted
        return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def answers_of(logits: np.ndarray, labels: np.ndarray) -> Answers:
    """Return the answers that class scores, (N, C), give; `labels` are int (N,).

    Raises:
        RunError: Scores and labels that do not fit each other, or are none.
    """
    num_classes = logits.shape[1] if logits.ndim == 2 else 0
    if not num_classes or labels.shape != (len(logits),) or not len(labels):
        raise RunError(f"Scores of shape {logits.shape} do not fit labels of {labels.shape}.")
    if not np.issubdtype(labels.dtype, np.integer) or not np.isfinite(logits).all():
        raise RunError("Class scores must be finite numbers and labels whole ones.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise RunError(f"Labels must be 0 to {num_classes - 1}, not up to {int(labels.max())}.")
    return Answers(labels.astype(np.int64), softmax(logits))


@dataclass(frozen=True, slots=True)
class Bin:
    """The images whose confidence lies above `low` and up to `high`.

    Args:
        low: In [0, 1).
        high: In (0, 1].
        count: How many images.
        confidence: Their mean confidence.
        num_right: How many of them are classified right.
    """

    low: float
    high: float
    count: int
    confidence: float
    num_right: int

    @property
    def accuracy(self) -> float:
        """Share of the bin's images classified right."""
        return self.num_right / self.count


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far the model's probabilities can be taken at their word.

    Args:
        bins: The bins that hold images, from the lowest confidence up.
        ece: Expected calibration error: the mean of |confidence - accuracy| over the bins,
            weighted by their images; 0 is perfect.
        brier: Mean of the squared distance between the probabilities and the truth, from 0 to 2.
        log_loss: Mean negative logarithm of the true class's probability, in nats.
        confidence: Mean over all images.
        accuracy: Share of images classified right.
    """

    bins: tuple[Bin, ...]
    ece: float
    brier: float
    log_loss: float
    confidence: float
    accuracy: float


def calibration(answers: Answers, num_bins: int = NUM_BINS) -> Calibration:
    """Hold confidence against accuracy, in bins of equal width.

    Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, 2017
    (the expected calibration error with 15 bins); Brier, Verification of Forecasts Expressed in
    Terms of Probability, 1950.
    """
    confidence, right = answers.confidence, answers.predicted == answers.labels
    places = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    bins = []
    for place in np.unique(places):
        inside = places == place
        bins.append(
            Bin(
                low=int(place) / num_bins,
                high=(int(place) + 1) / num_bins,
                count=int(inside.sum()),
                confidence=float(confidence[inside].mean()),
                num_right=int(right[inside].sum()),
            )
        )
    total = len(confidence)
    truth = np.arange(answers.probabilities.shape[1]) == answers.labels[:, None]
    of_truth = answers.probabilities[truth]
    return Calibration(
        bins=tuple(bins),
        ece=sum(each.count * abs(each.confidence - each.accuracy) for each in bins) / total,
        brier=float(((answers.probabilities - truth) ** 2).sum(axis=1).mean()),
        log_loss=float(-np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)).mean()),
        confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
    )


MNIST_SHA256 = "a3e0bbee0c5b9e21f03a5162a50aece5fc8ebe2afb64cf9872c882d13fd864a8"

# The 100 most suspicious test images of MNIST were shown to five people each. Of these 15 the
# majority did not confirm the label: 10 got the proposed one, 3 neither, 2 no majority.
_MNIST = (
    947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729,
)  # fmt: skip

_BY_DATA = {MNIST_SHA256: frozenset(_MNIST)}


def known_label_errors(data_sha256: str) -> frozenset[int]:
    """Return the test images of a data set that are known to be labelled wrongly, from 0.

    Empty for every data set but MNIST, which is told by its pixels and labels.

    Source: Northcutt, Athalye and Mueller, Pervasive Label Errors in Test Sets Destabilize
    Machine Learning Benchmarks, 2021, and the votes published with it, counted again.
    """
    return _BY_DATA.get(data_sha256, frozenset())

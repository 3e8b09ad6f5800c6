"""What answers are worth."""

import math
from pathlib import Path

import numpy as np
import pytest

from smidgen.data import Dataset, load_dataset
from smidgen.errors import RunError
from smidgen.evidence.answers import MNIST_SHA256, answers_of, calibration, known_label_errors
from smidgen.training.splits import evaluate


def _scores(rows: list[list[float]]) -> np.ndarray:
    """Return class scores whose softmax is these probabilities."""
    return np.log(np.array(rows)).astype(np.float32)


ROWS = [[0.85, 0.15], [0.85, 0.15], [0.55, 0.45], [0.25, 0.75]]
LABELS = np.array([0, 1, 0, 1])


def test_probabilities_are_the_softmax_of_the_scores() -> None:
    """Any constant added to the scores changes nothing, however large."""
    plain = answers_of(_scores(ROWS), LABELS)
    moved = answers_of(_scores(ROWS).astype(np.float64) + 5000.0, LABELS)

    np.testing.assert_allclose(plain.probabilities, ROWS, atol=1e-6)
    np.testing.assert_allclose(moved.probabilities, ROWS, atol=1e-6)


def test_errors_come_surest_first() -> None:
    """The wrong images are listed by falling confidence, equal ones in their order."""
    found = answers_of(
        _scores([[0.6, 0.4], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]]), np.array([1, 1, 1, 1])
    )

    assert found.wrong.tolist() == [1, 0, 2]


def test_a_tie_goes_to_the_lower_class_as_in_training() -> None:
    """Report and record count the same errors."""
    scores, labels = np.zeros((3, 4), np.float32), np.array([0, 1, 3])

    assert answers_of(scores, labels).predicted.tolist() == [0, 0, 0]
    assert len(answers_of(scores, labels).wrong) == evaluate(scores, labels).num_errors


def test_confusion_counts_rows_as_truth() -> None:
    """Row i, column j counts the images of class i that are taken for class j."""
    found = answers_of(_scores(ROWS), LABELS)

    assert found.confusion().tolist() == [[2, 0], [1, 1]]


def test_calibration_of_a_case_done_by_hand() -> None:
    """Four images in ten bins: every number follows from the definitions."""
    found = calibration(answers_of(_scores(ROWS), LABELS), num_bins=10)

    # bins: (0.5, 0.6] one image, right; (0.7, 0.8] one, right; (0.8, 0.9] two, one of them right
    assert [(each.count, each.num_right) for each in found.bins] == [(1, 1), (1, 1), (2, 1)]
    assert [each.low for each in found.bins] == [0.5, 0.7, 0.8]
    assert found.ece == pytest.approx((0.45 + 0.25 + 2 * 0.35) / 4, abs=1e-6)
    assert found.brier == pytest.approx(
        (2 * 0.15**2 + 2 * 0.85**2 + 2 * 0.45**2 + 2 * 0.25**2) / 4, abs=1e-6
    )
    assert found.log_loss == pytest.approx(
        -(math.log(0.85) + math.log(0.15) + math.log(0.55) + math.log(0.75)) / 4, abs=1e-6
    )
    assert found.confidence == pytest.approx(0.75, abs=1e-6)
    assert found.accuracy == 0.75


@pytest.mark.parametrize(
    ("rows", "labels", "ece"),
    [
        ([[1.0, 1e-30]] * 4, [0, 0, 0, 0], 0.0),
        ([[1.0, 1e-30]] * 4, [1, 1, 1, 1], 1.0),
        ([[0.75, 0.25]] * 4, [0, 0, 0, 1], 0.0),
        ([[0.5, 0.5]] * 4, [0, 0, 1, 1], 0.0),
    ],
    ids=["sure and right", "sure and wrong", "modest and fair", "a coin"],
)
def test_calibration_error_of_plain_cases(
    rows: list[list[float]], labels: list[int], ece: float
) -> None:
    """Being sure costs nothing where it is right and everything where it is wrong."""
    found = calibration(answers_of(_scores(rows), np.array(labels)))

    assert found.ece == pytest.approx(ece, abs=1e-6)


def test_log_loss_is_that_of_training() -> None:
    """The mean cross-entropy is the one that records hold."""
    scores = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    labels = np.arange(50) % 7

    found = calibration(answers_of(scores, labels))

    assert found.log_loss == pytest.approx(evaluate(scores, labels).loss, rel=1e-12)


def test_log_loss_of_an_impossible_answer_is_finite() -> None:
    """A probability that rounds to zero does not make the sum infinite."""
    found = calibration(answers_of(np.array([[0.0, 5000.0]], np.float32), np.array([0])))

    assert math.isfinite(found.log_loss)
    assert found.log_loss > 700.0


@pytest.mark.parametrize(
    ("logits", "labels", "text"),
    [
        (np.zeros((3, 2)), np.zeros(2, int), "do not fit"),
        (np.zeros(3), np.zeros(3, int), "do not fit"),
        (np.zeros((0, 2)), np.zeros(0, int), "do not fit"),
        (np.full((1, 2), np.nan), np.zeros(1, int), "finite"),
        (np.zeros((1, 2)), np.zeros(1), "whole"),
        (np.zeros((1, 2)), np.array([2]), "0 to 1"),
        (np.zeros((1, 2)), np.array([-1]), "0 to 1"),
    ],
)
def test_scores_that_make_no_sense_are_refused(
    logits: np.ndarray, labels: np.ndarray, text: str
) -> None:
    """A damaged file gives one clear line, never a wrong number."""
    with pytest.raises(RunError, match=text):
        answers_of(logits, labels)


def test_fifteen_labels_of_mnist_are_known_to_be_wrong() -> None:
    """The table holds 15 different test images."""
    known = known_label_errors(MNIST_SHA256)

    assert len(known) == 15
    assert {947, 9729} <= known
    assert all(0 <= image < 10_000 for image in known)


def test_nothing_is_known_of_other_images(stripes: Dataset) -> None:
    """Another hash, another data set: an empty table."""
    assert known_label_errors(stripes.sha256) == frozenset()


def test_the_table_is_for_the_mnist_that_is_loaded(mnist_folder: Path) -> None:
    """The hash in the table is that of the published files."""
    assert load_dataset("mnist", mnist_folder).sha256 == MNIST_SHA256

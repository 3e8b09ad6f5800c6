import numpy as np
import pytest
import torch
import torch.nn.functional as F

from smidgen.training.evaluation import Evaluation, evaluate


def test_loss_and_errors_are_pytorchs() -> None:
    """Loss is the mean cross-entropy of the scores, and errors are wrong answers."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (200, 7)).astype(np.float32)
    labels = rng.integers(0, 7, 200)

    found = evaluate(logits, labels)

    scores, target = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    assert found.loss == pytest.approx(float(F.cross_entropy(scores, target)), rel=1e-12)
    assert found.num_errors == int((scores.argmax(1) != target).sum())
    assert found.num_images == 200


def test_huge_scores_are_no_trouble() -> None:
    """Scores of any finite size give a finite loss and no warning."""
    logits = np.array([[3e38, -3e38], [-3e38, 3e38]], np.float32)

    found = evaluate(logits, np.array([0, 0]))

    assert found.num_errors == 1
    assert found.loss == pytest.approx(3e38, rel=1e-6)


def test_a_tie_goes_to_the_lower_class() -> None:
    """Equal scores count for the first of them."""
    logits = np.zeros((2, 3), np.float32)

    assert evaluate(logits, np.array([0, 2])).num_errors == 1


@pytest.mark.parametrize("errors", [0, 1, 7, 58, 60, 9999, 10000])
def test_accuracy_is_the_nearest_share(errors: int) -> None:
    """The share is right / all, rounded once: 58 errors of 10,000 are exactly 0.9942."""
    assert Evaluation(0.0, errors, 10_000).accuracy == (10_000 - errors) / 10_000
    assert f"{Evaluation(0.0, 58, 10_000).accuracy}" == "0.9942"

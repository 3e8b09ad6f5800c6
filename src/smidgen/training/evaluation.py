"""Class scores and labels in, loss and accuracy out."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a model did on a split: mean cross-entropy and the number of wrong answers."""

    loss: float
    num_errors: int
    num_images: int

    @property
    def accuracy(self) -> float:
        """Share of images classified right."""
        return (self.num_images - self.num_errors) / self.num_images


def evaluate(logits: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Compare class scores, (N, classes), with labels, (N,); a tie goes to the lower class."""
    scores = logits.astype(np.float64)
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    losses = log_sum - shifted[np.arange(len(labels)), labels]
    num_errors = int((scores.argmax(axis=1) != labels).sum())
    return Evaluation(float(losses.mean()), num_errors, len(labels))

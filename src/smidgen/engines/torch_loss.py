"""What training minimizes, in torch: the definition of every loss."""

import torch.nn.functional as F
from torch import Tensor

from smidgen.recipes.recipe import Recipe


def training_loss(recipe: Recipe, scores: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Return the mean loss of a batch.

    Args:
        recipe: Its loss and its distillation.
        scores: (B, classes), of the network in training mode.
        labels: int64 (B,).
        targets: (B, classes), the teachers' class probabilities; None without teachers.
    """
    hard = F.cross_entropy(scores, labels, label_smoothing=recipe.loss.label_smoothing)
    distillation = recipe.distillation
    if distillation is None or targets is None:
        return hard
    temperature, weight = distillation.temperature, distillation.weight
    softened = F.log_softmax(scores / temperature, dim=1)
    divergence = F.kl_div(softened, targets.to(scores.dtype), reduction="batchmean")
    # T^2 keeps the gradient as large as that of the labels, whatever T
    return (1.0 - weight) * hard + weight * temperature**2 * divergence

"""What went non-finite first in one batch."""

import numpy as np
import torch
from torch import Tensor

from smidgen.engines.torch_engine import PlannedDropout, training_loss
from smidgen.network.network import Node
from smidgen.network.torch_module import to_torch
from smidgen.recipes.recipe import Recipe


def diagnose_batch(
    recipe: Recipe,
    tensors: dict[str, np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    dropout: tuple[int, int],
    targets: np.ndarray | None = None,
) -> str:
    """Run a batch in training mode, forward and backward, and name the first bad place.

    Args:
        recipe: What was trained.
        tensors: The network's tensors from before the batch, by name.
        images: float32 (B, C, H, W), as the network sees them.
        labels: int64 (B,).
        dropout: The plan's key and the step within the epoch.
        targets: float32 (B, classes), the teachers' class probabilities; None without teachers.

    Returns:
        `the images`, an operation such as `conv2`, `the loss`, `the gradient of conv1.weight`,
        or `nothing` where the batch is finite when run again.
    """
    if not np.isfinite(images).all():
        return "the images"
    weights = {name: torch.from_numpy(tensors[name]) for name in recipe.network.graph.tensors}
    model = to_torch(recipe.network, weights=weights).train()
    model.dropout = PlannedDropout(*dropout)
    culprits: list[str] = []

    def watch(node: Node, output: Tensor) -> None:
        if not output.isfinite().all():
            culprits.append(f"`{node.name}`")

    scores = model.scores(torch.from_numpy(images), watch)
    taught = None if targets is None else torch.from_numpy(targets)
    loss = training_loss(recipe, scores, torch.from_numpy(labels), taught)
    if culprits:
        return culprits[0]
    if not loss.isfinite():
        return "the loss"
    named = dict(model.named_tensors())
    learned = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
    gradients = torch.autograd.grad(loss, list(learned.values()))
    for name, gradient in zip(learned, gradients, strict=True):
        if not gradient.isfinite().all():
            return f"the gradient of `{name}`"
    return "nothing (the batch is finite when run again)"

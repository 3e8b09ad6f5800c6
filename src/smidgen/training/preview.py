"""Training images as a recipe's network sees them."""

import numpy as np

from smidgen.data.dataset import Dataset
from smidgen.data.grid import samples_of
from smidgen.extras import require
from smidgen.recipes.catalogue import get_recipe
from smidgen.training.planning import plan


def augmented_samples(
    recipe_name: str, dataset: Dataset, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return images as the recipe augments them in its first epoch.

    Args:
        recipe_name: A name in the catalogue.
        dataset: Where the training images come from.
        count: How many images.
        seed: Decides which images and how they are changed.

    Returns:
        uint8 (count, C, H, W) before normalization, and int64 (count,) labels.
    """
    require("Augmenting images for a look needs", "torch")
    import torch

    from smidgen.engines.torch_engine import augmented

    recipe = get_recipe(recipe_name).replace(batch_size=count)
    images, labels = samples_of(dataset.train, dataset.num_classes, count, seed)
    planned = plan(recipe.replace(clean_epochs=0), seed, 1, [], len(images))
    rows = planned.rows(0)
    chosen = torch.from_numpy(images)
    # the plan's rows are used in the order of the samples, which keeps the classes together
    changed = augmented(chosen, planned, rows)
    pixels = (changed.clamp(0.0, 1.0) * 255).round().to(torch.uint8)
    return pixels.numpy(), labels

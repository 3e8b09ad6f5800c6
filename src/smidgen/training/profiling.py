"""One epoch of a recipe with timers around every kernel of the native engine."""

from dataclasses import replace

import numpy as np

from smidgen.data.dataset import Dataset
from smidgen.engines.native.profile import ProfileRow, profile
from smidgen.errors import DataError
from smidgen.recipes.recipe import Recipe
from smidgen.training.planning import plan
from smidgen.training.splits import splits_for


def profile_recipe(recipe: Recipe, dataset: Dataset, num_images: int) -> list[ProfileRow]:
    """Return where the first epoch's time goes on one thread, by layer and kind of work.

    Args:
        recipe: What is trained; its seed is 1.
        dataset: Where the images come from.
        num_images: How many of its training images the epoch has; all if there are fewer.

    Raises:
        CompilerError: No C compiler.
        DataError: The images do not fit the network, or `num_images` is below 1.
    """
    if num_images < 1:
        raise DataError(f"`num_images` must be at least 1, not {num_images}.")
    train = splits_for("final", recipe, dataset).train
    images, labels = train.images[:num_images], train.labels[:num_images]
    planned = plan(recipe, 1, 1, [], len(images))
    if recipe.distillation is not None:  # what teachers say does not change the time
        shape = (len(planned.order), dataset.num_classes)
        targets = np.full(shape, 1 / dataset.num_classes, np.float32)
        planned = replace(planned, targets=targets)
    return profile(recipe.network, recipe, images, labels, planned)

"""The ordinary way to train these recipes: PIL transforms per image, DataLoader with 2 workers.

What the origins' own scripts do, rebuilt without torchvision: every image becomes a PIL image,
is turned and shifted one by one, becomes a tensor, and is normalized; the network is the same
module with PyTorch's own dropout, in PyTorch's default memory format.
"""

import math
import random
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from smidgen.data import Split
from smidgen.network.torch_module import to_torch
from smidgen.recipes.augmentation import Rotation, Translation
from smidgen.recipes.parts import SGD
from smidgen.recipes.recipe import Recipe

NUM_WORKERS = 2


class PilImages(Dataset[tuple[Tensor, int]]):
    """Training images, each through PIL, one at a time."""

    def __init__(self, recipe: Recipe, split: Split) -> None:
        self.images = [Image.fromarray(image[0]) for image in split.images]
        self.labels = split.labels
        self.transforms = recipe.augmentation.transforms
        self.fill = round(255 * recipe.augmentation.fill)
        self.mean = recipe.normalization.train_mean
        self.std = recipe.normalization.train_std

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        for transform in self.transforms:
            if isinstance(transform, Rotation):
                angle = random.uniform(-transform.degrees, transform.degrees)
                image = image.rotate(angle, Image.Resampling.NEAREST, fillcolor=self.fill)
            elif isinstance(transform, Translation):
                dx, dy = (round(random.uniform(-1, 1) * transform.pixels) for _ in range(2))
                matrix = (1, 0, -dx, 0, 1, -dy)
                image = image.transform(image.size, Image.Transform.AFFINE, matrix)
        pixels = torch.from_numpy(np.array(image, dtype=np.uint8)).unsqueeze(0)
        return (pixels.float() / 255 - self.mean) / self.std, int(self.labels[index])


class OrdinaryTraining:
    """A model, an optimizer and a loader, stepped batch by batch."""

    def __init__(self, recipe: Recipe, split: Split) -> None:
        self.recipe = recipe
        self.model = to_torch(recipe.network).train()
        chosen = recipe.optimizer
        if isinstance(chosen, SGD):
            self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
                self.model.parameters(), chosen.lr, chosen.momentum
            )
        else:
            self.optimizer = torch.optim.Adam(
                self.model.parameters(), chosen.lr, weight_decay=chosen.weight_decay
            )
        self.loader = DataLoader(
            PilImages(recipe, split),
            recipe.batch_size,
            shuffle=True,
            num_workers=NUM_WORKERS,
            persistent_workers=True,
        )
        self._batches: Iterator[list[Tensor]] = iter(self.loader)

    def steps(self, count: float = math.inf) -> int:
        """Train `count` batches, or to the end of the epoch; return the images seen."""
        seen = 0
        while count > 0:
            batch = next(self._batches, None)
            if batch is None:
                self._batches = iter(self.loader)
                if count == math.inf:
                    break
                continue
            images, labels = batch
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            loss.item()  # the origins' progress bars read it at every step
            seen += len(labels)
            count -= 1
        return seen

"""Jobs of the tiny recipe, and what they have in common."""

from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.data import Dataset
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunStore
from smidgen.training.run import TrainOptions, specify
from smidgen.work.jobs import Job, Shared


@pytest.fixture
def shared(stripes: Dataset, tmp_path: Path) -> Shared:
    """Return a store and images that are far larger than what a pipe holds."""
    return Shared(RunStore(tmp_path / "runs"), {stripes.sha256: stripes})


@pytest.fixture
def job(tiny_recipe: Recipe, stripes: Dataset) -> Callable[..., Job]:
    """Return a function that makes the job of a seed, the recipe changed as asked.

    On the native engine, so that no process has to import torch.
    """

    def made(seed: int, **changes: object) -> Job:
        recipe = tiny_recipe.replace(**changes) if changes else tiny_recipe
        options = TrainOptions(engine="native", threads=1)
        return Job(specify(recipe, stripes, seed, options))

    return made

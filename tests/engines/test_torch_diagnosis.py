import numpy as np
import pytest

from smidgen.engines.torch_diagnosis import diagnose_batch
from smidgen.network.layers import Conv, Dense, Dropout, Flatten, GlobalAvgPool, ReLU
from smidgen.network.network import Network
from smidgen.network.weights import initial_weights
from smidgen.recipes.recipe import Recipe


def diagnosed(recipe: Recipe, changes: dict[str, float], image: float = 0.5) -> str:
    """Return what is found with every number of some tensors replaced."""
    tensors = initial_weights(recipe.network, 1)
    for name, value in changes.items():
        tensors[name] = np.full_like(tensors[name], value)
    images = np.random.default_rng(0).uniform(0, 1, (4, 1, 28, 28)).astype(np.float32) * image
    return diagnose_batch(recipe, tensors, images, np.array([0, 1, 2, 3]), (7, 0))


@pytest.mark.parametrize(
    ("changes", "image", "culprit"),
    [
        ({}, 0.5, "nothing (the batch is finite when run again)"),
        ({}, np.nan, "the images"),
        ({"conv1.weight": np.nan}, 0.5, "`conv1`"),
        ({"conv2.bias": np.inf}, 0.5, "`conv2`"),
        ({"batchnorm2.weight": np.nan, "dense1.bias": np.nan}, 0.5, "`batchnorm2`"),
        ({"dense1.bias": np.inf}, 0.5, "`dense1`"),
        ({"batchnorm1.running_mean": np.nan}, 0.5, "nothing (the batch is finite when run again)"),
    ],
)
def test_the_first_bad_place_is_named(
    tiny_recipe: Recipe, changes: dict[str, float], image: float, culprit: str
) -> None:
    """The operation whose output is the first that is not finite is named."""
    assert diagnosed(tiny_recipe, changes, image) == culprit


def test_an_infinite_gradient_is_named(tiny_recipe: Recipe) -> None:
    """With everything finite on the way forward, the first bad gradient is named."""
    network = Network((Flatten(), Dense(4, bias=False), Dense(10, bias=False)))
    recipe = tiny_recipe.replace(network=network)
    tensors = initial_weights(network, 1)
    tensors["dense1.weight"] = np.full((4, 784), 2e-38, np.float32)
    tensors["dense2.weight"] *= np.float32(1e30)
    images = np.full((4, 1, 28, 28), 1e20, np.float32)

    found = diagnose_batch(recipe, tensors, images, np.array([0, 1, 2, 3]), (7, 0))

    assert found == "the gradient of `dense1.weight`"


def test_an_infinite_loss_is_named(tiny_recipe: Recipe) -> None:
    """Finite scores that are too far apart for a finite loss are told from broken layers."""
    network = Network((Flatten(), Dense(10, bias=False)))
    recipe = tiny_recipe.replace(network=network)
    weight = np.where(np.arange(10)[:, None] == 9, np.float32(4e35), np.float32(-4e35))
    tensors = {"dense1.weight": weight * np.ones((10, 784), np.float32)}
    images = np.ones((4, 1, 28, 28), np.float32)

    found = diagnose_batch(recipe, tensors, images, np.array([0, 1, 2, 3]), (7, 0))

    assert found == "the loss"


def test_the_plans_dropout_is_replayed(tiny_recipe: Recipe) -> None:
    """What the plan drops cannot be the culprit: the same key gives the same forward pass."""
    layers = (Conv(1, 28), ReLU(), Dropout(0.5), GlobalAvgPool(), Flatten(), Dense(10))
    recipe = tiny_recipe.replace(network=Network(layers))
    tensors = initial_weights(recipe.network, 1)
    tensors["conv1.weight"] = np.full((1, 1, 28, 28), 1e36, np.float32)
    tensors["dense1.weight"] = np.full((10, 1), 1e3, np.float32)
    images = np.full((1, 1, 28, 28), 0.1, np.float32)

    found = {diagnose_batch(recipe, tensors, images, np.array([0]), (key, 0)) for key in range(12)}

    assert found == {"`dense1`", "nothing (the batch is finite when run again)"}

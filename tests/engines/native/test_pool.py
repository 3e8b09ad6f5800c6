"""Pools whose windows hold equal values: the first of them gets the gradient, as in PyTorch.

The other tests keep away from ties on purpose, and images with a constant background are full
of them.
"""

import numpy as np
import pytest

from smidgen.network import layers as L
from smidgen.network.layers import Layer
from smidgen.network.network import Network

from .conftest import engine_with, largest_error, native_answer, random_tensors, torch_answer

SHAPE = (1, 10, 12)
POOLS: dict[str, tuple[Layer, ...]] = {
    "pool": (L.MaxPool(2),),
    "pool of not square windows": (L.MaxPool((2, 3)),),
    "pool of overlapping windows": (L.MaxPool(3, stride=1),),
    "pool of padded windows": (L.MaxPool(3, stride=2, padding=1),),
    "pool of the whole map": (L.GlobalMaxPool(),),
    "activation and pool": (L.LeakyReLU(0.5), L.MaxPool(2)),
    "norm and pool": (L.BatchNorm(), L.MaxPool(2)),
    "norm, activation and pool": (L.BatchNorm(), L.LeakyReLU(0.5), L.MaxPool((2, 3))),
    "norm, dropout and pool": (L.BatchNorm(), L.LeakyReLU(0.5), L.Dropout(0.5), L.MaxPool(2)),
    "norm, dropout and pool of odd windows": (L.BatchNorm(), L.Dropout(0.4), L.MaxPool(3)),
}


@pytest.mark.parametrize("name", POOLS)
def test_the_first_of_equal_cells_gets_the_gradient(name: str) -> None:
    """Black and white images and weights of -1, 0 and 1 give ties of unlike neighborhoods."""
    network = Network(
        (L.Conv(4, 3), *POOLS[name], L.Flatten(), L.Dense(5)), input_shape=SHAPE, num_classes=5
    )
    rng = np.random.default_rng(0)
    images = (255 * rng.integers(0, 2, (9, *SHAPE))).astype(np.uint8)
    data = (images, rng.integers(0, 5, 9))
    tensors = random_tensors(network, 0)
    kernels = tensors["conv1.weight"]
    tensors["conv1.weight"] = rng.integers(-1, 2, kernels.shape).astype(np.float32)

    expected, _ = torch_answer(network, tensors, data, 0.0)
    error, where = largest_error(native_answer(engine_with(network, tensors, data), data), expected)

    assert error < 1e-4, f"{where}: {error:.2e}"

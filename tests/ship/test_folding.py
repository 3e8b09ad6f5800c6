from dataclasses import replace

import numpy as np
import pytest
import torch
from shipped import EVERYTHING, MEAN, STD, images_of, tensors_of

from smidgen.errors import NetworkError
from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    LeakyReLU,
    MaxPool,
    ReLU,
    SampleNorm,
)
from smidgen.network.network import Network
from smidgen.network.torch_module import to_torch
from smidgen.recipes.catalogue import RECIPES
from smidgen.ship.folding import fold


def torch_logits(
    network: Network, tensors: dict[str, np.ndarray], images: np.ndarray
) -> np.ndarray:
    """Return the logits of the torch module of a network."""
    weights = {name: torch.from_numpy(array) for name, array in tensors.items()}
    module = to_torch(replace(network, output="logits"), weights=weights).eval()
    pixels = (torch.from_numpy(images).float() / 255.0 - MEAN) / STD
    with torch.no_grad():
        return module(pixels).numpy()


FOLDED = [
    recipe.network
    for recipe in RECIPES.values()
    if not any(isinstance(node.layer, SampleNorm) for node in recipe.network.graph.nodes)
]


@pytest.mark.parametrize("network", [EVERYTHING, *dict.fromkeys(FOLDED)], ids=lambda n: "")
def test_float_stages_are_the_network(network: Network) -> None:
    """Folded stages give the logits of the torch module, for every network of the catalogue."""
    tensors = tensors_of(network)
    images = images_of(network, 4)
    logits = fold(network, tensors, MEAN, STD).logits(images)

    expected = torch_logits(network, tensors, images)

    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * scale)


def _ends(*layers: object) -> Network:
    return Network(layers, input_shape=(1, 8, 8), num_classes=4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "network",
    [
        _ends(Conv(4, 3), MaxPool(2), BatchNorm(), ReLU(), Flatten(), Dense(4)),
        _ends(Conv(4, 3), ReLU(), BatchNorm(), MaxPool(2), BatchNorm(), Flatten(), Dense(4)),
        _ends(Conv(4, 3), AvgPool(2), LeakyReLU(0.1), GlobalAvgPool(), Flatten()),
        _ends(MaxPool(2), Conv(4, 3, groups=1), GlobalAvgPool(), Flatten(), ReLU()),
        _ends(Conv(4, 3), Conv(8, 3, groups=2), ReLU(), Conv(8, 2, groups=8), Flatten(), Dense(4)),
        _ends(BatchNorm(), Conv(4, 3), AvgPool(3, stride=2, padding=1), Flatten(), Dense(4)),
        _ends(Conv(4, 3), Flatten(), Dense(6), ReLU(), Dense(4)),
    ],
    ids=lambda network: repr(network.layers)[:60],
)
def test_unusual_orders_fold(network: Network) -> None:
    """Norms behind pools, activations behind averages, groups and early pools are exact."""
    tensors = tensors_of(network, seed=3)
    images = images_of(network, 5)

    logits = fold(network, tensors, MEAN, STD).logits(images)

    expected = torch_logits(network, tensors, images)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (
            _ends(Conv(4, 3), SampleNorm(), Flatten(), Dense(4)),
            r"Layer 1, `SampleNorm\(\)`, cannot be shipped: .* use BatchNorm",
        ),
        (
            _ends(Conv(4, 3), AvgPool(3, stride=2, padding="same"), Flatten(), Dense(4)),
            "windows differ in size at the edges; pad with a number",
        ),
        (_ends(Conv(4, 3), Flatten(), BatchNorm(), Dense(4)), "put it before"),
    ],
)
def test_what_cannot_be_shipped_is_named(network: Network, said: str) -> None:
    """A layer that no stage can do is one error that names it and what would do."""
    with pytest.raises(NetworkError, match=said):
        fold(network, tensors_of(network))


def test_missing_weights_are_named() -> None:
    """A tensor that is not there is named."""
    network = _ends(Conv(4, 3), GlobalAvgPool(), Flatten())

    with pytest.raises(NetworkError, match=r"no `conv1\.weight`"):
        fold(network, {})

"""Every network of the catalogue, as it stands, against PyTorch in float64."""

from collections.abc import Callable

import pytest

from smidgen.recipes.catalogue import RECIPES

FEW_IMAGES = 3
"""Each image adds tens of thousands of activations, any of which may be near its kink."""


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_catalogue_network_agrees_with_pytorch(
    name: str, assert_agrees: Callable[..., None]
) -> None:
    """Loss, scores and all gradients of every recipe's network are PyTorch's to 1e-4.

    Inputs keep 2e-6 from ties, ten times the rounding of an activation: with 30,000 of them
    to an image, none keeps 1e-4.
    """
    assert_agrees(RECIPES[name].network, FEW_IMAGES, distance=2e-6)

"""Every layer kind alone and in company: loss, scores and gradients are float64 PyTorch's."""

from collections.abc import Callable

import pytest

from ...lowering.networks import ALONE, TOGETHER


@pytest.mark.parametrize("name", ALONE)
def test_layer_agrees_with_pytorch(name: str, assert_agrees: Callable[..., None]) -> None:
    """A layer's loss, scores and gradients differ from float64 PyTorch's by less than 1e-4."""
    assert_agrees(ALONE[name])


@pytest.mark.parametrize("name", TOGETHER)
def test_composition_agrees_with_pytorch(name: str, assert_agrees: Callable[..., None]) -> None:
    """Layers in company agree too: what is fused, stored and computed again fits together."""
    assert_agrees(TOGETHER[name])


@pytest.mark.parametrize("num_images", [2, 15, 16, 17, 48])
def test_any_number_of_images_fits_into_lanes(
    num_images: int, assert_agrees: Callable[..., None]
) -> None:
    """Lanes without an image change nothing: not norms, not gradients, not the loss."""
    assert_agrees(TOGETHER["conv, norm, relu, dropout"], num_images, distance=1e-5)


def test_label_smoothing_is_pytorchs(assert_agrees: Callable[..., None]) -> None:
    """Label smoothing changes loss and gradients as PyTorch's does."""
    assert_agrees(ALONE["conv"], smoothing=0.2)

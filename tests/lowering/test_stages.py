"""What becomes part of a convolution: only what its backward pass can undo."""

import pytest

from smidgen.lowering.stages import Activation, Convolve, Pointwise, _fused, stages_of
from smidgen.network import layers as L
from smidgen.network.network import INPUT, Network


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("activation", "slope", "slopes", "is_part"),
    [
        ("RELU", 0.0, None, True),
        ("LEAKY_RELU", 0.1, None, True),
        ("LEAKY_RELU", 0.0, None, False),  # what it gives is 0 on one side: no sign to tell by
        ("LEAKY_RELU", 0.0, "prelu.weight", False),
        ("SWISH", 0.0, None, False),
        ("SWISH", 1.0, None, False),
    ],
)
def test_only_activations_told_by_their_sign_join_a_convolution(
    activation: Activation, slope: float, slopes: str | None, is_part: bool, training: bool
) -> None:
    """Any other, one that is added later too, is a pass of its own behind it."""
    layers = (L.Conv(5, 3), L.GlobalAvgPool(), L.Flatten())
    network = Network(layers=layers, input_shape=(1, 8, 8), num_classes=5)
    conv = stages_of(network.graph, training).stages[0]
    step = Pointwise(
        (conv.output,), INPUT, conv.node, 1, activation=activation, slope=slope, slopes=slopes
    )

    found = _fused(conv, step, training)

    assert isinstance(conv, Convolve)
    assert (found is not None) == is_part
    if is_part:
        assert isinstance(found, Convolve)
        assert (found.activation, found.slope) == (activation, slope)

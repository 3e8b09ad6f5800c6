from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from shipped import EVERYTHING, NAMING, folded_and_integer, images_of, integer_of, networks

from smidgen.network.layers import Conv, Dense, Flatten, GlobalAvgPool, PReLU, ReLU, SeparableConv
from smidgen.network.network import Network
from smidgen.ship.executor import scores_of
from smidgen.ship.integer import bounds_of
from smidgen.ship.quantize import Naming, quantize


@settings(max_examples=20, deadline=None)
@given(networks())
def test_scores_are_near_the_logits(network: Network) -> None:
    """Integers of any network stay near its float logits on the images they were calibrated on."""
    folded, integers = folded_and_integer(network)
    images = images_of(network, 24)

    logits = folded.logits(images)
    scores = scores_of(integers, images) * integers.score_scale

    error = np.sqrt(((scores - logits) ** 2).mean())
    assert error <= 0.1 * np.sqrt((logits**2).mean()) + 0.01


def test_wide_layers_keep_their_bound() -> None:
    """A layer whose sums could pass 2^24 gets coarser weights and not an error."""
    network = Network(
        (Conv(96, 3), ReLU(), Conv(8, 15), ReLU(), GlobalAvgPool(), Flatten(), Dense(10)),
        input_shape=(1, 17, 17),
    )
    folded, _ = folded_and_integer(network)
    folded.stages[1].weights = np.abs(folded.stages[1].weights)

    integers = quantize(folded, images_of(network, 4), Naming("digit", ("",) * 10, {}))

    assert (1 << 23) < bounds_of(integers)[1].accumulator < 1 << 24
    assert max(abs(weight) for weight in integers.stages[1].weights) < 127


def test_depthwise_results_keep_12_to_15_bits() -> None:
    """Between depthwise and pointwise stand at least 12 bits, and they fit int16."""
    network = Network(
        (Conv(16, 3), PReLU(), SeparableConv(48, 3), PReLU(), SeparableConv(10, 3), *_head())
    )
    for bound, stage in zip(bounds_of(made := integer_of(network)), made.stages, strict=True):
        if stage.depthwise is not None:
            assert 1 << 11 <= bound.depthwise < 1 << 15


def _head() -> tuple:
    return (GlobalAvgPool(), Flatten())


def test_slopes_of_any_sign_and_size_survive() -> None:
    """Slopes below 0 and far above 1 become int16 factors in the same proportion."""
    network = Network((Conv(4, 3), PReLU(), Flatten(), Dense(4)), (1, 6, 6), 4)
    folded, _ = folded_and_integer(network)
    folded.stages[0].negative = np.array([-1.7, 4.9, 0.0, 0.25])

    first = quantize(folded, images_of(network, 8), NAMING).stages[0]

    ratio = np.array(first.negative) / np.array(first.positive)
    np.testing.assert_allclose(ratio, [-1.7, 4.9, 0.0, 0.25], atol=0.005)


def test_dead_channels_do_not_blow_up() -> None:
    """A channel that is 0 on all calibration images gets a scale of its layer's size."""
    network = Network((Conv(4, 3), ReLU(), Flatten(), Dense(4)), (1, 6, 6), 4)
    folded, _ = folded_and_integer(network)
    folded.stages[0].weights[2] = 0
    folded.stages[0].bias[2] = -1

    integers = quantize(folded, images_of(network, 8), NAMING)

    logits = folded.logits(images := images_of(network, 8))
    scores = scores_of(integers, images) * integers.score_scale
    assert np.abs(scores - logits).max() <= 0.05 * np.abs(logits).max()


def test_last_factor_belongs_to_the_scale() -> None:
    """The integers do not know by what the scores are multiplied in the end."""
    integers = integer_of(EVERYTHING)
    folded, _ = folded_and_integer(EVERYTHING)
    folded.factor = 4.0

    scaled = quantize(folded, images_of(EVERYTHING, 24), NAMING)

    assert scaled == replace(integers, score_scale=scaled.score_scale)
    assert scaled.score_scale == pytest.approx(4 * integers.score_scale)

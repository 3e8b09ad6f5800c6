"""Random small networks of odd sizes agree with float64 PyTorch."""

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from smidgen.errors import NetworkError
from smidgen.network import layers as L
from smidgen.network.layers import Branches, Layer, Repeat, Residual
from smidgen.network.network import Network
from smidgen.network.trace import trace

from .conftest import (
    data_for,
    engine_with,
    largest_error,
    native_answer,
    random_tensors,
    torch_answer,
)

MOST_ACTIVATIONS = 400_000
"""Of a batch. Within 1e-6 of a kink, where float32 may fall to the other side, lie about as many
of them as millions of activations; more would need more tries to find a batch without any."""
TRIES = 8

channels = st.integers(1, 33)
sizes = st.sampled_from([1, 2, 3, (1, 3), (3, 2), 5])
paddings = st.sampled_from([0, 0, 1, "same"])
blocks = st.one_of(
    st.builds(
        L.Conv, channels, sizes, stride=st.integers(1, 3), padding=paddings, bias=st.booleans()
    ),
    st.builds(L.SeparableConv, channels, st.just(3), padding=st.just("same"), bias=st.booleans()),
    st.just(L.BatchNorm()),
    st.just(L.BatchNorm(scale=False, running_variance="biased")),
    st.just(L.SampleNorm()),
    st.just(L.ReLU()),
    st.just(L.LeakyReLU(0.1)),
    st.builds(L.PReLU, shared=st.booleans()),
    st.builds(L.GroupNorm, st.integers(1, 4)),
    st.builds(L.Dropout2d, st.sampled_from([0.1, 0.5])),
    st.builds(L.Conv, channels, sizes, padding=paddings, dilation=st.integers(2, 3)),
    st.builds(L.Dropout, st.sampled_from([0.1, 0.5])),
    st.sampled_from(
        [
            L.MaxPool(2),
            L.MaxPool(3, stride=2, padding=1),
            L.AvgPool(2),
            L.AvgPool(3, stride=1, padding="same"),
        ]
    ),
    st.builds(
        lambda width: Branches(((L.Conv(width, 3, padding=1), L.BatchNorm(), L.ReLU()), ())),
        channels,
    ),
    st.just(Residual((L.ReLU(),))),
    st.just(Repeat((L.BatchNorm(), L.ReLU()), 2)),
)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Draw a network whose layers fit each other."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(5, 40)), draw(st.integers(5, 40)))
    layers: tuple[Layer, ...] = (L.Conv(draw(channels), 3),)
    for layer in draw(st.lists(blocks, min_size=1, max_size=6)):
        try:
            network((*layers, layer), shape)
        except NetworkError:
            continue
        layers = (*layers, layer)
    return network(layers, shape)


def network(layers: tuple[Layer, ...], shape: tuple[int, int, int]) -> Network:
    """Return layers with a head of three classes."""
    head = (L.GlobalAvgPool(), L.Flatten(), L.Dense(3))
    return Network(layers=(*layers, *head), input_shape=shape, num_classes=3)


def check(net: Network, num_images: int) -> None:
    """Fail if loss, scores or a gradient is further than 1e-3 from float64 PyTorch's."""
    assume(trace(net).totals.num_activations * num_images <= MOST_ACTIVATIONS)
    for seed in range(TRIES):
        data, tensors = data_for(net, num_images, seed), random_tensors(net, seed)
        expected, distance = torch_answer(net, tensors, data, 0.0)
        if distance > 1e-6:
            break
    assume(distance > 1e-6)
    engine = engine_with(net, tensors, data)
    error, where = largest_error(native_answer(engine, data), expected)
    assert error < 1e-3, f"{where}: {error:.2e}"


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(networks(), st.integers(2, 300))
def test_random_networks_agree_with_pytorch(net: Network, num_images: int) -> None:
    """Whatever the channels, image sizes and batch, the numbers are float64 PyTorch's."""
    check(net, num_images)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(networks(), st.integers(2, 300))
def test_many_random_networks_agree_with_pytorch(net: Network, num_images: int) -> None:
    """The same for two hundred networks."""
    check(net, num_images)

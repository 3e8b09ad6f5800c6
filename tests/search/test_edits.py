import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smidgen.errors import NetworkError
from smidgen.network import layers as L
from smidgen.network.layers import Branches, Layer, Repeat, Residual
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import RECIPES
from smidgen.search.edits import EDITS, SizeLimits, fit, flat, mutate

CATALOGUE = sorted(RECIPES)
QUICK = RECIPES["smidgen/quick"].network
STAGE = (L.SeparableConv(8, 3, padding=1), L.BatchNorm(scale=False), L.ReLU())
COMPOSITE = Network(
    (
        L.Conv(8, 3),
        L.LeakyReLU(0.1),
        L.MaxPool(2),
        Residual(STAGE),
        Repeat(STAGE, 2),
        Branches((STAGE, (L.Conv(4, 1), L.PReLU()))),
        L.AvgPool(2),
        *STAGE,
        *STAGE,
        L.GlobalAvgPool(),
        L.Flatten(),
        L.Dense(10),
    )
)
STRATEGY = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
)

widths = st.integers(1, 12)
blocks = st.one_of(
    st.builds(L.Conv, widths, st.sampled_from([1, 3, (1, 3)]), stride=st.integers(1, 2)),
    st.builds(L.SeparableConv, widths, st.just(3), padding=st.sampled_from([0, 1, "same"])),
    st.sampled_from([L.BatchNorm(), L.SampleNorm(), L.ReLU(), L.PReLU(), L.Dropout(0.1)]),
    st.sampled_from([L.MaxPool(2), L.AvgPool(3, stride=1, padding="same"), L.Multiply(0.5)]),
    st.builds(lambda width: Branches(((L.Conv(width, 3, padding=1), L.ReLU()), ())), widths),
    st.just(Residual((L.BatchNorm(), L.ReLU()))),
    st.just(Repeat((L.BatchNorm(), L.ReLU()), 2)),
)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Draw a network whose layers fit each other."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(6, 28)), draw(st.integers(6, 28)))
    layers: tuple[Layer, ...] = (L.Conv(draw(widths), 3),)
    for layer in draw(st.lists(blocks, max_size=6)):
        try:
            _network((*layers, layer), shape)
        except NetworkError:
            continue
        layers = (*layers, layer)
    return _network(layers, shape)


def _network(layers: tuple[Layer, ...], shape: tuple[int, int, int]) -> Network:
    head = (L.GlobalAvgPool(), L.Flatten(), L.Dense(3))
    return Network((*layers, *head), input_shape=shape, num_classes=3)


def check(network: Network, seed: int, limits: SizeLimits) -> None:
    """Fail unless a mutation is another network for the same task, and the same each time."""
    mutated = mutate(network, np.random.default_rng(seed), limits)

    assert mutated.layers != network.layers
    assert Network.from_json(mutated.to_json()) == mutated
    assert mutated in limits
    for name in ("input_shape", "num_classes", "output", "init", "unreached"):
        assert getattr(mutated, name) == getattr(network, name)
    assert mutated == mutate(network, np.random.default_rng(seed), limits)


@STRATEGY
@given(st.sampled_from(CATALOGUE), st.integers(0, 2**32))
def test_every_catalogue_network_mutates(name: str, seed: int) -> None:
    """The result is a different valid network for the same images and classes."""
    check(RECIPES[name].network, seed, SizeLimits())


@STRATEGY
@given(networks(), st.integers(0, 2**32), st.floats(0.5, 1.0), st.floats(1.0, 2.0))
def test_random_networks_mutate_within_limits(
    network: Network, seed: int, least: float, most: float
) -> None:
    """Whatever the layers, neither parameters nor MACs leave the limits given."""
    totals = trace(network).totals
    limits = SizeLimits(
        int(totals.num_params * least),
        int(totals.num_params * most),
        int(totals.num_macs * most),
    )

    check(network, seed, limits)


@pytest.mark.parametrize("edit", range(len(EDITS)))
def test_every_kind_of_change_happens(edit: int) -> None:
    """Each one gives, for some generator, a valid network that is another one."""
    found = set()
    for seed in range(60):
        layers = EDITS[edit](COMPOSITE.layers, np.random.default_rng(seed))
        if layers and layers != COMPOSITE.layers:
            try:
                found.add(Network(layers))
            except NetworkError:
                continue

    assert found


def test_everything_can_be_reached() -> None:
    """A few walks of a hundred steps from one network meet every form that is promised."""
    rng, network, met = np.random.default_rng(1), QUICK, set()
    for step in range(400):
        start = QUICK if step % 100 == 0 else network
        network = mutate(start, rng, SizeLimits(500, 10_000))
        kinds = {type(layer) for layer in flat(network.layers)}
        met |= kinds
        met |= {
            ("padded" if layer.padding else "unpadded", layer.stride)
            for layer in flat(network.layers)
            if isinstance(layer, L.Conv | L.SeparableConv)
        }
        met.add("dense" if isinstance(network.layers[-1], L.Dense) else "maps")

    assert met >= {
        L.Conv,
        L.SeparableConv,
        L.LeakyReLU,
        L.PReLU,
        L.MaxPool,
        L.AvgPool,
        Branches,
        Residual,
        Repeat,
        ("padded", 1),
        ("unpadded", 2),
        "dense",
        "maps",
    }


def test_layers_of_one_width_can_change_together() -> None:
    """A sum of paths needs both as wide: it can still become wider."""
    body = (L.Conv(4, 3, padding=1),)
    network = Network((L.Conv(4, 3), Residual(body), L.GlobalAvgPool(), L.Flatten(), L.Dense(10)))
    rng = np.random.default_rng(1)

    first = [mutate(network, rng).layers[:2] for _ in range(60)]

    assert any(
        isinstance(conv, L.Conv)
        and isinstance(add, Residual)
        and conv.out_channels == add.body[0].out_channels != 4
        for conv, add in first
    )


def test_a_large_network_is_brought_within_limits() -> None:
    """Every step brings it nearer, from above and from below; what fits stays as it is."""
    small, large = SizeLimits(700, 1_000, 60_000), SizeLimits(20_000, 21_000)

    assert fit(QUICK, np.random.default_rng(1), small) in small
    assert fit(QUICK, np.random.default_rng(1), large) in large
    assert fit(QUICK, np.random.default_rng(1), SizeLimits()) is QUICK


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            mutate,
            "No change of 2,000 gave a network within 1 to 12 parameters and at most 9 MACs; this "
            "one has 9,402 parameters and 230,824 MACs. Use wider limits.",
        ),
        (fit, "2,000 changes did not bring 9,402 parameters and 230,824 MACs to 1 to 12 "),
    ],
)
def test_impossible_limits_are_one_line(call: object, text: str) -> None:
    """What was asked for, how near it came, and what to do."""
    assert callable(call)
    with pytest.raises(NetworkError) as caught:
        call(QUICK, np.random.default_rng(1), SizeLimits(1, 12, 9))

    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("limits", "inside"),
    [
        (SizeLimits(), True),
        (SizeLimits(9_402, 9_402), True),
        (SizeLimits(9_403), False),
        (SizeLimits(0, 9_401), False),
        (SizeLimits(0, None, 230_823), False),
    ],
)
def test_limits_include_their_ends(limits: SizeLimits, inside: bool) -> None:
    """Exactly as many as allowed is allowed."""
    assert (QUICK in limits) == inside
    assert (limits.distance(QUICK) == 0.0) == inside

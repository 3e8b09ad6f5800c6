import re
from collections.abc import Iterable

import pytest

from smidgen.errors import NetworkError
from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    PReLU,
    ReLU,
    Repeat,
    Residual,
    SampleNorm,
    SeparableConv,
    Unreached,
)
from smidgen.network.network import Network
from smidgen.values import json_schema, to_plain

HEAD: tuple[Layer, ...] = (GlobalAvgPool(), Flatten(), Dense(10))

EVERYTHING = Network(
    layers=(
        Conv(8, (3, 5), stride=2, padding=(1, 2), groups=1, bias=True),
        BatchNorm(eps=1e-3, momentum=0.01, scale=False, running_variance="biased"),
        ReLU(),
        SeparableConv(6, 3, padding="same", depthwise_bias=True),
        SampleNorm(eps=0.5),
        GroupNorm(3, eps=1e-3, affine=False),
        Dropout2d(0.2),
        LeakyReLU(0.2),
        Branches(((PReLU(), MaxPool(2, stride=1, padding="same")), (), (Conv(2, 1), ReLU()))),
        Residual((Conv(14, 3, padding=1), BatchNorm()), shortcut=(Dropout(0.1),)),
        Repeat((Conv(14, 3, padding=1), BatchNorm(shift=False), ReLU()), times=2),
        AvgPool(2),
        GlobalMaxPool(),
        Flatten(),
        Dense(3),
        Multiply(0.125),
    ),
    num_classes=3,
    output="softmax",
    init="keras",
    unreached=(Unreached((4, 7, 7), (Conv(4, 3), GlobalAvgPool())),),
)


def test_round_trip_of_every_layer():
    """A network with every kind of layer comes back equal, however the text is spaced."""
    assert Network.from_json(EVERYTHING.to_json()) == EVERYTHING
    assert Network.from_json(EVERYTHING.to_json(indent=None).encode()) == EVERYTHING


def test_round_trip_covers_every_kind():
    """The network above leaves no kind of layer out."""
    tables = json_schema(Network)["$defs"].values()
    known = {table["properties"]["kind"]["const"] for table in tables if "kind" in _keys(table)}

    assert set(re.findall(r'"kind": "(\w+)"', EVERYTHING.to_json())) == known


def _keys(table: dict[str, dict[str, object]]) -> Iterable[str]:
    return table.get("properties", {})


def test_exchange_form_writes_every_default():
    """The exchange form says what a layer leaves unsaid, so a changed default changes nothing."""
    plain = to_plain(Network(layers=(Flatten(), Dense(10))))

    assert plain == {
        "layers": [
            {"kind": "flatten"},
            {"out_features": 10, "bias": True, "kind": "dense"},
        ],
        "input_shape": [1, 28, 28],
        "num_classes": 10,
        "output": "logits",
        "init": "torch",
        "unreached": [],
    }


def test_equal_networks_are_interchangeable():
    """Networks are values: equal parts make equal networks with equal hashes."""
    first, second = (Network(layers=(Conv(4, 3), *HEAD)) for _ in range(2))

    assert first == second
    assert hash(first) == hash(second)
    assert first != Network(layers=(Conv(5, 3), *HEAD))


def test_names_of_tensors_follow_the_order():
    """Tensors are named by kind and number, in the order in which they first run."""
    network = Network(layers=(Conv(4, 3), BatchNorm(), Conv(6, 3, bias=True), *HEAD))

    assert list(network.graph.tensors) == [
        "conv1.weight",
        "batchnorm1.weight",
        "batchnorm1.bias",
        "batchnorm1.running_mean",
        "batchnorm1.running_var",
        "conv2.weight",
        "conv2.bias",
        "dense1.weight",
        "dense1.bias",
    ]


def test_repeated_block_shares_weights_and_not_norms():
    """Each use of a repeated block has norms of its own and the first use's weights."""
    block = (Conv(4, 3, padding=1), BatchNorm(), ReLU())
    network = Network(layers=(Conv(4, 3), Repeat(block, times=3), *HEAD))
    weights = [name for name in network.graph.tensors if name.endswith(".weight")]

    assert weights == [
        "conv1.weight",
        "conv2.weight",
        "batchnorm1.weight",
        "batchnorm2.weight",
        "batchnorm3.weight",
        "dense1.weight",
    ]


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        (
            (Conv(8, 3), Dense(10)),
            "Layer 1, `Dense(10)`, on input 8x26x26: it needs flat features, not a map of "
            "8x26x26; put `Flatten()` before it.",
        ),
        (
            (Conv(8, 29), *HEAD),
            "Layer 0, `Conv(8, 29)`, on input 1x28x28: its 29x29 window does not fit into the "
            "input 1x28x28; use a smaller kernel, padding, or pool less before it.",
        ),
        (
            (MaxPool(4), MaxPool(4), MaxPool(4), *HEAD),
            "Layer 2, `MaxPool(4)`, on input 1x1x1: its 4x4 window does not fit into the input "
            "1x1x1; use a smaller kernel, padding, or pool less before it.",
        ),
        (
            (Flatten(), Conv(8, 3)),
            "Layer 1, `Conv(8, 3)`, on input 784: it needs a map (channels x height x width), "
            "not flat features of 784.",
        ),
        (
            (Conv(8, 3), Flatten(), Dense(9)),
            "The last layer, 2, gives 9, but 10 classes need 10 flat values.",
        ),
        (
            (Conv(10, 28),),
            "The last layer, 0, gives 10x1x1, but 10 classes need 10 flat values; end with "
            "`Flatten()`.",
        ),
        (
            (Conv(8, 3), Residual((Conv(8, 3), Conv(8, 40))), *HEAD),
            "Layer 1.0.1, `Conv(8, 40)`, on input 8x24x24: its 40x40 window does not fit into "
            "the input 8x24x24; use a smaller kernel, padding, or pool less before it.",
        ),
        (
            (Branches(((Conv(8, 3),), ())), *HEAD),
            "Layer 0, `Branches`: the branches end in 8x26x26, 1x28x28; they must be maps of one "
            "height and width to be concatenated.",
        ),
        (
            (Residual((Conv(8, 3),)), *HEAD),
            "Layer 0, `Residual`: the body ends in 8x26x26 and the shortcut in 1x28x28; they "
            "must be equal to be added.",
        ),
        (
            (Repeat((Conv(8, 3),), times=2), *HEAD),
            "Layer 0.0, `Conv(8, 3)`: a repeated block must give back the shape it is given, but "
            "its second use sees 8x26x26 instead of 1x28x28.",
        ),
    ],
)
def test_misfit_names_position_and_both_shapes(layers: tuple[Layer, ...], text: str):
    """A network that cannot run is refused when it is written, with the place and the shapes."""
    with pytest.raises(NetworkError) as caught:
        Network(layers=layers)

    assert str(caught.value) == text


def test_misfit_in_an_unreached_block():
    """Layers that never run have to fit as well."""
    dead = Unreached((1, 2, 2), (Conv(3, 3),))

    with pytest.raises(NetworkError) as caught:
        Network(layers=(Flatten(), Dense(10)), unreached=(dead,))

    assert str(caught.value) == (
        "Unreached block 0: Layer 0, `Conv(3, 3)`, on input 1x2x2: its 3x3 window does not fit "
        "into the input 1x2x2; use a smaller kernel, padding, or pool less before it."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON: EOF while parsing an object at line 1 column 1."),
        ("[]", "input should be an object."),
        ("{}", "`layers` is missing."),
        ('{"layers": []}', "`layers`: tuple should have at least 1 item after validation, not 0."),
        ('{"layers": [{"kind": "conf"}]}', "`layers.0`: unknown kind `conf`. Did you mean `conv`?"),
        ('{"layers": [{"rate": 0.1}]}', "`layers.0`: `kind` is missing."),
        (
            '{"layers": [{"kind": "dropout", "rat": 0.1, "rate": 0.1}]}',
            "unknown key `layers.0.rat`. Did you mean `rate`?",
        ),
        (
            '{"layers": [{"kind": "branches", "branches": [[], [{"kind": "prelu", "rate": 2}]]}]}',
            "unknown key `layers.0.branches.1.0.rate`. Known: `shared`, `kind`.",
        ),
        (
            '{"layers": [{"kind": "repeat", "times": 2, "block": [{"kind": "dense"}]}]}',
            "`layers.0.block.0.out_features` is missing.",
        ),
        (
            '{"layers": [{"kind": "conv", "out_chanels": 3, "kernel_size": 3}]}',
            "unknown key `layers.0.out_chanels`. Did you mean `out_channels`?",
        ),
        (
            '{"layers": [{"kind": "relu"}], "num_class": 3}',
            "unknown key `num_class`. Did you mean `num_classes`?",
        ),
        (
            '{"layers": [{"kind": "relu"}], "num_classes": 1}',
            "`num_classes`: input should be greater than or equal to 2, not 1.",
        ),
        (
            '{"layers": [{"kind": "relu"}], "input_shape": [1, 28, 28.5]}',
            "`input_shape.2`: input should be a valid integer, not 28.5.",
        ),
    ],
)
def test_unreadable_exchange_form(text: str, message: str):
    """What is wrong with a network's JSON is said in one line with its path."""
    with pytest.raises(NetworkError) as caught:
        Network.from_json(text)

    assert str(caught.value) == message

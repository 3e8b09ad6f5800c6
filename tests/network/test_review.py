import pytest

from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    ReLU,
    Residual,
    SampleNorm,
    Unreached,
)
from smidgen.network.network import Network
from smidgen.network.review import Remark, review
from smidgen.recipes.catalogue import RECIPES

_GOOD = (Conv(8, 5), ReLU(), MaxPool(2), Conv(8, 5), ReLU(), Conv(16, 5), ReLU())
_HEAD = (GlobalAvgPool(), Flatten(), Dense(10))


def _rules(*layers: Layer, **more: object) -> list[tuple[str, str]]:
    network = Network((*layers,), **more)  # type: ignore[arg-type]
    return [(remark.rule, remark.path) for remark in review(network)]


def test_good_network_gets_no_remark():
    """A network that breaks no rule is left in peace."""
    assert _rules(*_GOOD, *_HEAD) == []


@pytest.mark.parametrize(
    ("layers", "remarks"),
    [
        ((Conv(8, 1), Conv(8, 3), ReLU()), [("linear-pair", "1")]),
        ((Conv(8, 1), BatchNorm(), Dropout(0.1), Conv(8, 3), ReLU()), [("linear-pair", "3")]),
        ((Conv(8, 1), AvgPool(2), Multiply(2.0), Conv(8, 1), ReLU()), [("linear-pair", "3")]),
        ((Conv(8, 1), MaxPool(2), Conv(8, 1), ReLU(), Conv(8, 3), ReLU()), []),
        ((Conv(8, 1), SampleNorm(), Conv(8, 1), ReLU()), []),
        ((Conv(8, 1), Conv(8, 3, groups=8), Conv(9, 1), ReLU()), []),
        ((Conv(8, 1), Conv(8, 3, groups=2), ReLU()), [("linear-pair", "1")]),
        ((Conv(8, 1), Residual((ReLU(), Conv(8, 1))), Conv(8, 1), ReLU()), []),
        ((Conv(8, 1, bias=True), BatchNorm(), ReLU()), [("bias-before-norm", "0")]),
        ((Conv(8, 1, bias=True), ReLU(), BatchNorm()), []),
    ],
)
def test_remarks_on_the_body(layers: tuple[Layer, ...], remarks: list[tuple[str, str]]):
    """Linear pairs and idle biases are found wherever they stand, and nothing else is."""
    assert _rules(*layers, Flatten(), ReLU(), Dense(10)) == remarks


@pytest.mark.parametrize(
    ("tail", "rules"),
    [
        ((Dense(10),), []),
        ((Dense(10), ReLU()), ["activated-scores"]),
        ((Dense(10), LeakyReLU()), ["activated-scores"]),
        ((Dense(10, bias=False), BatchNorm()), ["normalized-scores"]),
        ((Dense(10), Dropout(0.2)), ["dropped-scores"]),
        ((Dense(10), Dropout(0.0)), []),
        (
            (Dense(10, bias=False), BatchNorm(), ReLU(), Dropout(0.1)),
            ["normalized-scores", "activated-scores", "dropped-scores"],
        ),
        ((Dense(12), ReLU(), Dropout(0.2), Dense(10)), []),
    ],
)
def test_remarks_on_the_scores(tail: tuple[Layer, ...], rules: list[str]):
    """What comes after the layer that makes the scores is remarked on, in its order."""
    found = _rules(*_GOOD, GlobalAvgPool(), Flatten(), *tail)

    assert [rule for rule, _ in found] == rules


def test_scores_before_a_mean_are_scores():
    """A 1x1 convolution followed by an average makes the scores, so ReLU between is late."""
    found = _rules(*_GOOD, Conv(10, 1), ReLU(), GlobalAvgPool(), Flatten())

    assert found == [("activated-scores", "8")]


def test_sum_at_the_end_is_left_alone():
    """Where paths are added last, no single layer makes the scores."""
    body = Residual((Dense(10),), (Dense(10),))

    assert _rules(*_GOOD, GlobalAvgPool(), Flatten(), body, ReLU()) == []


@pytest.mark.parametrize(
    ("layers", "shape", "object_pixels", "expected"),
    [
        ((Conv(8, 5), ReLU(), *_HEAD), (1, 28, 28), None, [("short-sight", "2")]),
        ((Conv(8, 19), ReLU(), *_HEAD), (1, 28, 28), None, [("short-sight", "2")]),
        ((Conv(8, 20), ReLU(), *_HEAD), (1, 28, 28), None, []),
        ((Conv(8, 5), ReLU(), *_HEAD), (1, 28, 28), 5, []),
        ((Conv(8, 10), ReLU(), *_HEAD), (1, 14, 14), None, []),
        ((Conv(8, 5), ReLU(), Flatten(), Dense(10)), (1, 28, 28), None, []),
        (
            (Conv(8, 5), ReLU(), AvgPool(24), Flatten(), Dense(10)),
            (1, 28, 28),
            None,
            [("short-sight", "2")],
        ),
    ],
)
def test_short_sight(
    layers: tuple[Layer, ...],
    shape: tuple[int, int, int],
    object_pixels: int | None,
    expected: list[tuple[str, str]],
):
    """Averaging over positions is remarked on where no value has seen a whole object."""
    found = review(Network(layers, shape), object_pixels)

    assert [(remark.rule, remark.path) for remark in found] == expected


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((Conv(8, 3), ReLU(), MaxPool(2), Flatten(), Dense(10)), [("late-pooling", "2")]),
        ((Conv(8, 3), ReLU(), MaxPool(2), Flatten(), Dense(10), ReLU(), Dense(10)), []),
        (
            (
                MaxPool(2),
                Branches(((Conv(2, 1), ReLU()), (Conv(2, 1), ReLU()))),
                Flatten(),
                Dense(10),
            ),
            [],
        ),
    ],
)
def test_late_pooling(layers: tuple[Layer, ...], expected: list[tuple[str, str]]):
    """Max pooling wants two layers of weights after it."""
    assert _rules(*layers) == expected


def test_softmax_is_remarked_on_for_torch_only():
    """Probabilities are a trap with torch's cross-entropy and right with Keras'."""
    assert _rules(*_GOOD, *_HEAD, output="softmax") == [("softmax-output", "")]
    assert _rules(*_GOOD, *_HEAD, output="softmax", init="keras") == []
    assert _rules(*_GOOD, *_HEAD, output="log_softmax") == []


def test_dead_blocks_come_last_with_their_size():
    """A block that never runs is named with what it costs."""
    dead = (Unreached((16, 7, 7), (Conv(16, 3), BatchNorm())),)

    assert review(Network((*_GOOD, *_HEAD), unreached=dead)) == (
        Remark(
            "dead-block",
            "unreached.0",
            "A block of 2,336 parameters on 16x7x7 (Conv, BatchNorm) is registered and never runs: "
            "it learns nothing, yet many counters include it.",
        ),
    )


def test_remarks_of_an_origin():
    """The story of era-s7/5 is in its remarks: the scores are normalized, cut and dropped."""
    texts = [remark.text for remark in review(RECIPES["era-s7/5"].network)]

    assert texts == [
        "`batchnorm7` comes after `conv7`, which makes the class scores: it rescales them by the "
        "batch, so confidence cannot grow where it should.",
        "`relu7` comes after `conv7`, which makes the class scores: evidence against a class is "
        "cut off, and with it the gradient.",
        "`dropout7` comes after `conv7`, which makes the class scores: in 10 % of the cases the "
        "loss punishes a score that was erased, not one that was wrong.",
        "What `avgpool1` pools has seen 16 pixels, and the object is about 20: positions are lost "
        "here before any value has seen the whole.",
    ]


def test_other_texts():
    """The remaining remarks say what to do."""
    layers = (Conv(8, 1, bias=True), BatchNorm(), Conv(8, 3), ReLU(), MaxPool(2))
    found = review(Network((*layers, Flatten(), Dense(10)), output="softmax"))

    assert [remark.text for remark in found] == [
        "The bias of `conv1` is subtracted again by the batch norm that follows: 8 parameters "
        "without effect. Set `bias=False`.",
        "`conv2` follows `conv1` with no activation between: together they are one linear map, "
        "which a single layer could be. Put a `ReLU` between, or merge them.",
        "`maxpool1` throws positions away with 1 layer of weights left to use what it keeps; "
        "leave at least 2.",
        "The model returns probabilities. `nn.CrossEntropyLoss` takes class scores and applies a "
        "softmax itself; a second one flattens the gradients. smidgen's loss knows.",
    ]
    assert found[0].to_plain() == {
        "rule": "bias-before-norm",
        "path": "0",
        "text": found[0].text,
    }

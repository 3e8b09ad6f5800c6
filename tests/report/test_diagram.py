import re
from xml.etree import ElementTree

import pytest

from smidgen.network.layers import (
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    LeakyReLU,
    MaxPool,
    Multiply,
    ReLU,
    Repeat,
    Residual,
    Unreached,
)
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import RECIPES
from smidgen.report.diagram import Box, bypassed, diagram, lanes, pill, stack

SVG = "{http://www.w3.org/2000/svg}"
_HEAD = (GlobalAvgPool(), Flatten(), Dense(10))


def _texts(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", RECIPES)
def test_every_network_of_the_catalogue_is_drawn_within_its_frame(name: str):
    """The picture is well-formed, stands alone, and nothing in it sticks out."""
    svg = diagram(RECIPES[name].network, name)
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])

    for shape in root.iter(f"{SVG}rect"):
        x, y = float(shape.attrib["x"]), float(shape.attrib["y"])
        assert x >= 0
        assert y >= 0
        assert x + float(shape.attrib["width"]) <= width
        assert y + float(shape.attrib["height"]) <= height
    for text in root.iter(f"{SVG}text"):
        assert 0 < float(text.attrib["x"]) < width
        assert 0 < float(text.attrib["y"]) < height
    assert not re.search(r"href|<script|url\(", svg)
    assert "nan" not in svg


@pytest.mark.parametrize("name", RECIPES)
def test_every_parameter_is_on_a_card(name: str):
    """The numbers on the cards add up to the network's parameters."""
    network = RECIPES[name].network
    root = ElementTree.fromstring(diagram(network, "net"))

    small = [t.text or "" for t in root.iter(f"{SVG}text") if t.attrib["class"] == "quiet"]
    counts = [int(text.replace(",", "")) for text in small if re.fullmatch(r"[\d,]+", text)]
    assert sum(counts) == trace(network).totals.num_params


@pytest.mark.parametrize("name", ["smidgen/quick", "mnist-challenge/inception", "era-s7/7"])
def test_without_a_title_the_picture_is_cut_close(name: str):
    """A page gets the layers alone, nothing sticks out, and every card is there."""
    network = RECIPES[name].network
    whole, close = diagram(network, name), diagram(network)
    root = ElementTree.fromstring(close)

    assert [text for text in _texts(whole) if text in _texts(close)] == _texts(close)
    assert len(_texts(whole)) == len(_texts(close)) + 3
    for shape in root.iter(f"{SVG}rect"):
        edges = (float(shape.attrib["x"]), float(shape.attrib["width"]))
        assert edges[0] >= 0
        assert sum(edges) <= float(root.attrib["width"])
        bottom = float(shape.attrib["y"]) + float(shape.attrib["height"])
        assert bottom <= float(root.attrib["height"])


def test_cards_say_what_layers_do():
    """Norms, activations and dropout stand on the card of the layer before them."""
    network = Network(
        (
            *(Conv(8, 3, stride=2), BatchNorm(), ReLU(), Dropout(0.05)),
            *(MaxPool(2, stride=1), Conv(8, (1, 3), groups=8), LeakyReLU(0.1), Multiply(2.0)),
            *_HEAD,
        ),
        output="log_softmax",
    )

    texts = _texts(diagram(network, "my net"))

    assert texts[:3] == [
        "my net",
        "202 parameters · 15,128 multiply-accumulates · receptive field 27",
        "image · 1 × 28 × 28",
    ]
    for wanted in (
        "conv 3×3 → 8",
        "stride 2 · batch norm · ReLU · dropout 5 %",
        "8 × 13 × 13",
        "max pool 2×2",
        "stride 1",
        "conv in 8 groups 1×3 → 8",
        "leaky ReLU 0.1 · × 2",
        "mean of the map",
        "flatten",
        "dense → 10",
        "class scores · 10 · log-softmax",
    ):
        assert wanted in texts, wanted


def test_joins_repeats_and_dead_blocks_are_shown():
    """Paths meet in a sign, a repeated block is framed once, what never runs is set apart."""
    same = Conv(4, 3, padding=1)
    network = Network(
        (
            Conv(4, 3),
            Residual((same, ReLU())),
            Residual((same,), (Conv(4, 1),)),
            Branches(((same,), ())),
            Conv(4, 1),
            Repeat((same, ReLU()), 3),
            *_HEAD,
        ),
        unreached=(Unreached((4, 7, 7), (Conv(4, 3), ReLU())),),
    )

    texts = _texts(diagram(network, "net"))

    assert texts.count("+") == 2
    assert texts.count("concat") == 1
    assert texts.count("3 times, one set of weights") == 1
    assert texts.count("conv 3×3 → 4") == 5
    assert "registered, never runs (on 4 × 7 × 7)" in texts
    assert "conv 3×3 → 4 · ReLU" in texts


def test_titles_are_escaped_and_cut():
    """A name with markup is text, and one too long ends in an ellipsis."""
    svg = diagram(RECIPES["smidgen/quick"].network, '<script>"&' + "x" * 200)

    title = _texts(svg)[0]
    assert title.startswith('<script>"&xx')
    assert title.endswith("…")
    assert len(title) < 80


def test_square_of_the_receptive_field_grows():
    """The inner squares grow with the field until they fill the image."""
    root = ElementTree.fromstring(diagram(RECIPES["era-s7/7"].network, "net"))
    sides = [
        float(shape.attrib["width"])
        for shape in root.iter(f"{SVG}rect")
        if "fill-opacity" in shape.attrib
    ]

    assert sides == sorted(sides)
    assert sides[0] == pytest.approx(30 * 3 / 28, rel=1e-4)
    assert sides[-1] == 30


def test_boxes_add_up():
    """Stacks add heights, lanes add widths, and a wire around a box needs room beside it."""
    box = Box(100, 50, lambda x, y: iter(()))
    sign = pill("+")

    assert (stack([box, box]).width, stack([box, box]).height) == (100, 120)
    assert lanes([box, box], sign).width == 228
    assert lanes([box, stack([])], sign).width == 172
    assert bypassed(box, sign).width > box.width
    assert stack([]).height == 0


def test_same_network_same_picture():
    """The picture depends on the network and the title alone."""
    network = RECIPES["mnist-challenge/inception"].network

    assert diagram(network, "net") == diagram(Network.from_json(network.to_json()), "net")

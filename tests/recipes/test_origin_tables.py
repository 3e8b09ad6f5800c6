import pytest

from smidgen.network.layers import BatchNorm, Conv, Dense, Flatten, Layer, MaxPool, ReLU
from smidgen.network.network import Network
from smidgen.network.trace import Row, trace
from smidgen.recipes.catalogue import RECIPES

# Parameters, batch norm statistics, Keras' total, folded, receptive field, multiply-accumulates.
TOTALS = {
    "era-s7/1": (194_884, 0, 194_884, None, 28, 52_164_772),
    "era-s7/2": (9_048, 0, 9_048, None, 28, 473_364),
    "era-s7/3": (9_180, 132, 9_312, 9_114, 28, 473_364),
    "era-s7/4": (9_180, 132, 9_312, 9_114, 28, 473_364),
    "era-s7/5": (4_280, 132, 4_412, 4_214, 28, 468_464),
    "era-s7/6": (6_596, 144, 6_740, 6_524, 28, 522_224),
    "era-s7/7": (8_932, 176, 9_108, 8_844, 36, 694_256),
    "eva4-s5/1": (15_530, 0, 15_530, None, 28, 2_918_880),
    "eva4-s5/2": (8_962, 0, 8_962, None, 28, 2_095_776),
    "eva4-s5/3": (9_142, 180, 9_322, None, 28, 2_095_776),
    "eva4-s5/4": (9_142, 180, 9_322, None, 28, 2_095_776),
    "eva4-s5/5": (9_142, 180, 9_322, None, 28, 2_095_776),
    "mnist-challenge/conv": (8_580, 60, 8_640, None, 34, 1_270_820),
    "mnist-challenge/separable": (4_879, 88, 4_967, None, 26, 113_712),
    "mnist-challenge/inception": (3_077, 0, 3_077, None, 31, 90_373),
    "mnist-99-4": (15_578, 112, 15_690, 15_466, 38, 517_568),
    "mnist-99-4/dropout-0.3": (15_578, 112, 15_690, 15_466, 38, 517_568),
    "assignment7/1": (10_554, 0, 10_554, None, 32, 1_587_048),
    "assignment7/2": (7_498, 160, 7_658, None, 32, 1_578_648),
    "assignment7/3": (9_776, 204, 9_980, None, 32, 2_129_552),
    "assignment7/3-head": (8_014, 208, 8_222, None, 32, 1_851_816),
}

# Per row of the origins' layer tables: output shape, receptive field, jump. A row ends with its
# convolution, pool, flattening or dense layer; norms, activations and dropout belong to it.
_S7_BODY = (
    "4x26x26 3 1 | 4x24x24 5 1 | 8x22x22 7 1 | 8x11x11 8 2 | 8x11x11 8 2 | 16x9x9 12 2 | "
    "16x7x7 16 2 | "
)
_S7_CONV_HEAD = _S7_BODY + "10x7x7 16 2 | 10x1x1 28 2 | 10 28 2"
_S5 = (
    "8x26x26 3 1 | 8x24x24 5 1 | 16x22x22 7 1 | 16x20x20 9 1 | 16x10x10 10 2 | 16x8x8 14 2 | "
    "16x6x6 18 2 | 10x6x6 18 2 | 10x1x1 28 2 | 10 28 2"
)
_MNIST_99_4 = (
    "8x28x28 3 1 | 8x14x14 4 2 | 16x14x14 8 2 | 16x7x7 10 4 | 32x7x7 18 4 | 32x3x3 22 8 | "
    "288 38 8 | 32 38 8 | 10 38 8"
)
ROWS = {
    "era-s7/1": "32x26x26 3 1 | 64x24x24 5 1 | 128x22x22 7 1 | 128x11x11 8 2 | 32x11x11 8 2 | "
    "64x9x9 12 2 | 128x7x7 16 2 | 10x7x7 16 2 | 10x1x1 28 2 | 10 28 2",
    "era-s7/2": _S7_CONV_HEAD,
    "era-s7/3": _S7_CONV_HEAD,
    "era-s7/4": _S7_CONV_HEAD,
    "era-s7/5": _S7_BODY + "10x7x7 16 2 | 10x1x1 28 2 | 10 28 2",
    "era-s7/6": _S7_BODY + "16x5x5 20 2 | 10x5x5 20 2 | 10x1x1 28 2 | 10 28 2",
    "era-s7/7": _S7_BODY + "16x7x7 20 2 | 16x7x7 24 2 | 10x7x7 24 2 | 10x1x1 36 2 | 10 36 2",
    "eva4-s5/1": "16x26x26 3 1 | 16x24x24 5 1 | 16x22x22 7 1 | 16x11x11 8 2 | 16x9x9 12 2 | "
    "16x7x7 16 2 | 16x5x5 20 2 | 16x3x3 24 2 | 10x1x1 28 2 | 10 28 2",
    "eva4-s5/2": _S5,
    "eva4-s5/3": _S5,
    "eva4-s5/4": _S5,
    "eva4-s5/5": _S5,
    "mnist-challenge/conv": "20x28x28 7 1 | 20x14x14 8 2 | 10x10x10 16 2 | 10x5x5 18 4 | "
    "250 34 4 | 10 34 4",
    "mnist-challenge/separable": "28x26x26 3 1 | 28x13x13 4 2 | 16x11x11 8 2 | 16x5x5 10 4 | "
    "400 26 4 | 10 26 4",
    "mnist-99-4": _MNIST_99_4,
    "mnist-99-4/dropout-0.3": _MNIST_99_4,
    "assignment7/1": "10x26x26 3 1 | 12x24x24 5 1 | 12x22x22 7 1 | 10x22x22 7 1 | 10x11x11 8 2 | "
    "12x9x9 12 2 | 12x7x7 16 2 | 12x5x5 20 2 | 12x5x5 24 2 | 10x1x1 32 2 | 10 32 2",
    "assignment7/2": "10x26x26 3 1 | 12x24x24 5 1 | 12x22x22 7 1 | 10x22x22 7 1 | 10x11x11 8 2 | "
    "12x9x9 12 2 | 12x7x7 16 2 | 12x5x5 20 2 | 10x5x5 24 2 | 10x1x1 32 2 | 10 32 2",
    "assignment7/3": "12x26x26 3 1 | 14x24x24 5 1 | 14x22x22 7 1 | 10x22x22 7 1 | 10x11x11 8 2 | "
    "14x9x9 12 2 | 14x7x7 16 2 | 14x5x5 20 2 | 10x5x5 24 2 | 10x1x1 32 2 | 10 32 2",
    "assignment7/3-head": "14x26x26 3 1 | 12x24x24 5 1 | 12x22x22 7 1 | 10x22x22 7 1 | "
    "10x11x11 8 2 | 12x9x9 12 2 | 12x7x7 16 2 | 12x5x5 20 2 | 10x5x5 24 2 | 10x1x1 32 2 | "
    "10 32 2",
}

# Path: output shape, receptive field, parameters.
INCEPTION = {
    "0.0.0": ("2x28x28", 3, 13),
    "0.0.2": ("2x28x28", 4, 0),
    "0.0.3": ("1x28x28", 4, 3),
    "0.1.0": ("2x28x28", 1, 4),
    "0.1.2": ("2x28x28", 5, 56),
    "0.2.0": ("2x28x28", 1, 4),
    "0.3.0": ("2x28x28", 1, 4),
    "0.3.2": ("2x28x28", 3, 24),
    "0": ("7x28x28", 5, 0),
    "1": ("2x13x13", 7, 79),
    "3": ("2x12x12", 9, 0),
    "5": ("288", 31, 0),
    "6": ("10", 31, 2_890),
}

# Parameters, folded, multiply-accumulates, receptive field of the last map before the average.
ANCHORS = {
    "anchors/697": (697, None, 80_576, 20),
    "anchors/1936": (1_936, None, 413_458, 20),
    "anchors/820": (820, None, 59_980, 19),
    "anchors/6720": (6_720, None, 988_576, 18),
    "anchors/9994": (9_994, 9_888, 2_154_884, 22),
}

_WITHIN_A_ROW = ("batch_norm", "sample_norm", "relu", "leaky_relu", "prelu", "dropout")


def _show(row: Row) -> str:
    return "x".join(str(size) for size in row.output_shape)


def _history(widths: tuple[int, ...], dense: int) -> Network:
    """Build an early form of the `mnist-99-4` network: padded blocks, then two dense layers."""
    layers: list[Layer] = []
    for channels in widths:
        layers += [Conv(channels, 3, padding=1, bias=True), BatchNorm(), ReLU(), MaxPool(2)]
    return Network(layers=(*layers, Flatten(), Dense(dense), ReLU(), Dense(10)))


@pytest.mark.parametrize("name", TOTALS)
def test_totals_of_origins(name: str):
    """Every origin's network has exactly the sizes counted from the original."""
    totals = trace(RECIPES[name].network).totals

    assert (
        totals.num_params,
        totals.num_buffers,
        totals.keras_total,
        totals.folded,
        totals.receptive_field,
        totals.num_macs,
    ) == TOTALS[name]


@pytest.mark.parametrize("name", ROWS)
def test_layer_rows_of_origins(name: str):
    """Every row of the origins' layer tables has its shape, receptive field and jump.

    Where one position is left there is no neighbor, so the jump is not compared.
    """
    rows = [row for row in trace(RECIPES[name].network).rows if row.kind not in _WITHIN_A_ROW]
    expected = [text.split() for text in ROWS[name].split(" | ")]

    assert [[_show(row), *row.reach.receptive_field] for row in rows] == [
        [shape, int(field), int(field)] for shape, field, _ in expected
    ]
    assert [row.reach.jump for row in rows if max(row.output_shape[1:], default=1) > 1] == [
        (int(jump), int(jump))
        for shape, _, jump in expected
        if "x" in shape and not shape.endswith("x1x1")
    ]


def test_layer_rows_of_inception():
    """Each branch has its own shape, receptive field and parameters; the sum of all is known."""
    rows = trace(RECIPES["mnist-challenge/inception"].network).rows
    seen = {
        row.path: (_show(row), int(row.reach.receptive_field[1]), row.num_params)
        for row in rows
        if row.kind not in _WITHIN_A_ROW
    }

    assert seen == INCEPTION
    for branch, num_params in enumerate((16, 60, 4, 28)):
        in_branch = [row for row in rows if row.path.startswith(f"0.{branch}.")]
        assert sum(row.num_params for row in in_branch) == num_params


def test_receptive_field_of_branches_is_a_range():
    """After a concatenation the receptive field runs from the shortest to the longest path."""
    rows = {row.path: row for row in trace(RECIPES["mnist-challenge/inception"].network).rows}

    assert rows["0"].reach.receptive_field == (1, 5)
    assert rows["1"].reach.receptive_field == (3, 7)


@pytest.mark.parametrize("name", ANCHORS)
def test_totals_of_anchors(name: str):
    """The anchors have their published sizes."""
    table = trace(RECIPES[name].network)
    last_map = [row for row in table.rows if max(row.output_shape[1:], default=1) > 1][-1]

    assert (
        table.totals.num_params,
        table.totals.folded,
        table.totals.num_macs,
        last_map.reach.receptive_field[1],
    ) == ANCHORS[name]


def test_dead_block_is_reported_beside_the_rest():
    """`era-s7/7` reaches 8,932 parameters and registers 11,268; the rest never mixes in."""
    totals = trace(RECIPES["era-s7/7"].network).totals

    assert (totals.num_params, totals.num_dead, totals.num_registered) == (8_932, 2_336, 11_268)
    assert (totals.num_buffers, totals.num_dead_buffers) == (176, 32)
    assert totals.keras_total + totals.num_dead + totals.num_dead_buffers == 11_476


def test_dead_block_wired_in():
    """With its dead block in place `era-s7/7` has 11,268 parameters and sees 40 pixels."""
    network = RECIPES["era-s7/7"].network
    dead = network.unreached[0].layers
    wired = Network(layers=(*network.layers[:-3], *dead, *network.layers[-3:]))

    totals = trace(wired).totals

    assert (totals.num_params, totals.num_dead) == (11_268, 0)
    assert (totals.receptive_field, totals.num_macs) == (40, 807_152)


def test_averaging_before_the_head_saves_multiplications():
    """`era-s7/7` with its average before the 1x1 has the same size and 686,576 MACs."""
    layers = RECIPES["era-s7/7"].network.layers
    swapped = Network(layers=(*layers[:-3], layers[-2], layers[-3], layers[-1]))

    totals = trace(swapped).totals

    assert (totals.num_params, totals.num_macs) == (8_932, 686_576)


def test_merging_two_linear_rows():
    """Rows 3 and 4 of `assignment7/1` merged into one 3x3 convolution leave 10,218 parameters."""
    layers = RECIPES["assignment7/1"].network.layers
    assert layers[4:6] == (Conv(12, 3), Conv(10, 1))
    merged = Network(layers=(*layers[:4], Conv(10, 3), *layers[6:]))

    totals = trace(merged).totals

    assert (totals.num_params, totals.receptive_field) == (10_218, 32)


@pytest.mark.parametrize(
    ("widths", "dense", "num_params"),
    [((16, 32), 128, 207_018), ((8, 16, 20), 64, 16_470), ((16, 32, 32), 128, 52_490)],
)
def test_history_of_a_claim(widths: tuple[int, ...], dense: int, num_params: int):
    """Three early forms of one origin that claimed fewer than 20,000 parameters are counted."""
    assert trace(_history(widths, dense)).totals.num_params == num_params

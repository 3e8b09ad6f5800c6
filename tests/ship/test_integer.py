from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from shipped import EVERYTHING, images_of, integer_of, networks

from smidgen.errors import NetworkError
from smidgen.network.network import Network
from smidgen.ship.executor import scores_of, values_of
from smidgen.ship.integer import IMAGE, IntegerNetwork, Stage, bounds_of


def slow_scores(network: IntegerNetwork, image: np.ndarray) -> list[int]:
    """Compute an image's scores by the arithmetic as the module says it, one number at a time."""
    values: dict[int, np.ndarray] = {IMAGE: image.transpose(1, 2, 0).astype(int)}
    for stage in network.stages:
        t = np.zeros((*stage.positions, stage.out_channels), dtype=object)
        for y in range(stage.positions[0]):
            for x in range(stage.positions[1]):
                for o in range(stage.out_channels):
                    total = slow_sum(network, stage, values, (y, x, o))
                    a = (total >> stage.shift_a) + stage.bias[o]
                    t[y, x, o] = (a * (stage.negative[o] if a < 0 else stage.positive[o])) >> (
                        stage.shift[o]
                    )
                    t[y, x, o] += stage.offset[o] if stage.offset else 0
        made = slow_pool(stage, t)
        if stage is network.last:
            return [int(score) for score in made[0, 0]]
        made = (made + (1 << stage.pool_shift >> 1)) >> stage.pool_shift
        channels, rows, columns = network.shapes[stage.output]
        target = values.setdefault(stage.output, np.zeros((rows, columns, channels), dtype=int))
        part = slice(stage.first_channel, stage.first_channel + stage.out_channels)
        target[..., part] = np.clip(made.astype(int), -127, 127)
    raise AssertionError


def slow_cell(network: IntegerNetwork, stage: Stage, value: np.ndarray, y: int, x: int) -> list:
    """Return the numbers of a cell, or of the padding around."""
    if 0 <= y < value.shape[0] and 0 <= x < value.shape[1]:
        return [int(number) for number in value[y, x]]
    return [network.pad_byte if stage.inputs[0] == IMAGE else 0] * value.shape[2]


def slow_sum(
    network: IntegerNetwork, stage: Stage, values: dict[int, np.ndarray], at: tuple[int, int, int]
) -> int:
    """Return the accumulator of one output channel at one position."""
    y, x, o = at
    if stage.gather == "sum":
        count = len(stage.inputs)
        weights = stage.weights[o * count : (o + 1) * count]
        return sum(w * int(values[i][y, x, o]) for w, i in zip(weights, stage.inputs, strict=True))
    value = values[stage.inputs[0]]
    cells = [
        slow_cell(
            network,
            stage,
            value,
            y * stage.stride[0] - stage.before[0] + row,
            x * stage.stride[1] - stage.before[1] + column,
        )
        for row in range(stage.kernel[0])
        for column in range(stage.kernel[1])
    ]
    if stage.gather == "each":
        weights = stage.weights[o * len(cells) : (o + 1) * len(cells)]
        return sum(w * cell[o] for w, cell in zip(weights, cells, strict=True))
    if stage.depthwise is None:
        flat = [number for cell in cells for number in cell]
    else:
        part, taps = stage.depthwise, len(cells)
        flat = [
            (
                sum(
                    w * cell[c]
                    for w, cell in zip(part.weights[c * taps : (c + 1) * taps], cells, strict=True)
                )
                + part.bias[c]
            )
            >> part.shift
            for c in range(len(cells[0]))
        ]
    weights = stage.weights[o * len(flat) : (o + 1) * len(flat)]
    return sum(w * number for w, number in zip(weights, flat, strict=True))


def slow_pool(stage: Stage, t: np.ndarray) -> np.ndarray:
    """Return the largest t or their sum below each window."""
    pool = stage.pool
    if pool is None:
        return t
    made = np.zeros((*stage.size, stage.out_channels), dtype=object)
    for row in range(stage.size[0]):
        for column in range(stage.size[1]):
            top = row * pool.stride[0] - pool.before[0]
            left = column * pool.stride[1] - pool.before[1]
            cells = [
                t[y, x]
                for y in range(max(top, 0), min(top + pool.kernel[0], t.shape[0]))
                for x in range(max(left, 0), min(left + pool.kernel[1], t.shape[1]))
            ]
            made[row, column] = np.max(cells, axis=0) if pool.kind == "max" else sum(cells)
    return made


@settings(max_examples=15, deadline=None)
@given(networks())
def test_executor_computes_what_the_module_says(network: Network) -> None:
    """NumPy gives the scores that whole numbers give one at a time, for any kinds of layers."""
    integers = integer_of(network)
    images = images_of(network, 3)

    expected = [slow_scores(integers, image) for image in images]

    assert scores_of(integers, images).tolist() == expected


def test_every_kind_of_stage_is_executed() -> None:
    """The network with all kinds of stages has them, and its scores are those of slow integers."""
    integers = integer_of(EVERYTHING)
    images = images_of(EVERYTHING, 2)

    assert {stage.gather for stage in integers.stages} == {"window", "separable", "each", "sum"}
    assert any(stage.offset for stage in integers.stages)
    expected = [slow_scores(integers, image) for image in images]
    assert scores_of(integers, images).tolist() == expected


def test_json_gives_the_network_back() -> None:
    """The exchange form reads back as an equal network."""
    integers = integer_of(EVERYTHING)

    assert IntegerNetwork.from_json(integers.to_json()) == integers


def test_json_with_a_typo_is_refused() -> None:
    """An unknown key is named."""
    text = integer_of(EVERYTHING).to_json().replace('"pad_byte"', '"pad_bite"')

    with pytest.raises(NetworkError, match="unknown key `pad_bite`"):
        IntegerNetwork.from_json(text)


@settings(max_examples=10, deadline=None)
@given(networks())
def test_bounds_hold_for_extreme_images(network: Network) -> None:
    """No value that images of 0 and 255 give is beyond what was proven, and none reaches 2^24."""
    integers = integer_of(network)
    rng = np.random.default_rng(0)
    images = rng.choice(np.array([0, 255], np.uint8), (50, *network.input_shape))
    bounds = bounds_of(integers)

    assert all(max(b.accumulator, b.product, b.pooled) < 1 << 24 for b in bounds)
    scores = values_of(integers, images)[-1]
    assert np.abs(scores).max() <= bounds[-1].pooled


@pytest.mark.parametrize(
    ("what", "change", "said"),
    [
        ("product", {"positive": (255,) * 4, "bias": (32767,) * 4, "shift_a": 0}, None),
        ("weights", {"weights": (128,)}, "numbers, not"),
        ("bias", {"bias": (40000,) * 4}, "`bias` must lie within"),
        ("shift", {"shift": (24,) * 4}, "`shift` must lie within"),
        ("depthwise", {"gather": "separable", "weights": (1,) * 4}, "go together"),
    ],
)
def test_stages_that_could_overflow_are_refused(what: str, change: dict, said: str | None) -> None:
    """Numbers out of range, and sums and products that could reach 2^24, are named."""
    integers = integer_of(EVERYTHING)
    first = integers.stages[0]
    if said is None:
        change = change | {"negative": (0,) * 4, "weights": (127,) * len(first.weights)}
        change["positive"] = (32767,) * 4
        said = "its product can reach"
    changed = replace(first, **change)

    with pytest.raises(NetworkError, match=said):
        replace(integers, stages=(changed, *integers.stages[1:]))


def test_images_of_another_shape_are_refused() -> None:
    """The executor says which shape it wants."""
    integers = integer_of(EVERYTHING)

    with pytest.raises(NetworkError, match="must be uint8 of"):
        scores_of(integers, np.zeros((1, 1, 8, 8), np.uint8))

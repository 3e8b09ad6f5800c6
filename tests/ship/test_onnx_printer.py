import numpy as np
import pytest
from hypothesis import given, settings
from shipped import EVERYTHING, folded_and_integer, images_of, networks

from smidgen.network.network import Network
from smidgen.recipes.catalogue import get_recipe
from smidgen.ship.executor import scores_of
from smidgen.ship.onnx_printer import float_onnx, integer_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ONNX2C = {
    *("Add", "AveragePool", "Cast", "Clip", "Concat", "Conv", "Flatten", "Floor", "Max", "MaxPool"),
    *("Min", "Mul", "Pad", "PRelu", "ReduceSum", "Relu", "Sub"),
}
"""Operators that onnx2c lists and we use."""


def _run(model: bytes, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})[0]


def _check(network: Network, count: int) -> None:
    folded, integers = folded_and_integer(network)
    images = images_of(network, count)
    whole, floats = integer_onnx(integers, {}), float_onnx(folded, {})
    for model in (whole, floats):
        parsed = onnx.load_model_from_string(model)
        onnx.checker.check_model(parsed, full_check=True)
        assert {node.op_type for node in parsed.graph.node} <= ONNX2C

    scores, logits = _run(whole, images), _run(floats, images)

    assert scores.dtype == np.int32
    assert np.array_equal(scores, scores_of(integers, images))
    expected = folded.logits(images)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(
    "name",
    ["", "smidgen/500", "smidgen/quick", "mnist-challenge/conv", "mnist-challenge/inception"],
)
def test_onnxruntime_computes_what_python_does(name: str) -> None:
    """Integers give all scores to the bit, floats the logits; both pass onnx's own check."""
    _check(get_recipe(name).network if name else EVERYTHING, 25)


@settings(max_examples=10, deadline=None)
@given(networks())
def test_any_network_is_the_same_in_onnx(network: Network) -> None:
    """So do all kinds of drawn networks."""
    _check(network, 8)


def test_metadata_is_kept() -> None:
    """What is said of a model is in its file."""
    _, integers = folded_and_integer(EVERYTHING)

    parsed = onnx.load_model_from_string(integer_onnx(integers, {"classes": "a, b"}))

    assert {entry.key: entry.value for entry in parsed.metadata_props} == {"classes": "a, b"}

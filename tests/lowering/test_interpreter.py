"""The interpreter is float64 PyTorch to rounding, and the compiled engine is the interpreter."""

import numpy as np
import pytest

from smidgen.lowering.interpreter import evaluate, train_step
from smidgen.lowering.kernels import KERNELS
from smidgen.lowering.numbers import folded
from smidgen.lowering.program import evaluation_program, training_program
from smidgen.network import layers as L
from smidgen.network.network import Network

from ..engines.native.conftest import (
    KEY,
    Answer,
    data_for,
    engine_with,
    far_from_ties,
    largest_error,
    native_answer,
    random_tensors,
    recipe_of,
    torch_answer,
)
from .networks import ALONE, TOGETHER, small

NETWORKS = {**ALONE, **TOGETHER}
ROUNDING = 1e-11
Data = tuple[np.ndarray, np.ndarray]


def interpreted(
    network: Network, tensors: dict[str, np.ndarray], data: Data, smoothing: float = 0.0
) -> Answer:
    """Return what the interpreter says of a batch."""
    images = data[0] / 255.0
    step = train_step(
        training_program(network),
        tensors,
        images,
        data[1],
        label_smoothing=smoothing,
        dropout=(KEY, 0),
    )
    program = evaluation_program(network)
    scores = evaluate(program, folded(program.stages, program.folding, tensors), images)
    assert step.first_not_finite == ""
    return Answer(step.loss, step.gradients, scores)


@pytest.mark.parametrize("name", NETWORKS)
def test_interpreter_is_pytorch(name: str) -> None:
    """Loss, all gradients and the scores are float64 PyTorch's to 1e-11."""
    network = NETWORKS[name]
    data, tensors = data_for(network, 21, 1), random_tensors(network, 1)

    expected, _ = torch_answer(network, tensors, data, 0.1)
    found = interpreted(network, tensors, data, smoothing=0.1)

    error, where = largest_error(found, expected)
    assert found.gradients.keys() == expected.gradients.keys()
    assert error < ROUNDING, f"{where}: {error:.2e}"


@pytest.mark.parametrize("name", TOGETHER)
def test_compiled_engine_is_the_interpreter(name: str) -> None:
    """The generated C computes in single precision what the calls mean."""
    network = TOGETHER[name]
    data, tensors, _ = far_from_ties(network, 21)

    found = native_answer(engine_with(network, tensors, data, recipe_of(network)), data)

    error, where = largest_error(found, interpreted(network, tensors, data))
    assert error < 1e-4, f"{where}: {error:.2e}"


def test_every_kernel_is_interpreted() -> None:
    """The networks of the tables call every kernel that is declared."""
    called = set()
    for network in NETWORKS.values():
        training = training_program(network)
        for part in (*training.parts.values(), evaluation_program(network).part):
            called |= {call.kernel for call in part}

    assert called == set(KERNELS)


def test_statistics_are_the_batchs() -> None:
    """Mean and biased variance of each channel over batch and map."""
    network = small(L.BatchNorm(), L.Conv(4, 3))
    data, tensors = data_for(network, 9, 2), random_tensors(network, 2)
    images = data[0] / 255.0

    step = train_step(training_program(network), tensors, images, data[1])

    np.testing.assert_allclose(step.means["batchnorm1"], images.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(step.variances["batchnorm1"], images.var((0, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "culprit"),
    [
        ({"conv2.weight": np.inf}, "`conv2`"),
        ({"dense1.bias": np.nan}, "`dense1`"),
        # finite forward, for what they multiply is tiny; the way back multiplies them
        ({"conv2.weight": 1e170, "dense1.weight": -1e170}, "the gradient at `conv2`"),
    ],
)
def test_what_is_not_finite_first_is_named(values: dict[str, float], culprit: str) -> None:
    """Where a number goes wrong its operation is told, not those behind it."""
    network = small(L.Conv(3, 3), L.ReLU(), L.Multiply(1e-300), L.Conv(4, 1))
    data, tensors = data_for(network, 5, 3), random_tensors(network, 3)
    tensors = {name: array.astype(np.float64) for name, array in tensors.items()}
    for name, value in values.items():
        tensors[name][...] = value

    with np.errstate(all="ignore"):
        step = train_step(training_program(network), tensors, data[0] / 255.0, data[1])

    assert step.first_not_finite == culprit

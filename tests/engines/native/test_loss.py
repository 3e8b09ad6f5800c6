"""The loss with teachers: value and gradients are float64 PyTorch's, and so are whole steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from smidgen.engines.contract import EpochPlan
from smidgen.engines.native.engine import NativeEngine
from smidgen.engines.torch_engine import TorchEngine, training_loss
from smidgen.errors import EngineError
from smidgen.network import layers as L
from smidgen.network.network import Network
from smidgen.network.torch_module import TorchNetwork
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.parts import AdamW
from smidgen.recipes.recipe import Recipe

from .conftest import QUICK, data_for, engine_with, plan_of, random_tensors, recipe_of

# nothing here has a kink, so that single precision may not change sides of one
NET = Network(
    layers=(L.Conv(4, 3), L.BatchNorm(), L.AvgPool(2), L.GlobalAvgPool(), L.Flatten(), L.Dense(7)),
    input_shape=(1, 8, 8),
    num_classes=7,
)


def taught(temperature: float = 2.0, weight: float = 0.9, **rest: float) -> Recipe:
    """Return a recipe of this page's network with a teacher."""
    recipe = recipe_of(NET, **rest)  # type: ignore[arg-type]
    return recipe.replace(
        distillation=Distillation((Teacher(recipe),), temperature=temperature, weight=weight)
    )


def targets_for(num_images: int) -> np.ndarray:
    """Return class probabilities, of which some rows are certain and some nearly so."""
    rng = np.random.default_rng(3)
    scores = rng.normal(0.0, 1.0, (num_images, 7)) * rng.uniform(0.1, 40.0, (num_images, 1))
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares[0] = np.eye(7)[3]
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def plan_with_targets(num_images: int, batch_size: int) -> EpochPlan:
    """Return a plan with targets."""
    return replace(plan_of(num_images, batch_size, lr=0.02), targets=targets_for(num_images))


@pytest.mark.parametrize("num_images", [2, 15, 16, 33])
@pytest.mark.parametrize(
    ("temperature", "weight", "smoothing"),
    [(1.0, 0.9, 0.0), (4.0, 0.5, 0.1), (2.0, 1.0, 0.0), (0.5, 0.3, 0.0), (25.0, 0.7, 0.0)],
)
def test_loss_and_gradients_are_pytorchs(
    temperature: float, weight: float, smoothing: float, num_images: int
) -> None:
    """With teachers, loss and gradients differ from float64 PyTorch's by less than 1e-4."""
    recipe = taught(temperature, weight, smoothing=smoothing)
    data, tensors = data_for(NET, num_images, 1), random_tensors(NET, 1)
    plan = plan_with_targets(num_images, num_images)
    model = TorchNetwork(NET, {name: torch.from_numpy(a).double() for name, a in tensors.items()})
    x = torch.from_numpy(data[0]).double() / 255.0
    labels, targets = torch.from_numpy(data[1]), torch.from_numpy(plan.targets).double()
    loss = training_loss(recipe, model.train().scores(x), labels, targets)
    loss.backward()

    ours, gradients = engine_with(NET, tensors, data, recipe, 1, QUICK).gradients(plan)

    assert ours == pytest.approx(float(loss.detach()), rel=1e-4)
    expected = {n: t.grad.numpy() for n, t in model.named_tensors().items() if t.grad is not None}
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert np.abs(gradients[name] - gradient).max() < 1e-4 * np.abs(gradient).max(), name


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_scores_far_apart_have_pytorchs_loss(temperature: float) -> None:
    """Scores that differ by thousands: no exponential is asked for more than it can give."""
    recipe = taught(temperature, 0.5)
    data, tensors = data_for(NET, 16, 1), random_tensors(NET, 1)
    tensors["dense1.weight"] *= 10_000.0
    plan = plan_with_targets(16, 16)
    model = TorchNetwork(NET, {name: torch.from_numpy(a).double() for name, a in tensors.items()})
    scores = model.train().scores(torch.from_numpy(data[0]).double() / 255.0)
    labels, targets = torch.from_numpy(data[1]), torch.from_numpy(plan.targets).double()
    loss = training_loss(recipe, scores, labels, targets)
    loss.backward()

    ours, gradients = engine_with(NET, tensors, data, recipe, 1, QUICK).gradients(plan)

    assert float(scores.amax(1).sub(scores.amin(1)).min().detach()) > 1_000
    assert ours == pytest.approx(float(loss.detach()), rel=1e-4)
    for name, tensor in model.named_tensors().items():
        if tensor.grad is not None:
            expected = tensor.grad.numpy()
            assert np.abs(gradients[name] - expected).max() < 1e-4 * np.abs(expected).max(), name


def test_whole_epochs_agree_with_the_torch_engine() -> None:
    """After an epoch of 13 steps with teachers both engines stand at the same place."""
    recipe = taught(3.0, 0.8, optimizer=AdamW(lr=0.02), batch_size=8)  # type: ignore[arg-type]
    data, plan = data_for(NET, 100, 5), plan_with_targets(100, 8)
    engines = [NativeEngine(NET, recipe, *data, compile_options=QUICK)]
    engines += [TorchEngine(NET, recipe, *data)]  # type: ignore[list-item]

    ours, theirs = (engine.train_epoch(plan, lambda: False) for engine in engines)

    assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
    assert ours.num_correct == theirs.num_correct
    for name, expected in engines[1].state().items():
        assert engines[0].state()[name] == pytest.approx(expected, rel=1e-3, abs=1e-4), name


def test_bits_do_not_depend_on_threads() -> None:
    """One thread and three give the same state, bit for bit, with teachers too."""
    recipe, data = taught(batch_size=40), data_for(NET, 100, 5)
    states = []
    for threads in (1, 3):
        engine = NativeEngine(NET, recipe, *data, threads=threads, compile_options=QUICK)
        engine.train_epoch(plan_with_targets(100, 40), lambda: False)
        states.append(engine.state())

    assert all(states[0][name].tobytes() == states[1][name].tobytes() for name in states[0])


def test_targets_that_do_not_fit_are_refused() -> None:
    """Targets of another shape, which C would read from other memory, never reach it."""
    engine = NativeEngine(NET, taught(), *data_for(NET, 10, 5), compile_options=QUICK)
    short = replace(plan_of(10, 5), targets=targets_for(9))

    for call in (lambda: engine.train_epoch(short, lambda: False), lambda: engine.gradients(short)):
        with pytest.raises(EngineError, match=r"targets are float32 \(9, 7\)"):
            call()

"""Updates, augmentation, whole steps and what happens when something goes wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from smidgen.engines.contract import EpochPlan, Erasures, Geometry
from smidgen.engines.native.engine import NativeEngine
from smidgen.engines.torch_engine import TorchEngine
from smidgen.errors import EngineError, NonFiniteError
from smidgen.network import layers as L
from smidgen.network.network import Network
from smidgen.recipes.parts import SGD, Adam, AdamW, Normalization, Optimizer, WeightAveraging

from .conftest import QUICK, data_for, plan_of, recipe_of

NET = Network(
    layers=(
        L.Conv(4, 3),
        L.BatchNorm(),
        L.ReLU(),
        L.Dropout(0.1),
        L.MaxPool(2),
        L.Conv(6, 3, bias=True),
        L.ReLU(),
        L.BatchNorm(running_variance="biased"),
        L.GlobalAvgPool(),
        L.Flatten(),
        L.Dense(4),
    ),
    input_shape=(1, 12, 12),
    num_classes=4,
)
DATA = data_for(NET, 100, 5)
OPTIMIZERS = {
    "sgd": SGD(lr=0.1),
    "sgd with momentum": SGD(lr=0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": Adam(lr=0.01, weight_decay=1e-2),
    "adamw": AdamW(lr=0.01, weight_decay=0.1, beta1=0.8, beta2=0.99, eps=1e-6),
}


def native(
    optimizer: Optimizer = OPTIMIZERS["nesterov"], threads: int = 1, **rest: object
) -> NativeEngine:
    """Return an engine for the network of this page."""
    recipe = recipe_of(NET, optimizer, **rest)  # type: ignore[arg-type]
    return NativeEngine(NET, recipe, *DATA, threads=threads, compile_options=QUICK)


def never() -> bool:
    """Never stop."""
    return False


def changing_plan(num_steps: int = 20) -> EpochPlan:
    """Return a plan whose rate and momentum change with every step."""
    return EpochPlan(
        1,
        0,
        5,
        np.arange(100, dtype=np.int32),
        np.linspace(0.02, 0.1, num_steps),
        np.linspace(0.95, 0.85, num_steps),
        77,
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_updates_are_pytorchs(name: str) -> None:
    """From the same gradient arrays, 20 updates give PyTorch's weights to 1e-6."""
    chosen, plan = OPTIMIZERS[name], changing_plan()
    engine = native(chosen)
    start = engine.state()
    names = [n for n, spec in NET.graph.tensors.items() if spec.trainable]
    params = {n: torch.nn.Parameter(torch.from_numpy(start[n].copy())) for n in names}
    theirs = optimizer_of(chosen, list(params.values()))
    rng = np.random.default_rng(1)
    for step in range(plan.num_steps):
        gradients = {n: rng.normal(size=start[n].shape).astype(np.float32) for n in names}
        for n in names:
            params[n].grad = torch.from_numpy(gradients[n].copy())
        for group in theirs.param_groups:
            group["lr"] = float(plan.lr[step])
            if "betas" in group:
                group["betas"] = (float(plan.momentum[step]), group["betas"][1])
            elif group["momentum"]:
                group["momentum"] = float(plan.momentum[step])
        theirs.step()
        engine.update(gradients, plan if name != "sgd" else without_momentum(plan), step)
    for n in names:
        ours, expected = engine.state()[n], params[n].detach().numpy()
        assert np.abs(ours - expected).max() <= 1e-6 * max(1.0, np.abs(expected).max()), n


def without_momentum(plan: EpochPlan) -> EpochPlan:
    """Return a plan whose momentum is 0 throughout."""
    return EpochPlan(
        plan.epoch,
        0,
        plan.batch_size,
        plan.order,
        plan.lr,
        np.zeros(plan.num_steps),
        plan.dropout_key,
    )


def optimizer_of(chosen: Optimizer, params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer of PyTorch."""
    if isinstance(chosen, SGD):
        return torch.optim.SGD(
            params,
            lr=chosen.lr,
            momentum=chosen.momentum,
            nesterov=chosen.nesterov,
            weight_decay=chosen.weight_decay,
        )
    kind = torch.optim.Adam if isinstance(chosen, Adam) else torch.optim.AdamW
    return kind(
        params,
        lr=chosen.lr,
        betas=(chosen.beta1, chosen.beta2),
        eps=chosen.eps,
        weight_decay=chosen.weight_decay,
    )


@pytest.mark.parametrize("name", ["nesterov", "adamw"])
def test_twenty_steps_stay_as_near_to_float64_as_pytorch_does(name: str) -> None:
    """Over 20 steps it departs from float64 by at most 3 times what float32 PyTorch does."""
    averaging = WeightAveraging(decay=0.9)
    recipe = recipe_of(NET, OPTIMIZERS[name], batch_size=5, averaging=averaging)
    ours = NativeEngine(NET, recipe, *DATA, compile_options=QUICK)
    single, double = (TorchEngine(NET, recipe, *DATA) for _ in range(2))
    to_double(double)
    plan = changing_plan()
    stats = [engine.train_epoch(plan, never) for engine in (ours, single, double)]
    exact = double.state()
    for name in exact:
        if name == "step":
            continue
        allowed = np.abs(single.state()[name] - exact[name]).max()
        floor = 2e-6 * max(1.0, np.abs(exact[name]).max())
        assert np.abs(ours.state()[name] - exact[name]).max() <= 3 * allowed + floor, name
    assert stats[0].loss == pytest.approx(stats[2].loss, rel=1e-4)
    assert stats[0].num_correct == pytest.approx(stats[2].num_correct, abs=1)
    assert ours.state()["step"] == 20


def to_double(engine: TorchEngine) -> None:
    """Let a torch engine compute in float64 from where it stands."""
    engine.model.double()
    engine._tensors = engine.model.named_tensors()
    engine._params = {n: t for n, t in engine._tensors.items() if t.requires_grad}
    engine._buffers = [t for t in engine._tensors.values() if not t.requires_grad]
    engine._optimizer = engine._make_optimizer()
    engine._ema = {n: t.detach().clone() for n, t in engine._tensors.items()}
    normalized = engine._normalized
    engine._normalized = lambda x, split: normalized(x, split).double()  # type: ignore[method-assign]


GEOMETRY = np.array(
    [
        [0.9, 0.2, 1.3, -0.25, 1.1, 0.4],
        [1, 0, 2, 0, 1, -3],
        [0, 1, 0, 1, 0, 0],
        [3, 0, -9, 0, 3, -9],
    ]
    * 25,
    dtype=np.float32,
)
PLANS = {
    "nothing": {},
    "bilinear": {"geometry": Geometry(GEOMETRY)},
    "bilinear on grey": {"geometry": Geometry(GEOMETRY, fill=0.3)},
    "nearest": {"geometry": Geometry(GEOMETRY + np.float32(0.0137), "nearest", 0.5)},
    "whole pixels, nearest": {"geometry": Geometry(np.tile(GEOMETRY[1], (100, 1)), "nearest")},
    "elastic": {
        "geometry": Geometry(
            GEOMETRY,
            elastic=np.random.default_rng(0).normal(size=(100, 2, 7, 7)).astype(np.float32),
        )
    },
    "jitter": {"jitter": np.random.default_rng(0).uniform(0.3, 1.8, (100, 2)).astype(np.float32)},
    "erasing": {
        "erasing": Erasures(np.array([[1, 2, 3, 4], [0, 0, 0, 0]] * 50, dtype=np.int32), 0.7)
    },
}


@pytest.mark.parametrize("name", PLANS)
def test_planned_logits_are_those_of_the_torch_engine(name: str) -> None:
    """A teacher says the same of changed images on both engines, read as in an evaluation."""
    recipe = recipe_of(NET, averaging=WeightAveraging(0.9)).replace(
        normalization=Normalization(0.1, 0.3, 0.2, 0.5)
    )
    engines = [NativeEngine(NET, recipe, *DATA, threads=2, compile_options=QUICK)]
    engines += [TorchEngine(NET, recipe, *DATA)]  # type: ignore[list-item]
    engines[0].train_epoch(plan_of(100, 10), never)
    engines[1].load_state(engines[0].state())
    plan = replace(plan_of(100, 10), **PLANS[name])
    plan = plan.picked(np.random.default_rng(1).permutation(100)[:73])

    ours, theirs = (engine.planned_logits(plan) for engine in engines)

    assert ours.shape == (73, 4)
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 9, 14)])
@pytest.mark.parametrize("name", PLANS)
def test_augmented_images_are_those_of_the_torch_engine(name: str, shape: tuple[int, ...]) -> None:
    """Every change of a plan gives the torch engine's images to 1e-4 of a grey level's range."""
    net = Network(
        layers=(L.Conv(2, 3), L.GlobalAvgPool(), L.Flatten()), input_shape=shape, num_classes=2
    )
    data = data_for(net, 100, 3)
    plan = EpochPlan(
        1,
        0,
        32,
        np.random.default_rng(2).permutation(100).astype(np.int32),
        np.full(4, 0.1),
        np.full(4, 0.9),
        1,
        **PLANS[name],
    )
    recipe = recipe_of(net)
    ours = NativeEngine(net, recipe, *data, compile_options=QUICK)
    theirs = TorchEngine(net, recipe, *data)
    for step in (0, 3):
        expected = theirs.batch(plan, step)
        assert np.abs(ours.batch(plan, step) - expected).max() < 1e-4


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_bits_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    """One and several threads leave the same bits in every tensor, also with a partial batch."""
    plan = plan_of(100, 67)
    one, many = (
        native(averaging=WeightAveraging(0.9)),
        native(threads=threads, averaging=WeightAveraging(0.9)),
    )
    stats = [engine.train_epoch(plan, never) for engine in (one, many)]
    assert stats[0] == stats[1]
    assert all(np.array_equal(array, many.state()[name]) for name, array in one.state().items())
    assert np.array_equal(one.logits(DATA[0]), many.logits(DATA[0]))


def test_a_run_goes_on_from_its_state_bit_for_bit() -> None:
    """An engine that loads another's state after an epoch ends the next with the same bits."""
    plan = changing_plan()
    whole, half = native(OPTIMIZERS["adamw"]), native(OPTIMIZERS["adamw"])
    whole.train_epoch(plan, never)
    half.load_state(whole.state())
    for engine in (whole, half):
        engine.train_epoch(plan, never)
    assert all(np.array_equal(array, half.state()[name]) for name, array in whole.state().items())


def test_state_moves_to_torch_and_back() -> None:
    """The torch engine takes a native state, gives the same one back, and scores alike."""
    ours = native(OPTIMIZERS["adamw"], averaging=WeightAveraging(0.9))
    ours.train_epoch(changing_plan(), never)
    theirs = TorchEngine(NET, ours.recipe, *DATA)
    theirs.load_state(ours.state())
    back = theirs.state()
    assert list(back) == list(ours.state())
    assert all(np.array_equal(array, back[name]) for name, array in ours.state().items())
    for weights in ("raw", "ema"):
        assert (
            np.abs(
                theirs.logits(DATA[0], weights=weights) - ours.logits(DATA[0], weights=weights)
            ).max()
            < 1e-5
        )


def test_a_foreign_state_is_refused() -> None:
    """A state with another name or shape is refused by name."""
    engine = native()
    state = engine.state()
    state["conv1.weight"] = state["conv1.weight"][:2]
    with pytest.raises(EngineError, match=r"`conv1.weight` differs"):
        engine.load_state(state)


@pytest.mark.parametrize("lr", [float("inf"), float("nan"), 1e30])
def test_a_number_that_is_not_finite_stops_before_the_update(lr: float) -> None:
    """After a step with a bad rate the next one raises, with the state from before it."""
    plan = changing_plan()
    plan.lr[3] = lr
    engine = native()
    with pytest.raises(NonFiniteError) as caught:
        engine.train_epoch(plan, never)
    reference = native()
    reference.train_epoch(
        EpochPlan(1, 0, 5, plan.order[:20], plan.lr[:4], plan.momentum[:4], 77), never
    )
    assert caught.value.step == 4
    for name, array in reference.state().items():
        assert np.array_equal(array, engine.state()[name], equal_nan=True), name


def test_stopping_is_asked_before_and_during_an_epoch() -> None:
    """A stop that was asked for beforehand ends the epoch at its first step, weights untouched."""
    engine = native()
    before = engine.state()
    stats = engine.train_epoch(changing_plan(), lambda: True)
    assert stats.stopped
    assert stats.num_images == 0
    assert all(np.array_equal(array, engine.state()[name]) for name, array in before.items())


def test_a_long_epoch_stops_soon_after_it_is_told_to() -> None:
    """A stop that is asked for while C runs ends the epoch early."""
    calls = iter(range(10**9))
    plan = long_plan()
    stats = native().train_epoch(plan, lambda: next(calls) >= 2)
    assert stats.stopped
    assert stats.num_images < len(plan.order)


def test_the_steps_of_an_epoch_are_told_while_it_runs() -> None:
    """Whoever is asked whether to stop sees how many steps are done, from 0 in every epoch."""
    engine, plan = native(), long_plan()
    for _ in range(2):
        seen: list[int] = []

        def has_begun(seen: list[int] = seen) -> bool:
            seen.append(engine.steps_done)
            return seen[-1] > 0

        assert engine.train_epoch(plan, has_begun).stopped
        assert seen[0] == 0
        assert 0 < seen[-1] <= engine.steps_done < plan.num_steps


def long_plan() -> EpochPlan:
    """Return a plan of 400,000 steps that change nothing."""
    num_images = 2_000_000
    plan = plan_of(num_images, 5)
    order = np.zeros(num_images, dtype=np.int32)
    return EpochPlan(1, 0, 5, order, plan.lr * 0.0, plan.momentum, 1)


def test_a_lonely_value_is_refused() -> None:
    """A last batch of one image would be normalized to nothing: PyTorch refuses it, so do we."""
    network = Network((L.GlobalAvgPool(), L.BatchNorm(), L.Flatten(), L.Dense(4)), (1, 5, 5), 4)
    recipe = recipe_of(network, batch_size=4)
    engine = NativeEngine(network, recipe, *data_for(network, 9, 1), compile_options=QUICK)
    with pytest.raises(EngineError, match=r"^The epoch's last batch has one image"):
        engine.train_epoch(plan_of(9, 4), never)


def test_both_engines_pick_the_same_normalization() -> None:
    """The split chooses the normalization of an evaluation."""
    recipe = recipe_of(NET).with_setting("normalization.eval_mean", "0.5")
    ours, theirs = (
        NativeEngine(NET, recipe, *DATA, compile_options=QUICK),
        TorchEngine(NET, recipe, *DATA),
    )
    for split in ("train", "eval"):
        assert np.abs(ours.logits(DATA[0], split) - theirs.logits(DATA[0], split)).max() < 1e-5

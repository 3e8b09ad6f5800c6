from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smidgen.data import Dataset
from smidgen.engines import torch_engine
from smidgen.engines.contract import State
from smidgen.engines.dropout import keep_mask
from smidgen.engines.plan import EpochPlan
from smidgen.engines.torch_augment import augmented
from smidgen.engines.torch_engine import TorchEngine
from smidgen.engines.torch_loss import training_loss
from smidgen.errors import EngineError, NonFiniteError
from smidgen.network.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    ReLU,
)
from smidgen.network.network import Network
from smidgen.recipes.parts import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Loss,
    Normalization,
    OneCycle,
    WeightAveraging,
)
from smidgen.recipes.recipe import Recipe
from smidgen.training.planning import plan

NAMES = {
    "0": "conv1",
    "1": "batchnorm1",
    "4": "conv2",
    "6": "batchnorm2",
    "9": "dense1",
}
"""The reference model's modules by the names that our tensors have."""


def never() -> bool:
    """Return that nobody wants to stop."""
    return False


def engine_of(recipe: Recipe, dataset: Dataset, seed: int = 1) -> TorchEngine:
    """Return a fresh engine on the data set's training images."""
    train = dataset.train
    return TorchEngine(recipe.network, recipe, train.images, train.labels, seed=seed)


def trained(recipe: Recipe, dataset: Dataset, epochs: int | None = None) -> TorchEngine:
    """Return an engine after some epochs."""
    engine = engine_of(recipe, dataset)
    for epoch in range(1, (epochs or recipe.epochs) + 1):
        engine.train_epoch(plan(recipe, 1, epoch, [], len(dataset.train)), never)
    return engine


def assert_equal(a: State, b: State) -> None:
    """Check that two states are the same bit for bit."""
    assert a.keys() == b.keys()
    for name, array in a.items():
        assert array.dtype == b[name].dtype
        assert array.tobytes() == b[name].tobytes(), name


class ReferenceDropout(nn.Module):
    """Dropout whose decisions come from the NumPy reference."""

    def __init__(self, rate: float, number: int) -> None:
        super().__init__()
        self.rate, self.number, self.key, self.step = rate, number, 0, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the values that stay, scaled."""
        if not self.training:
            return x
        size = (len(x), x[0].numel())
        mask = keep_mask(self.key, self.step, self.number, size, self.rate)
        return x * (torch.from_numpy(mask).view(x.shape) * (1 / (1 - self.rate)))


def reference_model() -> nn.Sequential:
    """Return the tiny network written by hand with PyTorch's own modules."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        ReferenceDropout(0.1, 0),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


def our_name(name: str) -> str:
    """Return what we call a tensor of the reference model."""
    number, tensor = name.split(".")
    return f"{NAMES[number]}.{tensor}"


def reference_steps(
    recipe: Recipe, optimizer: Any, start: State, dataset: Dataset, plans: list[EpochPlan]
) -> tuple[list[State], list[float]]:
    """Train the reference in the ordinary way; return its tensors after each step, and losses."""
    model = reference_model()
    model.load_state_dict(
        {
            name: torch.from_numpy(start[our_name(name)])
            for name in model.state_dict()
            if "num_batches" not in name
        },
        strict=False,
    )
    model = model.to(memory_format=torch.channels_last)  # Adam enlarges rounding differences
    opt = optimizer(model.parameters())
    states, losses = [], []
    for epoch in plans:
        for step in range(epoch.num_steps):
            rows = epoch.rows(step)
            chosen = torch.from_numpy(epoch.order[rows]).long()
            pixels = augmented(torch.from_numpy(dataset.train.images)[chosen], epoch, rows)
            x = (pixels - recipe.normalization.train_mean) / recipe.normalization.train_std
            x = x.contiguous(memory_format=torch.channels_last)
            labels = torch.from_numpy(dataset.train.labels)[chosen]
            for module in model:
                if isinstance(module, ReferenceDropout):
                    module.key, module.step = epoch.dropout_key, step
            for group in opt.param_groups:
                group["lr"] = epoch.lr[step]
                if "betas" in group:
                    group["betas"] = (epoch.momentum[step], group["betas"][1])
                else:
                    group["momentum"] = epoch.momentum[step]
            opt.zero_grad()
            loss = F.cross_entropy(model(x), labels, label_smoothing=recipe.loss.label_smoothing)
            loss.backward()
            opt.step()
            losses.append(float(loss.detach()) * len(labels))
            states.append(
                {
                    our_name(name): tensor.numpy().copy()
                    for name, tensor in model.state_dict().items()
                    if "num_batches" not in name
                }
            )
    return states, losses


OPTIMIZERS = [
    (SGD(0.05), lambda p: torch.optim.SGD(p, 1)),
    (SGD(0.05, 0.9), lambda p: torch.optim.SGD(p, 1, 0.9)),
    (
        SGD(0.05, 0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, 1, 0.9, nesterov=True, weight_decay=0.01),
    ),
    (Adam(0.02), lambda p: torch.optim.Adam(p)),
    (
        Adam(0.02, 0.8, 0.99, 1e-5, 0.01),
        lambda p: torch.optim.Adam(p, betas=(0.8, 0.99), eps=1e-5, weight_decay=0.01),
    ),
    (AdamW(0.02, weight_decay=0.1), lambda p: torch.optim.AdamW(p, weight_decay=0.1)),
]


@pytest.mark.parametrize(
    ("optimizer", "theirs"),
    OPTIMIZERS,
    ids=["sgd", "momentum", "nesterov", "adam", "adam-l2", "adamw"],
)
@pytest.mark.parametrize("schedule", [Constant(), OneCycle()], ids=["constant", "one-cycle"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_training_is_pytorchs_own(
    tiny_recipe: Recipe,
    stripes: Dataset,
    optimizer: Any,
    theirs: Any,
    schedule: Any,
    smoothing: float,
) -> None:
    """Every step of two epochs equals an ordinary model, loss and optimizer on the same plan."""
    recipe = tiny_recipe.replace(
        optimizer=optimizer,
        schedule=schedule,
        averaging=None,
        loss=Loss(label_smoothing=smoothing),
        normalization=Normalization(0.4, 0.3, 0.5, 0.2),
        epochs=2,
    )
    plans = [plan(recipe, 1, epoch, [], len(stripes.train)) for epoch in (1, 2)]
    engine = engine_of(recipe, stripes)
    start = engine.state()
    seen: list[State] = []

    def look() -> bool:
        seen.append(engine.state())
        return False

    stats = [engine.train_epoch(one, look) for one in plans]
    seen.append(engine.state())

    expected, losses = reference_steps(recipe, theirs, start, stripes, plans)
    assert len(seen) == len(expected) + 1 == 9
    for found, wanted in zip(seen[1:], expected, strict=True):
        for name, array in wanted.items():
            np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-6, err_msg=name)
    assert stats[1].loss == pytest.approx(sum(losses[4:]) / len(stripes.train), rel=1e-6)
    assert all(one.num_images == len(stripes.train) for one in stats)


def test_evaluation_is_pytorchs_own(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """Scores use running statistics, no dropout and the split's own normalization."""
    recipe = tiny_recipe.replace(averaging=None, normalization=Normalization(0.4, 0.3, 0.5, 0.2))
    engine = trained(recipe, stripes)
    state, model = engine.state(), reference_model().eval()
    tensors = {n: n for n in model.state_dict() if "num_batches" not in n}
    model.load_state_dict(
        {name: torch.from_numpy(state[our_name(name)]) for name in tensors}, strict=False
    )
    x = torch.from_numpy(stripes.test.images).float() / 255

    with torch.no_grad():
        as_eval, as_train = model((x - 0.5) / 0.2).numpy(), model((x - 0.4) / 0.3).numpy()

    np.testing.assert_allclose(engine.logits(stripes.test.images), as_eval, atol=1e-5)
    np.testing.assert_allclose(engine.logits(stripes.test.images, "train"), as_train, atol=1e-5)
    assert not np.allclose(as_eval, as_train, atol=1e-3)


def test_scores_of_no_images(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """No images give no rows, and many give the same rows as few at a time."""
    engine = engine_of(tiny_recipe, stripes)
    many = np.concatenate([stripes.train.images] * 10)[:1005]

    assert engine.logits(many[:0]).shape == (0, 10)
    scores = engine.logits(many)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores[1000:], engine.logits(many[1000:]), atol=1e-5)


def one_step(recipe: Recipe, dataset: Dataset) -> tuple[State, State, np.ndarray]:
    """Return the states before and after one step, and the images as the network saw them."""
    engine = engine_of(recipe, dataset)
    first = plan(recipe, 1, 1, [], len(dataset.train))
    before = engine.state()
    images, _ = engine.batch(first, 0)
    calls = iter([False, True])
    stats = engine.train_epoch(first, lambda: next(calls))
    assert stats.stopped
    assert stats.num_images == recipe.batch_size
    return before, engine.state(), images


@pytest.mark.parametrize("kind", ["unbiased", "biased"])
def test_running_variance(tiny_recipe: Recipe, stripes: Dataset, kind: Any) -> None:
    """The running variance moves towards n / (n - 1) times the batch's, or Keras' way without."""
    norm = BatchNorm(momentum=0.25, running_variance=kind)
    network = Network((Conv(3, 5, stride=3), norm, ReLU(), GlobalAvgPool(), Flatten(), Dense(10)))
    recipe = tiny_recipe.replace(network=network, averaging=None)

    before, after, images = one_step(recipe, stripes)

    weight = torch.from_numpy(before["conv1.weight"])
    x = F.conv2d(torch.from_numpy(images), weight, stride=3).double()
    variance = x.var((0, 2, 3), unbiased=kind == "unbiased").numpy()
    mean = x.mean((0, 2, 3)).numpy()
    np.testing.assert_allclose(after["batchnorm1.running_var"], 0.75 + 0.25 * variance, rtol=1e-5)
    np.testing.assert_allclose(after["batchnorm1.running_mean"], 0.25 * mean, atol=1e-6)
    count = x.numel() // 3
    assert variance / x.var((0, 2, 3)).numpy() == pytest.approx(
        1 if kind == "unbiased" else (count - 1) / count
    )


@pytest.mark.parametrize("warmup", [True, False])
def test_average_follows_the_weights(tiny_recipe: Recipe, stripes: Dataset, warmup: bool) -> None:
    """The moving average equals the recurrence by hand, running statistics included."""
    recipe = tiny_recipe.replace(averaging=WeightAveraging(0.5, warmup))
    engine = engine_of(recipe, stripes)
    seen: list[State] = []

    def look() -> bool:
        seen.append(engine.state())
        return False

    engine.train_epoch(plan(recipe, 1, 1, [], len(stripes.train)), look)
    seen.append(engine.state())

    for name in recipe.network.graph.tensors:
        average = seen[0][name].astype(np.float64)
        assert (seen[0][f"ema/{name}"] == seen[0][name]).all()
        for step, state in enumerate(seen[1:], start=1):
            decay = min(0.5, (1 + step) / (10 + step)) if warmup else 0.5
            average = decay * average + (1 - decay) * state[name]
            np.testing.assert_allclose(state[f"ema/{name}"], average, atol=1e-6)


def test_averaged_weights_give_their_own_scores(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """Scores of the average are those of an engine whose weights are the average."""
    engine = trained(tiny_recipe, stripes)
    state = engine.state()
    other = engine_of(tiny_recipe, stripes)
    averaged = {name: state[f"ema/{name}"] for name in tiny_recipe.network.graph.tensors}
    other.load_state(state | averaged)

    found = engine.logits(stripes.test.images, weights="ema")

    assert (found == other.logits(stripes.test.images, weights="raw")).all()
    assert not np.allclose(found, engine.logits(stripes.test.images, weights="raw"))


@pytest.mark.parametrize(("drops", "images"), [(False, 120), (True, 96)])
def test_last_batch(tiny_recipe: Recipe, stripes: Dataset, drops: bool, images: int) -> None:
    """A smaller last batch is trained on, unless the recipe drops it."""
    recipe = tiny_recipe.replace(drop_last=drops)
    engine = engine_of(recipe, stripes)

    stats = engine.train_epoch(plan(recipe, 1, 1, [], len(stripes.train)), never)

    assert stats.num_images == images
    assert engine.state()["step"] == (3 if drops else 4)
    assert engine.steps_done == (3 if drops else 4)


def test_a_lonely_value_is_refused(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """Where PyTorch would stop with an error of its own, ours says what to do."""
    network = Network((Conv(10, 3), GlobalAvgPool(), Flatten(), BatchNorm()))
    recipe = tiny_recipe.replace(network=network, batch_size=len(stripes.train) - 1)
    engine = engine_of(recipe, stripes)

    with pytest.raises(EngineError, match=r"^The epoch's last batch has one image"):
        engine.train_epoch(plan(recipe, 1, 1, [], len(stripes.train)), never)


def test_statistics_of_the_epoch(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """Without learning, loss and right answers are those of one pass in training mode."""
    layers = (Conv(4, 5, stride=4), ReLU(), MaxPool(2), Flatten(), Dense(10))
    recipe = tiny_recipe.replace(
        network=Network(layers), optimizer=SGD(1e-30), schedule=Constant(), averaging=None
    )
    engine = engine_of(recipe, stripes)
    drawn = plan(recipe.replace(clean_epochs=3), 1, 1, [], len(stripes.train))
    scores = torch.from_numpy(engine.logits(stripes.train.images, "train"))
    labels = torch.from_numpy(stripes.train.labels)

    stats = engine.train_epoch(drawn, never)

    assert stats.loss == pytest.approx(float(F.cross_entropy(scores, labels)), rel=1e-6)
    assert stats.num_correct == int((scores.argmax(1) == labels).sum())


RECIPE_CHANGES = [
    {},
    {"averaging": None},
    {"optimizer": SGD(0.05, 0.9, nesterov=True), "averaging": None},
    {"optimizer": SGD(0.05), "schedule": Constant()},
    {"optimizer": AdamW(0.02)},
]


@pytest.mark.parametrize("changes", RECIPE_CHANGES)
@pytest.mark.parametrize("done", [0, 1, 2])
def test_continuing_from_a_state_is_exact(
    tiny_recipe: Recipe, stripes: Dataset, changes: dict[str, Any], done: int
) -> None:
    """Another engine, given the state after any epoch, ends with the same bits."""
    recipe = tiny_recipe.replace(**changes)
    whole = trained(recipe, stripes)
    saved = trained(recipe, stripes, done).state() if done else engine_of(recipe, stripes).state()

    resumed = engine_of(recipe, stripes, seed=99)
    resumed.load_state(saved)
    assert_equal(resumed.state(), saved)
    for epoch in range(done + 1, recipe.epochs + 1):
        resumed.train_epoch(plan(recipe, 1, epoch, [], len(stripes.train)), never)

    assert_equal(resumed.state(), whole.state())


def test_state_is_a_copy(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """Training on does not change a state that was taken before."""
    engine = trained(tiny_recipe, stripes, 1)
    state = engine.state()
    kept = {name: array.copy() for name, array in state.items()}

    engine.train_epoch(plan(tiny_recipe, 1, 2, [], len(stripes.train)), never)

    assert_equal(state, kept)
    assert (engine.state()["conv1.weight"] != kept["conv1.weight"]).any()


def test_a_state_can_be_loaded_over_a_later_one(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """Going back to the very beginning forgets the optimizer's moments."""
    engine = engine_of(tiny_recipe, stripes)
    start = engine.state()
    first = plan(tiny_recipe, 1, 1, [], len(stripes.train))
    engine.train_epoch(first, never)
    once = engine.state()

    engine.load_state(start)
    engine.train_epoch(first, never)

    assert_equal(engine.state(), once)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("conv1.weight"), "conv1.weight"),
        (lambda s: s.pop("exp_avg/batchnorm1.bias"), "exp_avg/batchnorm1.bias"),
        (lambda s: s.pop("ema/batchnorm1.running_var"), "ema/batchnorm1.running_var"),
        (lambda s: s.update(surplus=np.zeros(3, np.float32)), "surplus"),
        (lambda s: s.update({"conv2.bias": np.zeros(9, np.float32)}), "conv2.bias"),
    ],
)
def test_wrong_state_is_refused(
    tiny_recipe: Recipe, stripes: Dataset, change: Any, named: str
) -> None:
    """A state with a missing, surplus or wrongly shaped array changes nothing and is named."""
    engine = trained(tiny_recipe, stripes, 1)
    before = engine.state()
    wrong = trained(tiny_recipe, stripes, 2).state()
    change(wrong)

    with pytest.raises(EngineError) as caught:
        engine.load_state(wrong)

    assert str(caught.value) == (
        f"The state does not belong to this network and recipe: `{named}` differs."
    )
    assert_equal(engine.state(), before)


def test_should_stop_is_polled_at_every_step(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """Asking to stop ends the epoch before the next step, and says so."""
    engine = engine_of(tiny_recipe, stripes)
    polled: list[int] = []

    def stop_at_two() -> bool:
        polled.append(engine.steps_done)
        return engine.steps_done == 2

    stats = engine.train_epoch(plan(tiny_recipe, 1, 1, [], len(stripes.train)), stop_at_two)

    assert stats.stopped
    assert polled == [0, 1, 2]
    assert engine.state()["step"] == 2


def test_seeds_decide_the_weights(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """The same seed draws the same weights and another seed others."""
    first, again, other = (engine_of(tiny_recipe, stripes, s).state() for s in (1, 1, 2))

    assert_equal(first, again)
    assert (first["conv1.weight"] != other["conv1.weight"]).all()


def test_batch_is_what_the_network_sees(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """`batch` gives augmented, normalized images and their labels, in the plan's order."""
    recipe = tiny_recipe.replace(normalization=Normalization(0.4, 0.3, 0.0, 1.0))
    engine = engine_of(recipe, stripes)
    drawn = plan(recipe, 1, 1, [], len(stripes.train))

    images, labels = engine.batch(drawn, 3)

    rows = drawn.rows(3)
    chosen = torch.from_numpy(stripes.train.images[drawn.order[rows]])
    expected = (augmented(chosen, drawn, rows).numpy() - np.float32(0.4)) / np.float32(0.3)
    np.testing.assert_allclose(images, expected, atol=1e-6)
    assert (labels == stripes.train.labels[drawn.order[rows]]).all()


def poisoned(state: State, name: str, value: float) -> State:
    """Return a copy of a state with one number changed."""
    array = state[name].copy()
    array.flat[0] = value
    return state | {name: array}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_broken_weight_stops_the_first_step(
    tiny_recipe: Recipe, stripes: Dataset, value: float
) -> None:
    """NaN or infinity in a weight stops at once and leaves every array as it was."""
    engine = engine_of(tiny_recipe, stripes)
    broken = poisoned(engine.state(), "conv2.weight", value)
    engine.load_state(broken)

    with pytest.raises(NonFiniteError) as caught:
        engine.train_epoch(plan(tiny_recipe, 1, 1, [], len(stripes.train)), never)

    assert caught.value.step == 0
    assert_equal(engine.state(), broken)


def test_an_absurd_rate_stops_at_the_step_that_breaks(
    tiny_recipe: Recipe, stripes: Dataset
) -> None:
    """With a rate of 1e30 the state is the one from before the step that went wrong."""
    recipe = tiny_recipe.replace(optimizer=SGD(1e30), schedule=Constant())
    engine = engine_of(recipe, stripes)
    seen: list[State] = []

    def look() -> bool:
        seen.append(engine.state())
        return False

    with pytest.raises(NonFiniteError) as caught:
        engine.train_epoch(plan(recipe, 1, 1, [], len(stripes.train)), look)

    assert caught.value.step == len(seen) - 1 > 0
    assert_equal(engine.state(), seen[-1])


def infinite_gradient(tiny_recipe: Recipe, dataset: Dataset) -> tuple[TorchEngine, State]:
    """Return an engine, and its state, with a finite forward pass and an infinite gradient."""
    recipe = tiny_recipe.replace(
        network=Network((Flatten(), Dense(4, bias=False), Dense(10, bias=False))),
        normalization=Normalization(0.0, 1e-20, 0.0, 1e-20),
        averaging=None,
    )
    engine = engine_of(recipe, dataset)
    state = engine.state()
    state["dense1.weight"] = np.full((4, 784), 2e-38, np.float32)
    # scores are about 784 * 5e19 * 2e-38 * 1e30, but a gradient about 5e19 * 1e30
    state["dense2.weight"] *= np.float32(1e30)
    engine.load_state(state)
    return engine, state


def test_an_infinite_gradient_stops_though_the_loss_is_finite(
    tiny_recipe: Recipe, stripes: Dataset
) -> None:
    """A finite loss with an infinite gradient stops before the update."""
    engine, state = infinite_gradient(tiny_recipe, stripes)
    drawn = plan(engine.recipe, 1, 1, [], len(stripes.train))
    images, labels = engine.batch(drawn, 0)

    with pytest.raises(NonFiniteError) as caught:
        engine.train_epoch(drawn, never)

    assert caught.value.step == 0
    assert_equal(engine.state(), state)
    scores = engine.model.scores(torch.from_numpy(images))
    assert bool(F.cross_entropy(scores, torch.from_numpy(labels)).isfinite())


def test_large_finite_gradients_go_on(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """Gradients whose squares overflow, but which are finite themselves, are no error."""
    layers = (Flatten(), Dense(10))
    recipe = tiny_recipe.replace(
        network=Network(layers),
        optimizer=SGD(1e-30),
        schedule=Constant(),
        averaging=None,
        normalization=Normalization(0.0, 1e-25, 0.0, 1e-25),
    )
    engine = engine_of(recipe, stripes)

    stats = engine.train_epoch(plan(recipe, 1, 1, [], len(stripes.train)), never)

    assert np.isfinite(stats.loss)
    assert stats.loss > 1e20


def test_dropout_is_numbered_within_the_network(
    tiny_recipe: Recipe, stripes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two dropouts of one rate and size drop different values."""
    layers = (Flatten(), Dropout(0.5), Dropout(0.5), Dense(10, bias=False))
    recipe = tiny_recipe.replace(network=Network(layers), averaging=None)
    engine = engine_of(recipe, stripes)
    drawn = plan(recipe, 1, 1, [], len(stripes.train))
    first, second = (keep_mask(drawn.dropout_key, 0, number, (32, 784), 0.5) for number in (0, 1))
    images, labels = engine.batch(drawn, 0)
    weight = torch.from_numpy(engine.state()["dense1.weight"])
    kept = torch.from_numpy(images.reshape(32, -1) * (first & second) * 4)
    calls = iter([False, True])
    before = float(F.cross_entropy(kept @ weight.T, torch.from_numpy(labels)))

    losses: list[float] = []

    def noted(recipe: Recipe, scores: Tensor, *rest: Any) -> Tensor:
        loss = training_loss(recipe, scores, *rest)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(torch_engine, "training_loss", noted)
    engine.train_epoch(drawn, lambda: next(calls))

    assert losses == [pytest.approx(before, rel=1e-5)]


def test_planned_logits_are_the_scores_of_the_changed_images(
    tiny_recipe: Recipe, stripes: Dataset
) -> None:
    """They are evaluation scores of the plan's images, in its order, without dropout."""
    numbers = Normalization(0.1, 0.3, 0.2, 0.5)
    engine = trained(tiny_recipe.replace(normalization=numbers), stripes, 1)
    drawn = plan(tiny_recipe, 1, 2, [], len(stripes.train)).picked(slice(5, 55))
    changed = augmented(
        torch.from_numpy(stripes.train.images[drawn.order]), drawn, slice(0, len(drawn.order))
    )
    before = engine.state()

    found = engine.planned_logits(drawn)

    with torch.no_grad():
        expected = engine.model.eval().scores((changed - 0.2) / 0.5).numpy()
    assert found == pytest.approx(expected, abs=1e-5)
    assert_equal(before, engine.state())

"""The reference engine: augmentation, dropout, losses, whole steps and states."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from smidgen.data import Dataset
from smidgen.engines import torch_engine
from smidgen.engines.contract import EpochPlan, Erasures, Geometry, State
from smidgen.engines.torch_engine import PlannedDropout, TorchEngine, augmented, training_loss
from smidgen.errors import EngineError, NonFiniteError
from smidgen.lowering.dropout import keep_mask
from smidgen.network.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    ReLU,
)
from smidgen.network.network import Network
from smidgen.recipes.augmentation import (
    Augmentation,
    ResizedCrop,
    Rotation,
    Scaling,
    Shear,
    Translation,
)
from smidgen.recipes.distillation import Distillation, Teacher
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
from smidgen.training.plan import plan

COUNT = 24


def empty_plan(**parts: Geometry | np.ndarray | Erasures | None) -> EpochPlan:
    """Return a plan of one batch of COUNT images that changes what `parts` say."""
    order = np.arange(COUNT, dtype=np.int32)
    nothing = np.zeros(1)
    return EpochPlan(1, 0, COUNT, order, nothing, nothing, 0, **parts)  # pyright: ignore


def images(seed: int = 0, channels: int = 1, height: int = 28, width: int = 28) -> np.ndarray:
    """Return uint8 noise, smoothed a little so that tiny errors of position stay tiny."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (COUNT, channels, height, width)).astype(np.float64)
    return ndimage.gaussian_filter(noise, (0, 0, 1, 1)).astype(np.uint8)


def ours(pixels: np.ndarray, plan: EpochPlan) -> np.ndarray:
    """Return the whole batch as the engine changes it."""
    return augmented(torch.from_numpy(pixels), plan, plan.rows(0)).numpy()


def sampled(
    pixels: np.ndarray, columns: np.ndarray, rows: np.ndarray, order: int, fill: float
) -> np.ndarray:
    """Return images read at (N, H, W) positions by SciPy, the outside being all `fill`."""
    padded = np.pad(pixels / 255, ((0, 0), (0, 0), (40, 40), (40, 40)), constant_values=fill)
    return np.stack(
        [
            [
                ndimage.map_coordinates(channel, [v + 40, u + 40], order=order, cval=fill)
                for channel in image
            ]
            for image, u, v in zip(padded, columns, rows, strict=True)
        ]
    )


def positions(affine: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where affine maps (N, 6) read each output pixel: columns, rows, (N, H, W) each."""
    y, x = np.mgrid[:height, :width]
    a, b, c, d, e, f = affine.astype(np.float64).T[:, :, None, None]
    return a * x + b * y + c, d * x + e * y + f


@pytest.mark.parametrize("fill", [0.0, 1 / 255, 0.4])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    "transforms",
    [
        (Rotation(25.0),),
        (Translation(4.0),),
        (Translation(4.0, whole_pixels=True),),
        (Scaling(0.6, 1.6),),
        (Shear(25.0),),
        (ResizedCrop(0.3),),
        (Rotation(180.0), Translation(30.0), Scaling(0.5, 2.0)),
    ],
    ids=["rotation", "translation", "whole", "scaling", "shear", "crop", "all"],
)
def test_geometry_is_scipys(
    tiny_recipe: Recipe, transforms: tuple[Rotation, ...], interpolation: str, fill: float
) -> None:
    """Planned maps applied in torch equal SciPy's reading of the same positions."""
    augmentation = Augmentation(transforms, interpolation, fill)  # pyright: ignore
    drawn = plan(tiny_recipe.replace(augmentation=augmentation), 3, 1, [], COUNT)
    assert drawn.geometry is not None
    pixels = images()

    found = ours(pixels, empty_plan(geometry=drawn.geometry))

    columns, rows = positions(drawn.geometry.affine, 28, 28)
    expected = sampled(pixels, columns, rows, 1 if interpolation == "bilinear" else 0, fill)
    if interpolation == "bilinear":
        np.testing.assert_allclose(found, expected, atol=2e-4)
    else:  # a position within rounding of the middle between two pixels may go either way
        tied = np.minimum(*(np.abs(at - np.floor(at) - 0.5) for at in (columns, rows))) < 1e-4
        differs = np.abs(found - expected)[:, 0] > 1e-6
        assert not (differs & ~tied).any()
        assert tied.mean() < 0.2


def test_affine_transform_of_scipy_agrees() -> None:
    """One map written by hand equals `scipy.ndimage.affine_transform` with that matrix."""
    affine = np.tile(np.array([0.9, 0.2, 1.0, -0.1, 1.1, -2.0], np.float32), (COUNT, 1))
    pixels = images(1)

    found = ours(pixels, empty_plan(geometry=Geometry(affine)))

    a, b, c, d, e, f = affine[0].astype(np.float64)
    inside = np.s_[:, 0, 8:20, 8:20]  # at the rim SciPy fades to the fill in another way
    expected = np.stack(
        [
            ndimage.affine_transform(image[0] / 255, [[e, d], [b, a]], [f, c], order=1)
            for image in pixels
        ]
    )
    np.testing.assert_allclose(found[inside], expected[:, 8:20, 8:20], atol=1e-4)


def test_rectangles_and_channels() -> None:
    """Images that are not square, with three channels, are moved alike in each channel."""
    affine = np.tile(np.array([1.0, 0.3, -1.0, -0.2, 0.8, 2.0], np.float32), (COUNT, 1))
    pixels = images(2, channels=3, height=20, width=32)

    found = ours(pixels, empty_plan(geometry=Geometry(affine, fill=0.2)))

    columns, rows = positions(affine, 20, 32)
    np.testing.assert_allclose(found, sampled(pixels, columns, rows, 1, 0.2), atol=2e-4)


def test_nothing_planned_changes_nothing() -> None:
    """Without parts a batch is pixel / 255; the identity map gives the same to rounding."""
    pixels = images(3)
    identity = np.tile(np.array([1, 0, 0, 0, 1, 0], np.float32), (COUNT, 1))

    plain = ours(pixels, empty_plan())
    moved = ours(pixels, empty_plan(geometry=Geometry(identity)))

    assert (plain == pixels.astype(np.float32) / np.float32(255)).all()
    np.testing.assert_allclose(moved, plain, atol=1e-5)


def test_whole_shifts_are_exact_copies() -> None:
    """Shifting by whole pixels, nearest, copies pixels and fills the rest."""
    affine = np.tile(np.array([1, 0, 3, 0, 1, -2], np.float32), (COUNT, 1))
    pixels = images(4)

    found = ours(pixels, empty_plan(geometry=Geometry(affine, "nearest", 0.0)))

    expected = np.zeros_like(found)
    expected[:, :, 2:, :-3] = pixels[:, :, :-2, 3:].astype(np.float32) / np.float32(255)
    assert (found == expected).all()


def test_rotation_turns_the_picture() -> None:
    """A quarter turn equals `numpy.rot90`, in the direction that the map says."""
    affine = np.tile(np.array([0, 1, 0, -1, 0, 27], np.float32), (COUNT, 1))
    pixels = images(5)

    found = ours(pixels, empty_plan(geometry=Geometry(affine)))

    np.testing.assert_allclose(found, np.rot90(pixels / 255, -1, (2, 3)), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (20, 32)])
def test_elastic_bends_as_scipy_does(height: int, width: int) -> None:
    """Displacements are read from the grid bilinearly, corners on corner pixels, and added."""
    rng = np.random.default_rng(6)
    affine = np.tile(np.array([0.95, 0.1, 0.5, -0.1, 1.05, 1.0], np.float32), (COUNT, 1))
    grid = rng.normal(0, 1.5, (COUNT, 2, 7, 7)).astype(np.float32)
    pixels = images(7, height=height, width=width)

    found = ours(pixels, empty_plan(geometry=Geometry(affine, fill=0.1, elastic=grid)))

    y, x = np.mgrid[:height, :width]
    at = [y * 6 / (height - 1), x * 6 / (width - 1)]
    bend = np.array([[ndimage.map_coordinates(axis, at, order=1) for axis in one] for one in grid])
    columns, rows = positions(affine, height, width)
    expected = sampled(pixels, columns + bend[:, 0], rows + bend[:, 1], 1, 0.1)
    np.testing.assert_allclose(found, expected, atol=5e-4)


def test_jitter_follows_its_formula() -> None:
    """Brightness multiplies and clips; contrast pulls to the image's mean and clips."""
    rng = np.random.default_rng(8)
    factors = rng.uniform(0.3, 1.9, (COUNT, 2)).astype(np.float32)
    pixels = images(9, channels=3)

    found = ours(pixels, empty_plan(jitter=factors))

    bright = np.clip(pixels / 255 * factors[:, 0, None, None, None].astype(float), 0, 1)
    mean = bright.mean((1, 2, 3), keepdims=True)
    contrast = factors[:, 1, None, None, None].astype(float)
    expected = np.clip(mean + contrast * (bright - mean), 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found == 0).any()
    assert (found == 1).any()


def test_erasing_sets_boxes_and_nothing_else() -> None:
    """Exactly the pixels of the box take the level, in every channel; height 0 erases nothing."""
    rng = np.random.default_rng(10)
    sides = rng.integers(0, 20, (COUNT, 2))
    corners = (rng.uniform(size=(COUNT, 2)) * (28 - sides + 1)).astype(int)
    boxes = np.concatenate([corners, sides], axis=1).astype(np.int32)
    boxes[0] = (0, 0, 0, 0)
    boxes[1] = (0, 0, 27, 27)
    pixels = images(11, channels=2)

    found = ours(pixels, empty_plan(erasing=Erasures(boxes, -0.42)))

    expected = pixels.astype(np.float32) / np.float32(255)
    for image, (top, left, height, width) in zip(expected, boxes, strict=True):
        image[:, top : top + height, left : left + width] = np.float32(-0.42)
    assert (found == expected).all()


def test_parts_act_in_the_documented_order() -> None:
    """Geometry comes first, then jitter, then erasing."""
    affine = np.tile(np.array([1, 0, 5, 0, 1, 0], np.float32), (COUNT, 1))
    factors = np.tile(np.array([0.5, 1.0], np.float32), (COUNT, 1))
    boxes = np.tile(np.array([0, 0, 4, 4], np.int32), (COUNT, 1))
    pixels = images(12)

    found = ours(
        pixels,
        empty_plan(
            geometry=Geometry(affine, "nearest", 1.0),
            jitter=factors,
            erasing=Erasures(boxes, 0.9),
        ),
    )

    assert (found[:, :, :4, :4] == np.float32(0.9)).all()
    np.testing.assert_allclose(found[:, :, 10, 23:], 0.5)  # the fill, made darker
    np.testing.assert_allclose(found[:, 0, 10, 5], pixels[:, 0, 10, 10] / 510, atol=1e-6)


def test_rows_belong_to_their_images(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """A later batch takes its own rows of the plan, not the first ones."""
    drawn = plan(tiny_recipe, 1, 1, [], len(stripes.train))
    pixels = torch.from_numpy(stripes.train.images[drawn.order])

    whole = augmented(pixels, drawn, slice(0, len(pixels)))

    for step in range(drawn.num_steps):
        rows = drawn.rows(step)
        assert torch.equal(augmented(pixels[rows], drawn, rows), whole[rows])


@pytest.mark.parametrize(
    "shape", [(5, 3, 4, 4), (3, 1, 3, 3), (4, 7), (2, 1), (1, 2, 5, 5), (130, 3, 5, 7)]
)
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.1, 0.5, 0.93, 1 - 1e-7])
@pytest.mark.parametrize("channels_last", [False, True])
def test_torch_drops_what_the_reference_drops(
    shape: tuple[int, ...], rate: float, channels_last: bool
) -> None:
    """Every decision equals NumPy's, for odd and even sizes and either memory layout."""
    x = torch.rand(shape) + 1.0
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    dropout = PlannedDropout()
    dropout.begin(0xC0FFEE11, 17)

    found = dropout(x, Dropout(rate), 2)

    expected = keep_mask(0xC0FFEE11, 17, 2, (shape[0], int(np.prod(shape[1:]))), rate)
    assert (found.numpy() != 0).reshape(shape[0], -1).tolist() == expected.tolist()


@pytest.mark.parametrize("shape", [(5, 7, 3, 3), (5, 4, 6, 5), (5, 9)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_channels_are_dropped_whole(shape: tuple[int, ...], channels_last: bool) -> None:
    """One decision for each channel, NumPy's for the channel's number, holds for all its cells."""
    x = torch.rand(shape) + 1.0
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    dropout = PlannedDropout(0xC0FFEE11, 17)

    found = dropout(x, Dropout2d(0.4), 2)

    kept = torch.from_numpy(keep_mask(0xC0FFEE11, 17, 2, shape[:2], 0.4))
    kept = kept.reshape(*shape[:2], *[1] * (len(shape) - 2))
    assert 0 < int(kept.sum()) < kept.numel()
    torch.testing.assert_close(found, torch.where(kept, x / 0.6, 0.0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_what_stays_is_scaled(rate: float) -> None:
    """Kept values and their gradients are multiplied by 1 / (1 - rate); dropped ones are 0."""
    x = (torch.rand(8, 4, 6, 6) + 1.0).requires_grad_()

    y = PlannedDropout(5, 1)(x, Dropout(rate), 0)
    y.sum().backward()

    kept = y != 0
    scale = torch.where(kept, torch.tensor(1 / (1 - rate)), torch.tensor(0.0))
    assert x.grad is not None
    torch.testing.assert_close(y, x * scale, rtol=1e-6, atol=0)
    torch.testing.assert_close(x.grad, scale, rtol=1e-6, atol=0)


def test_scaling_keeps_the_mean() -> None:
    """Over many values the mean is what it was."""
    x = torch.ones(400, 1000)

    mean = float(PlannedDropout(1, 2)(x, Dropout(0.3), 0).mean())

    assert abs(mean - 1) < 4 * (0.3 / 0.7 / 400_000) ** 0.5


SCORES = np.random.default_rng(0).normal(0.0, 2.0, (6, 10))
LABELS = np.array([3, 1, 4, 1, 5, 9])
TARGETS = np.random.default_rng(1).dirichlet(np.ones(10), 6)
TARGETS[0] = np.eye(10)[3]


def loss_of(recipe: Recipe, scores: torch.Tensor, targets: np.ndarray | None) -> torch.Tensor:
    """Return the loss in float64."""
    given = None if targets is None else torch.from_numpy(targets)
    return training_loss(recipe, scores, torch.from_numpy(LABELS), given)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Return log probabilities."""
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.9), (4.0, 0.3), (2.0, 1.0)])
def test_loss_is_the_formula_of_the_recipe(
    temperature: float, weight: float, tiny_recipe: Recipe
) -> None:
    """It is (1 - weight) times the smoothed loss and weight times T^2 KL(teachers || student)."""
    taught = Distillation((Teacher(tiny_recipe),), temperature=temperature, weight=weight)
    recipe = tiny_recipe.replace(loss=Loss(label_smoothing=0.2), distillation=taught)
    own = log_softmax(SCORES)
    hard = -(0.8 * own[np.arange(6), LABELS] + 0.2 * own.mean(axis=1)).mean()
    logs = np.log(np.where(TARGETS > 0, TARGETS, 1.0))
    divergence = (TARGETS * (logs - log_softmax(SCORES / temperature))).sum(axis=1).mean()

    found = float(loss_of(recipe, torch.from_numpy(SCORES), TARGETS))

    assert found == pytest.approx((1 - weight) * hard + weight * temperature**2 * divergence)


def test_an_agreeing_student_learns_from_labels_alone(tiny_recipe: Recipe) -> None:
    """Where a student says what its teachers say, only the labels pull at it."""
    recipe = tiny_recipe.replace(distillation=Distillation((Teacher(tiny_recipe),), 3.0, 0.75))
    agreed = np.exp(log_softmax(SCORES / 3.0))
    gradients = []
    for each, targets in ((recipe, agreed), (tiny_recipe, None)):
        scores = torch.from_numpy(SCORES).requires_grad_()
        loss_of(each, scores, targets).backward()
        assert scores.grad is not None
        gradients.append(scores.grad.numpy())

    assert gradients[0] == pytest.approx(0.25 * gradients[1], abs=1e-12)


def test_without_teachers_it_is_cross_entropy(tiny_recipe: Recipe) -> None:
    """A recipe without teachers has the plain loss."""
    found = float(loss_of(tiny_recipe, torch.from_numpy(SCORES), None))

    assert found == pytest.approx(-log_softmax(SCORES)[np.arange(6), LABELS].mean())


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
    images = engine.batch(first, 0)
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

    images = engine.batch(drawn, 3)

    rows = drawn.rows(3)
    chosen = torch.from_numpy(stripes.train.images[drawn.order[rows]])
    expected = (augmented(chosen, drawn, rows).numpy() - np.float32(0.4)) / np.float32(0.3)
    np.testing.assert_allclose(images, expected, atol=1e-6)


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
    images = engine.batch(drawn, 0)
    labels = stripes.train.labels[drawn.order[drawn.rows(0)]]

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
    images = engine.batch(drawn, 0)
    labels = stripes.train.labels[drawn.order[drawn.rows(0)]]
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

"""What the native engine's tests share: an engine with random numbers, and float64 PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from smidgen.engines.contract import EpochPlan
from smidgen.engines.native.build import CompileOptions
from smidgen.engines.native.engine import NativeEngine
from smidgen.engines.torch_engine import PlannedDropout
from smidgen.network import layers as L
from smidgen.network.network import Network
from smidgen.network.torch_module import TorchNetwork
from smidgen.recipes.parts import SGD, Loss, Optimizer, WeightAveraging
from smidgen.recipes.recipe import Recipe

QUICK = CompileOptions(compiler="gcc", optimize="-O0")
"""A layer's arithmetic does not depend on optimization, which takes half of a compiler's time and
more; the golden numbers come from the flags of real runs."""
KEY = 0x1234567
_TRIES = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What one batch gives: the mean loss, the gradients, and the scores in evaluation."""

    loss: float
    gradients: dict[str, np.ndarray]
    scores: np.ndarray


def recipe_of(
    network: Network,
    optimizer: Optimizer | None = None,
    batch_size: int = 32,
    smoothing: float = 0.0,
    averaging: WeightAveraging | None = None,
) -> Recipe:
    """Return a recipe around a network."""
    return Recipe(
        name="test",
        network=network,
        optimizer=optimizer or SGD(lr=0.1, momentum=0.9),
        epochs=1,
        batch_size=batch_size,
        loss=Loss(label_smoothing=smoothing),
        averaging=averaging,
    )


def plan_of(num_images: int, batch_size: int, lr: float = 0.1, momentum: float = 0.9) -> EpochPlan:
    """Return a plan that visits the images in order and changes none."""
    steps = -(-num_images // batch_size)
    return EpochPlan(
        epoch=1,
        first_step=0,
        batch_size=batch_size,
        order=np.arange(num_images, dtype=np.int32),
        lr=np.full(steps, lr),
        momentum=np.full(steps, momentum),
        dropout_key=KEY,
    )


def data_for(network: Network, num_images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images and labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (num_images, *network.input_shape), dtype=np.uint8)
    return images, rng.integers(0, network.num_classes, num_images)


def random_tensors(network: Network, seed: int) -> dict[str, np.ndarray]:
    """Return tensors of which none is trivial, norms and biases too."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, spec in network.graph.tensors.items():
        scale = 1.0 / np.sqrt(max(spec.fan_in, 1))
        array = rng.normal(0.0, scale, spec.shape)
        if spec.fan_in == 0:
            array = (
                0.1 * array
                if name.endswith(("bias", "mean"))
                else rng.uniform(0.5, 1.5, spec.shape)
            )
        tensors[name] = array.astype(np.float32)
    return tensors


def distance_to_tie(model: TorchNetwork, x: torch.Tensor) -> float:
    """Return how near any activation comes to its kink, or a pool's best to its second.

    A constant channel in two batch norms counts as a tie: where one is behind the other, each
    multiplies the rounding of its gradient by 1 / sqrt(eps) = 316.
    """
    values: dict[int, torch.Tensor] = {-1: x}
    nearest = [float("inf")]
    constant_norms = 0

    def watch(node: object, out: torch.Tensor) -> None:
        nonlocal constant_norms
        values[node.index] = out  # type: ignore[attr-defined]
        given = values[node.inputs[0]]  # type: ignore[attr-defined]
        match node.layer:  # type: ignore[attr-defined]
            case L.BatchNorm() if float(given.movedim(1, 0).flatten(1).var(dim=1).min()) < 1e-9:
                constant_norms += 1
            case L.ReLU() | L.LeakyReLU() | L.PReLU():
                positive = given[given != 0]
                nearest.append(float(positive.abs().min()) if len(positive) else float("inf"))
            case L.MaxPool() | L.GlobalMaxPool():
                nearest.append(_gap(given, node.layer.window(node.input_shape)))  # type: ignore[attr-defined]

    with torch.no_grad():
        model.scores(x, watch)
    return 0.0 if constant_norms > 1 else min(nearest)


def _gap(x: torch.Tensor, window: object) -> float:
    (top, left), (bottom, right) = window.before, window.after  # type: ignore[attr-defined]
    padded = F.pad(x, (left, right, top, bottom), value=-1e9)
    kernel, stride = window.kernel, window.stride  # type: ignore[attr-defined]
    cells = F.unfold(padded.flatten(0, 1)[:, None], kernel, stride=stride)
    if cells.shape[1] == 1:
        return float("inf")
    best = cells.topk(2, dim=1).values
    gaps = (best[:, 0] - best[:, 1]).flatten()
    different = gaps[gaps > 0]  # equal zeros behind a ReLU pass their gradient to nobody
    return float(different.min()) if len(different) else float("inf")


def torch_answer(
    network: Network,
    tensors: dict[str, np.ndarray],
    data: tuple[np.ndarray, np.ndarray],
    smoothing: float,
    dtype: torch.dtype = torch.float64,
) -> tuple[Answer, float]:
    """Return what PyTorch says, and the distance to the nearest tie."""
    weights = {name: torch.from_numpy(array).to(dtype) for name, array in tensors.items()}
    model = TorchNetwork(network, weights)
    x = torch.from_numpy(data[0]).to(dtype) / 255.0
    model.eval()
    scores = model.scores(x).detach().numpy()
    model.train()
    model.dropout = PlannedDropout(KEY, 0)
    distance = distance_to_tie(model, x)
    model = TorchNetwork(network, weights)
    model.dropout = PlannedDropout(KEY, 0)
    loss = F.cross_entropy(model.scores(x), torch.from_numpy(data[1]), label_smoothing=smoothing)
    loss.backward()
    gradients = {
        name: tensor.grad.numpy()
        for name, tensor in model.named_tensors().items()
        if tensor.grad is not None
    }
    return Answer(float(loss.detach()), gradients, scores), distance


def native_answer(engine: NativeEngine, data: tuple[np.ndarray, np.ndarray]) -> Answer:
    """Return what the native engine says."""
    loss, gradients = engine.gradients(plan_of(len(data[0]), len(data[0])))
    return Answer(loss, gradients, engine.logits(data[0]))


def engine_with(
    network: Network,
    tensors: dict[str, np.ndarray],
    data: tuple[np.ndarray, np.ndarray],
    recipe: Recipe | None = None,
    threads: int = 1,
    options: CompileOptions = QUICK,
) -> NativeEngine:
    """Return an engine that starts from given tensors."""
    engine = NativeEngine(
        network, recipe or recipe_of(network), *data, threads=threads, compile_options=options
    )
    engine.load_state({**engine.state(), **tensors})
    return engine


def largest_error(ours: Answer, theirs: Answer) -> tuple[float, str]:
    """Return the largest error of loss, scores and gradients, and where it is.

    Each is relative to the largest number of its tensor, or to a hundredth of the largest
    gradient where that is more; gradients that are zero but for rounding, such as that of a
    bias before a batch norm, to the largest gradient.
    """
    largest = max(np.abs(gradient).max() for gradient in theirs.gradients.values())
    errors = [
        (abs(ours.loss - theirs.loss) / abs(theirs.loss), "loss"),
        (float(np.abs(ours.scores - theirs.scores).max() / np.abs(theirs.scores).max()), "scores"),
    ]
    for name, gradient in theirs.gradients.items():
        peak = np.abs(gradient).max()
        scale = largest if peak < 1e-9 * largest else max(peak, 1e-2 * largest)
        errors.append((float(np.abs(ours.gradients[name] - gradient).max() / scale), name))
    return max(errors)


def far_from_ties(
    network: Network, num_images: int, smoothing: float = 0.0, distance: float = 1e-4
) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, np.ndarray], Answer]:
    """Return images, tensors and float64 PyTorch's answer, where no activation is near a tie."""
    for seed in range(_TRIES):
        data, tensors = data_for(network, num_images, seed), random_tensors(network, seed)
        expected, found = torch_answer(network, tensors, data, smoothing)
        if found >= distance:
            return data, tensors, expected
    raise AssertionError(f"no input further than {distance} from a tie")


@pytest.fixture
def assert_agrees() -> Callable[..., None]:
    """Return a check that the native engine and float64 PyTorch say the same of a batch."""

    def check(
        network: Network,
        num_images: int = 21,
        smoothing: float = 0.0,
        limit: float = 1e-4,
        distance: float = 1e-4,
        options: CompileOptions = QUICK,
        threads: int = 1,
    ) -> None:
        data, tensors, expected = far_from_ties(network, num_images, smoothing, distance)
        recipe = recipe_of(network, smoothing=smoothing)
        engine = engine_with(network, tensors, data, recipe, threads, options)
        error, where = largest_error(native_answer(engine, data), expected)
        assert error < limit, f"{where}: {error:.2e}"

    return check

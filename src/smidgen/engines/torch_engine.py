"""The torch engine: the reference that defines what is right, on CPU and on CUDA."""

import contextlib
from collections.abc import Callable, Iterator
from math import isfinite, prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from smidgen.engines.contract import (
    EpochPlan,
    EpochStats,
    Erasures,
    Geometry,
    SplitName,
    State,
    WeightsName,
    check_plan,
    find_not_finite,
)
from smidgen.errors import EngineError, NonFiniteError
from smidgen.lowering.dropout import ELEMENT_FACTOR, MIX_FACTORS, row_keys, threshold
from smidgen.network.layers import DropoutBase
from smidgen.network.network import Network
from smidgen.network.torch_module import TorchNetwork, to_torch
from smidgen.recipes.parts import SGD, Adam
from smidgen.recipes.recipe import Recipe


def augmented(images: Tensor, plan: EpochPlan, rows: slice) -> Tensor:
    """Return a batch as the network sees it before normalization.

    Args:
        images: uint8 (B, C, H, W), already in the plan's order.
        plan: The epoch's plan.
        rows: Which rows of the plan's per-image arrays belong to the batch.

    Returns:
        float32 (B, C, H, W), grey levels, 0 black and 1 white.
    """
    x = images.float() / 255.0
    if plan.geometry is not None:
        x = _moved(x, plan.geometry, rows)
    if plan.jitter is not None:
        x = _jittered(x, torch.from_numpy(plan.jitter[rows]).to(x.device))
    if plan.erasing is not None:
        x = _erased(x, plan.erasing, rows)
    return x


def _moved(x: Tensor, geometry: Geometry, rows: slice) -> Tensor:
    height, width = x.shape[2:]
    affine = torch.from_numpy(geometry.affine[rows]).to(x.device)[:, :, None, None]
    columns = torch.arange(width, dtype=torch.float32, device=x.device)[None, None, :]
    lines = torch.arange(height, dtype=torch.float32, device=x.device)[None, :, None]
    u = affine[:, 0] * columns + affine[:, 1] * lines + affine[:, 2]
    v = affine[:, 3] * columns + affine[:, 4] * lines + affine[:, 5]
    if geometry.elastic is not None:
        grid = torch.from_numpy(geometry.elastic[rows]).to(x.device)
        bend = F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=True)
        u, v = u + bend[:, 0], v + bend[:, 1]
    # grid_sample wants -1..1 between the centers of the corner pixels
    grid = torch.stack([_unit(u, width), _unit(v, height)], dim=3)
    sampled = F.grid_sample(
        x - geometry.fill if geometry.fill else x,
        grid,
        mode=geometry.interpolation,
        padding_mode="zeros",
        align_corners=True,
    )
    return sampled + geometry.fill if geometry.fill else sampled


def _unit(pixels: Tensor, size: int) -> Tensor:
    return pixels * (2.0 / (size - 1)) - 1.0


def _jittered(x: Tensor, factors: Tensor) -> Tensor:
    brightness, contrast = factors[:, 0, None, None, None], factors[:, 1, None, None, None]
    x = (x * brightness).clamp(0.0, 1.0)
    mean = x.mean((1, 2, 3), keepdim=True)
    return (mean + contrast * (x - mean)).clamp(0.0, 1.0)


def _erased(x: Tensor, erasing: Erasures, rows: slice) -> Tensor:
    boxes = torch.from_numpy(erasing.boxes[rows]).to(x.device)[:, :, None, None]
    top, left, height, width = boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3]
    lines = torch.arange(x.shape[2], device=x.device)[None, :, None]
    columns = torch.arange(x.shape[3], device=x.device)[None, None, :]
    inside = (lines >= top) & (lines < top + height) & (columns >= left) & (columns < left + width)
    return x.masked_fill(inside[:, None], erasing.level)


_SIGN_BITS = 0x80008000
"""Flips the top bit of both halves, so that signed comparison orders them as unsigned."""


class PlannedDropout:
    """Drops the values that the plan's key decides; stands in for a module's own dropout."""

    def __init__(self, key: int = 0, step: int = 0) -> None:
        self._key, self._step = key, step

    def begin(self, key: int, step: int) -> None:
        """Say which epoch's key and which step of it the next forward pass belongs to."""
        self._key, self._step = key, step

    def __call__(self, x: Tensor, layer: DropoutBase, number: int) -> Tensor:
        """Return the values with some zeroed and the rest scaled by 1 / (1 - rate)."""
        keys = row_keys(self._key, self._step, number, len(x)).view("int32")
        decisions = layer.decisions(x.shape[1:])
        hashes = _hashes(torch.from_numpy(keys).to(x.device)[:, None], prod(decisions))
        # a pair's 32 bits seen as two 16-bit numbers, low half first (little-endian machines)
        bits = (hashes ^ _signed(_SIGN_BITS)).view(torch.int16)[:, : prod(decisions)]
        keep = (bits >= threshold(layer.rate) - 32768).view(len(x), *decisions)
        # one copy into the values' own memory order; mixed orders made the product 3x slower
        is_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if is_last else torch.contiguous_format
        return x * keep.to(x.dtype, memory_format=order).mul_(1.0 / (1.0 - layer.rate))


def _hashes(rows: Tensor, num_elements: int) -> Tensor:
    # int32 products keep the low 32 bits, as unsigned ones would; shifts need their sign cut off
    pairs = torch.arange((num_elements + 1) // 2, dtype=torch.int32, device=rows.device)
    x = rows ^ (pairs * _signed(ELEMENT_FACTOR))
    x ^= (x >> 16) & 0xFFFF
    x *= _signed(MIX_FACTORS[0])
    x ^= (x >> 15) & 0x1FFFF
    x *= _signed(MIX_FACTORS[1])
    x ^= (x >> 16) & 0xFFFF
    return x


def _signed(bits: int) -> int:
    return bits - (1 << 32) if bits >= 1 << 31 else bits


def training_loss(recipe: Recipe, scores: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Return the mean loss of a batch.

    Args:
        recipe: Its loss and its distillation.
        scores: (B, classes), of the network in training mode.
        labels: int64 (B,).
        targets: (B, classes), the teachers' class probabilities; None without teachers.
    """
    hard = F.cross_entropy(scores, labels, label_smoothing=recipe.loss.label_smoothing)
    distillation = recipe.distillation
    if distillation is None or targets is None:
        return hard
    temperature, weight = distillation.temperature, distillation.weight
    softened = F.log_softmax(scores / temperature, dim=1)
    divergence = F.kl_div(softened, targets.to(scores.dtype), reduction="batchmean")
    # T^2 keeps the gradient as large as that of the labels, whatever T
    return (1.0 - weight) * hard + weight * temperature**2 * divergence


_EVALUATION_BATCH = 1000
_MOMENTS = {"sgd": ("momentum",), "adam": ("exp_avg", "exp_avg_sq")}
_TORCH_NAME = {"momentum": "momentum_buffer"}


@contextlib.contextmanager
def _using(threads: int | None) -> Iterator[None]:
    """Let PyTorch use so many cores while the body runs; None leaves it alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchEngine:
    """One model trained by PyTorch (see `smidgen.engines.contract.Engine`).

    Args:
        network: The model.
        recipe: How it is trained.
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        seed: Decides the initial weights.
        threads: How many cores PyTorch uses within this engine's methods, and only there; None
            leaves it alone.
        device: A torch device, such as `cpu` or `cuda`. The whole data set lives on it.
    """

    name = "torch"

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        seed: int = 1,
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.network, self.recipe, self._threads = network, recipe, threads
        self.device = torch.device(device)
        self._images = torch.from_numpy(images).to(self.device)
        self._labels = torch.from_numpy(labels).to(self.device)
        self.model = self._placed(to_torch(network, seed))
        self._dropout = PlannedDropout()
        self.model.dropout = self._dropout
        self._tensors = self.model.named_tensors()
        self._params = {n: t for n, t in self._tensors.items() if t.requires_grad}
        self._buffers = [t for t in self._tensors.values() if not t.requires_grad]
        self._optimizer = self._make_optimizer()
        self._ema = {n: t.detach().clone() for n, t in self._tensors.items()}
        self._step = 0
        self.build: dict[str, str] = {}
        self.steps_done = 0

    def train_epoch(self, plan: EpochPlan, should_stop: Callable[[], bool]) -> EpochStats:
        """Run a plan; see the contract.

        On CUDA, where looking at every step would make the GPU wait, a number that is not finite
        is noticed at the epoch's end; the epoch is then run again, looking at every step.
        """
        check_plan(plan, self.recipe)
        if self.device.type == "cpu":
            with _using(self._threads):
                return self._run(plan, should_stop, checks=True)
        before = self.state()
        stats = self._run(plan, should_stop, checks=False)
        finite = all(bool(param.isfinite().all()) for param in self._params.values())
        if stats.stopped or (finite and isfinite(stats.loss)):
            return stats
        self.load_state(before)
        return self._run(plan, should_stop, checks=True)

    def logits(
        self, images: np.ndarray, split: SplitName = "eval", weights: WeightsName = "raw"
    ) -> np.ndarray:
        """Return float32 (N, classes) class scores of uint8 (N, C, H, W); see the contract."""
        model = self.model
        if weights == "ema":
            model = self._placed(TorchNetwork(self.network, self._ema))
        model.eval()
        scores = []
        with torch.inference_mode(), _using(self._threads):
            for start in range(0, len(images), _EVALUATION_BATCH):
                batch = torch.from_numpy(images[start : start + _EVALUATION_BATCH])
                x = self._normalized(batch.to(self.device).float() / 255.0, split)
                scores.append(model.scores(x).float().cpu().numpy())
        return np.concatenate(scores) if scores else np.zeros((0, self.network.num_classes), "f4")

    def planned_logits(self, plan: EpochPlan) -> np.ndarray:
        """Return float32 (N, classes) class scores of a plan's images; see the contract."""
        self.model.eval()
        order = torch.from_numpy(plan.order).to(self.device).long()
        scores = np.zeros((len(order), self.network.num_classes), np.float32)
        with torch.inference_mode(), _using(self._threads):
            for start in range(0, len(order), _EVALUATION_BATCH):
                rows = slice(start, min(start + _EVALUATION_BATCH, len(order)))
                x = self._normalized(augmented(self._images[order[rows]], plan, rows), "eval")
                scores[rows] = self.model.scores(x).float().cpu().numpy()
        return scores

    def state(self) -> State:
        """Return a copy of everything that training changes; see the contract."""
        state = {name: _to_numpy(tensor) for name, tensor in self._tensors.items()}
        for moment in self._moments():
            for name, param in self._params.items():
                own = self._optimizer.state.get(param, {})
                stored = own.get(_TORCH_NAME.get(moment, moment))
                state[f"{moment}/{name}"] = _to_numpy(
                    stored if stored is not None else torch.zeros_like(param)
                )
        if self.recipe.averaging is not None:
            state |= {f"ema/{name}": _to_numpy(tensor) for name, tensor in self._ema.items()}
        state["step"] = np.array(self._step, dtype=np.int64)
        return state

    def load_state(self, state: State) -> None:
        """Continue from a state; see the contract."""
        expected = {name: array.shape for name, array in self.state().items()}
        given = {name: array.shape for name, array in state.items()}
        if expected != given:
            odd = sorted(set(expected.items()) ^ set(given.items()))[0][0]
            raise EngineError(
                f"The state does not belong to this network and recipe: `{odd}` differs."
            )
        self._step = int(state["step"])
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensor.copy_(torch.from_numpy(state[name]))
            if self.recipe.averaging is not None:
                for name, tensor in self._ema.items():
                    tensor.copy_(torch.from_numpy(state[f"ema/{name}"]))
        for name, param in self._params.items():
            own = {} if self._step == 0 else self._optimizer_state(name, state)
            self._optimizer.state[param] = own

    def batch(self, plan: EpochPlan, step: int) -> np.ndarray:
        """Return a batch as the network sees it, float32 (B, C, H, W); see the contract."""
        order = torch.from_numpy(plan.order).to(self.device).long()
        return _to_numpy(self._batch(plan, step, order)[0])

    def first_not_finite(self, plan: EpochPlan, step: int) -> str:
        """Return what went wrong first; see the contract."""
        labels = _to_numpy(self._labels)
        return find_not_finite(self, labels, plan, step)

    def _placed(self, model: TorchNetwork) -> TorchNetwork:
        # channels last is 1.1 to 1.6 times as fast on CPU at these widths
        return model.to(  # pyright: ignore[reportCallIssue]  # its stub leaves the format out
            self.device, memory_format=torch.channels_last
        )

    def _run(self, plan: EpochPlan, should_stop: Callable[[], bool], checks: bool) -> EpochStats:
        self.model.train()
        order = torch.from_numpy(plan.order).to(self.device).long()
        losses, corrects = [], []
        for step in range(plan.num_steps):
            self.steps_done = step
            if should_stop():
                seen = min(step * plan.batch_size, len(order))
                return EpochStats(float("nan"), 0, seen, stopped=True)
            loss, correct = self._train_step(plan, step, order, checks)
            losses.append(loss)
            corrects.append(correct)
        self.steps_done = plan.num_steps
        mean = float(torch.stack(losses).double().sum()) / len(order)
        return EpochStats(mean, int(torch.stack(corrects).sum()), len(order))

    def _train_step(
        self, plan: EpochPlan, step: int, order: Tensor, checks: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the batch's summed loss and its number of right answers."""
        saved = [buffer.clone() for buffer in self._buffers] if checks else []
        x, labels = self._batch(plan, step, order)
        self._dropout.begin(plan.dropout_key, step)
        scores = self.model.scores(x)
        targets = None
        if plan.targets is not None:
            targets = torch.from_numpy(plan.targets[plan.rows(step)]).to(self.device)
        loss = training_loss(self.recipe, scores, labels, targets)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if checks and not self._is_finite(loss):
            for buffer, kept in zip(self._buffers, saved, strict=True):
                buffer.copy_(kept)
            raise NonFiniteError(f"Not a finite number in epoch {plan.epoch}.", step)
        self._set_rates(float(plan.lr[step]), float(plan.momentum[step]))
        self._optimizer.step()
        self._step += 1
        self._average()
        with torch.no_grad():
            return loss.detach() * len(labels), (scores.argmax(1) == labels).sum()

    def _is_finite(self, loss: Tensor) -> bool:
        numbers = [loss.detach(), *(p.grad for p in self._params.values() if p.grad is not None)]
        if bool(torch.nn.utils.get_total_norm(numbers).isfinite()):
            return True
        # squares above 1e19 overflow while the numbers themselves are finite
        return all(bool(tensor.isfinite().all()) for tensor in numbers)

    def _batch(self, plan: EpochPlan, step: int, order: Tensor) -> tuple[Tensor, Tensor]:
        rows = plan.rows(step)
        chosen = order[rows]
        x = self._normalized(augmented(self._images[chosen], plan, rows), "train")
        return x.contiguous(memory_format=torch.channels_last), self._labels[chosen]

    def _normalized(self, x: Tensor, split: SplitName) -> Tensor:
        numbers = self.recipe.normalization
        if split == "train":
            return (x - numbers.train_mean) / numbers.train_std
        return (x - numbers.eval_mean) / numbers.eval_std

    def _make_optimizer(self) -> torch.optim.Optimizer:
        chosen = self.recipe.optimizer
        params = list(self._params.values())
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

    def _set_rates(self, lr: float, momentum: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum

    def _average(self) -> None:
        averaging = self.recipe.averaging
        if averaging is None:
            return
        decay = averaging.decay
        if averaging.warmup:
            decay = min(decay, (1 + self._step) / (10 + self._step))
        with torch.no_grad():
            for name, average in self._ema.items():
                average.lerp_(self._tensors[name], 1 - decay)

    def _moments(self) -> tuple[str, ...]:
        return _MOMENTS["sgd" if isinstance(self.recipe.optimizer, SGD) else "adam"]

    def _optimizer_state(self, name: str, state: State) -> dict[str, Tensor]:
        own: dict[str, Tensor] = {}
        for moment in self._moments():
            tensor = torch.empty_like(self._params[name], requires_grad=False)
            tensor.copy_(torch.from_numpy(state[f"{moment}/{name}"]))
            own[_TORCH_NAME.get(moment, moment)] = tensor
        if "exp_avg" in own:
            own["step"] = torch.tensor(float(self._step))
        return own


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy().copy()

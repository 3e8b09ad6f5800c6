"""The native engine: one model trained by generated C, without the interpreter lock."""

import ctypes
import threading
from collections.abc import Callable

import numpy as np

from smidgen.engines.contract import EpochStats, SplitName, State, WeightsName
from smidgen.engines.native.codegen import Program, generate
from smidgen.engines.native.compiler import (
    CompileOptions,
    compile_library,
    find_compiler,
    lanes_of_host,
    load_library,
)
from smidgen.engines.native.job import SCHEDULE, Job, address, aligned
from smidgen.engines.native.layout import evaluation_numbers
from smidgen.engines.plan import EpochPlan
from smidgen.errors import CompilerError, EngineError, NonFiniteError
from smidgen.network.network import Network
from smidgen.network.weights import Tensors, initial_weights
from smidgen.recipes.parts import SGD, Adam
from smidgen.recipes.recipe import Recipe

_POLL_SECONDS = 0.005
"""How often `should_stop` is asked while C runs; a step takes about as long."""
_OPTIMIZERS = {"sgd": 0, "adam": 1, "adamw": 2}
_MOMENTS = {"sgd": ("momentum",), "adam": ("exp_avg", "exp_avg_sq"), "adamw": ("exp_avg", "exp_avg_sq")}


def supports(network: Network, recipe: Recipe) -> str | None:
    """Return what the native engine cannot run, or None if it can run everything."""
    return None


def obstacle_to(recipe: Recipe) -> str | None:
    """Return why the native engine cannot run a recipe on this machine, or None if it can."""
    try:
        find_compiler()
    except CompilerError as problem:
        return str(problem)
    return supports(recipe.network, recipe)


class NativeEngine:
    """One model trained by generated C (see `smidgen.engines.contract.Engine`).

    Args:
        network: The model.
        recipe: How it is trained.
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        seed: Decides the initial weights.
        threads: How many cores to use; the numbers that come out do not depend on it.
        compile_options: Compiler, lanes and optimization; None for the best of this machine.
        program: The generated program, where it is at hand; it must fit the lanes.

    Raises:
        CompilerError: No C compiler, or it failed.
    """

    name = "native"

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        seed: int = 1,
        threads: int = 1,
        compile_options: CompileOptions | None = None,
        program: Program | None = None,
    ) -> None:
        self.network, self.recipe, self.threads = network, recipe, threads
        options = compile_options or CompileOptions()
        lanes = lanes_of_host() if options.lanes is None else options.lanes
        self.program = generate(network, lanes) if program is None else program
        self._library = load_library(compile_library(self.program.source, options))
        self._images = np.ascontiguousarray(images, dtype=np.uint8)
        self._labels = np.ascontiguousarray(labels, dtype=np.int32)
        layout = self.program.layout
        self._weights = aligned(layout.num_weights, np.float32)
        self._statistics = aligned(layout.num_statistics, np.float32)
        self._gradient = aligned(layout.num_weights, np.float32)
        self._moments = {
            name: aligned(layout.num_weights, np.float32)
            for name in _MOMENTS[recipe.optimizer.kind]
        }
        self._views = self._tensor_views(self._weights, self._statistics)
        for name, array in initial_weights(network, seed).items():
            self._views[name][...] = array
        self._average = (self._weights.copy(), self._statistics.copy())
        self._step = 0
        self.steps_done = 0
        self._memory: dict[str, np.ndarray] = {}

    def train_epoch(self, plan: EpochPlan, should_stop: Callable[[], bool]) -> EpochStats:
        """Run a plan; see the contract. `should_stop` is asked every few milliseconds."""
        job, kept = self._training_job(plan)
        self._run("smidgen_train", job, should_stop)
        del kept
        self.steps_done = job.steps_done
        self._step += job.steps_done
        if job.broken:
            raise NonFiniteError(f"Not a finite number in epoch {plan.epoch}.", job.steps_done)
        seen = min(job.steps_done * plan.batch_size, len(plan.order))
        if job.steps_done < plan.num_steps:
            return EpochStats(float("nan"), 0, seen, stopped=True)
        return EpochStats(job.loss / max(seen, 1), job.num_correct, seen)

    def gradients(self, plan: EpochPlan, step: int = 0) -> tuple[float, Tensors]:
        """Return mean loss and every parameter's gradient of one batch, changing nothing."""
        only = plan.only(step)
        job, kept = self._training_job(only)
        job.updates = 0
        self._run("smidgen_train", job, lambda: False)
        del kept
        if job.broken:
            raise NonFiniteError(f"Not a finite number in epoch {plan.epoch}.", step)
        views = self._tensor_views(self._gradient, self._statistics)
        trainable = self.program.layout.weights
        return job.loss / len(only.order), {name: views[name].copy() for name in trainable}

    def update(self, gradients: Tensors, plan: EpochPlan, step: int) -> None:
        """Make the update of one step of a plan from gradients found elsewhere."""
        job, kept = self._training_job(plan)
        views = self._tensor_views(self._gradient, self._statistics)
        for name, gradient in gradients.items():
            views[name][...] = gradient
        self._library.smidgen_update(ctypes.byref(job), step)
        del kept

    def batch(self, plan: EpochPlan, step: int) -> np.ndarray:
        """Return a batch as the network sees it: float32 (B, C, H, W)."""
        rows = plan.rows(step)
        images = np.zeros((rows.stop - rows.start, *self.network.input_shape), dtype=np.float32)
        job, kept = self._training_job(plan)
        job.scores = images.ctypes.data
        self._library.smidgen_prepare(ctypes.byref(job), step)
        del kept
        return images

    def logits(
        self, images: np.ndarray, split: SplitName = "eval", weights: WeightsName = "raw"
    ) -> np.ndarray:
        """Return float32 (N, classes) class scores of uint8 (N, C, H, W); see the contract."""
        images = np.ascontiguousarray(images, dtype=np.uint8)
        arrays = (self._weights, self._statistics) if weights == "raw" else self._average
        numbers = evaluation_numbers(
            self.program.evaluation, self.program.evaluation_layout, self._tensor_views(*arrays)
        )
        scores = np.zeros((len(images), self.network.num_classes), dtype=np.float32)
        job = self._job(1)
        job.images, job.weights, job.scores = map(address, (images, numbers, scores))
        job.num_images = len(images)
        self._normalize(job, split)
        self._run("smidgen_evaluate", job, lambda: False)
        return scores

    def state(self) -> State:
        """Return a copy of everything that training changes; see the contract."""
        state = {name: view.copy() for name, view in self._views.items()}
        for moment, array in self._moments.items():
            views = self._tensor_views(array, self._statistics)
            names = self.program.layout.weights
            state |= {f"{moment}/{name}": views[name].copy() for name in names}
        if self.recipe.averaging is not None:
            views = self._tensor_views(*self._average)
            state |= {f"ema/{name}": view.copy() for name, view in views.items()}
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
        for name, view in self._views.items():
            view[...] = state[name]
        for moment, array in self._moments.items():
            views = self._tensor_views(array, self._statistics)
            for name in self.program.layout.weights:
                views[name][...] = state[f"{moment}/{name}"]
        if self.recipe.averaging is not None:
            for name, view in self._tensor_views(*self._average).items():
                view[...] = state[f"ema/{name}"]
        self._step = int(state["step"])

    def _tensor_views(self, weights: np.ndarray, statistics: np.ndarray) -> Tensors:
        layout = self.program.layout
        views = {}
        for name, spec in self.network.graph.tensors.items():
            whole, places = (
                (weights, layout.weights) if spec.trainable else (statistics, layout.statistics)
            )
            start = places[name]
            views[name] = whole[start : start + spec.size].reshape(spec.shape)
        return views

    def _work(self, name: str, count: int, dtype: type[np.generic]) -> int:
        """Return the address of at least `count` zeros that stay with the engine."""
        if name not in self._memory or len(self._memory[name]) < count:
            self._memory[name] = aligned(count, dtype)
        return self._memory[name].ctypes.data

    def _job(self, blocks: int) -> Job:
        program, threads = self.program, self.threads
        norms = program.norm_channels
        return Job(
            stored=self._work("stored", blocks * program.stored_vectors * program.lanes, np.float32),
            block_gradients=self._work("gradients", blocks * program.layout.num_weights, np.float32),
            block_sums=self._work("sums", blocks * 4 * norms, np.float64),
            block_losses=self._work("losses", blocks * 2, np.float64),
            scratch=self._work(
                "scratch", threads * program.scratch_vectors * program.lanes, np.float32
            ),
            coefficients=self._work("coefficients", threads * 7 * norms, np.float32),
            threads=threads,
        )

    def _training_job(self, plan: EpochPlan) -> tuple[Job, list[np.ndarray | None]]:
        """Return the job and the arrays that must live as long as it runs."""
        blocks = -(-min(plan.batch_size, max(len(plan.order), 1)) // self.program.lanes)
        job = self._job(blocks)
        geometry, erasing, optimizer = plan.geometry, plan.erasing, self.recipe.optimizer
        arrays = {
            "order": np.ascontiguousarray(plan.order, dtype=np.int32),
            "affine": None if geometry is None else np.ascontiguousarray(geometry.affine),
            "elastic": None
            if geometry is None or geometry.elastic is None
            else np.ascontiguousarray(geometry.elastic),
            "jitter": None if plan.jitter is None else np.ascontiguousarray(plan.jitter),
            "boxes": None if erasing is None else np.ascontiguousarray(erasing.boxes),
            "schedule": self._schedule(plan),
            "images": self._images,
            "labels": self._labels,
            "weights": self._weights,
            "statistics": self._statistics,
            "gradient": self._gradient,
            "first_moment": next(iter(self._moments.values())),
            "second_moment": self._moments.get("exp_avg_sq"),
        }
        if self.recipe.averaging is not None:
            arrays["average_weights"], arrays["average_statistics"] = self._average
        for name, array in arrays.items():
            setattr(job, name, address(array))
        job.num_images, job.batch_size, job.num_steps = len(plan.order), plan.batch_size, plan.num_steps
        job.fill = 0.0 if geometry is None else geometry.fill
        job.nearest = int(geometry is not None and geometry.interpolation == "nearest")
        job.level = 0.0 if erasing is None else erasing.level
        job.label_smoothing = self.recipe.loss.label_smoothing
        job.optimizer = _OPTIMIZERS[optimizer.kind]
        job.weight_decay = optimizer.weight_decay
        if isinstance(optimizer, SGD):
            job.nesterov = int(optimizer.nesterov)
        else:
            job.beta2, job.eps = optimizer.beta2, optimizer.eps
        job.updates, job.dropout_key = 1, plan.dropout_key
        self._normalize(job, "train")
        return job, list(arrays.values())

    def _schedule(self, plan: EpochPlan) -> np.ndarray:
        """Return one row per step; Adam's corrections use that step's beta1, as PyTorch does."""
        steps = self._step + np.arange(1, plan.num_steps + 1, dtype=np.float64)
        rows = np.zeros(plan.num_steps, dtype=SCHEDULE)
        rows["lr"], rows["momentum"] = plan.lr, plan.momentum
        if not isinstance(self.recipe.optimizer, SGD):
            rows["correction"] = 1.0 - plan.momentum**steps
            rows["root_correction"] = np.sqrt(1.0 - self.recipe.optimizer.beta2**steps)
        averaging = self.recipe.averaging
        if averaging is not None:
            warm = (1 + steps) / (10 + steps) if averaging.warmup else np.ones_like(steps)
            rows["decay"] = np.minimum(averaging.decay, warm)
        return rows

    def _normalize(self, job: Job, split: SplitName) -> None:
        numbers = self.recipe.normalization
        is_train = split == "train"
        job.mean = numbers.train_mean if is_train else numbers.eval_mean
        job.inverse_std = 1.0 / (numbers.train_std if is_train else numbers.eval_std)

    def _run(self, function: str, job: Job, should_stop: Callable[[], bool]) -> None:
        """Run a job on all threads; signals arrive here, in the thread that waits."""
        call = getattr(self._library, function)
        call.argtypes = (ctypes.POINTER(Job), ctypes.c_int)
        call.restype = None
        if should_stop():
            return
        workers = [
            threading.Thread(target=call, args=(ctypes.byref(job), number), daemon=True)
            for number in range(self.threads)
        ]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                while worker.is_alive():
                    worker.join(_POLL_SECONDS)
                    if should_stop():
                        job.stop = 1
        finally:
            job.stop = 1
            for worker in workers:
                worker.join()

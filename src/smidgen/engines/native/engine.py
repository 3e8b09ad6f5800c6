"""The native engine: one model trained by generated C, without the interpreter lock."""

import ctypes
import threading
from collections.abc import Callable

import numpy as np

from smidgen.engines.contract import (
    EpochPlan,
    EpochStats,
    SplitName,
    State,
    WeightsName,
    check_plan,
    find_not_finite,
)
from smidgen.engines.native.build import BUILD, CompileOptions, build_library
from smidgen.engines.native.codegen import ENTRIES, Program, generate
from smidgen.engines.native.job import OPTIMIZERS, Job, address, aligned, schedule_of, set_changes
from smidgen.engines.native.toolchain import lanes_of_host
from smidgen.errors import EngineError, NonFiniteError
from smidgen.lowering.numbers import Layout, flattened, folded, statistics_layout, trained_layout
from smidgen.network.network import Network
from smidgen.network.weights import Tensors, initial_weights
from smidgen.recipes.parts import SGD
from smidgen.recipes.recipe import Recipe

_MOMENTS = {
    "sgd": ("momentum",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
}


class ModelState:
    """One model's weights, running statistics, moments and moving average.

    Args:
        network: The model.
        recipe: Decides which moments there are and whether there is an average.
        seed: Decides the initial weights.
    """

    def __init__(self, network: Network, recipe: Recipe, seed: int) -> None:
        self._specs = network.graph.tensors
        self._layouts: tuple[Layout, Layout] = (
            trained_layout(network.graph),
            statistics_layout(network.graph),
        )
        num_weights, num_statistics = (layout.size for layout in self._layouts)
        self._has_average = recipe.averaging is not None
        self.weights = aligned(num_weights, np.float32)
        self.statistics = aligned(num_statistics, np.float32)
        self.gradient = aligned(num_weights, np.float32)
        self.moments = {
            name: aligned(num_weights, np.float32) for name in _MOMENTS[recipe.optimizer.kind]
        }
        for name, array in initial_weights(network, seed).items():
            self.tensors[name][...] = array
        self.average_weights = self.weights.copy()
        self.average_statistics = self.statistics.copy()
        self.step = 0

    @property
    def tensors(self) -> Tensors:
        """Views of weights and running statistics by name."""
        return self._views(self.weights, self.statistics)

    @property
    def average(self) -> Tensors:
        """Views of the moving average by name."""
        return self._views(self.average_weights, self.average_statistics)

    def trained(self, flat: np.ndarray) -> Tensors:
        """Return views by name of an array in the order of the weights."""
        views = self._views(flat, self.statistics)
        return {name: views[name] for name in self._layouts[0].offsets}

    def state(self) -> State:
        """Return a copy of everything, named as the engines' contract says."""
        state = {name: view.copy() for name, view in self._named().items()}
        state["step"] = np.array(self.step, dtype=np.int64)
        return state

    def load_state(self, state: State) -> None:
        """Take over a state.

        Raises:
            EngineError: Names or shapes do not fit; nothing has changed then.
        """
        views = self._named()
        expected = {name: view.shape for name, view in views.items()} | {"step": ()}
        given = {name: array.shape for name, array in state.items()}
        if expected != given:
            odd = sorted(set(expected.items()) ^ set(given.items()))[0][0]
            raise EngineError(
                f"The state does not belong to this network and recipe: `{odd}` differs."
            )
        for name, view in views.items():
            view[...] = state[name]
        self.step = int(state["step"])

    def _named(self) -> Tensors:
        named = dict(self.tensors)
        for moment, flat in self.moments.items():
            named |= {f"{moment}/{name}": view for name, view in self.trained(flat).items()}
        if self._has_average:
            named |= {f"ema/{name}": view for name, view in self.average.items()}
        return named

    def _views(self, weights: np.ndarray, statistics: np.ndarray) -> Tensors:
        views = {}
        for flat, layout in zip((weights, statistics), self._layouts, strict=True):
            for name, start in layout.offsets.items():
                spec = self._specs[name]
                views[name] = flat[start : start + spec.size].reshape(spec.shape)
        return {name: views[name] for name in self._specs}


_POLL_SECONDS = 0.005
"""How often `should_stop` is asked while C runs; a step takes about as long."""


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
    ) -> None:
        _check_data(network, images, labels)
        self.network, self.recipe, self.threads = network, recipe, threads
        options = compile_options or CompileOptions()
        lanes = lanes_of_host() if options.lanes is None else options.lanes
        self.use(generate(network, lanes), options)
        self._images = np.ascontiguousarray(images, dtype=np.uint8)
        self._labels = np.ascontiguousarray(labels, dtype=np.int32)
        self._model = ModelState(network, recipe, seed)
        self._memory: dict[str, np.ndarray] = {}
        self.steps_done = 0

    def use(self, program: Program, options: CompileOptions) -> None:
        """Compile a program of this network and run it from now on, such as one with timers."""
        self.program = program
        self.library = build_library(program.source, ENTRIES, options)
        self.build: dict[str, str] = getattr(self.library, BUILD)

    def train_epoch(self, plan: EpochPlan, should_stop: Callable[[], bool]) -> EpochStats:
        """Run a plan; see the contract. `should_stop` is asked every few milliseconds."""
        check_plan(plan, self.recipe)
        job, kept = self._training_job(plan)

        def asked() -> bool:
            self.steps_done = job.steps_done
            return should_stop()

        self._run("smidgen_train", job, asked)
        del kept
        self.steps_done = job.steps_done
        self._model.step += job.steps_done
        if job.broken:
            raise NonFiniteError(f"Not a finite number in epoch {plan.epoch}.", job.steps_done)
        seen = min(job.steps_done * plan.batch_size, len(plan.order))
        if job.steps_done < plan.num_steps:
            return EpochStats(float("nan"), 0, seen, stopped=True)
        return EpochStats(job.loss / max(seen, 1), job.num_correct, seen)

    def gradients(self, plan: EpochPlan, step: int = 0) -> tuple[float, Tensors]:
        """Return mean loss and every parameter's gradient of one batch, changing nothing."""
        check_plan(plan, self.recipe)
        job, kept = self._training_job(plan)
        job.first_step, job.num_steps, job.updates = step, step + 1, 0
        self._run("smidgen_train", job, lambda: False)
        del kept
        if job.broken:
            raise NonFiniteError(f"Not a finite number in epoch {plan.epoch}.", step)
        rows = plan.rows(step)
        gradients = self._model.trained(self._model.gradient)
        copies = {name: gradient.copy() for name, gradient in gradients.items()}
        return job.loss / (rows.stop - rows.start), copies

    def update(self, gradients: Tensors, plan: EpochPlan, step: int) -> None:
        """Make the update of one step of a plan from gradients found elsewhere."""
        job, kept = self._training_job(plan)
        for name, view in self._model.trained(self._model.gradient).items():
            view[...] = gradients[name]
        self.library.smidgen_update(ctypes.byref(job), step)
        del kept

    def batch(self, plan: EpochPlan, step: int) -> np.ndarray:
        """Return a batch as the network sees it, float32 (B, C, H, W); see the contract."""
        rows = plan.rows(step)
        images = np.zeros((rows.stop - rows.start, *self.network.input_shape), dtype=np.float32)
        job, kept = self._training_job(plan)
        job.scores = images.ctypes.data
        self.library.smidgen_prepare(ctypes.byref(job), step)
        del kept
        return images

    def first_not_finite(self, plan: EpochPlan, step: int) -> str:
        """Return what went wrong first; see the contract."""
        return find_not_finite(self, self._labels, plan, step)

    def logits(
        self, images: np.ndarray, split: SplitName = "eval", weights: WeightsName = "raw"
    ) -> np.ndarray:
        """Return float32 (N, classes) class scores of uint8 (N, C, H, W); see the contract."""
        images = np.ascontiguousarray(images, dtype=np.uint8)
        _check_images(self.network, images)
        tensors = self._model.tensors if weights == "raw" else self._model.average
        return self._scores(self._job(1), images, len(images), tensors, split)

    def planned_logits(self, plan: EpochPlan) -> np.ndarray:
        """Return float32 (N, classes) class scores of a plan's images; see the contract."""
        job = self._job(1)
        kept = set_changes(job, plan, len(self._images), self.network.input_shape)
        scores = self._scores(job, self._images, len(plan.order), self._model.tensors, "eval")
        del kept
        return scores

    def _scores(
        self, job: Job, images: np.ndarray, num_images: int, tensors: Tensors, split: SplitName
    ) -> np.ndarray:
        evaluation = self.program.evaluation
        by_name = folded(evaluation.stages, evaluation.folding, tensors)
        numbers = flattened(evaluation.folding.layout, by_name)
        scores = np.zeros((num_images, self.network.num_classes), dtype=np.float32)
        job.images, job.weights, job.scores = map(address, (images, numbers, scores))
        job.num_images = num_images
        self._normalize(job, split)
        self._run("smidgen_evaluate", job, lambda: False)
        return scores

    def state(self) -> State:
        """Return a copy of everything that training changes; see the contract."""
        return self._model.state()

    def load_state(self, state: State) -> None:
        """Continue from a state; see the contract."""
        self._model.load_state(state)

    def _work(self, name: str, count: int, dtype: type[np.generic]) -> int:
        """Return the address of at least `count` zeros that stay with the engine."""
        if name not in self._memory or len(self._memory[name]) < count:
            self._memory[name] = aligned(count, dtype)
        return self._memory[name].ctypes.data

    def _job(self, blocks: int) -> Job:
        program, threads = self.program, self.threads
        norms = program.training.norm_channels
        return Job(
            stored=self._work(
                "stored", blocks * program.stored_vectors * program.lanes, np.float32
            ),
            block_gradients=self._work(
                "gradients", blocks * program.training.weights.size, np.float32
            ),
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
        job, model, recipe = self._job(blocks), self._model, self.recipe
        changes = set_changes(job, plan, len(self._images), self.network.input_shape)
        arrays: dict[str, np.ndarray | None] = {
            "schedule": schedule_of(plan, recipe, model.step),
            "images": self._images,
            "labels": self._labels,
            "weights": model.weights,
            "statistics": model.statistics,
            "gradient": model.gradient,
            "first_moment": next(iter(model.moments.values())),
            "second_moment": model.moments.get("exp_avg_sq"),
        }
        if recipe.averaging is not None:
            arrays["average_weights"] = model.average_weights
            arrays["average_statistics"] = model.average_statistics
        for name, array in arrays.items():
            setattr(job, name, address(array))
        job.num_images, job.num_steps = len(plan.order), plan.num_steps
        job.batch_size, job.dropout_key = plan.batch_size, plan.dropout_key
        job.label_smoothing = recipe.loss.label_smoothing
        if recipe.distillation is not None:
            job.teachers_share = recipe.distillation.weight
            job.temperature = recipe.distillation.temperature
        optimizer = recipe.optimizer
        job.optimizer, job.weight_decay = OPTIMIZERS[optimizer.kind], optimizer.weight_decay
        if isinstance(optimizer, SGD):
            job.nesterov = int(optimizer.nesterov)
        else:
            job.beta2, job.rest_beta2 = optimizer.beta2, 1.0 - optimizer.beta2
            job.eps = optimizer.eps
        job.updates = 1
        self._normalize(job, "train")
        return job, [*changes, *arrays.values()]

    def _normalize(self, job: Job, split: SplitName) -> None:
        numbers = self.recipe.normalization
        is_train = split == "train"
        job.mean = numbers.train_mean if is_train else numbers.eval_mean
        job.inverse_std = 1.0 / (numbers.train_std if is_train else numbers.eval_std)

    def _run(self, function: str, job: Job, should_stop: Callable[[], bool]) -> None:
        """Run a job on all threads; signals arrive here, in the thread that waits."""
        call = getattr(self.library, function)
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
            while any(worker.is_alive() for worker in workers):
                workers[0].join(_POLL_SECONDS)
                if should_stop():
                    job.stop = 1
        finally:
            job.stop = 1
            for worker in workers:
                worker.join()


def _check_images(network: Network, images: np.ndarray) -> None:
    if images.shape[1:] != network.input_shape:
        raise EngineError(
            f"The images are {images.shape[1:]}, but the network reads {network.input_shape} "
            "(channels, height, width). Choose another data set or `network.input_shape`."
        )


def _check_data(network: Network, images: np.ndarray, labels: np.ndarray) -> None:
    _check_images(network, images)
    if len(images) != len(labels):
        raise EngineError(f"There are {len(images)} images but {len(labels)} labels.")

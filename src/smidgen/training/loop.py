"""`train`: recipe + data + engine -> run. The loop reads top to bottom and has one hook."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from smidgen.data.dataset import Dataset
from smidgen.engines.choose import (
    EngineChoice,
    choose_engine,
    default_threads,
    make_engine,
)
from smidgen.engines.contract import Engine, EpochStats, WeightsName
from smidgen.engines.plan import EpochPlan
from smidgen.errors import BudgetError, InterruptedRunError, NonFiniteError, RunError
from smidgen.files import locked
from smidgen.network.trace import trace
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import DataUsed, EpochRecord, Protocol, Result, RunRecord, identity_of
from smidgen.runs.store import RunFolder, RunStore, run_name
from smidgen.runs.tensors import save_tensors
from smidgen.training.checkpoints import Progress, restore_newest, save_checkpoint
from smidgen.training.environment import describe_environment
from smidgen.training.evaluation import Evaluation, evaluate
from smidgen.training.interrupts import StopRequest, stop_on_signal
from smidgen.training.planning import plan
from smidgen.training.replay import write_replay
from smidgen.training.splits import ProtocolSplits, splits_for

BEST = "best.safetensors"
"""Full state after the best epoch so far, where the protocol selects by it."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What is chosen per run beside recipe and seed.

    Args:
        protocol: `final` trains on all images and reports the last epoch on `test`; `tune`
            holds out `valid` and never opens `test`; `origin` does as the source did.
        engine: `auto` takes the native engine where it can run, else torch.
        device: A torch device; anything but `cpu` means the torch engine.
        threads: Cores to use; None for all of them, at most four.
    """

    protocol: Protocol = "final"
    engine: EngineChoice = "auto"
    device: str = "cpu"
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """What wants to know how a run goes on; every function may be left out.

    Args:
        on_start: Called once with the record as it is before the first (or next) epoch.
        on_step: Called with (steps done, steps) of the epoch, many times a second.
        on_epoch: Called with each finished epoch.
        on_note: Called with a line a person should read, such as which engine was chosen.
    """

    on_start: Callable[[RunRecord], None] = lambda record: None
    on_step: Callable[[int, int], None] = lambda done, total: None
    on_epoch: Callable[[EpochRecord], None] = lambda record: None
    on_note: Callable[[str], None] = lambda text: None


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its folder, its record, and whether it was there before."""

    folder: RunFolder
    record: RunRecord
    was_there: bool = False


def train(
    recipe: Recipe,
    dataset: Dataset,
    store: RunStore,
    seed: int = 1,
    options: TrainOptions | None = None,
    listener: Listener | None = None,
) -> Run:
    """Train one model, or continue where an interrupted run of the same identity stopped.

    The same recipe, data, seed, protocol and engine give the same bits (for torch: with the
    same number of threads). A finished run is never done again: it is returned as it is.

    Raises:
        BudgetError: The network is larger, or trained longer, than its recipe promises.
        DataError: The images do not fit the network.
        EngineError: The engine asked for cannot run here.
        NonFiniteError: A loss or gradient was NaN or infinite.
        InterruptedRunError: SIGINT or SIGTERM came; the last finished epoch is saved.
        StorageError: A file could not be written; the last finished epoch is saved.
    """
    options, listener = options or TrainOptions(), listener or Listener()
    started = time.perf_counter()
    record, splits = _prepare(recipe, dataset, seed, options, listener)
    name = run_name(recipe.name, seed, record.identity)
    there = store.finished(name)
    if there is not None:
        return Run(there, there.record(), was_there=True)
    folder = store.partial(name)
    with locked(folder.path / ".lock", wait=False, owner=f"The run `{name}`"):
        there = store.finished(name)  # another process may have finished it just now
        if there is not None:
            return Run(there, there.record(), was_there=True)
        job = _Job(record, splits, folder, listener, started)
        finished = job.run()
        return Run(store.finish(folder), finished)


def _prepare(
    recipe: Recipe, dataset: Dataset, seed: int, options: TrainOptions, listener: Listener
) -> tuple[RunRecord, ProtocolSplits]:
    totals = trace(recipe.network).totals
    _keep_budget(recipe, totals.num_params)
    splits = splits_for(options.protocol, recipe, dataset)
    engine, obstacle = choose_engine(recipe, options.engine, options.device)
    if obstacle:
        listener.on_note(f"Using the torch engine: {obstacle}.")
    threads = options.threads or default_threads()
    environment = describe_environment(engine, options.device, threads)
    data = DataUsed(
        dataset.name,
        dataset.sha256,
        dataset.class_names,
        len(splits.train),
        splits.num_valid,
        0 if options.protocol == "tune" else len(dataset.test),
    )
    record = RunRecord(
        recipe=recipe,
        fingerprint=recipe.fingerprint(),
        identity=identity_of(recipe, seed, options.protocol, environment, dataset.sha256),
        seed=seed,
        protocol=options.protocol,
        environment=environment,
        data=data,
        num_params=totals.num_params,
        num_macs=totals.num_macs,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return record, splits


def _keep_budget(recipe: Recipe, num_params: int) -> None:
    budget = recipe.budget
    for limit, given, what in (
        (budget.max_params, num_params, "parameters"),
        (budget.max_epochs, recipe.epochs, "epochs"),
    ):
        if limit is not None and given > limit:
            raise BudgetError(
                f"`{recipe.name}` promises at most {limit:,} {what} and has {given:,}. "
                f"Make it smaller or raise `budget.max_{what.replace('parameters', 'params')}`."
            )


class _Job:
    """One sitting of one run."""

    def __init__(
        self,
        record: RunRecord,
        splits: ProtocolSplits,
        folder: RunFolder,
        listener: Listener,
        started: float,
    ) -> None:
        self.record, self.splits, self.folder, self.listener = record, splits, folder, listener
        self.started = started
        self.recipe = record.recipe
        self.weights: WeightsName = "ema" if self.recipe.averaging is not None else "raw"
        self.selects = (
            record.protocol == "origin"
            and self.recipe.origin.selection == "best_on_test"
            and splits.each_epoch_name == "test"
        )

    def run(self) -> RunRecord:
        """Train what is left, write the results and return the finished record."""
        engine = make_engine(
            self.record.environment.engine,
            self.recipe,
            self.splits.train.images,
            self.splits.train.labels,
            seed=self.record.seed,
            threads=self.record.environment.threads,
            device=self.record.environment.device,
        )
        progress = restore_newest(self.folder, engine, self.record, self.listener.on_note)
        before = progress.wall_seconds
        if not (self.folder.path / "record.json").is_file():
            self.folder.save_record(self.record)
        self.listener.on_start(replace(self.record, epochs=progress.epochs))
        with stop_on_signal() as stop:
            for epoch in range(len(progress.epochs) + 1, self.recipe.epochs + 1):
                done = self._epoch(engine, epoch, progress, stop)
                wall = before + time.perf_counter() - self.started
                progress = Progress((*progress.epochs, done), wall)
                self._save(engine, progress)
                self.listener.on_epoch(done)
        return self._finish(engine, progress, before)

    def _epoch(
        self, engine: Engine, epoch: int, progress: Progress, stop: StopRequest
    ) -> EpochRecord:
        history = [e.eval_accuracy for e in progress.epochs]
        if self.splits.each_epoch_name == "test":  # no decision may read the test set
            history = [e.train_accuracy for e in progress.epochs]
        planned = plan(self.recipe, self.record.seed, epoch, history, len(self.splits.train))
        start = time.perf_counter()
        stats = self._train(engine, planned, stop)
        trained = time.perf_counter()
        evaluation = self._evaluate(engine)
        seconds = trained - start
        return EpochRecord(
            epoch=epoch,
            train_loss=stats.loss,
            train_accuracy=stats.accuracy,
            split=self.splits.each_epoch_name,
            eval_loss=evaluation.loss,
            eval_accuracy=evaluation.accuracy,
            eval_num_errors=evaluation.num_errors,
            train_seconds=seconds,
            eval_seconds=time.perf_counter() - trained,
            images_per_second=stats.num_images / seconds,
            lr_first=float(planned.lr[0]),
            lr_last=float(planned.lr[-1]),
        )

    def _train(self, engine: Engine, planned: EpochPlan, stop: StopRequest) -> EpochStats:
        def should_stop() -> bool:
            self.listener.on_step(engine.steps_done, planned.num_steps)
            return stop()

        try:
            stats = engine.train_epoch(planned, should_stop)
        except NonFiniteError as error:
            raise write_replay(
                self.folder, self.record, engine, self.splits.train, planned, error
            ) from error
        if stats.stopped or stop():
            kept = f"epoch {planned.epoch - 1} is saved" if planned.epoch > 1 else "nothing to keep"
            raise InterruptedRunError(
                f"Stopped in epoch {planned.epoch}; {kept}. "
                f"Continue with `smidgen train --resume {self.folder.name}`.",
                stop.signal_number or 2,
            )
        return stats

    def _evaluate(self, engine: Engine) -> Evaluation:
        split = self.splits.each_epoch
        logits = engine.logits(split.images, "eval", self.weights)
        return evaluate(logits, split.labels)

    def _save(self, engine: Engine, progress: Progress) -> None:
        accuracies = [e.eval_accuracy for e in progress.epochs]
        if self.selects and accuracies[-1] > max(accuracies[:-1], default=-1.0):
            save_tensors(self.folder.path / BEST, engine.state())
        save_checkpoint(self.folder, engine, self.record, progress)

    def _finish(self, engine: Engine, progress: Progress, before: float) -> RunRecord:
        epochs = progress.epochs
        accuracies = [e.eval_accuracy for e in epochs]
        best = int(np.argmax(accuracies))
        chosen = best if self.selects else len(epochs) - 1
        if self.selects:
            engine.load_state(self.folder.tensors(BEST))
        logits = engine.logits(self.splits.end.images, "eval", self.weights)
        evaluation = evaluate(logits, self.splits.end.labels)
        if self.selects and evaluation.num_errors != epochs[chosen].eval_num_errors:
            raise RunError(f"`{self.folder.path / BEST}` is not the state of epoch {chosen + 1}.")
        self._write_tensors(engine, logits)
        result = Result(
            split=self.splits.end_name,
            accuracy=evaluation.accuracy,
            num_errors=evaluation.num_errors,
            num_images=evaluation.num_images,
            epoch=chosen + 1,
            selection="selected on the test set" if self.selects else "last epoch",
            last_accuracy=accuracies[-1],
            mean_of_last_five=float(np.mean(accuracies[-5:])),
            best_accuracy=accuracies[best],
            best_epoch=best + 1,
        )
        finished = replace(
            self.record,
            epochs=epochs,
            result=result,
            train_seconds=sum(e.train_seconds for e in epochs),
            wall_seconds=before + time.perf_counter() - self.started,
            files=self.folder.hashes(),
        )
        self.folder.save_record(finished)
        return finished

    def _write_tensors(self, engine: Engine, logits: np.ndarray) -> None:
        state = engine.state()
        prefix = "ema/" if self.weights == "ema" else ""
        names = self.recipe.network.graph.tensors
        model = {name: state[f"{prefix}{name}"] for name in names}
        network = {"network": self.recipe.network.to_json(indent=None)}
        save_tensors(self.folder.path / "model.safetensors", model, network)
        labels = self.splits.end.labels.astype(np.int64)
        save_tensors(
            self.folder.path / "predictions.safetensors", {"logits": logits, "labels": labels}
        )

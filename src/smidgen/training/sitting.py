"""One sitting of one run: from where it stands to its last epoch, or to an interruption.

The first SIGINT or SIGTERM asks the run to stop in good order, the second ends it at once.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import NoReturn

import numpy as np

from smidgen.engines.choose import make_engine
from smidgen.engines.contract import Engine, EpochPlan, EpochStats, WeightsName
from smidgen.errors import InterruptedRunError, NonFiniteError, RunError
from smidgen.runs.record import Environment, EpochRecord, RunRecord
from smidgen.runs.store import RunFolder
from smidgen.runs.tensors import save_tensors
from smidgen.training.checkpoints import (
    Progress,
    forget_divergence,
    note_divergence,
    restore_best,
    restore_newest,
    save_checkpoint,
)
from smidgen.training.events import Began, EpochDone, Note, OnEvent, Stepped
from smidgen.training.plan import history_of, plan
from smidgen.training.splits import Evaluation, ProtocolSplits, best_index, evaluate, result_of
from smidgen.training.teachers import Teachers

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers the signal that asked to stop, if any.

    Args:
        asked: What else may ask.
    """

    def __init__(self, asked: Callable[[], bool] | None = None) -> None:
        self.signal_number: int | None = None
        self._asked = asked

    def __call__(self) -> bool:
        """Return whether to stop; engines poll this at every step."""
        return self.signal_number is not None or (self._asked is not None and self._asked())

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        for each in _SIGNALS:
            if signal.getsignal(each) == self._remember:
                signal.signal(each, signal.SIG_DFL)


@contextmanager
def stop_on_signal(asked: Callable[[], bool] | None = None) -> Iterator[StopRequest]:
    """Catch the first SIGINT or SIGTERM while the body runs (in the main thread only).

    A signal that is ignored, as SIGINT is under `nohup`, stays ignored.

    Args:
        asked: What asks to stop in place of signals, which then are left to whoever has them.
    """
    request = StopRequest(asked)
    if asked is not None or threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    caught = {n: handler for n, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in caught:
        signal.signal(number, request._remember)
    try:
        yield request
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)


class Sitting:
    """One sitting of one run.

    Args:
        record: What is trained, by whom, and where; without epochs and result.
        splits: The images.
        folder: Where the unfinished run stands, or will stand.
        on_event: Told how it goes on.
        started: `time.perf_counter()` when the sitting began.
        source: The Python file that the network was read from, if it was.
        stop: Asked at every step whether to stop; None for SIGINT and SIGTERM.
    """

    def __init__(
        self,
        record: RunRecord,
        splits: ProtocolSplits,
        folder: RunFolder,
        on_event: OnEvent,
        started: float,
        source: bytes = b"",
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.record, self.splits, self.folder, self.on_event = record, splits, folder, on_event
        self.recipe = record.recipe
        self.weights: WeightsName = "ema" if self.recipe.averaging is not None else "raw"
        self._started, self._source, self._asked = started, source, stop
        self._seconds_before = 0.0
        self._teachers: Teachers | None = None

    def run(self) -> RunRecord:
        """Train what is left, write the results and return the finished record."""
        engine = self._make_engine()
        used = replace(self.record.environment, build=engine.build)
        self.record = replace(self.record, environment=used)
        self._begin()
        forget_divergence(self.folder)
        if self.recipe.distillation is not None:
            self._teachers = Teachers(self.record, self.splits.train, self.folder.path)
        progress = restore_newest(
            self.folder, engine, self.record, self._note, self.splits.selects_on_test
        )
        self._seconds_before = progress.wall_seconds
        self.on_event(Began(replace(self.record, epochs=progress.epochs)))
        with stop_on_signal(self._asked) as stop:
            for epoch in range(len(progress.epochs) + 1, self.recipe.epochs + 1):
                try:
                    done = self._epoch(engine, epoch, progress, stop)
                except NonFiniteError:
                    note_divergence(self.folder, epoch)
                    raise
                progress = Progress((*progress.epochs, done), self._wall_seconds())
                save_checkpoint(
                    self.folder, engine, self.record, progress, self.splits.selects_on_test
                )
                self.on_event(EpochDone(done))
                if stop():
                    self._interrupt(stop, f"Stopped after epoch {epoch}, which is saved.")
        return self._finish(engine, progress)

    def _make_engine(self) -> Engine:
        environment, train = self.record.environment, self.splits.train
        return make_engine(
            environment.engine,
            self.recipe,
            train.images,
            train.labels,
            seed=self.record.seed,
            threads=environment.threads,
            device=environment.device,
            lanes=environment.lanes,
        )

    def _begin(self) -> None:
        """Write the record of a new run, or take over when and where an older one began."""
        try:
            begun = self.folder.record()
        except RunError:  # a new run; or its record is damaged, and can be written again
            if self._source:
                self.folder.save_source(self._source)
            self.folder.save_record(self.record)
            return
        # the network decides the identity; the source is that with which it began
        self.record = replace(self.record, started=begun.started, source_sha256=begun.source_sha256)
        hashes = [[used.model_sha256 for used in each.teachers] for each in (begun, self.record)]
        if hashes[0] != hashes[1]:
            raise RunError(
                f"`{self.folder.name}` began with teachers of other weights than those here. "
                "Put their runs back, or remove this unfinished run and train it anew."
            )
        self._note_other_place(begun.environment)

    def _note_other_place(self, begun: Environment) -> None:
        """Say if a run goes on with other machine code, other software or on another machine."""
        used = self.record.environment
        if begun.build != used.build:
            before = begun.build.get("compiler", "a compiler that was not noted")
            self._note(
                f"This run began with a library built by {before} and goes on with one by "
                f"{used.build.get('compiler')}: its bits differ from those of a run in one go. "
                f"For these, remove it with `smidgen runs rm {self.folder.name}` and train it anew."
            )
        # its threads differ only where they change no bits
        elif replace(begun, threads=used.threads) != used:
            self._note(
                "This run began with other software or on another machine; its bits may differ "
                "from those of a run in one go."
            )

    def _note(self, text: str) -> None:
        self.on_event(Note(text))

    def _epoch(
        self, engine: Engine, epoch: int, progress: Progress, stop: StopRequest
    ) -> EpochRecord:
        history = history_of(progress.epochs)
        planned = plan(self.recipe, self.record.seed, epoch, history, len(self.splits.train))
        start = time.perf_counter()
        planned = self._taught(planned, stop)
        stats = self._train(engine, planned, stop)
        trained = time.perf_counter()
        evaluation = self._evaluate(engine, planned)
        return EpochRecord(
            epoch=epoch,
            train_loss=stats.loss,
            train_accuracy=stats.accuracy,
            split=self.splits.each_epoch_name,
            eval_loss=evaluation.loss,
            eval_accuracy=evaluation.accuracy,
            eval_num_errors=evaluation.num_errors,
            train_seconds=trained - start,
            eval_seconds=time.perf_counter() - trained,
            images_per_second=stats.num_images / (trained - start),
            lr_first=float(planned.lr[0]),
            lr_last=float(planned.lr[-1]),
        )

    def _taught(self, planned: EpochPlan, stop: StopRequest) -> EpochPlan:
        if self._teachers is None:
            return planned
        targets = self._teachers.targets(planned, stop)
        if targets is None:
            self._stop_within(planned, stop)
        return replace(planned, targets=targets)

    def _train(self, engine: Engine, planned: EpochPlan, stop: StopRequest) -> EpochStats:
        def should_stop() -> bool:
            done = engine.steps_done
            lr = float(planned.lr[max(done - 1, 0)])
            self.on_event(Stepped(done, planned.num_steps, lr))
            return stop()

        try:
            stats = engine.train_epoch(planned, should_stop)
        except NonFiniteError as error:
            found = engine.first_not_finite(planned, error.step)
            first = found or "nothing (the batch is finite when run again)"
            raise NonFiniteError(
                f"Training met a number that is not finite in epoch {planned.epoch}, step "
                f"{error.step + 1} of {planned.num_steps}, first in {first} (learning rate "
                f"{planned.lr[error.step]:g}). Try a lower `optimizer.lr`.",
                error.step,
            ) from error
        if stats.stopped or stop():
            self._stop_within(planned, stop)
        return stats

    def _evaluate(self, engine: Engine, planned: EpochPlan) -> Evaluation:
        split = self.splits.each_epoch
        logits = engine.logits(split.images, "eval", self.weights)
        if not np.isfinite(logits).all():
            raise NonFiniteError(
                f"The class scores after epoch {planned.epoch} are not finite, though its loss "
                f"was; {_saved(planned.epoch - 1)}. Try a lower `optimizer.lr`.",
                planned.num_steps - 1,
            )
        return evaluate(logits, split.labels)

    def _stop_within(self, planned: EpochPlan, stop: StopRequest) -> NoReturn:
        self._interrupt(stop, f"Stopped in epoch {planned.epoch}; {_saved(planned.epoch - 1)}.")

    def _interrupt(self, stop: StopRequest, what: str) -> NoReturn:
        advice = f"Continue with `smidgen train --resume {self.folder.name}`."
        raise InterruptedRunError(f"{what} {advice}", stop.signal_number or signal.SIGTERM)

    def _finish(self, engine: Engine, progress: Progress) -> RunRecord:
        epochs = progress.epochs
        chosen = len(epochs) - 1
        if self.splits.selects_on_test:
            chosen = best_index(epochs)
            restore_best(self.folder, engine, progress)
        logits = engine.logits(self.splits.end.images, "eval", self.weights)
        self._write_tensors(engine, logits)
        measured = evaluate(logits, self.splits.end.labels)
        finished = replace(
            self.record,
            epochs=epochs,
            result=result_of(epochs, self.splits, chosen, measured),
            train_seconds=sum(epoch.train_seconds for epoch in epochs),
            wall_seconds=self._wall_seconds(),
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
        labels = self.splits.end.labels
        save_tensors(
            self.folder.path / "predictions.safetensors", {"logits": logits, "labels": labels}
        )

    def _wall_seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started


def _saved(epoch: int) -> str:
    return f"epoch {epoch} is saved" if epoch else "no epoch is saved yet"

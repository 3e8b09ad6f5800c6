import dataclasses
import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smidgen import files
from smidgen.data import Dataset
from smidgen.engines.torch_engine import TorchEngine
from smidgen.errors import InterruptedRunError, NonFiniteError, StorageError
from smidgen.recipes.parts import SGD, Constant, OriginProtocol, Plateau
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord, RunRecord
from smidgen.runs.store import RunFolder, RunStore
from smidgen.runs.tensors import Tensors
from smidgen.training import sitting
from smidgen.training.events import OnEvent, listen
from smidgen.training.run import Run, TrainOptions, train
from smidgen.training.sitting import stop_on_signal
from smidgen.training.splits import evaluate

TrainTiny = Callable[..., Run]

OPTIONS = TrainOptions(engine="torch", threads=1)
BEST_ON_TEST = OriginProtocol(None, "best_on_test")


class DiedError(Exception):
    """What stands for a crash."""


def digest(run: Run) -> str:
    """Return a hash over weights, predictions, last state and log of a run, without times."""
    found = hashlib.sha256()
    for name in ("model.safetensors", "predictions.safetensors"):
        found.update((run.folder.path / name).read_bytes())
    state, _ = run.folder.load_checkpoint(len(run.record.epochs))
    for name in sorted(state):
        found.update(name.encode() + state[name].tobytes())
    found.update(repr([epoch.without_times() for epoch in run.record.epochs]).encode())
    found.update(repr(run.record.result).encode())
    return found.hexdigest()


def same(a: Tensors, b: Tensors) -> bool:
    """Return whether two states are equal bit for bit."""
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def dying_after(epoch: int) -> OnEvent:
    """Return a listener that breaks off a run when an epoch has been saved."""

    def on_epoch(done: EpochRecord) -> None:
        if done.epoch == epoch:
            raise DiedError

    return listen(on_epoch=on_epoch)


def broken_off(
    recipe: Recipe, dataset: Dataset, root: Path, epoch: int, options: TrainOptions = OPTIONS
) -> RunFolder:
    """Return the folder of a run that was broken off after an epoch."""
    with pytest.raises(DiedError):
        train(recipe, dataset, RunStore(root), 1, options, dying_after(epoch))
    (folder,) = RunStore(root).folders()
    assert not folder.is_finished
    return folder


def test_twice_the_same_bits(tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path) -> None:
    """The same recipe, seed, engine and threads give the same bits, another seed others."""
    first, again, other = (
        train(tiny_recipe, stripes, RunStore(tmp_path / name), seed, OPTIONS)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )

    assert digest(first) == digest(again) != digest(other)
    timeless = [
        dataclasses.replace(
            run.record,
            epochs=(),
            result=None,
            train_seconds=0.0,
            wall_seconds=0.0,
            started="",
            files={k: v for k, v in run.record.files.items() if not k.startswith("checkpoint")},
        )
        for run in (first, again)
    ]
    assert timeless[0] == timeless[1]
    assert first.record.result == again.record.result
    assert first.folder.name == again.folder.name != other.folder.name


FRESH = """
import sys
from pathlib import Path
from smidgen.data import draw_stripes
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunStore
from smidgen.training.run import TrainOptions, train
options = TrainOptions(engine="torch", threads=1)
recipe, store = Recipe.from_json(sys.argv[1]), RunStore(Path(sys.argv[2]))
print(train(recipe, draw_stripes(120, 40), store, 1, options).folder.path)
"""


def test_a_fresh_process_gives_the_same_bits(
    train_tiny: TrainTiny, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """Another process, with another hash seed, writes the same weights and predictions."""
    here = train_tiny()

    done = subprocess.run(
        [sys.executable, "-c", FRESH, tiny_recipe.to_json(), str(tmp_path / "fresh")],
        env=os.environ | {"PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )

    folder = RunFolder(Path(done.stdout.strip()))
    assert digest(Run(folder, folder.record())) == digest(here)


def test_the_record_says_what_happened(train_tiny: TrainTiny, stripes: Dataset) -> None:
    """Epochs, times, rates and counts are kept, and agree with the files beside the record."""
    run = train_tiny()
    record = run.record

    assert run.folder.record() == record
    assert [epoch.epoch for epoch in record.epochs] == [1, 2, 3]
    assert record.train_seconds == pytest.approx(sum(e.train_seconds for e in record.epochs))
    parts = sum(e.train_seconds + e.eval_seconds for e in record.epochs)
    assert record.wall_seconds >= parts
    for epoch in record.epochs:
        assert epoch.eval_accuracy == (40 - epoch.eval_num_errors) / 40
        assert epoch.images_per_second == pytest.approx(120 / epoch.train_seconds)
    assert record.epochs[0].lr_first == pytest.approx(0.02 / 25)
    assert record.epochs[-1].lr_last == pytest.approx(0.02 / 25 / 1e4)
    assert (record.data.num_train, record.data.num_valid, record.data.num_test) == (120, 0, 40)
    assert record.data.sha256 == stripes.sha256
    assert record.files == run.folder.hashes()
    assert record.files.keys() == {
        "model.safetensors",
        "predictions.safetensors",
        "checkpoint-0002.safetensors",
        "checkpoint-0003.safetensors",
    }


def test_the_result_is_that_of_the_saved_weights(train_tiny: TrainTiny, stripes: Dataset) -> None:
    """Predictions, result and last epoch agree, and the averaged weights give them."""
    run = train_tiny()
    result, last = run.record.result, run.record.epochs[-1]
    assert result is not None

    predictions = run.folder.predictions()
    measured = evaluate(predictions["logits"], predictions["labels"])

    assert (predictions["labels"] == stripes.test.labels).all()
    assert measured.num_errors == result.num_errors == last.eval_num_errors
    assert (measured.loss, measured.accuracy) == (last.eval_loss, last.eval_accuracy)
    state, _ = run.folder.load_checkpoint(3)
    assert same(run.folder.model(), {n: state[f"ema/{n}"] for n in run.folder.model()})


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("protocol", ["final", "tune", "origin"])
def test_a_broken_off_run_is_continued(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, epoch: int, protocol: Any
) -> None:
    """Beginning the same run again goes on after its last epoch and ends with the same bits."""
    options = dataclasses.replace(OPTIONS, protocol=protocol)
    whole = train(tiny_recipe, stripes, RunStore(tmp_path / "whole"), 1, options)
    folder = broken_off(tiny_recipe, stripes, tmp_path / "runs", epoch, options)
    began = folder.record().started
    seen: list[int] = []
    starts: list[RunRecord] = []
    listener = listen(starts.append, on_epoch=lambda done: seen.append(done.epoch))

    run = train(tiny_recipe, stripes, RunStore(tmp_path / "runs"), 1, options, listener)

    assert digest(run) == digest(whole)
    assert seen == list(range(epoch + 1, 4))
    assert [done.epoch for done in starts[0].epochs] == list(range(1, epoch + 1))
    assert run.record.started == began
    assert run.folder.name == whole.folder.name


def test_wall_time_adds_up_over_sittings(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """A second sitting counts on from the time that the first one's checkpoint says."""
    folder = broken_off(tiny_recipe, stripes, tmp_path, 2)
    before = float(folder.load_checkpoint(2)[1]["wall_seconds"])

    run = train(tiny_recipe, stripes, RunStore(tmp_path), 1, OPTIONS)

    parts = sum(e.train_seconds + e.eval_seconds for e in run.record.epochs)
    last = run.record.epochs[-1]
    assert before > 0
    assert run.record.wall_seconds >= before + last.train_seconds + last.eval_seconds
    assert run.record.wall_seconds >= parts


def damage(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(("damaged", "redone"), [([2], [2, 3]), ([1, 2], [1, 2, 3]), ([1], [3])])
def test_a_damaged_checkpoint_goes_back(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, damaged: list[int], redone: list[int]
) -> None:
    """The newest whole checkpoint is used, a note says so, and the bits come out the same."""
    whole = train(tiny_recipe, stripes, RunStore(tmp_path / "whole"), 1, OPTIONS)
    folder = broken_off(tiny_recipe, stripes, tmp_path / "runs", 2)
    for epoch in damaged:
        damage(folder.path / f"checkpoint-{epoch:04d}.safetensors")
    notes: list[str] = []
    seen: list[int] = []
    listener = listen(on_note=notes.append, on_epoch=lambda done: seen.append(done.epoch))

    run = train(tiny_recipe, stripes, RunStore(tmp_path / "runs"), 1, OPTIONS, listener)

    used = [epoch for epoch in (2, 1) if epoch in damaged][: 3 - redone[0]]
    assert seen == redone
    assert [note.split(":")[0] for note in notes] == [f"Going back before epoch {e}" for e in used]
    assert all("is damaged" in note for note in notes)
    assert digest(run) == digest(whole)


def test_a_checkpoint_of_another_run_is_not_used(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """A whole checkpoint that was copied in from elsewhere is passed over with a note."""
    other = train(tiny_recipe, stripes, RunStore(tmp_path / "other"), 2, OPTIONS)
    folder = broken_off(tiny_recipe, stripes, tmp_path / "runs", 1)
    name = "checkpoint-0002.safetensors"
    (folder.path / name).write_bytes((other.folder.path / name).read_bytes())
    notes: list[str] = []

    run = train(
        tiny_recipe,
        stripes,
        RunStore(tmp_path / "runs"),
        1,
        OPTIONS,
        listen(on_note=notes.append),
    )

    assert notes == [
        f"Going back before epoch 2: checkpoint 2 in `{folder.path}` belongs to another run."
    ]
    assert [epoch.epoch for epoch in run.record.epochs] == [1, 2, 3]


def test_a_damaged_record_of_an_unfinished_run_is_written_again(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """Beginning the same run again needs only the checkpoints."""
    folder = broken_off(tiny_recipe, stripes, tmp_path, 2)
    damage(folder.path / "record.json")
    seen: list[int] = []

    train(
        tiny_recipe,
        stripes,
        RunStore(tmp_path),
        1,
        OPTIONS,
        listen(on_epoch=lambda done: seen.append(done.epoch)),
    )

    assert seen == [3]


def test_another_build_is_told_with_what_to_do(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that began with one library goes on with another one, but not in silence."""
    folder = broken_off(tiny_recipe, stripes, tmp_path, 1)
    used = {"compiler": "gcc, gcc 12", "sha256": "ab"}
    environment = dataclasses.replace(folder.record().environment, build=used)
    folder.save_record(dataclasses.replace(folder.record(), environment=environment))
    notes: list[str] = []

    train(tiny_recipe, stripes, RunStore(tmp_path), 1, OPTIONS, listen(on_note=notes.append))

    assert len(notes) == 1
    assert notes[0].startswith("This run began with a library built by gcc, gcc 12 and goes on ")
    assert notes[0].endswith(f"remove it with `smidgen runs rm {folder.name}` and train it anew.")


def test_a_native_run_tells_its_lanes_and_its_build(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """Lanes are part of the identity; the record has compiler and SHA-256 of the library."""
    first, other = (
        train(
            tiny_recipe.replace(epochs=1),
            stripes,
            RunStore(tmp_path),
            1,
            TrainOptions(engine="native", threads=1, lanes=lanes),
        ).record
        for lanes in (4, 1)
    )

    assert (first.environment.lanes, other.environment.lanes) == (4, 1)
    assert first.spec.lanes == 4
    assert first.identity != other.identity
    assert len(bytes.fromhex(first.environment.build["sha256"])) == 32
    assert first.environment.build["compiler"]


def test_another_machine_is_noted(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continuing where versions or hardware differ says that bits may differ."""
    broken_off(tiny_recipe, stripes, tmp_path, 1)
    read = RunFolder.record

    def moved(self: RunFolder) -> RunRecord:
        record = read(self)
        used = dataclasses.replace(record.environment, hardware={"processor": "other"})
        return dataclasses.replace(record, environment=used)

    monkeypatch.setattr(RunFolder, "record", moved)
    notes: list[str] = []

    train(tiny_recipe, stripes, RunStore(tmp_path), 1, OPTIONS, listen(on_note=notes.append))

    assert notes == [
        "This run began with other software or on another machine; its bits may differ from "
        "those of a run in one go."
    ]


def scripted(accuracies: list[int]) -> Callable[..., Any]:
    """Return an `evaluate` that gives so many errors after each epoch, whatever the scores."""
    left = iter(accuracies)

    def measured(logits: np.ndarray, labels: np.ndarray) -> Any:
        return dataclasses.replace(evaluate(logits, labels), num_errors=next(left))

    return measured


@pytest.mark.parametrize(
    ("errors", "epoch"), [([5, 2, 3], 2), ([5, 2, 2], 2), ([1, 2, 3], 1), ([3, 2, 1], 3)]
)
@pytest.mark.parametrize("pause", [None, 1, 2, 3])
def test_an_origin_ends_with_its_best_epoch(
    tiny_recipe: Recipe,
    stripes: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    errors: list[int],
    epoch: int,
    pause: int | None,
) -> None:
    """The weights are those after the first best epoch, also after a break anywhere."""
    options = dataclasses.replace(OPTIONS, protocol="origin")
    recipe = tiny_recipe.replace(origin=BEST_ON_TEST)
    states: dict[int, Tensors] = {}
    save = sitting.save_checkpoint

    def noted(folder: Any, engine: Any, record: Any, progress: Any, keeps_best: bool) -> None:
        states[len(progress.epochs)] = engine.state()
        save(folder, engine, record, progress, keeps_best)

    monkeypatch.setattr(sitting, "save_checkpoint", noted)
    monkeypatch.setattr(sitting, "evaluate", scripted([*errors, min(errors)]))

    if pause is not None:
        broken_off(recipe, stripes, tmp_path, pause, options)
    run = train(recipe, stripes, RunStore(tmp_path), 1, options)

    assert run.record.result is not None
    assert run.record.result.epoch == epoch
    assert run.record.result.selection == "selected on the test set"
    assert same(run.folder.tensors("best.safetensors"), states[epoch])
    model = run.folder.model()
    assert same(model, {name: states[epoch][f"ema/{name}"] for name in model})
    assert "selected on the test set" in (run.folder.path / "record.json").read_text()


def test_a_lost_best_state_starts_over(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """Where the best epoch's state is damaged, checkpoints alone are not enough."""
    options = dataclasses.replace(OPTIONS, protocol="origin")
    recipe = tiny_recipe.replace(origin=BEST_ON_TEST)
    whole = train(recipe, stripes, RunStore(tmp_path / "whole"), 1, options)
    folder = broken_off(recipe, stripes, tmp_path / "runs", 2, options)
    damage(folder.path / "best.safetensors")
    notes: list[str] = []

    run = train(
        recipe, stripes, RunStore(tmp_path / "runs"), 1, options, listen(on_note=notes.append)
    )

    assert len(notes) == 2
    assert all("best.safetensors" in note for note in notes)
    assert digest(run) == digest(whole)


def test_plans_never_see_the_test_accuracy(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plateau rule reads validation accuracy, or where there is none training accuracy."""
    recipe = tiny_recipe.replace(
        schedule=Plateau(2.0), optimizer=SGD(0.02), origin=OriginProtocol(90, "last")
    )
    plan, handed = sitting.plan, []

    def noted(recipe: Any, seed: int, epoch: int, history: list[float], count: int) -> Any:
        handed.append(list(history))
        return plan(recipe, seed, epoch, history, count)

    monkeypatch.setattr(sitting, "plan", noted)
    for protocol in ("final", "tune", "origin"):
        handed.clear()
        options = dataclasses.replace(OPTIONS, protocol=protocol)
        epochs = train(recipe, stripes, RunStore(tmp_path), 1, options).record.epochs

        assert [epoch.split for epoch in epochs] == ["test" if protocol == "final" else "valid"] * 3
        read = "train_accuracy" if protocol == "final" else "eval_accuracy"
        history = [getattr(epoch, read) for epoch in epochs]
        assert handed == [[], history[:1], history[:2]]


def test_a_signal_between_epochs_stops(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """A signal that comes while an epoch is measured stops the run after it, even the last."""
    for epoch in (1, 3):

        def on_epoch(done: EpochRecord, epoch: int = epoch) -> None:
            if done.epoch == epoch:
                os.kill(os.getpid(), 15)

        with pytest.raises(InterruptedRunError) as caught:
            train(tiny_recipe, stripes, RunStore(tmp_path), 1, OPTIONS, listen(on_epoch=on_epoch))

        assert caught.value.exit_code == 143
        assert re.fullmatch(
            rf"Stopped after epoch {epoch}, which is saved\. "
            r"Continue with `smidgen train --resume tiny-s1-[0-9a-f]{8}`\.",
            str(caught.value),
        )
    assert train(tiny_recipe, stripes, RunStore(tmp_path), 1, OPTIONS).record.result is not None


def test_steps_are_reported(tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path) -> None:
    """A progress bar hears of every step of every epoch."""
    steps: list[tuple[int, int]] = []
    listener = listen(on_step=lambda done, total: steps.append((done, total)))

    train(tiny_recipe, stripes, RunStore(tmp_path), 1, OPTIONS, listener)

    assert steps == [(step, 4) for _ in range(3) for step in range(4)]


def test_an_absurd_rate_names_the_layer(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """The line says epoch, step, the first layer that broke, and the rate."""
    recipe = tiny_recipe.replace(optimizer=SGD(1e30), schedule=Constant())

    with pytest.raises(NonFiniteError) as caught:
        train(recipe, stripes, RunStore(tmp_path), 1, OPTIONS)

    match = re.fullmatch(
        r"Training met a number that is not finite in epoch 1, step (\d) of 4, first in `(\w+)` "
        r"\(learning rate 1e\+30\)\. Try a lower `optimizer\.lr`\.",
        str(caught.value),
    )
    assert match is not None
    assert int(match[1]) - 1 == caught.value.step


def test_a_broken_epoch_leaves_the_one_before(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN in a later epoch leaves the checkpoint from before that epoch."""
    train_step = TorchEngine._train_step

    def breaking(self: TorchEngine, plan: Any, step: int, *more: Any) -> Any:
        if plan.epoch == 2 and step == 1:
            self._tensors["conv2.weight"].detach()[0] = float("nan")
        return train_step(self, plan, step, *more)

    monkeypatch.setattr(TorchEngine, "_train_step", breaking)

    with pytest.raises(NonFiniteError) as caught:
        train(tiny_recipe, stripes, RunStore(tmp_path), 1, OPTIONS)

    (folder,) = RunStore(tmp_path).folders()
    assert "in epoch 2, step 2 of 4, first in `conv2` " in str(caught.value)
    assert folder.checkpoints() == [1]


def test_scores_that_are_not_finite_are_no_result(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """A last step that ruins the weights is noticed when they are measured."""
    recipe = tiny_recipe.replace(optimizer=SGD(1e38), schedule=Constant(), batch_size=120)

    with pytest.raises(NonFiniteError) as caught:
        train(recipe, stripes, RunStore(tmp_path), 1, OPTIONS)

    assert str(caught.value) == (
        "The class scores after epoch 1 are not finite, though its loss was; no epoch is saved "
        "yet. Try a lower `optimizer.lr`."
    )
    (folder,) = RunStore(tmp_path).folders()
    assert folder.checkpoints() == []


def fill_disk(patch: pytest.MonkeyPatch, kind: str, number: int) -> None:
    """Let the disk be full at the n-th call of a kind, and from then on."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise OSError(errno.ENOSPC, "No space left on device")

    if kind == "write":

        def opened(path: Any, mode: str) -> Any:
            if mode != "rb":
                count()
            return open(path, mode)

        patch.setattr(files, "open", opened, raising=False)
        return
    call = getattr(os, kind)

    def failing(*arguments: Any) -> Any:
        count()
        return call(*arguments)

    patch.setattr(os, kind, failing)


@pytest.mark.parametrize("kind", ["write", "fsync", "replace"])
def test_a_full_disk_loses_nothing(
    tiny_recipe: Recipe,
    stripes: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """Whichever write fails, one clear line comes, earlier epochs stay, and the run resumes."""
    recipe = tiny_recipe.replace(epochs=2, averaging=None)
    whole = train(recipe, stripes, RunStore(tmp_path / "whole"), 1, OPTIONS)
    failures = 0
    while True:
        store = RunStore(tmp_path / f"{kind}{failures}")
        saved: list[int] = []
        listener = listen(on_epoch=lambda done, saved=saved: saved.append(done.epoch))
        message = ""
        with monkeypatch.context() as patch:
            fill_disk(patch, kind, failures + 1)
            try:
                run = train(recipe, stripes, store, 1, OPTIONS, listener)
            except StorageError as error:
                message = str(error)
        if not message:
            break
        failures += 1
        assert re.fullmatch(
            r"Cannot write `[^`]+`: no space left on the device\. "
            r"Free some space or choose another folder\.",
            message,
        )
        kept = [epoch for folder in store.folders() for epoch in folder.checkpoints()]
        assert set(kept) >= set(saved)
        assert not list(store.root.rglob("*.partial/.*.partial"))

        assert digest(train(recipe, stripes, store, 1, OPTIONS)) == digest(whole)
    assert digest(run) == digest(whole)
    assert failures >= 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop(number: signal.Signals) -> None:
    """A signal inside the body is remembered and ends nothing by itself."""
    with stop_on_signal() as stop:
        assert not stop()
        os.kill(os.getpid(), number)

        assert stop()
        assert stop.signal_number == number


def test_the_next_signal_is_left_to_the_system() -> None:
    """After the first signal both have their default effect, which ends a process."""
    with stop_on_signal():
        os.kill(os.getpid(), signal.SIGTERM)

        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("interrupted", [False, True])
def test_handlers_come_back(interrupted: bool) -> None:
    """Afterwards every signal does what it did before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    with stop_on_signal():
        if interrupted:
            os.kill(os.getpid(), signal.SIGINT)

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_ignored_signal_stays_ignored() -> None:
    """Under `nohup` and in background jobs of a shell SIGINT does not stop a run."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop()
            os.kill(os.getpid(), signal.SIGTERM)

            assert stop.signal_number == signal.SIGTERM
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone() -> None:
    """Outside the main thread, where handlers cannot be set, the body runs without them."""
    before, found = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with stop_on_signal() as stop:
            found.append((stop(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert found == [(False, before)]

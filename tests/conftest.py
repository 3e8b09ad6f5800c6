"""What every test gets: one torch thread, a clean environment, no network beyond loopback."""

import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smidgen.choices import EngineChoice
from smidgen.data import Dataset, draw_stripes
from smidgen.network.layers import BatchNorm, Conv, Dense, Dropout, Flatten, GlobalAvgPool, ReLU
from smidgen.network.network import Network
from smidgen.recipes.augmentation import Augmentation, Rotation, Translation
from smidgen.recipes.parts import Adam, OneCycle, WeightAveraging
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import (
    DataUsed,
    Environment,
    EpochRecord,
    Protocol,
    Result,
    RunRecord,
)
from smidgen.runs.store import RunFolder, RunStore, run_name
from smidgen.runs.tensors import save_tensors
from smidgen.training.run import Run, TrainOptions, train

os.environ["OMP_NUM_THREADS"] = "1"  # tiny tensors make threads wait for each other

_DATA_AT_START = os.environ.get("SMIDGEN_DATA", "")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(scope="session", autouse=True)
def quick_compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """Set and give a command that compiles without optimization, in a quarter of the time.

    What tests compile runs for moments. The flag is an argument of the command, so that what it
    makes has keys of its own in the user's cache; it comes last, so that it wins.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform == "win32":
        yield None
        return
    path = tmp_path_factory.mktemp("compiler") / "quick-cc"
    path.write_text(f'#!/bin/sh\nlast=$1\nshift\nexec {shlex.quote(compiler)} "$@" "$last"\n')
    path.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:  # for what is made before the first test, too
        patch.setenv("SMIDGEN_CC", f"{path} -O0")
        yield f"{path} -O0"


@pytest.fixture(autouse=True)
def _clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quick_compiler: str | None
) -> None:
    """Keep the user's own settings and folders out of every test; compile quickly."""
    for name in ("SMIDGEN_DATA", "SMIDGEN_RUNS", "SMIDGEN_MIRROR", "SMIDGEN_CC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SMIDGEN_RUNS", str(tmp_path / "runs"))
    if quick_compiler is not None:
        monkeypatch.setenv("SMIDGEN_CC", quick_compiler)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail any connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> object:
        if isinstance(address, tuple) and address[0] not in _LOOPBACK:
            raise AssertionError(f"a test tried to reach {address[0]}")
        return connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """Return the folder with the four MNIST files, from the setting a user has, or skip."""
    folder = _DATA_AT_START
    if not folder or not list(Path(folder).glob("**/train-images-idx3-ubyte*")):
        pytest.skip("SMIDGEN_DATA names no folder with the MNIST files")
    return Path(folder)


@pytest.fixture(scope="session")
def stripes() -> Dataset:
    """Return 120 drawn training images and 40 test images of 10 classes."""
    return draw_stripes(num_train=120, num_test=40)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """Return three epochs of four steps with something of everything: it trains in moments."""
    layers = (
        Conv(6, 3, stride=2),
        BatchNorm(),
        ReLU(),
        Dropout(0.1),
        Conv(8, 3, stride=2, bias=True),
        ReLU(),
        BatchNorm(),
        GlobalAvgPool(),
        Flatten(),
        Dense(10),
    )
    return Recipe(
        name="tiny",
        network=Network(layers),
        dataset="stripes",
        optimizer=Adam(lr=0.02),
        schedule=OneCycle(),
        augmentation=Augmentation((Rotation(5.0), Translation(1.0))),
        averaging=WeightAveraging(0.9),
        batch_size=32,
        epochs=3,
    )


@pytest.fixture
def make_run(tiny_recipe: Recipe, tmp_path: Path) -> Callable[..., RunFolder]:
    """Return a function that writes a finished run nobody trained, into `tmp_path/runs`.

    Its arguments: the images of 40 that are wrong at the end, the numbers of errors after each
    epoch before, and what else of the record shall differ.
    """

    def made(
        seed: int = 1,
        wrong: Sequence[int] = (0,),
        errors_before: Sequence[int] = (9, 8),
        finish: bool = True,
        engine: str = "torch",
        data_sha256: str = "5" * 64,
        dataset: str = "stripes",
        name: str = "tiny",
        **changes: Any,
    ) -> RunFolder:
        store = RunStore(tmp_path / "runs")
        record = finished_record(tiny_recipe.replace(name=name), seed, (*errors_before, len(wrong)))
        environment = replace(record.environment, engine=engine)
        data = replace(record.data, name=dataset, sha256=data_sha256)
        record = replace(record, environment=environment, data=data, **changes)
        identity = record.spec.identity
        folder = store.partial(run_name(name, seed, identity))
        logits = np.zeros((40, 10), np.float32)
        labels = np.arange(40) % 10
        given = np.where(np.isin(np.arange(40), wrong), (labels + 1) % 10, labels)
        logits[np.arange(40), given] = 1.0
        save_tensors(folder.path / "predictions.safetensors", {"logits": logits, "labels": labels})
        record = replace(record, identity=identity, files=folder.hashes())
        folder.save_record(record)
        return store.finish(folder, record) if finish else folder

    return made


@pytest.fixture
def add_field(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], str]:
    """Return a function that gives a value's class a field with the default 1: as if it grew.

    It returns the field's name; values of that class have 1 there until the class says otherwise.
    """

    def added(cls: Any) -> str:
        new = field(default=1, init=False)
        new.name = "came_later"
        new._field_type = fields(cls)[0]._field_type  # type: ignore[attr-defined]
        monkeypatch.setitem(cls.__dataclass_fields__, new.name, new)
        monkeypatch.setattr(cls, new.name, 1, raising=False)
        return new.name

    return added


def finished_record(recipe: Recipe, seed: int, errors: Sequence[int]) -> RunRecord:
    """Return the record of a run on 40 test images with so many errors after each epoch."""
    shares = [1 - count / 40 for count in errors]
    best = min(range(len(errors)), key=lambda place: errors[place])
    epochs = tuple(
        EpochRecord(
            place + 1, 0.5, 0.9, "test", 0.4, 1 - count / 40, count, 1.5, 0.5, 80.0, 0.1, 0.1
        )
        for place, count in enumerate(errors)
    )
    return RunRecord(
        recipe=recipe,
        fingerprint=recipe.fingerprint(),
        identity="0" * 64,
        seed=seed,
        protocol="final",
        environment=Environment("torch", "cpu", 1, {"smidgen": "0"}, {"processor": "a chip"}),
        data=DataUsed("stripes", "5" * 64, tuple("0123456789"), 120, 0, 40),
        num_params=600,
        num_macs=9_000,
        started=f"2026-01-01T00:00:{seed % 60:02d}+00:00",
        epochs=epochs,
        result=Result(
            split="test",
            accuracy=shares[-1],
            num_errors=errors[-1],
            num_images=40,
            epoch=len(errors),
            selection="last epoch",
            last_accuracy=shares[-1],
            mean_of_last_five=sum(shares[-5:]) / len(shares[-5:]),
            best_accuracy=shares[best],
            best_epoch=best + 1,
        ),
        train_seconds=1.5 * len(errors),
        wall_seconds=2.0 * len(errors),
    )


@pytest.fixture
def train_tiny(stripes: Dataset, tiny_recipe: Recipe, tmp_path: Path) -> Callable[..., Run]:
    """Return a function that trains the tiny recipe, changed as asked, into `tmp_path/runs`."""

    def trained(
        seed: int = 1,
        protocol: Protocol = "final",
        engine: EngineChoice = "torch",
        **changes: Any,
    ) -> Run:
        options = TrainOptions(protocol=protocol, engine=engine, threads=1)
        recipe = tiny_recipe.replace(**changes)
        return train(recipe, stripes, RunStore(tmp_path / "runs"), seed, options)

    return trained

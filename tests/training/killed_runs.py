"""Train a tiny run in forked processes that end themselves, and compare with an undisturbed one.

Started by `test_kills.py` as `python killed_runs.py FOLDER KIND...`; prints one JSON object:
for each kind of event how many processes died at one, and what went wrong; for `signals` how
each ended and what it said. Torch is imported once, before the forks, and computes only in the
children.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smidgen.data import Dataset, draw_stripes
from smidgen.engines.torch_engine import TorchEngine
from smidgen.network.layers import BatchNorm, Conv, Dense, Dropout, Flatten, GlobalAvgPool, ReLU
from smidgen.network.network import Network
from smidgen.recipes.augmentation import Augmentation, Rotation
from smidgen.recipes.parts import Adam, OneCycle, OriginProtocol, WeightAveraging
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.events import OnEvent, ignore, listen
from smidgen.training.run import TrainOptions, resume, train

EPOCHS = 3
OPTIONS = TrainOptions(protocol="origin", engine="torch", threads=1)
RECIPE = Recipe(
    name="tiny",
    network=Network(
        (
            Conv(4, 5, stride=3),
            BatchNorm(),
            ReLU(),
            Dropout(0.1),
            GlobalAvgPool(),
            Flatten(),
            Dense(10),
        )
    ),
    dataset="stripes",
    optimizer=Adam(lr=0.02),
    schedule=OneCycle(),
    augmentation=Augmentation((Rotation(5.0),)),
    averaging=WeightAveraging(0.5),
    batch_size=20,
    epochs=EPOCHS,
    origin=OriginProtocol(selection="best_on_test"),
)
DIED = 9


def main(folder: Path, kinds: list[str]) -> None:
    """Run everything and print what came of it."""
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])  # its first use imports much, once for all forks
    dataset = draw_stripes(num_train=50, num_test=20)
    whole = folder / "whole"
    assert in_child(lambda: begin(whole, dataset)) == 0
    expected = content_of(the_run(whole))
    found = {}
    for kind in kinds:
        if kind == "signals":
            found[kind] = [
                signalled(folder / f"{kind}{i}", case, dataset, expected)
                for i, case in enumerate(SIGNALS)
            ]
        else:
            found[kind] = kill_at_every(folder / kind, EVENTS[kind], dataset, expected)
    print(json.dumps(found))


def begin(root: Path, dataset: Dataset, listener: OnEvent | None = None) -> None:
    """Train the run, or what is left of it, into a folder of runs."""
    train(RECIPE, dataset, RunStore(root), 1, OPTIONS, listener or ignore)


def go_on(root: Path, dataset: Dataset) -> None:
    """Continue by name where the run can be found, else begin it."""
    folders = RunStore(root).folders()
    if folders:
        resume(folders[0], dataset)
    else:
        begin(root, dataset)


def in_child(work: Callable[[], None]) -> int:
    """Do something in a forked process; return its exit status, or minus the signal's number."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException as error:  # nothing of the parent's may run in the child
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_at_every(
    folder: Path, events: "Events", dataset: Dataset, expected: dict[str, Any]
) -> dict[str, Any]:
    """Let a process die at the k-th event, for every k, and another finish its run."""
    problems: list[str] = []
    number = 0
    while True:
        root = folder / str(number + 1)

        def doomed(root: Path = root, number: int = number) -> None:
            with events(number + 1) as listener:
                begin(root, dataset, listener)

        status = in_child(doomed)
        if status == 0:
            break
        number += 1
        if status not in (DIED, -signal.SIGKILL):
            problems.append(f"{number}: ended with {status}")
        if in_child(lambda root=root: go_on(root, dataset)) != 0:
            problems.append(f"{number}: could not be finished")
            continue
        problems += [f"{number}: {text}" for text in differences(root, expected)]
        shutil.rmtree(root)
    return {"deaths": number, "problems": problems}


SIGNALS = [
    (1, [signal.SIGINT]),
    (5, [signal.SIGINT]),
    (5, [signal.SIGTERM]),
    (9, [signal.SIGTERM]),
    (5, [signal.SIGINT, signal.SIGINT]),
    (5, [signal.SIGTERM, signal.SIGINT]),
]
"""At which of nine steps a process is sent which signals."""


def signalled(
    root: Path, case: tuple[int, list[int]], dataset: Dataset, expected: dict[str, Any]
) -> dict[str, Any]:
    """Send `smidgen train` signals, and continue it with `smidgen train --resume last`."""
    root.mkdir()
    (root / "tiny.json").write_text(RECIPE.to_json())
    arguments = [str(root / "tiny.json"), "--protocol", "origin", "--engine", "torch"]
    step, numbers = case

    def send() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)

    def interrupted() -> None:
        with before_call(step, TorchEngine, "_train_step", send):
            command_line(root, "first", [*arguments, "--threads", "1"], dataset)

    status = in_child(interrupted)
    again = in_child(lambda: command_line(root, "second", ["--resume", "last"], dataset))
    return {
        "status": status,
        "said": (root / "first").read_text().splitlines(),
        "resumed": again,
        "problems": differences(root / "runs", expected),
    }


def command_line(root: Path, name: str, arguments: list[str], dataset: Dataset) -> None:
    """Run `smidgen train` in this process, its standard error going into a file."""
    import smidgen.cli
    import smidgen.data

    smidgen.data.load_dataset = lambda *given, **more: dataset
    os.dup2(os.open(root / name, os.O_WRONLY | os.O_CREAT), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.argv = ["smidgen", "train", "--runs-dir", str(root / "runs"), *arguments]
    try:
        smidgen.cli.main()
    except SystemExit as ended:
        os._exit(int(ended.code or 0))


def the_run(root: Path) -> RunFolder:
    """Return the one finished run of a folder of runs."""
    (folder,) = RunStore(root).folders()
    assert folder.is_finished
    return folder


def content_of(folder: RunFolder) -> dict[str, Any]:
    """Return all that two runs of one identity must have in common."""
    record = folder.record()
    return {
        "model": folder.model(),
        "predictions": folder.predictions(),
        "best": folder.tensors("best.safetensors"),
        "checkpoint": folder.load_checkpoint(EPOCHS)[0],
        "before": folder.load_checkpoint(EPOCHS - 1)[0],
        "epochs": [epoch.without_times() for epoch in record.epochs],
        "result": record.result,
        "files": sorted(path.name for path in folder.path.iterdir()),
    }


def differences(root: Path, expected: dict[str, Any]) -> list[str]:
    """Return in what a finished run differs from the undisturbed one."""
    found = content_of(the_run(root))
    odd = [key for key in expected if not same(found[key], expected[key])]
    # a dead process leaves its lock file, which locks nothing
    known = {the_run(root).path.name, f".{the_run(root).name}.lock", ".identities"}
    beside = {path.name for path in root.iterdir()} - known
    return [*odd, *(f"left behind: {name}" for name in sorted(beside))]


def same(a: Any, b: Any) -> bool:
    """Return whether two values, or dictionaries of arrays, are equal bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return a == b


Events = Callable[[int], contextlib.AbstractContextManager[OnEvent | None]]


def countdown(number: int, die: Callable[[], None]) -> Callable[[], None]:
    """Return a function whose `number`-th call ends the process."""
    left = number

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    return count


def end_at_once() -> None:
    """End this process as a power failure would: nothing is cleaned up."""
    os._exit(DIED)


@contextlib.contextmanager
def before_call(
    number: int, owner: Any, name: str, happen: Callable[[], None] = end_at_once
) -> Iterator[None]:
    """Let something happen before the `number`-th call of a function."""
    call, count = getattr(owner, name), countdown(number, happen)

    def counted(*arguments: Any, **more: Any) -> Any:
        count()
        return call(*arguments, **more)

    setattr(owner, name, counted)
    yield


@contextlib.contextmanager
def after_replace(number: int) -> Iterator[None]:
    """End the process after the `number`-th rename, before its folder is synced."""
    call, count = os.replace, countdown(number, end_at_once)

    def counted(source: Any, target: Any) -> None:
        call(source, target)
        count()

    os.replace = counted  # type: ignore[assignment]
    yield


@contextlib.contextmanager
def at_epoch(number: int) -> Iterator[OnEvent]:
    """End the process when the `number`-th epoch has been saved."""
    count = countdown(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    yield listen(on_epoch=lambda epoch: count())


EVENTS: dict[str, Events] = {
    "fsync": lambda number: before_call(number, os, "fsync"),
    "replace": lambda number: before_call(number, os, "replace"),
    "replaced": after_replace,
    "step": lambda number: before_call(number, TorchEngine, "_train_step"),
    "epoch": at_epoch,
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

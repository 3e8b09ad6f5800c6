"""`train` and `resume`: recipe + data + engine -> run, from top to bottom."""

import hashlib
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from smidgen.data.dataset import Dataset
from smidgen.data.specs import FOLDER_NAME
from smidgen.engines.choose import EngineChoice, choose_engine, default_threads, native_lanes
from smidgen.errors import BudgetError, DataError, RecipeError, RunError
from smidgen.network.trace import trace
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import (
    RESULTS_VERSION,
    DataUsed,
    EngineName,
    Environment,
    Protocol,
    RunRecord,
    RunSpec,
    TeacherUsed,
    alike,
)
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.events import Began, Event, Note, OfTeacher, OnEvent, ignore
from smidgen.training.plan import tiny_rates
from smidgen.training.sitting import Sitting
from smidgen.training.splits import ProtocolSplits, splits_for


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What a person may wish for beside recipe and seed; `specify` makes a `RunSpec` of it.

    Args:
        protocol: `final` trains on all images and reports the last epoch on `test`; `tune`
            holds out `valid` and never opens `test`; `origin` does as the source did.
        engine: `auto` takes the native engine where it can run, else torch.
        device: A torch device; anything but `cpu` means the torch engine.
        threads: Cores to use; None for all of them, at most four.
        source: The Python file that the network was read from, to be kept with the run; it
            decides nothing.
        lanes: Images side by side in the native engine: 16, 8, 4 or 1; None for as many as
            this processor can. Other lanes give other bits.
    """

    protocol: Protocol = "final"
    engine: EngineChoice = "auto"
    device: str = "cpu"
    threads: int | None = None
    source: bytes = b""
    lanes: int | None = None


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
    on_event: OnEvent = ignore,
) -> Run:
    """Train one model, or continue where an interrupted run of the same identity stopped.

    Teachers that the store lacks are trained first, under the same protocol and with the same
    engine; their time is not part of this run's.

    The same recipe, data, seed, protocol and engine give the same bits: for torch with the same
    number of threads, for the native engine with the same lanes and the same compiled library. A
    finished run is never done again: it is returned as it is.

    Raises:
        SmidgenError: As `specify` and `make`.
    """
    options = options or TrainOptions()
    spec = specify(recipe, dataset, seed, options, on_event)
    threads = options.threads or default_threads()
    return make(spec, dataset, store, on_event, threads=threads, source=options.source)


def specify(
    recipe: Recipe,
    dataset: Dataset,
    seed: int = 1,
    options: TrainOptions | None = None,
    on_event: OnEvent = ignore,
) -> RunSpec:
    """Return what makes the run that a person wishes for; trains nothing.

    Raises:
        BudgetError: The network is larger, or trained longer, than its recipe promises.
        DataError: The images do not fit the network.
        EngineError: The engine asked for cannot run here, or not with so many lanes.
        RecipeError: Teachers under the `origin` protocol.
    """
    options = options or TrainOptions()
    _keep_budget(recipe)
    if recipe.distillation is not None and options.protocol == "origin":
        raise RecipeError(
            f"`{recipe.name}` learns from teachers, which no origin had: `--protocol origin` says "
            "nothing of the images that teachers may see. Use `final` or `tune`."
        )
    splits_for(options.protocol, recipe, dataset)  # says what does not fit
    engine, obstacle = choose_engine(recipe, options.engine, options.device)
    if obstacle:
        on_event(Note(f"Using the torch engine: {obstacle}."))
    is_torch = engine == "torch"
    return RunSpec(
        recipe,
        seed,
        protocol=options.protocol,
        engine=engine,
        data_sha256=dataset.sha256,
        device=options.device,
        threads=(options.threads or default_threads()) if is_torch else None,
        lanes=None if is_torch else native_lanes(options.lanes),
    )


def make(
    spec: RunSpec,
    dataset: Dataset,
    store: RunStore,
    on_event: OnEvent = ignore,
    *,
    threads: int = 1,
    source: bytes = b"",
    stop: Callable[[], bool] | None = None,
    folder: RunFolder | None = None,
) -> Run:
    """Train exactly this run, go on where it was cut short, or return it if it is there.

    Args:
        spec: What is trained.
        dataset: Its images.
        store: Where it goes, and where its teachers are.
        on_event: Told how it goes on.
        threads: Cores that the native engine may use; its bits do not depend on them.
        source: The Python file that the network was read from, to be kept with the run.
        stop: Asked at every step; None for SIGINT and SIGTERM where this is the main thread.
        folder: Where the unfinished run stands, if that is known.

    Raises:
        BudgetError: The network is larger, or trained longer, than its recipe promises.
        InUseError: Another process is training it.
        NonFiniteError: A loss or gradient was NaN or infinite.
        InterruptedRunError: It was to stop; the last finished epoch is saved.
        RunError: What is there in its place is damaged, or another run.
        StorageError: A file could not be written; the last finished epoch is saved.
    """
    _keep_budget(spec.recipe)
    with store.claim(spec, folder) as folder:
        if folder.is_finished:
            return Run(folder, _checked(folder, spec), was_there=True)
        teachers = _teachers(spec, dataset, store, on_event, threads)
        started = time.perf_counter()
        splits = splits_for(spec.protocol, spec.recipe, dataset)
        for line in tiny_rates(spec.recipe, len(splits.train)):
            on_event(Note(line))
        record = replace(blank_record(spec, dataset, splits, threads, source), teachers=teachers)
        sitting = Sitting(record, splits, folder, on_event, started, source, stop)
        finished = sitting.run()
        return Run(store.finish(folder, finished), finished)


def resume(
    folder: RunFolder,
    dataset: Dataset,
    on_event: OnEvent = ignore,
    threads: int | None = None,
) -> Run:
    """Continue an interrupted run where it stopped, bit for bit; a finished one is returned.

    Args:
        folder: Where the run stands; the finished one will stand beside it.
        dataset: The images it began with.
        on_event: Told how it goes on.
        threads: Cores to use; None for as many as it began with. The torch engine keeps those.

    Raises:
        DataError: These are not the images it began with.
        RunError: The record is damaged, or this version of smidgen, or so many threads, would
            give other numbers.
        SmidgenError: As `make`.
    """
    begun = folder.record()
    if folder.is_finished and begun.result is not None:
        return Run(folder, begun, was_there=True)
    if dataset.sha256 != begun.data.sha256:
        raise DataError(
            f"`{folder.name}` began with other images than these of `{dataset.name}`. "
            "Point `--data-dir` at the images it began with."
        )
    used = begun.environment
    if used.engine == "torch" and threads not in (None, used.threads):
        raise RunError(
            f"`{folder.name}` began on the torch engine, whose numbers depend on its threads: "
            f"{used.threads}, not {threads}. Leave `--threads` out."
        )
    if begun.results_version != RESULTS_VERSION:
        raise RunError(
            f"`{folder.name}` began with results version {begun.results_version} and this is "
            f"version {RESULTS_VERSION}: other numbers would come out. Train it anew."
        )
    store = RunStore(folder.path.resolve().parent)
    threads = threads or used.threads
    return make(begun.spec, dataset, store, on_event, threads=threads, folder=folder)


def _checked(folder: RunFolder, spec: RunSpec) -> RunRecord:
    """Return the record of a run that is there already."""
    try:
        record = folder.record()
    except RunError as error:
        raise RunError(folder.damage(error)) from error
    if record.seed != spec.seed or not alike(record.kind, spec.kind):
        raise RunError(f"`{folder.path}` is in the way: it holds another run. Move it.")
    return record


def _teachers(
    spec: RunSpec, dataset: Dataset, store: RunStore, on_event: OnEvent, threads: int
) -> tuple[TeacherUsed, ...]:
    """Return the runs that teach, those that are missing trained now."""
    used = []
    for recipe, seed in spec.recipe.distillation.runs() if spec.recipe.distillation else ():
        teacher = replace(spec, recipe=recipe, seed=seed)

        def told(event: Event, teacher: RunSpec = teacher) -> None:
            if isinstance(event, Began):
                on_event(Note(f"First the teacher `{teacher.recipe.name}`, seed {teacher.seed}."))
            on_event(OfTeacher(teacher, event))

        run = make(teacher, dataset, store, told, threads=threads)
        model = run.record.files["model.safetensors"]
        used.append(TeacherUsed(run.folder.name, recipe.name, seed, run.record.identity, model))
    return tuple(used)


def _keep_budget(recipe: Recipe) -> None:
    num_params = trace(recipe.network).totals.num_params
    for what, given, limit in recipe.budget.broken(num_params, recipe.epochs):
        raise BudgetError(
            f"`{recipe.name}` promises at most {limit:,} {what} and has {given:,}. "
            f"Make it smaller or raise `budget.max_{what.replace('parameters', 'params')}`."
        )


def blank_record(
    spec: RunSpec,
    dataset: Dataset,
    splits: ProtocolSplits,
    threads: int = 1,
    source: bytes = b"",
) -> RunRecord:
    """Return the record of a run before its first epoch; it names no teachers yet."""
    totals = trace(spec.recipe.network).totals
    is_folder = dataset.name == FOLDER_NAME  # other images are read in one way only
    data = DataUsed(
        dataset.name,
        dataset.sha256,
        dataset.class_names,
        len(splits.train),
        splits.num_valid,
        0 if spec.protocol == "tune" else len(dataset.test),
        dataset.invert if is_folder else None,
        dataset.fit if is_folder else None,
    )
    return RunRecord(
        recipe=spec.recipe,
        fingerprint=spec.recipe.fingerprint(),
        identity=spec.identity,
        seed=spec.seed,
        protocol=spec.protocol,
        environment=describe_environment(
            spec.engine, spec.device, spec.threads or threads, spec.lanes
        ),
        data=data,
        num_params=totals.num_params,
        num_macs=totals.num_macs,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        results_version=spec.results_version,
        source_sha256=hashlib.sha256(source).hexdigest() if source else "",
    )


def describe_environment(
    engine: EngineName, device: str, threads: int, lanes: int | None = None
) -> Environment:
    """Return what is worth knowing about this machine; imports torch only to name a GPU.

    Args:
        engine: What does the arithmetic.
        device: A torch device.
        threads: Cores that it uses.
        lanes: Images side by side in the native engine.
    """
    packages = ("smidgen", "numpy", *(("torch",) if engine == "torch" else ()))
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that was never installed
            versions[package] = "unknown"
    hardware = {
        "processor": _processor(),
        "cores": str(os.cpu_count() or 1),
        "machine": platform.machine(),
        "system": platform.system(),
    }
    if device != "cpu":
        hardware["gpu"] = _gpu(device)
    return Environment(engine, device, threads, versions, hardware, lanes)


def _gpu(device: str) -> str:
    import torch

    if not torch.cuda.is_available():
        return "none"
    try:
        return torch.cuda.get_device_name(device)
    except (ValueError, RuntimeError):  # no such device: making the engine will say so
        return "unknown"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"

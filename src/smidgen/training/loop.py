"""`train` and `resume`: recipe + data + engine -> run."""

import hashlib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from smidgen.data.dataset import Dataset
from smidgen.data.specs import FOLDER_NAME
from smidgen.engines.choose import EngineChoice, choose_engine, default_threads
from smidgen.errors import BudgetError, DataError, RecipeError, RunError
from smidgen.files import locked
from smidgen.network.trace import trace
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import (
    RESULTS_VERSION,
    DataUsed,
    Protocol,
    RunRecord,
    RunSpec,
    TeacherUsed,
    alike,
)
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.environment import describe_environment
from smidgen.training.listener import Listener
from smidgen.training.sitting import Sitting
from smidgen.training.splits import ProtocolSplits, splits_for


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What is chosen per run beside recipe and seed.

    Args:
        protocol: `final` trains on all images and reports the last epoch on `test`; `tune`
            holds out `valid` and never opens `test`; `origin` does as the source did.
        engine: `auto` takes the native engine where it can run, else torch.
        device: A torch device; anything but `cpu` means the torch engine.
        threads: Cores to use; None for all of them, at most four.
        source: The Python file that the network was read from, to be kept with the run; it
            decides nothing.
    """

    protocol: Protocol = "final"
    engine: EngineChoice = "auto"
    device: str = "cpu"
    threads: int | None = None
    source: bytes = b""


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

    Teachers that the store lacks are trained first, under the same protocol and with the same
    engine; their time is not part of this run's.

    The same recipe, data, seed, protocol and engine give the same bits (for torch: with the
    same number of threads). A finished run is never done again: it is returned as it is.

    Raises:
        BudgetError: The network is larger, or trained longer, than its recipe promises.
        DataError: The images do not fit the network.
        EngineError: The engine asked for cannot run here.
        NonFiniteError: A loss or gradient was NaN or infinite.
        RecipeError: Teachers under the `origin` protocol.
        InterruptedRunError: SIGINT or SIGTERM came; the last finished epoch is saved.
        StorageError: A file could not be written; the last finished epoch is saved.
    """
    options, listener = options or TrainOptions(), listener or Listener()
    started = time.perf_counter()
    record, splits = prepare(recipe, dataset, seed, options, listener)
    there = store.finished(record.spec)
    if there is not None:
        return _was_there(there, record.spec)
    if recipe.distillation is not None:
        record = _with_teachers(record, dataset, store, listener)
        started = time.perf_counter()
    folder = store.unfinished(record.spec)
    return _sit(store, folder, record, splits, listener, started, options.source)


def resume(
    folder: RunFolder,
    dataset: Dataset,
    listener: Listener | None = None,
    threads: int | None = None,
) -> Run:
    """Continue an interrupted run where it stopped, bit for bit; a finished one is returned.

    Args:
        folder: Where the run stands; the finished one will stand beside it.
        dataset: The images it began with.
        listener: Told how it goes on.
        threads: Cores to use; None for as many as it began with. The torch engine keeps those.

    Raises:
        DataError: These are not the images it began with.
        RunError: The record is damaged, or this version of smidgen, or so many threads, would
            give other numbers.
        SmidgenError: As `train`.
    """
    listener = listener or Listener()
    started = time.perf_counter()
    begun = folder.record()
    if folder.is_finished and begun.result is not None:
        return Run(folder, begun, was_there=True)
    if dataset.sha256 != begun.data.sha256:
        raise DataError(
            f"`{folder.name}` began with other images than these of `{dataset.name}`. "
            "Point `--data-dir` at the images it began with."
        )
    used = begun.environment
    threads = threads or used.threads
    if used.engine == "torch" and threads != used.threads:
        raise RunError(
            f"`{folder.name}` began on the torch engine, whose numbers depend on its threads: "
            f"{used.threads}, not {threads}. Leave `--threads` out."
        )
    options = TrainOptions(begun.protocol, used.engine, used.device, threads)
    record, splits = prepare(begun.recipe, dataset, begun.seed, options, listener)
    if record.identity != begun.identity:
        raise RunError(
            f"`{folder.name}` began with results version {begun.results_version} and this is "
            f"version {RESULTS_VERSION}: other numbers would come out. Train it anew."
        )
    store = RunStore(folder.path.resolve().parent)
    if record.recipe.distillation is not None:
        record = _with_teachers(record, dataset, store, listener)
        started = time.perf_counter()
    return _sit(store, folder, record, splits, listener, started)


def _with_teachers(
    record: RunRecord, dataset: Dataset, store: RunStore, listener: Listener
) -> RunRecord:
    """Return a record with the runs that teach, those that are missing trained now."""
    assert record.recipe.distillation is not None
    used = []
    for recipe, seed in record.recipe.distillation.runs():
        run = _teacher(recipe, seed, record, dataset, store, listener)
        model = run.record.files["model.safetensors"]
        used.append(TeacherUsed(run.folder.name, recipe.name, seed, run.record.identity, model))
    return replace(record, teachers=tuple(used))


def _teacher(
    recipe: Recipe,
    seed: int,
    student: RunRecord,
    dataset: Dataset,
    store: RunStore,
    listener: Listener,
) -> Run:
    told = listener.teacher or Listener(on_note=listener.on_note)

    def on_start(begun: RunRecord) -> None:
        listener.on_note(f"First the teacher `{recipe.name}`, seed {seed}.")
        told.on_start(begun)

    used = student.environment
    options = TrainOptions(student.protocol, used.engine, used.device, used.threads)
    return train(recipe, dataset, store, seed, options, replace(told, on_start=on_start))


def _sit(
    store: RunStore,
    folder: RunFolder,
    record: RunRecord,
    splits: ProtocolSplits,
    listener: Listener,
    started: float,
    source: bytes = b"",
) -> Run:
    with locked(
        store.lock_path(folder.name), wait=False, owner=f"The run `{folder.name}`", remove=True
    ):
        there = store.finished(record.spec)  # another process may have finished it just now
        if there is not None:
            return _was_there(there, record.spec)
        store.check_free(folder)
        finished = Sitting(record, splits, folder, listener, started, source).run()
        return Run(store.finish(folder, finished), finished)


def _was_there(folder: RunFolder, spec: RunSpec) -> Run:
    try:
        record = folder.record()
    except RunError as error:
        raise RunError(folder.damage(error)) from error
    if record.seed != spec.seed or not alike(record.kind, spec.kind):
        raise RunError(f"`{folder.path}` is in the way: it holds another run. Move it.")
    return Run(folder, record, was_there=True)


def prepare(
    recipe: Recipe, dataset: Dataset, seed: int, options: TrainOptions, listener: Listener
) -> tuple[RunRecord, ProtocolSplits]:
    """Return the record of a run before its first epoch, and its images; trains nothing.

    The record does not name the runs that teach yet.

    Raises:
        SmidgenError: As `train`, for what can be known before.
    """
    totals = trace(recipe.network).totals
    _keep_budget(recipe, totals.num_params)
    if recipe.distillation is not None and options.protocol == "origin":
        raise RecipeError(
            f"`{recipe.name}` learns from teachers, which no origin had: `--protocol origin` says "
            "nothing of the images that teachers may see. Use `final` or `tune`."
        )
    splits = splits_for(options.protocol, recipe, dataset)
    engine, obstacle = choose_engine(recipe, options.engine, options.device)
    if obstacle:
        listener.on_note(f"Using the torch engine: {obstacle}.")
    threads = options.threads or default_threads()
    environment = describe_environment(engine, options.device, threads)
    is_folder = dataset.name == FOLDER_NAME  # other images are read in one way only
    data = DataUsed(
        dataset.name,
        dataset.sha256,
        dataset.class_names,
        len(splits.train),
        splits.num_valid,
        0 if options.protocol == "tune" else len(dataset.test),
        dataset.invert if is_folder else None,
        dataset.fit if is_folder else None,
    )
    spec = RunSpec(
        recipe,
        seed,
        protocol=options.protocol,
        engine=engine,
        data_sha256=dataset.sha256,
        device=options.device,
        threads=threads if engine == "torch" else None,
    )
    record = RunRecord(
        recipe=recipe,
        fingerprint=spec.kind.fingerprint,
        identity=spec.identity,
        seed=seed,
        protocol=options.protocol,
        environment=environment,
        data=data,
        num_params=totals.num_params,
        num_macs=totals.num_macs,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        source_sha256=hashlib.sha256(options.source).hexdigest() if options.source else "",
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

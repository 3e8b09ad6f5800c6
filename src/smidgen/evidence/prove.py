"""`prove`: a recipe and many random seeds in, runs over all cores, one `Proof` out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from smidgen.cores import num_cores
from smidgen.data.dataset import Dataset
from smidgen.engines.choose import EngineChoice
from smidgen.errors import InterruptedRunError, RunError
from smidgen.evidence.limits import promised_target
from smidgen.evidence.proof import Proof, SeedFailure
from smidgen.evidence.statements import STAY_EPOCHS, proof_of, why_damaged
from smidgen.evidence.wording import failures_line
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import Protocol, RunRecord
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.interrupts import stop_on_signal
from smidgen.training.listener import Listener
from smidgen.training.loop import TrainOptions, prepare
from smidgen.work.jobs import Failed, Finished, Job, Message, Task
from smidgen.work.local import RunPool


@dataclass(frozen=True, slots=True)
class ProveOptions:
    """What is chosen beside recipe and seeds.

    Args:
        protocol: As in `TrainOptions`; a claim is made under `final`.
        engine: As in `TrainOptions`.
        device: A torch device.
        workers: Processes at once, one thread each; None for as many as there are cores.
        target: A share in (0, 1]; None for what the recipe promises of this data set, if anything.
        stay_epochs: How many last epochs must be at the target to stay there; at least 1.
        source: As in `TrainOptions`.
    """

    protocol: Protocol = "final"
    engine: EngineChoice = "auto"
    device: str = "cpu"
    workers: int | None = None
    target: float | None = None
    stay_epochs: int = STAY_EPOCHS
    source: bytes = b""

    def __post_init__(self) -> None:
        if self.target is not None and not 0.0 < self.target <= 1.0:
            raise RunError(f"`target` is a share above 0 and at most 1, not {self.target:g}.")
        if self.stay_epochs < 1:
            raise RunError(f"`stay_epochs` must be at least 1, not {self.stay_epochs}.")
        if self.workers is not None and self.workers < 1:
            raise RunError(f"`workers` must be at least 1, not {self.workers}.")


@dataclass(frozen=True, slots=True)
class ProveListener:
    """What is told how a proof goes on; every function may be left out.

    Args:
        on_start: Called once with the seeds that are there already, by seed the run's
            folder, and the seeds that are trained now.
        on_message: Called with what the processes tell, in the order it comes.
        on_note: Called with a line a person should read, such as which engine was chosen.
        on_teacher: Called before `on_start` with the recipe of teachers that are missing, and
            their seeds; messages about these seeds follow.
    """

    on_start: Callable[[dict[int, RunFolder], list[int]], None] = lambda there, missing: None
    on_message: Callable[[Message], None] = lambda message: None
    on_note: Callable[[str], None] = lambda text: None
    on_teacher: Callable[[Recipe, list[int]], None] = lambda recipe, seeds: None


def prove(
    recipe: Recipe,
    dataset: Dataset,
    store: RunStore,
    seeds: Sequence[int] = range(1, 21),
    options: ProveOptions | None = None,
    listener: ProveListener | None = None,
) -> Proof:
    """Train a recipe with many seeds, each on a core of its own, and state what they say.

    Seeds that are in the store are not trained again, and one that was cut short goes on where
    it stopped; so a proof that was killed is continued by asking for it again. Two proofs of
    one recipe at the same time share the work. A run in the store that is damaged fails its
    seed and is left as it is.

    Raises:
        RunError: No seeds, a seed twice, or not one seed that gave a run.
        InterruptedRunError: SIGINT or SIGTERM came; finished runs and epochs are saved.
        SmidgenError: As `train`, for what would stop every seed.
    """
    options, listener = options or ProveOptions(), listener or ProveListener()
    _check_seeds(seeds)
    chosen = TrainOptions(options.protocol, options.engine, options.device, 1, options.source)
    first, _ = prepare(recipe, dataset, seeds[0], chosen, Listener(on_note=listener.on_note))
    # as chosen here, so that no process chooses, and notes, anew
    chosen = replace(chosen, engine=first.environment.engine)
    there: dict[int, RunFolder] = {}
    damaged: list[SeedFailure] = []
    for seed in seeds:
        folder = store.finished(replace(first.spec, seed=seed))
        reason = "" if folder is None else why_damaged(folder)
        if reason:
            damaged.append(SeedFailure(seed, reason))
        elif folder is not None:
            there[seed] = folder
    missing = [seed for seed in seeds if seed not in {*there, *(each.seed for each in damaged)}]
    job, tasks = Job(dataset, store, chosen), [Task(recipe, seed) for seed in missing]
    num_workers = options.workers or num_cores()
    if missing:
        train_teachers(recipe, first, job, num_workers, listener)
    listener.on_start(there, missing)
    runs, failures = _train_all(job, tasks, num_workers, listener)
    failures = sorted([*damaged, *failures], key=lambda failure: failure.seed)
    if not there and not runs:
        raise RunError(f"No seed gave a run. {failures_line(failures)}")
    target = promised_target(recipe) if options.target is None else options.target
    proof = proof_of([*there.values(), *runs], target, options.stay_epochs, failures)
    # runs that are there may have been made under another name of the same recipe
    return replace(proof, recipe=recipe.name)


def train_teachers(
    recipe: Recipe, first: RunRecord, job: Job, num_workers: int, listener: ProveListener
) -> None:
    """Train the teachers of a recipe that the store lacks, and before them their own.

    Args:
        recipe: The student's; nothing happens if it has no teachers.
        first: A record of the student, as `prepare` gives it.
        job: The student's.
        num_workers: How many processes at once.
        listener: Told of each teacher's recipe, and what the processes tell.

    Raises:
        RunError: A teacher gave no run.
    """
    job = replace(job, options=replace(job.options, source=b""))  # which is the student's
    for teacher in recipe.distillation.teachers if recipe.distillation else ():
        missing = [
            seed
            for seed in teacher.seeds
            if job.store.finished(replace(first.spec, recipe=teacher.recipe, seed=seed)) is None
        ]
        if not missing:
            continue
        train_teachers(teacher.recipe, first, job, num_workers, listener)
        listener.on_teacher(teacher.recipe, missing)
        tasks = [Task(teacher.recipe, seed) for seed in missing]
        _, failures = _train_all(job, tasks, num_workers, listener)
        if failures:
            raise RunError(
                f"The teacher `{teacher.recipe.name}` with seed {failures[0].seed} gave no run: "
                f"{failures[0].reason}"
            )


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds:
        raise RunError("A proof needs at least one seed.")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if list(seeds).count(seed) > 1)
        raise RunError(f"Seed {twice} is named twice; a repeated seed proves nothing.")


def _train_all(
    job: Job, tasks: Sequence[Task], num_workers: int, listener: ProveListener
) -> tuple[list[RunFolder], list[SeedFailure]]:
    runs: list[RunFolder] = []
    failures: list[SeedFailure] = []
    with stop_on_signal() as stop:
        take = partial(next, iter(tasks), None)
        for _, message in RunPool(job, take, num_workers).run(stop):
            match message:
                case Finished():
                    runs.append(RunFolder(job.store.root / message.run))
                case Failed():
                    failures.append(SeedFailure(message.seed, message.reason, message.diverged))
            listener.on_message(message)
        if stop.signal_number is not None:
            raise InterruptedRunError(
                f"Stopped with {len(runs)} of {len(tasks)} missing runs finished; the finished "
                "epochs of the others are saved. The same command goes on from there.",
                stop.signal_number,
            )
    return runs, failures

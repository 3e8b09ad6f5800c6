"""One queue for all runs that somebody wants: what is there is taken, what is missing is made.

A recipe may learn from teachers; their runs come first, and theirs before them. A run begins as
soon as the runs that it needs are finished, whatever else is still under way.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from smidgen.cores import num_cores
from smidgen.errors import InterruptedRunError, RunError
from smidgen.runs.record import RunSpec, alike
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.run import Run
from smidgen.training.sitting import stop_on_signal
from smidgen.work.jobs import Job, Outcome, Place, RunEvent, Shared
from smidgen.work.local import Local


@dataclass(frozen=True, slots=True)
class Planned:
    """What a queue will do; told once, before it begins.

    Args:
        finished: Runs that are in the store; those that are damaged have a reason.
        missing: Runs that are made now, in order, teachers first.
        teachers: Those of `missing` that were not asked for, but learned from.
    """

    finished: tuple[Outcome, ...] = ()
    missing: tuple[RunSpec, ...] = ()
    teachers: tuple[RunSpec, ...] = ()


def make_runs(
    jobs: Sequence[Job],
    shared: Shared,
    on_event: Callable[[Planned | RunEvent | Outcome], None] = lambda event: None,
    workers: int | None = None,
    place: Place = Local,
) -> Iterator[Outcome]:
    """Yield how every run ended that is asked for: at once if it is in the store.

    Args:
        jobs: The runs, in the order in which they begin; one that is there twice is made once.
        shared: Their images, and where they go.
        on_event: Told what is planned, what happens, and how each run ended, teachers included.
        workers: How many at once; None for as many as there are cores.
        place: Where they are made.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM came; finished runs and epochs are saved.
        SmidgenError: No run at all can be made.
    """
    queue = _Queue(jobs, shared.store)
    on_event(queue.planned)
    yield from queue.planned.finished
    num_made, num_missing = 0, len(queue.planned.missing)
    if not num_missing:
        return
    with stop_on_signal() as stop:
        executor = place(shared, workers or num_cores())
        outcomes = executor.run(queue.next, on_event, stop)
        for outcome in (each for first in outcomes for each in queue.close(first)):
            num_made += outcome.run is not None
            on_event(outcome)
            if outcome.spec.identity in queue.asked:
                yield outcome
        if stop.signal_number is not None:
            raise InterruptedRunError(
                f"Stopped with {num_made} of {num_missing} missing runs finished; the finished "
                "epochs of the others are saved. The same command goes on from there.",
                stop.signal_number,
            )


def why_damaged(folder: RunFolder) -> str:
    """Return what is wrong with a finished run and what to do about it; "" for a whole one."""
    try:
        folder.predictions()
    except RunError as error:
        return folder.damage(error)
    return ""


def _found(folder: RunFolder, spec: RunSpec) -> Outcome:
    reason = why_damaged(folder)
    if reason:
        return Outcome(spec, reason=reason)
    record = folder.record()
    if record.seed != spec.seed or not alike(record.kind, spec.kind):
        reason = f"`{folder.path}` is in the way: it holds another run. Move it."
        return Outcome(spec, reason=reason)
    return Outcome(spec, Run(folder, record, was_there=True))


def teacher_specs(spec: RunSpec) -> list[RunSpec]:
    """Return the runs that a run learns from directly, under its own protocol and engine."""
    distillation = spec.recipe.distillation
    if distillation is None:
        return []
    return [replace(spec, recipe=recipe, seed=seed) for recipe, seed in distillation.runs()]


@dataclass(slots=True)
class _Waiting:
    """A run that is not begun; `needs` are identities of runs that must be finished first."""

    job: Job
    needs: set[str] = field(default_factory=set)


class _Queue:
    """The missing runs, and what each waits for."""

    def __init__(self, jobs: Sequence[Job], store: RunStore) -> None:
        self._store = store
        self._waiting: dict[str, _Waiting] = {}
        finished: dict[str, Outcome] = {}
        self.asked = {job.spec.identity for job in jobs}
        for job in jobs:
            self._add(job, finished)
        self.planned = Planned(
            tuple(each for identity, each in finished.items() if identity in self.asked),
            tuple(each.job.spec for each in self._waiting.values()),
            tuple(e.job.spec for i, e in self._waiting.items() if i not in self.asked),
        )

    def next(self) -> Job | None:
        """Return the first run that needs no other one any more."""
        for identity, each in self._waiting.items():
            if not each.needs:
                del self._waiting[identity]
                return each.job
        return None

    def close(self, outcome: Outcome) -> Iterator[Outcome]:
        """Yield an outcome, and those of the runs that it makes impossible; frees the others."""
        yield outcome
        identity = outcome.spec.identity
        for student_identity, student in list(self._waiting.items()):
            if identity not in student.needs:
                continue
            if outcome.run is not None:
                student.needs.remove(identity)
            elif self._waiting.pop(student_identity, None) is not None:
                reason = (
                    f"The teacher `{outcome.spec.recipe.name}` with seed {outcome.spec.seed} gave "
                    f"no run: {outcome.reason}"
                )
                yield from self.close(Outcome(student.job.spec, reason=reason))

    def _add(self, job: Job, finished: dict[str, Outcome]) -> bool:
        """Enter a run and, before it, those it learns from; return whether it is missing."""
        identity = job.spec.identity
        if identity in self._waiting:
            return True
        if identity in finished:
            return False
        folder = self._store.finished(job.spec)
        if folder is not None:
            finished[identity] = _found(folder, job.spec)
            return False
        teachers = teacher_specs(job.spec)
        needs = {spec.identity for spec in teachers if self._add(Job(spec), finished)}
        self._waiting[identity] = _Waiting(job, needs)
        return True

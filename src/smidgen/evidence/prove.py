"""`prove`: recipes and many random seeds in, runs over all cores, a `Proof` of each out."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from smidgen.data.dataset import Dataset
from smidgen.engines.choose import EngineChoice
from smidgen.errors import InterruptedRunError, RunError, SmidgenError, StorageError
from smidgen.evidence.limits import promised_target
from smidgen.evidence.proof import STAY_EPOCHS, Proof, SeedFailure, proof_of
from smidgen.evidence.wording import failures_line
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import Protocol, RunSpec
from smidgen.runs.store import RunStore
from smidgen.training.events import Note, on_note
from smidgen.training.run import TrainOptions, specify
from smidgen.work.jobs import Job, Outcome, Place, RunEvent, Shared
from smidgen.work.local import Local
from smidgen.work.queue import Planned, make_runs


@dataclass(frozen=True, slots=True)
class ProveOptions:
    """What is chosen beside recipe and seeds.

    Args:
        protocol: As in `TrainOptions`; a claim is made under `final`.
        engine: As in `TrainOptions`.
        device: A torch device.
        workers: Runs at once, one thread each; None for as many as there are cores.
        target: A share in (0, 1]; None for what the recipe promises of this data set, if anything.
        stay_epochs: How many last epochs must be at the target to stay there; at least 1.
        source: As in `TrainOptions`.
        place: Where the runs are made.
        lanes: As in `TrainOptions`.
    """

    protocol: Protocol = "final"
    engine: EngineChoice = "auto"
    device: str = "cpu"
    workers: int | None = None
    target: float | None = None
    stay_epochs: int = STAY_EPOCHS
    source: bytes = b""
    place: Place = Local
    lanes: int | None = None

    def __post_init__(self) -> None:
        if self.target is not None and not 0.0 < self.target <= 1.0:
            raise RunError(f"`target` is a share above 0 and at most 1, not {self.target:g}.")
        if self.stay_epochs < 1:
            raise RunError(f"`stay_epochs` must be at least 1, not {self.stay_epochs}.")
        if self.workers is not None and self.workers < 1:
            raise RunError(f"`workers` must be at least 1, not {self.workers}.")


@dataclass(frozen=True, slots=True)
class Claim:
    """A recipe to prove.

    Args:
        recipe: What is trained.
        dataset: On which images.
        seeds: With which random seeds.
        source: The Python file that its network was read from, if it was.
    """

    recipe: Recipe
    dataset: Dataset
    seeds: Sequence[int]
    source: bytes = b""


@dataclass(frozen=True, slots=True)
class Proven:
    """A claim whose runs have all ended.

    Args:
        number: Its place among the claims, from 0.
        result: What the runs say, or why they say nothing.
    """

    number: int
    result: Proof | SmidgenError


ProofEvent = Planned | RunEvent | Outcome | Note | Proven
"""What a listener is told: what is planned, what happens to which run, how it ended, lines that a
person should read, and each proof as soon as its last run has ended."""

OnProofEvent = Callable[[ProofEvent], None]


def prove(
    recipe: Recipe,
    dataset: Dataset,
    store: RunStore,
    seeds: Sequence[int] = range(1, 21),
    options: ProveOptions | None = None,
    on_event: OnProofEvent = lambda event: None,
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
    options = options or ProveOptions()
    claim = Claim(recipe, dataset, seeds, options.source)
    (result,) = prove_all([claim], store, options, on_event)
    if isinstance(result, SmidgenError):
        raise result
    return result


def prove_all(
    claims: Sequence[Claim],
    store: RunStore,
    options: ProveOptions | None = None,
    on_event: OnProofEvent = lambda event: None,
) -> list[Proof | SmidgenError]:
    """Prove several recipes at once: all their runs stand in one queue, in this order.

    No core waits for the last seed of a recipe before it begins with the next.

    Args:
        claims: What to prove; a run that several ask for is made once.
        store: Where runs are.
        options: For all claims; `source` is theirs.
        on_event: Told how it goes on.

    Returns:
        For each claim what its runs say, or the error that stopped it alone.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM came; finished runs and epochs are saved.
        SmidgenError: What stops all: no space, or no process can be started.
    """
    options = options or ProveOptions()
    results: list[Proof | SmidgenError | None] = [None] * len(claims)
    waiting: dict[str, list[_Open]] = defaultdict(list)
    jobs: list[Job] = []

    def conclude(number: int, result: Proof | SmidgenError) -> None:
        results[number] = result
        on_event(Proven(number, result))

    for number, claim in enumerate(claims):
        try:
            specs = _specs(claim, options, on_event)
        except (InterruptedRunError, StorageError):
            raise
        except SmidgenError as error:
            conclude(number, error)
            continue
        opened = _Open(number, claim, len(specs))
        for spec in specs:
            waiting[spec.identity].append(opened)
            jobs.append(Job(spec, claim.source))
    shared = Shared(store, {claim.dataset.sha256: claim.dataset for claim in claims})
    for outcome in make_runs(jobs, shared, on_event, options.workers, options.place):
        for opened in waiting[outcome.spec.identity]:
            opened.outcomes.append(outcome)
            if len(opened.outcomes) == opened.num_runs:
                conclude(opened.number, _result(opened, options))
    return [result for result in results if result is not None]


@dataclass(slots=True)
class _Open:
    """A claim of which runs are not finished."""

    number: int
    claim: Claim
    num_runs: int
    outcomes: list[Outcome] = field(default_factory=list)


def _specs(claim: Claim, options: ProveOptions, on_event: OnProofEvent) -> list[RunSpec]:
    """Return the runs of a claim, the engine chosen; raises SmidgenError for what stops all."""
    seeds = list(claim.seeds)
    if not seeds:
        raise RunError("A proof needs at least one seed.")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise RunError(f"Seed {twice} is named twice; a repeated seed proves nothing.")
    chosen = TrainOptions(
        options.protocol, options.engine, options.device, 1, claim.source, options.lanes
    )
    first = specify(claim.recipe, claim.dataset, seeds[0], chosen, on_note(on_event))
    return [replace(first, seed=seed) for seed in seeds]


def _result(opened: _Open, options: ProveOptions) -> Proof | SmidgenError:
    runs = [outcome.run.folder for outcome in opened.outcomes if outcome.run is not None]
    failures = sorted(
        (
            SeedFailure(outcome.spec.seed, outcome.reason, outcome.diverged)
            for outcome in opened.outcomes
            if outcome.run is None
        ),
        key=lambda failure: failure.seed,
    )
    if not runs:
        return RunError(f"No seed gave a run. {failures_line(failures)}")
    recipe = opened.claim.recipe
    target = promised_target(recipe) if options.target is None else options.target
    try:
        proof = proof_of(runs, target, options.stay_epochs, failures)
    except RunError as error:
        return error
    # runs that are there may have been made under another name of the same recipe
    return replace(proof, recipe=recipe.name)

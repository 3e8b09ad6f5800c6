"""`search`: a budget in, the best networks within it out, as recipes and a summary.

STUDY/front/PARAMETERS-CANDIDATE.json   a recipe, ready to be proved
STUDY/summary.json                      what was asked, seen and found
"""

import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smidgen.cores import num_cores
from smidgen.data.dataset import Dataset, Split
from smidgen.errors import InterruptedRunError, SearchError
from smidgen.files import locked, storage_errors, write_atomically
from smidgen.network.layers import Dense, Flatten, GlobalAvgPool
from smidgen.network.network import Network
from smidgen.recipes.parts import Budget
from smidgen.recipes.recipe import About, Recipe
from smidgen.runs.first_form import first_fingerprint
from smidgen.runs.record import RunRecord, RunSpec
from smidgen.runs.store import RunStore
from smidgen.search.journal import Journal
from smidgen.search.ledger import Candidate, FrontRow, Ledger, Measured, front_of, rungs_of
from smidgen.search.proposals import Proposer
from smidgen.search.study import SearchOptions
from smidgen.training.events import Note, on_note
from smidgen.training.run import Run, TrainOptions, blank_record, specify
from smidgen.training.sitting import stop_on_signal
from smidgen.training.splits import splits_for
from smidgen.work.jobs import Job, Outcome, Place, RunEvent, Shared
from smidgen.work.queue import Planned, make_runs, teacher_specs

PROOF_SEEDS = 20
_FORMAT = 1
_RANKED_BY = "mean cross-entropy on `valid` after the last epoch"


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a search has done.

    Args:
        candidates: Proposed, and not refused.
        seen: Those of which at least one run was measured on `valid`.
        failed: Those whose training diverged.
        refused: Draws that were too large, no network, or known; nothing of them was trained.
        runs: Finished.
        train_seconds: Of all runs.
    """

    candidates: int
    seen: int
    failed: int
    refused: int
    runs: int
    train_seconds: float

    def to_plain(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        names = ("candidates", "seen", "failed", "refused", "runs")
        return {f"num_{name}": getattr(self, name) for name in names} | {
            "train_seconds": self.train_seconds
        }


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search came to.

    Args:
        study: Its folder.
        front: The best networks of their size, smallest first.
        files: The recipe of each, in the same order.
        counts: How much was done.
        num_valid: Images in `valid`.
    """

    study: Path
    front: tuple[FrontRow, ...]
    files: tuple[Path, ...]
    counts: Counts
    num_valid: int

    @property
    def prove_commands(self) -> tuple[str, ...]:
        """What proves each network of the front on the test set, in the same order."""
        return tuple(
            f"smidgen prove {shlex.quote(str(file))} --seeds {PROOF_SEEDS}" for file in self.files
        )

    def to_plain(self) -> dict[str, Any]:
        """Return the stable machine-readable form, which is also `summary.json`."""
        rows = zip(self.front, self.files, self.prove_commands, strict=True)
        return {
            "format": _FORMAT,
            "study": str(self.study),
            "ranked_by": _RANKED_BY,
            "num_valid": self.num_valid,
            **self.counts.to_plain(),
            "front": [
                {**row.to_plain(), "file": str(file), "prove": command}
                for row, file, command in rows
            ],
        }


def write_result(
    study: Path,
    front: Sequence[FrontRow],
    counts: Counts,
    num_valid: int,
    asked: dict[str, Any],
) -> SearchResult:
    """Write the recipes of a front and the summary; recipes of an earlier front go.

    Raises:
        StorageError: They cannot be written.
    """
    folder = study / "front"
    files = tuple(folder / f"{row.num_params}-{row.candidate}.json" for row in front)
    for row, file in zip(front, files, strict=True):
        recipe = _told(row, counts, num_valid, asked)
        write_atomically(file, recipe.to_json().encode())
    with storage_errors(folder):
        for earlier in set(folder.glob("*-*.json")) - set(files):
            earlier.unlink(missing_ok=True)
    result = SearchResult(study, tuple(front), files, counts, num_valid)
    summary = json.dumps(result.to_plain() | {"asked": asked}, indent=2)
    write_atomically(study / "summary.json", summary.encode())
    return result


def _told(row: FrontRow, counts: Counts, num_valid: int, asked: dict[str, Any]) -> Recipe:
    """Return the recipe of a network of the front, which says how it was chosen."""
    seeds = "1 random seed" if row.seeds == 1 else f"{row.seeds} random seeds"
    macs = "" if asked["max_macs"] is None else f" and {asked['max_macs']:,} MACs"
    notes = (
        f"One of {counts.seen:,} candidates that were looked at on `valid` ({num_valid:,} images); "
        f"{counts.refused:,} more were refused by counting and never trained.",
        f"Chosen by the mean validation loss of {seeds}: {row.loss:.4f}, with an accuracy of "
        f"{100 * row.accuracy:.2f} % there. The choice flatters both; the test set was not opened.",
    )
    return row.recipe.replace(
        name=f"search/{row.num_params}-{row.candidate}",
        budget=Budget(max_params=asked["max_params"], max_epochs=asked["epochs"]),
        about=About(
            summary=f"{row.num_params:,} parameters, {asked['epochs']} epochs; found by a search.",
            source=f"smidgen search, at most {asked['max_params']:,} parameters{macs}",
            notes=notes,
        ),
    )


_MOST_FAILURES = 3
"""So many runs in a row that fail without having diverged (a full disk, no memory) end it."""


@dataclass(frozen=True, slots=True)
class SearchStatus:
    """Where a search stands.

    Args:
        counts: How much was done.
        front: The best networks so far.
        seconds_left: Until no further run begins.
    """

    counts: Counts
    front: list[FrontRow]
    seconds_left: float


SearchEvent = SearchStatus | Planned | RunEvent | Outcome | Note
"""What a listener is told: where the search stands, at the start and after every run; teachers that
are made first; what happens to each run and how it ended; lines that a person should read."""


def search(
    dataset: Dataset,
    options: SearchOptions,
    on_event: Callable[[SearchEvent], None] = lambda event: None,
    store: RunStore | None = None,
) -> SearchResult:
    """Look for the networks that reach most within a budget, on the validation images alone.

    Candidates are drawn from a family of networks and by mutation, counted, refused if they are
    too large, and trained by successive halving: first for a quarter of the epochs, the better
    half goes on to twice as many, then to more random seeds. Every run has the protocol `tune`;
    the test images are never looked at. Killed at any moment, the same call goes on from there.

    Args:
        dataset: The images.
        options: What is asked for.
        on_event: Told how it goes on.
        store: Where the runs are kept; `runs` in the study's folder if None.

    Raises:
        SearchError: Optuna is missing, nothing within the limits can be found, the study's
            journal is damaged or of another search, or nothing was trained to its end in time.
        InUseError: Another process is searching in this study.
        InterruptedRunError: SIGINT or SIGTERM came; all is kept, and what was found written.
        SmidgenError: As `train`, for what would stop every run.
    """
    dataset = _without_test(dataset)
    store = store or RunStore(options.study / "runs")
    lock = options.study / ".lock"
    with locked(lock, wait=False, owner=f"The search `{options.study}`"):
        first = _first_record(dataset, options, on_event)
        asked = options.decisive(first.environment.engine, dataset.sha256)
        shared = Shared(store, {dataset.sha256: dataset})
        workers = min(options.workers or num_cores(), num_cores())
        _train_teachers(first.spec, shared, on_event, workers, options.place)
        searcher = _Searcher(dataset, options, first, asked, on_event)
        with stop_on_signal() as stop:
            for outcome in options.place(shared, workers).run(searcher.take, on_event, stop):
                searcher.hear(outcome)
        status = searcher.status()
        result = write_result(
            options.study, status.front, status.counts, first.data.num_valid, asked
        )
    if stop.signal_number is not None:
        raise InterruptedRunError(
            f"Stopped with {status.counts.runs} runs finished and {len(status.front)} networks in "
            f"`{options.study / 'front'}`; all is kept. The same command goes on from there.",
            stop.signal_number,
        )
    if not result.front:
        raise SearchError(
            f"No candidate was trained for all {options.full_epochs} epochs: {status.counts.seen} "
            f"were measured, {status.counts.failed} diverged, {options.hours:g} hours were given. "
            "The same command goes on from there, with more `--hours` if time was short."
        )
    return result


def _first_record(
    dataset: Dataset, options: SearchOptions, on_event: Callable[[SearchEvent], None]
) -> RunRecord:
    """Return the record of a run that is never made: which engine, how many images."""
    base = options.base
    if not options.mutates:  # any network that fits the images and their classes will do
        layers = (GlobalAvgPool(), Flatten(), Dense(dataset.num_classes))
        network = Network(layers, dataset.image_shape, dataset.num_classes)
        base = base.for_network(base.name, network)
    chosen = TrainOptions("tune", options.engine, threads=1, lanes=options.lanes)
    spec = specify(base, dataset, 1, chosen, on_note(on_event))
    return blank_record(spec, dataset, splits_for("tune", base, dataset))


def _train_teachers(
    spec: RunSpec,
    shared: Shared,
    on_event: Callable[[SearchEvent], None],
    workers: int,
    place: Place,
) -> None:
    """Train the teachers that the store lacks; all candidates have the same."""
    missing = [t for t in teacher_specs(spec) if shared.store.finished(t) is None]
    jobs = [Job(teacher) for teacher in missing]
    for outcome in make_runs(jobs, shared, on_event, workers, place) if jobs else ():
        if outcome.run is None:
            raise SearchError(
                f"The teacher `{outcome.spec.recipe.name}` with seed {outcome.spec.seed} gave no "
                f"run: {outcome.reason}"
            )


def _without_test(dataset: Dataset) -> Dataset:
    """Return the data set without its test images: what is not there, nothing can look at.

    Its hash stays, for it says which data set this is.
    """
    images, labels = dataset.test.images[:0], dataset.test.labels[:0]
    return replace(dataset, test=Split(images, labels))


class _Searcher:
    """One sitting: hands out runs and takes up what came of them."""

    def __init__(
        self,
        dataset: Dataset,
        options: SearchOptions,
        first: RunRecord,
        asked: dict[str, Any],
        on_event: Callable[[SearchEvent], None],
    ) -> None:
        self._options, self._on_event, self._spec = options, on_event, first.spec
        with_macs = options.max_macs is not None
        first_form = first_fingerprint(options.base)
        former = {"base": first_form} if first_form else {}
        self._journal = Journal(options.study, 3 if with_macs else 2, asked, former)
        rungs = rungs_of(options.full_epochs, options.num_seeds)
        self._ledger = Ledger(rungs, with_macs, self._journal.candidates())
        self._proposer = Proposer(
            options, dataset.image_shape, dataset.num_classes, first.environment.engine
        )
        self._deadline = time.monotonic() + 3600.0 * options.hours
        self._in_flight: dict[str, int] = {}
        self._set_aside: set[int] = set()
        self._failures = 0
        for candidate in self._ledger.candidates:  # of which the journal ends before Optuna knew
            self._tell(candidate)
        on_event(self.status())

    def take(self) -> Job | None:
        """Return the next run to make; None where there is none, or no time left."""
        if time.monotonic() >= self._deadline:
            return None
        if (job := self._begun()) is not None:
            return job
        may_propose = self._may_propose()
        promoted = self._ledger.promotable(closing=not may_propose and not self._in_flight)
        if promoted is not None:
            self._journal.promote(promoted.number, promoted.rung + 1)
            promoted.rung += 1
        elif may_propose:
            proposal = self._proposer.propose(self._ledger, self._journal.trials)
            self._journal.add(proposal)
            number = len(self._ledger.candidates)
            self._ledger.candidates.append(
                Candidate(number, proposal.recipe, proposal.num_params, proposal.num_macs)
            )
        return self._begun()

    def hear(self, outcome: Outcome) -> None:
        """Take up how a run ended."""
        self._on_event(outcome)
        spec = outcome.spec
        candidate = self._ledger.candidates[self._in_flight.pop(spec.identity)]
        run = (spec.recipe.epochs, spec.seed)
        if outcome.run is not None:
            self._failures = 0
            candidate.measured[run] = _measured(outcome.run)
            self._journal.record(candidate.number, run, candidate.measured[run])
        elif outcome.diverged:
            candidate.failure = outcome.reason
            self._journal.record_failure(candidate.number, run, outcome.reason)
        else:
            self._fail(candidate, outcome.reason)
        self._tell(candidate)
        self._on_event(self.status())

    def status(self) -> SearchStatus:
        """Return where the search stands."""
        candidates = self._ledger.candidates
        measured = [each for c in candidates for each in c.measured.values()]
        counts = Counts(
            candidates=len(candidates),
            seen=sum(bool(c.measured) for c in candidates),
            failed=sum(bool(c.failure) for c in candidates),
            refused=self._journal.num_refused,
            runs=len(measured),
            train_seconds=sum(each.seconds for each in measured),
        )
        left = max(0.0, self._deadline - time.monotonic())
        return SearchStatus(counts, front_of(self._ledger), left)

    def _begun(self) -> Job | None:
        """Return a run of a candidate that was let to a step and has not finished it."""
        for candidate in self._ledger.candidates:
            if candidate.number in self._set_aside:
                continue
            for recipe, seed in self._ledger.missing(candidate):
                spec = replace(self._spec, recipe=recipe, seed=seed)
                if spec.identity not in self._in_flight:
                    self._in_flight[spec.identity] = candidate.number
                    return Job(spec)
        return None

    def _may_propose(self) -> bool:
        most = self._options.num_candidates
        return most is None or len(self._ledger.candidates) < most

    def _fail(self, candidate: Candidate, reason: str) -> None:
        self._set_aside.add(candidate.number)
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            raise SearchError(
                f"{self._failures} runs in a row failed, the last one so: {reason} What was "
                "finished is kept; the same command goes on from there."
            )
        text = f"Candidate {candidate.number} is set aside until the search is started again"
        self._on_event(Note(f"{text}: {reason}"))

    def _tell(self, candidate: Candidate) -> None:
        """Tell Optuna of a first step that is over."""
        if candidate.failure:
            self._journal.tell(candidate.number, None)
        elif (loss := candidate.loss(self._ledger.rungs[0])) is not None:
            values = [loss, *map(float, candidate.costs(self._ledger.with_macs))]
            self._journal.tell(candidate.number, values)


def _measured(run: Run) -> Measured:
    last = run.record.epochs[-1]
    name = run.folder.name
    return Measured(name, last.eval_loss, last.eval_accuracy, run.record.train_seconds)

"""`ablate`: a recipe and variants of it in, one table that says which are better or worse out.

Every variant is compared with the base twice, by accuracy and by loss. Among ten such
comparisons of equals one would be called different by luck in four tables of ten, so verdicts
are corrected for the number of comparisons in the table.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from smidgen.data.dataset import Dataset
from smidgen.engines.choose import EngineChoice
from smidgen.errors import RunError, SmidgenError
from smidgen.evidence.changes import changes
from smidgen.evidence.compare import ALPHA, PairedDifference, compare, paired_difference
from smidgen.evidence.proof import Proof, Spread, finished_result, spread
from smidgen.evidence.prove import Claim, ProofEvent, Proven, ProveOptions, prove_all
from smidgen.evidence.statistics import Interval, pairs_needed
from smidgen.evidence.wording import failures_line
from smidgen.network.trace import trace
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.events import on_note
from smidgen.training.run import TrainOptions, specify
from smidgen.values import to_plain
from smidgen.work.jobs import Place
from smidgen.work.local import Local

Measure = Literal["accuracy", "loss"]
ChangeVerdict = Literal["better", "worse", "cannot tell"]
RowVerdict = Literal["better", "worse", "mixed", "cannot tell", "failed"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the seeds of one recipe came to after the last epoch.

    Args:
        seeds: In order.
        accuracies: Of each seed, shares in [0, 1].
        losses: Of each seed, mean cross-entropy.
        accuracy: Over seeds.
        loss: Over seeds.
        train_seconds: Of one run.
    """

    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]
    accuracy: Spread
    loss: Spread
    train_seconds: Spread


@dataclass(frozen=True, slots=True)
class Change:
    """By how much a variant differs from the base in one measure: variant - base, seed by seed.

    Args:
        mean: Mean difference.
        sd: Standard deviation of the differences; None for one seed, as are the next three.
        interval: Student's interval of the mean difference, not corrected.
        bootstrap: The BCa bootstrap interval, not corrected.
        p_value: Two-sided, of the sign-flip test, not corrected.
        adjusted_p: The same, corrected for all comparisons of the table by Holm's method; None
            where it is not among them.
        verdict: `better` or `worse` if the corrected test and the bootstrap both say so.
        seeds_needed: With how many seeds a true difference as large as the mean would be seen
            four times in five among as many comparisons; None if there is none.
    """

    mean: float
    sd: float | None = None
    interval: Interval | None = None
    bootstrap: Interval | None = None
    p_value: float | None = None
    adjusted_p: float | None = None
    verdict: ChangeVerdict = "cannot tell"
    seeds_needed: int | None = None


@dataclass(frozen=True, slots=True)
class AblationRow:
    """The base or one variant.

    Args:
        name: What it is called in the table.
        fingerprint: Its recipe's.
        num_params: By the counting rule.
        num_macs: For one image.
        epochs: Passes over the training images.
        changes: What it changes in the base, one phrase each.
        measured: What its seeds came to; None if there are no runs.
        accuracy: The change in accuracy; None for the base and where seeds are missing.
        loss: The change in loss; None as above.
        images: Interval of the change in accuracy, had other images of the kind been drawn.
        loss_judged: Whether the loss may decide: not where training minimizes another one.
        verdict: None for the base, and before all rows are judged.
        reason: Why seeds are missing.
    """

    name: str
    fingerprint: str
    num_params: int
    num_macs: int
    epochs: int
    changes: tuple[str, ...] = ()
    measured: Measured | None = None
    accuracy: Change | None = None
    loss: Change | None = None
    images: Interval | None = None
    loss_judged: bool = True
    verdict: RowVerdict | None = None
    reason: str = ""

    @property
    def seeds_needed(self) -> int | None:
        """With how many seeds one of the measures would tell; None if it is not known."""
        needed = [
            change.seeds_needed
            for change in (self.accuracy, self.loss)
            if change is not None and change.seeds_needed is not None
        ]
        return min(needed, default=None)

    def measures_saying(self, verdict: ChangeVerdict) -> list[Measure]:
        """Return the measures by which it is `better` or `worse`."""
        found: list[Measure] = []
        if self.accuracy is not None and self.accuracy.verdict == verdict:
            found.append("accuracy")
        if self.loss is not None and self.loss.verdict == verdict:
            found.append("loss")
        return found


@dataclass(frozen=True, slots=True)
class Ablation:
    """Variants of a recipe against it, paired by seed, measured on `valid`.

    Args:
        recipe: Name of the base.
        dataset: On which all were trained and measured.
        data_sha256: Its hash.
        split: On which part of it they were measured.
        num_images: In that part.
        protocol: Of all runs.
        engine: What did the arithmetic of all runs.
        device: Where.
        seeds: Of all runs.
        base: What the variants are compared with.
        variants: In the order given.
        num_comparisons: For how many comparisons the verdicts are corrected.
        processors: On which the base ran.
        versions: Of the software that it ran with, one text per set that occurs.
    """

    recipe: str
    dataset: str
    data_sha256: str
    split: str
    num_images: int
    protocol: str
    engine: str
    device: str
    seeds: tuple[int, ...]
    base: AblationRow
    variants: tuple[AblationRow, ...]
    num_comparisons: int
    processors: tuple[str, ...]
    versions: tuple[str, ...]

    def to_plain(self) -> dict[str, Any]:
        """Return the machine-readable form: dictionaries, lists, strings, numbers and None."""
        return to_plain(self)


def change_of(found: PairedDifference) -> Change:
    """Return a paired difference, variant - base, as a change that nobody has judged yet."""
    return Change(found.mean, found.sd, found.interval, found.bootstrap, found.p_value)


def count_comparisons(rows: Iterable[AblationRow]) -> int:
    """Return how many changes are judged: accuracy and, where it may decide, loss."""
    return sum(len(_judged(row)) for row in rows)


def fewest_seeds(num_comparisons: int) -> int:
    """Return with how many seeds a verdict is possible at all.

    The smallest p of a two-sided sign-flip test is 2 / 2^n, and the first step of Holm's method
    asks for 0.05 / comparisons.
    """
    return math.ceil(math.log2(2.0 * max(num_comparisons, 1) / ALPHA))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in the same order.

    Calling different what has a corrected p of at most 0.05 errs in at most 5 % of all tables,
    however the comparisons depend on each other; here they share the base.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def judge(rows: Sequence[AblationRow]) -> tuple[AblationRow, ...]:
    """Return the variants with their verdicts, corrected for all comparisons of the table."""
    keys: list[tuple[int, Measure]] = [
        (place, measure) for place, row in enumerate(rows) for measure in _judged(row)
    ]
    changes = [_change(rows[place], measure) for place, measure in keys]
    adjusted = holm([1.0 if each.p_value is None else each.p_value for each in changes])
    decided = {
        key: _decide(change, p_value, key[1], len(keys), rows[key[0]])
        for key, change, p_value in zip(keys, changes, adjusted, strict=True)
    }
    return tuple(
        _with_verdict(
            replace(
                row,
                accuracy=decided.get((place, "accuracy"), row.accuracy),
                loss=decided.get((place, "loss"), row.loss),
            )
        )
        for place, row in enumerate(rows)
    )


def _judged(row: AblationRow) -> list[Measure]:
    if row.accuracy is None:
        return []
    return ["accuracy", "loss"] if row.loss_judged else ["accuracy"]


def _change(row: AblationRow, measure: Measure) -> Change:
    change = row.accuracy if measure == "accuracy" else row.loss
    assert change is not None
    return change


def _decide(
    change: Change, adjusted_p: float, measure: Measure, num_comparisons: int, row: AblationRow
) -> Change:
    if change.sd is None or row.measured is None:
        return change
    verdict: ChangeVerdict = "cannot tell"
    if adjusted_p <= ALPHA and change.bootstrap is not None and 0.0 not in change.bootstrap:
        verdict = "better" if (change.mean > 0.0) == (measure == "accuracy") else "worse"
    needed = pairs_needed(change.mean, change.sd, alpha=ALPHA / num_comparisons)
    if needed is not None:
        needed = max(needed, fewest_seeds(num_comparisons))
        if verdict == "cannot tell":
            needed = max(needed, len(row.measured.seeds) + 1)  # so many were not enough
    return replace(change, adjusted_p=adjusted_p, verdict=verdict, seeds_needed=needed)


def _with_verdict(row: AblationRow) -> AblationRow:
    if row.accuracy is None:
        return replace(row, verdict="failed")
    better, worse = row.measures_saying("better"), row.measures_saying("worse")
    if better and worse:
        return replace(row, verdict="mixed")
    return replace(row, verdict="better" if better else "worse" if worse else "cannot tell")


BASE = "base"


@dataclass(frozen=True, slots=True)
class Variant:
    """A changed recipe.

    Args:
        name: What it is called in the table.
        recipe: In full.
        source: The Python file that its network was read from, if it was.
    """

    name: str
    recipe: Recipe
    source: bytes = b""


@dataclass(frozen=True, slots=True)
class AblateOptions:
    """What is chosen beside recipes and seeds; there is no protocol but `tune`.

    Args:
        engine: As in `TrainOptions`; `auto` takes what suits the base for all.
        device: A torch device.
        workers: Runs at once, one thread each; None for as many as there are cores.
        source: The Python file that the base's network was read from, if it was.
        place: Where the runs are made.
        lanes: As in `TrainOptions`.
    """

    engine: EngineChoice = "auto"
    device: str = "cpu"
    workers: int | None = None
    source: bytes = b""
    place: Place = Local
    lanes: int | None = None


@dataclass(frozen=True, slots=True)
class RowDone:
    """All seeds of the base or a variant have ended; the verdict is still open."""

    row: AblationRow


AblateEvent = ProofEvent | RowDone
"""What a listener is told: as by `prove_all`, where the base is number 0, and each row."""


def ablate(
    base: Recipe,
    variants: Sequence[Variant],
    dataset: Dataset,
    store: RunStore,
    seeds: Sequence[int] = range(1, 11),
    options: AblateOptions | None = None,
    on_event: Callable[[AblateEvent], None] = lambda event: None,
) -> Ablation:
    """Train a recipe and its variants with the same seeds and say which variants differ.

    All are trained under the protocol `tune` and measured on `valid`: whoever takes the best of
    several variants chooses, and what chooses must not have seen the test images. Runs that are
    in the store are not made again, and one that was cut short goes on where it stopped.

    All runs stand in one queue, the base's first. A variant that cannot be trained, or gives no
    run for some seed, becomes a row that says why; the others go on.

    Raises:
        RunError: No variants, two that are the same, one that equals the base or is trained on
            other images; or a seed of the base without a run.
        InterruptedRunError: SIGINT or SIGTERM came; finished runs and epochs are saved.
        SmidgenError: As `prove`, for what stops the base.
    """
    options = options or AblateOptions()
    check_variants(base, variants)
    chosen = TrainOptions("tune", options.engine, options.device, 1, lanes=options.lanes)
    first = specify(base, dataset, next(iter(seeds), 1), chosen, on_note(on_event))
    rows = [Variant(BASE, base, options.source), *variants]
    table = _Table(rows, store, len(seeds), on_event)
    # as chosen for the base: a difference between engines is none between recipes
    engine = first.engine
    proving = ProveOptions(
        "tune", engine, options.device, options.workers, place=options.place, lanes=options.lanes
    )
    claims = [Claim(row.recipe, dataset, seeds, row.source) for row in rows]
    prove_all(claims, store, proving, table.hear)
    proof, base_row = table.proofs[0], table.rows[0]
    changed = [table.rows[number] for number in range(1, len(rows))]
    return Ablation(
        recipe=base.name,
        dataset=proof.dataset,
        data_sha256=proof.data_sha256,
        split=proof.split,
        num_images=table.num_images,
        protocol=proof.protocol,
        engine=proof.engine,
        device=proof.device,
        seeds=tuple(sorted(seeds)),
        base=base_row,
        variants=judge(changed),
        num_comparisons=count_comparisons(changed),
        processors=proof.processors,
        versions=proof.versions,
    )


def check_variants(base: Recipe, variants: Sequence[Variant]) -> None:
    """Refuse variants that cannot be told apart or compared; raises RunError."""
    if not variants:
        raise RunError("An ablation needs at least one variant.")
    names, same = {BASE}, {base.fingerprint(): BASE}
    for variant in variants:
        if variant.name in names:
            raise RunError(f"Two rows would be called `{variant.name}`. Name one differently.")
        fingerprint = variant.recipe.fingerprint()
        if same.get(fingerprint) == BASE:
            raise RunError(
                f"The variant `{variant.name}` changes nothing that counts: it is the base, "
                f"`{base.name}`, itself."
            )
        if fingerprint in same:
            raise RunError(
                f"The variants `{same[fingerprint]}` and `{variant.name}` are the same. Leave "
                "one out."
            )
        if variant.recipe.dataset != base.dataset:
            raise RunError(
                f"The variant `{variant.name}` is trained on `{variant.recipe.dataset}` and the "
                f"base on `{base.dataset}`. Compare on the same images."
            )
        names.add(variant.name)
        same[fingerprint] = variant.name


def minimizes_the_same(base: Recipe, other: Recipe) -> bool:
    """Return whether two recipes train towards the same loss.

    Where they do not, the cross-entropy on `valid` says little: label smoothing of 0.1
    multiplies that of `smidgen/quick` by 3.5 after one epoch and loses no accuracy.
    """
    return (base.loss.label_smoothing, base.distillation) == (
        other.loss.label_smoothing,
        other.distillation,
    )


def planned_comparisons(base: Recipe, variants: Sequence[Variant]) -> int:
    """Return how many comparisons a table will have if every variant can be trained."""
    return sum(1 + minimizes_the_same(base, variant.recipe) for variant in variants)


class _Table:
    """The rows of an ablation, as far as their seeds have ended; the base is number 0."""

    def __init__(
        self,
        variants: Sequence[Variant],
        store: RunStore,
        num_seeds: int,
        on_event: Callable[[AblateEvent], None],
    ) -> None:
        self.proofs: dict[int, Proof] = {}
        self.rows: dict[int, AblationRow] = {}
        self._variants, self._store = variants, store
        self._num_seeds, self._on_event = num_seeds, on_event
        self._early: list[Proven] = []

    @property
    def num_images(self) -> int:
        """How many images the rows were measured on."""
        return finished_result(self._runs(0)[0].record()).num_images

    def hear(self, event: ProofEvent) -> None:
        """Pass on what is told; make a row of what is proven.

        Raises:
            RunError: The base lacks a seed: nothing can be compared with it.
        """
        self._on_event(event)
        if not isinstance(event, Proven):
            return
        self._early.append(event)
        if event.number == 0:
            self._enter_base(event.result)
        if 0 in self.rows:
            for each in self._early:
                if each.number:
                    self._enter(each.number, self._filled(each.number, each.result))
            self._early.clear()

    def _enter_base(self, result: Proof | SmidgenError) -> None:
        if isinstance(result, SmidgenError):
            raise result
        if result.failures:
            missing = self._missing(result)
            raise RunError(f"There is nothing to compare with. The base: {missing}")
        self.proofs[0] = result
        row = replace(_row(self._variants[0]), measured=_measured(self._runs(0)))
        self._enter(0, row)

    def _enter(self, number: int, row: AblationRow) -> None:
        self.rows[number] = row
        self._on_event(RowDone(row))

    def _filled(self, number: int, result: Proof | SmidgenError) -> AblationRow:
        """Return the row of a variant: how it differs, or why that cannot be said."""
        base, variant = self._variants[0].recipe, self._variants[number]
        row = replace(
            _row(variant),
            changes=changes(base, variant.recipe),
            loss_judged=minimizes_the_same(base, variant.recipe),
        )
        if isinstance(result, SmidgenError):
            return replace(row, reason=str(result))
        self.proofs[number] = result
        runs, measured = self._runs(number), _measured(self._runs(number))
        row = replace(row, measured=measured)
        if result.failures:
            # seeds that diverge are not missing by chance: the rest would flatter the variant
            return replace(row, reason=self._missing(result))
        base_measured = self.rows[0].measured
        assert base_measured is not None
        found = compare(runs, self._runs(0))
        return replace(
            row,
            accuracy=change_of(found.difference),
            loss=change_of(paired_difference(measured.losses, base_measured.losses)),
            images=found.images,
        )

    def _runs(self, number: int) -> list[RunFolder]:
        return [RunFolder(self._store.root / each.run) for each in self.proofs[number].seeds]

    def _missing(self, proof: Proof) -> str:
        count = f"{len(proof.failures)} of {self._num_seeds} seeds gave no run."
        return f"{count} {failures_line(proof.failures)}"


def _row(variant: Variant) -> AblationRow:
    recipe = variant.recipe
    totals = trace(recipe.network).totals
    return AblationRow(
        name=variant.name,
        fingerprint=recipe.fingerprint(),
        num_params=totals.num_params,
        num_macs=totals.num_macs,
        epochs=recipe.epochs,
    )


def _measured(runs: Sequence[RunFolder]) -> Measured:
    records = [run.record() for run in runs]
    accuracies = [finished_result(record).accuracy for record in records]
    losses = [record.epochs[-1].eval_loss for record in records]
    return Measured(
        seeds=tuple(record.seed for record in records),
        accuracies=tuple(accuracies),
        losses=tuple(losses),
        accuracy=spread(accuracies),
        loss=spread(losses),
        train_seconds=spread([record.train_seconds for record in records]),
    )

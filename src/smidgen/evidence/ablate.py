"""`ablate`: a recipe and variants of it in, one table that says which are better or worse out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from smidgen.data.dataset import Dataset
from smidgen.engines.choose import EngineChoice
from smidgen.errors import RunError, SmidgenError
from smidgen.evidence.ablation import (
    Ablation,
    AblationRow,
    Measured,
    change_of,
    count_comparisons,
    judge,
)
from smidgen.evidence.changes import changes
from smidgen.evidence.compare import compare, paired_difference
from smidgen.evidence.proof import Proof
from smidgen.evidence.prove import Claim, ProofEvent, Proven, ProveOptions, prove_all
from smidgen.evidence.statements import finished_result, spread
from smidgen.evidence.wording import failures_line
from smidgen.network.trace import trace
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.events import on_note
from smidgen.training.run import TrainOptions, specify
from smidgen.work.jobs import Place
from smidgen.work.local import Local

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
    """

    engine: EngineChoice = "auto"
    device: str = "cpu"
    workers: int | None = None
    source: bytes = b""
    place: Place = Local


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
    chosen = TrainOptions("tune", options.engine, options.device, 1)
    first = specify(base, dataset, next(iter(seeds), 1), chosen, on_note(on_event))
    rows = [Variant(BASE, base, options.source), *variants]
    table = _Table(rows, store, len(seeds), on_event)
    # as chosen for the base: a difference between engines is none between recipes
    engine = first.engine
    proving = ProveOptions("tune", engine, options.device, options.workers, place=options.place)
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

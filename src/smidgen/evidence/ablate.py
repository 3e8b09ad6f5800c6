"""`ablate`: a recipe and variants of it in, one table that says which are better or worse out."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from smidgen.data.dataset import Dataset
from smidgen.engines.choose import EngineChoice
from smidgen.errors import InterruptedRunError, RunError, SmidgenError, StorageError
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
from smidgen.evidence.prove import ProveListener, ProveOptions, prove
from smidgen.evidence.statements import finished_result, spread
from smidgen.evidence.wording import failures_line
from smidgen.network.trace import trace
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore

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
        workers: Processes at once, one thread each; None for as many as there are cores.
        source: The Python file that the base's network was read from, if it was.
    """

    engine: EngineChoice = "auto"
    device: str = "cpu"
    workers: int | None = None
    source: bytes = b""


@dataclass(frozen=True, slots=True)
class AblateListener:
    """What is told how an ablation goes on; every function may be left out.

    Args:
        proving: Called with the base (number 0) and each variant (from 1) before its seeds are
            trained; gives the listener of their proof, for as long as that takes.
        on_row: Called with each row when its seeds are trained, its verdict still open.
    """

    proving: Callable[[int, Variant], AbstractContextManager[ProveListener]] = (
        lambda number, variant: nullcontext(ProveListener())
    )
    on_row: Callable[[AblationRow], None] = lambda row: None


def ablate(
    base: Recipe,
    variants: Sequence[Variant],
    dataset: Dataset,
    store: RunStore,
    seeds: Sequence[int] = range(1, 11),
    options: AblateOptions | None = None,
    listener: AblateListener | None = None,
) -> Ablation:
    """Train a recipe and its variants with the same seeds and say which variants differ.

    All are trained under the protocol `tune` and measured on `valid`: whoever takes the best of
    several variants chooses, and what chooses must not have seen the test images. Runs that are
    in the store are not made again, and one that was cut short goes on where it stopped.

    A variant that cannot be trained, or gives no run for some seed, becomes a row that says
    why; the others go on.

    Raises:
        RunError: No variants, two that are the same, one that equals the base or is trained on
            other images; or a seed of the base without a run.
        InterruptedRunError: SIGINT or SIGTERM came; finished runs and epochs are saved.
        SmidgenError: As `prove`, for what stops the base.
    """
    options, listener = options or AblateOptions(), listener or AblateListener()
    check_variants(base, variants)
    work = _Work(dataset, store, seeds, options, listener)
    first = Variant(BASE, base, options.source)
    proof = work.prove(0, first)
    if proof.failures:
        raise RunError(f"There is nothing to compare with. The base: {_missing(proof, seeds)}")
    # as chosen for the base: a difference between engines is none between recipes
    work = replace(work, options=replace(options, engine=proof.engine))
    base_runs = _runs(store, proof)
    measured = _measured(base_runs)
    base_row = replace(_row(first), measured=measured)
    listener.on_row(base_row)
    rows = []
    for number, variant in enumerate(variants, start=1):
        row = replace(
            _row(variant),
            changes=changes(base, variant.recipe),
            loss_judged=minimizes_the_same(base, variant.recipe),
        )
        rows.append(work.fill(row, number, variant, base_runs, measured.losses))
        listener.on_row(rows[-1])
    return Ablation(
        recipe=base.name,
        dataset=proof.dataset,
        data_sha256=proof.data_sha256,
        split=proof.split,
        num_images=finished_result(base_runs[0].record()).num_images,
        protocol=proof.protocol,
        engine=proof.engine,
        device=proof.device,
        seeds=tuple(sorted(seeds)),
        base=base_row,
        variants=judge(rows),
        num_comparisons=count_comparisons(rows),
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


@dataclass(frozen=True, slots=True)
class _Work:
    """What the base and all variants have in common."""

    dataset: Dataset
    store: RunStore
    seeds: Sequence[int]
    options: AblateOptions
    listener: AblateListener

    def prove(self, number: int, variant: Variant) -> Proof:
        given = self.options
        options = ProveOptions(
            "tune", given.engine, given.device, given.workers, source=variant.source
        )
        with self.listener.proving(number, variant) as heard:
            return prove(variant.recipe, self.dataset, self.store, self.seeds, options, heard)

    def fill(
        self,
        row: AblationRow,
        number: int,
        variant: Variant,
        base_runs: Sequence[RunFolder],
        base_losses: Sequence[float],
    ) -> AblationRow:
        """Train a variant and enter how it differs, or why that cannot be said."""
        try:
            proof = self.prove(number, variant)
        except (InterruptedRunError, StorageError):
            raise
        except SmidgenError as error:
            return replace(row, reason=str(error))
        runs = _runs(self.store, proof)
        measured = _measured(runs)
        row = replace(row, measured=measured)
        if proof.failures:
            # seeds that diverge are not missing by chance: the rest would flatter the variant
            return replace(row, reason=_missing(proof, self.seeds))
        found = compare(runs, base_runs)
        return replace(
            row,
            accuracy=change_of(found.difference),
            loss=change_of(paired_difference(measured.losses, base_losses)),
            images=found.images,
        )


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


def _runs(store: RunStore, proof: Proof) -> list[RunFolder]:
    return [RunFolder(store.root / each.run) for each in proof.seeds]


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


def _missing(proof: Proof, seeds: Sequence[int]) -> str:
    count = f"{len(proof.failures)} of {len(seeds)} seeds gave no run."
    return f"{count} {failures_line(proof.failures)}"

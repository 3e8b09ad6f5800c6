from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smidgen.data import Dataset
from smidgen.errors import InterruptedRunError, RunError, SmidgenError, StorageError
from smidgen.evidence.ablation import (
    AblateOptions,
    AblationRow,
    RowDone,
    Variant,
    ablate,
    check_variants,
    planned_comparisons,
)
from smidgen.evidence.proof import Proof, SeedFailure, proof_of
from smidgen.evidence.prove import Claim, Proven, ProveOptions
from smidgen.recipes.parts import Adam, Budget, Loss
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore
from smidgen.work.jobs import Outcome
from smidgen.work.queue import Planned

Make = Callable[..., RunFolder]


class Heard:
    """Remembers what an ablation told."""

    def __init__(self) -> None:
        self.missing: list[tuple[str, int]] = []
        self.finished: list[tuple[int, int]] = []
        self.rows: list[AblationRow] = []

    def __call__(self, event: object) -> None:
        """Take up an event."""
        match event:
            case Planned(missing=missing):
                self.missing = [(spec.recipe.name, spec.seed) for spec in missing]
            case Outcome(spec, run) if run is not None:
                self.finished.append((spec.recipe.batch_size, spec.seed))
            case RowDone(row):
                self.rows.append(row)


Proofs = dict[str, Proof | SmidgenError]


@pytest.fixture
def told_proofs(monkeypatch: pytest.MonkeyPatch) -> tuple[Proofs, list[Any]]:
    """Let `ablate` get proofs by recipe name instead of training; returns them and the claims."""
    proofs: Proofs = {}
    asked: list[Any] = []

    def told(claims: list[Claim], store: RunStore, options: ProveOptions, on_event: Any) -> None:
        asked.extend((claim, options) for claim in claims)
        for number in reversed(range(len(claims))):  # the base is the last to be known
            result = proofs[claims[number].recipe.name]
            if isinstance(result, InterruptedRunError | StorageError):
                raise result
            on_event(Proven(number, result))

    monkeypatch.setattr("smidgen.evidence.ablation.prove_all", told)
    return proofs, asked


def variants_of(base: Recipe, *names: str) -> list[Variant]:
    """Return variants that differ in the batch size and carry their names."""
    return [
        Variant(name, base.replace(name=name, batch_size=40 + place))
        for place, name in enumerate(names)
    ]


def proof_with(
    make_run: Make, variant: Recipe, wrong: Sequence[int], failures: Sequence[SeedFailure] = ()
) -> Proof:
    """Return the proof of runs with so many wrong images, seeds from 1."""
    runs = [
        make_run(
            seed,
            wrong=range(count),
            name=variant.name,
            protocol="tune",
            recipe=variant,
            fingerprint=variant.fingerprint(),
        )
        for seed, count in enumerate(wrong, start=1)
    ]
    return proof_of(runs, failures=failures)


def test_variants_are_trained_with_the_seeds_of_the_base(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, train_tiny: Callable[..., object]
) -> None:
    """What is in the store is kept, what is missing is trained, what cannot be is one row."""
    for seed in (1, 2):
        train_tiny(seed=seed, protocol="tune")
    train_tiny(seed=1, protocol="tune", batch_size=24)
    first, again = Heard(), Heard()
    variants = [
        Variant("too long", tiny_recipe.replace(epochs=9, budget=Budget(max_epochs=8))),
        Variant("small batches", tiny_recipe.replace(batch_size=24)),
    ]
    store, options = RunStore(tmp_path / "runs"), AblateOptions(engine="torch", workers=1)

    found = ablate(tiny_recipe, variants, stripes, store, [2, 1], options, first)
    repeated = ablate(tiny_recipe, variants[1:], stripes, store, [1, 2], options, again)

    too_long, small = found.variants
    assert first.finished == [(24, 2)]
    assert too_long.verdict == "failed"
    assert too_long.reason.startswith("`tiny` promises at most 8 epochs and has 9.")
    assert (small.verdict, small.reason) == ("cannot tell", "")
    assert small.changes == ("batch size 32 -> 24",)
    assert (found.protocol, found.split, found.seeds) == ("tune", "valid", (1, 2))
    assert found.base.measured is not None
    assert found.base.measured.losses[0] != found.base.measured.losses[1]
    assert small.measured is not None
    assert small.loss is not None
    rises = np.subtract(small.measured.losses, found.base.measured.losses)
    assert small.loss.mean == pytest.approx(rises.mean(), rel=1e-12)
    assert abs(small.loss.mean) > 1e-6  # or its sign would tell nothing
    assert again.missing == []
    assert repeated.variants == (small,)


@pytest.mark.slow
def test_a_variant_that_diverges_is_one_row(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, train_tiny: Callable[..., object]
) -> None:
    """Its reason names what met infinity; the base and the other variant are compared."""
    for seed in (1, 2):
        train_tiny(seed=seed, protocol="tune")
        train_tiny(seed=seed, protocol="tune", batch_size=24)
    variants = [
        Variant("diverges", tiny_recipe.replace(optimizer=Adam(lr=1e30))),
        Variant("small batches", tiny_recipe.replace(batch_size=24)),
    ]
    store, options = RunStore(tmp_path / "runs"), AblateOptions(engine="torch", workers=1)

    found = ablate(tiny_recipe, variants, stripes, store, [1, 2], options)

    assert [row.verdict for row in found.variants] == ["failed", "cannot tell"]
    assert found.variants[0].reason.startswith(
        "No seed gave a run. Seeds 1, 2 diverged, seed 1 so: Training met a number that is not "
    )


def test_changes_are_variant_minus_base(
    make_run: Make, tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, told_proofs: Any
) -> None:
    """Paired by seed, for accuracy and loss; a fall of eight pairs of eight is worse."""
    proofs, asked = told_proofs
    (variant,) = variants_of(tiny_recipe, "a")
    proofs["tiny"] = proof_with(make_run, tiny_recipe, [1, 2, 3, 1, 2, 3, 1, 2])
    proofs["a"] = proof_with(make_run, variant.recipe, [3, 4, 5, 3, 4, 5, 4, 4])

    heard = Heard()
    found = ablate(
        tiny_recipe,
        [variant],
        stripes,
        RunStore(tmp_path / "runs"),
        range(1, 9),
        AblateOptions(source=b"import torch"),
        heard,
    )

    (row,) = found.variants
    assert row.accuracy is not None
    assert row.loss is not None
    assert row.accuracy.mean == pytest.approx(-17 / 8 / 40)
    assert row.loss.mean == 0.0
    assert (row.verdict, row.measures_saying("worse")) == ("worse", ["accuracy"])
    assert row.images is not None
    assert found.num_comparisons == 2
    assert [each.name for each in heard.rows] == ["base", "a"]
    assert [each.verdict for each in heard.rows] == [None, None]
    assert found.to_plain()["variants"][0]["accuracy"]["verdict"] == "worse"
    (base_claim, options), (variant_claim, _) = asked
    assert (options.engine, options.protocol) == ("native", "tune")
    assert (base_claim.source, variant_claim.source) == (b"import torch", b"")


def test_seeds_that_fail_keep_a_variant_from_being_judged(
    make_run: Make, tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, told_proofs: Any
) -> None:
    """Its other seeds are shown and compared with nothing: the bad ones are those that left."""
    proofs, _ = told_proofs
    (variant,) = variants_of(tiny_recipe, "a")
    proofs["tiny"] = proof_with(make_run, tiny_recipe, [3] * 8)
    proofs["a"] = proof_with(make_run, variant.recipe, [0] * 7, [SeedFailure(8, "it diverged.")])

    found = ablate(tiny_recipe, [variant], stripes, RunStore(tmp_path / "runs"), range(1, 9))

    (row,) = found.variants
    assert row.verdict == "failed"
    assert row.reason == "1 of 8 seeds gave no run. Seed 8: it diverged."
    assert row.measured is not None
    assert row.measured.accuracy.n == 7
    assert (row.accuracy, row.loss, found.num_comparisons) == (None, None, 0)


def test_a_base_without_all_seeds_stops_the_ablation(
    make_run: Make, tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, told_proofs: Any
) -> None:
    """It is said as soon as the base's seeds have ended."""
    proofs, _ = told_proofs
    proofs["a"] = RunError("It is not looked at.")
    proofs["tiny"] = proof_with(make_run, tiny_recipe, [3], [SeedFailure(2, "it diverged.")])

    with pytest.raises(RunError) as caught:
        ablate(tiny_recipe, variants_of(tiny_recipe, "a"), stripes, RunStore(tmp_path), [1, 2])

    assert str(caught.value) == (
        "There is nothing to compare with. The base: 1 of 2 seeds gave no run. Seed 2: it diverged."
    )


@pytest.mark.parametrize(
    "stop", [InterruptedRunError("Stopped.", 2), StorageError("The disk is full.")]
)
def test_what_stops_everything_is_no_row(
    make_run: Make,
    tiny_recipe: Recipe,
    stripes: Dataset,
    tmp_path: Path,
    told_proofs: Any,
    stop: SmidgenError,
) -> None:
    """A signal and a full disk end the ablation."""
    proofs, _ = told_proofs
    proofs["tiny"] = proof_with(make_run, tiny_recipe, [3])
    proofs["a"] = proofs["b"] = stop
    store = RunStore(tmp_path / "runs")

    with pytest.raises(type(stop), match=str(stop)):
        ablate(tiny_recipe, variants_of(tiny_recipe, "a", "b"), stripes, store, [1])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "An ablation needs at least one variant."),
        (
            {"a": {"name": "other", "budget": Budget(max_epochs=9)}},
            "The variant `a` changes nothing that counts: it is the base, `tiny`, itself.",
        ),
        (
            {"a": {"epochs": 2}, "b": {"epochs": 2, "name": "other"}},
            "The variants `a` and `b` are the same. Leave one out.",
        ),
        ({"base": {"epochs": 2}}, "Two rows would be called `base`. Name one differently."),
        (
            {"a": {"dataset": "mnist"}},
            "The variant `a` is trained on `mnist` and the base on `stripes`. Compare on the same "
            "images.",
        ),
    ],
)
def test_variants_that_tell_nothing_are_refused(
    tiny_recipe: Recipe, changes: dict[str, dict[str, Any]], text: str
) -> None:
    """Each gets one line, before anything is trained."""
    variants = [Variant(name, tiny_recipe.replace(**each)) for name, each in changes.items()]

    with pytest.raises(RunError) as caught:
        check_variants(tiny_recipe, variants)

    assert str(caught.value) == text


def test_two_variants_of_one_name_are_refused(tiny_recipe: Recipe) -> None:
    """Even if they differ: the table could not tell them apart."""
    variants = [Variant("a", tiny_recipe.replace(epochs=epochs)) for epochs in (4, 5)]

    with pytest.raises(RunError, match=r"^Two rows would be called `a`\."):
        check_variants(tiny_recipe, variants)


def test_another_training_loss_takes_the_loss_out(tiny_recipe: Recipe) -> None:
    """A variant with label smoothing is compared by accuracy alone."""
    smooth = Variant("smooth", tiny_recipe.replace(loss=Loss(label_smoothing=0.1)))
    (plain,) = variants_of(tiny_recipe, "a")

    assert planned_comparisons(tiny_recipe, [smooth, plain]) == 3
    assert planned_comparisons(smooth.recipe, [Variant("a", smooth.recipe)]) == 2

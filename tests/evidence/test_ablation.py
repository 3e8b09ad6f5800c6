"""Ablations, judged and made."""

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
    Measured,
    RowDone,
    Variant,
    ablate,
    change_of,
    check_variants,
    count_comparisons,
    fewest_seeds,
    holm,
    judge,
    planned_comparisons,
)
from smidgen.evidence.compare import paired_difference
from smidgen.evidence.proof import Proof, SeedFailure, proof_of, spread
from smidgen.evidence.prove import Claim, Proven, ProveOptions
from smidgen.evidence.statistics import paired_power, t_interval
from smidgen.recipes.parts import Adam, Budget, Loss
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore
from smidgen.work.jobs import Outcome
from smidgen.work.queue import Planned

STEADY = (0.9, 1.0, 1.1, 1.0, 0.8, 1.2, 0.95, 1.05, 1.0, 1.1)
"""Differences of ten seeds that all have one sign: p = 2 / 2^10, by a test of one comparison."""
NOISE = (1.0, -1.0, 0.5, -0.5, 0.8, -0.7, 0.2, -0.3, 0.1, -0.2)


def row(
    accuracy: Sequence[float], loss: Sequence[float] | None = None, loss_judged: bool = True
) -> AblationRow:
    """Return an unjudged row with these differences to a base of 0.9 and 0.1, in thousandths."""
    loss = NOISE[: len(accuracy)] if loss is None else loss
    accuracies = 0.9 + np.asarray(accuracy) / 1000
    losses = 0.1 + np.asarray(loss) / 1000
    measured = Measured(
        seeds=tuple(range(1, len(accuracies) + 1)),
        accuracies=tuple(accuracies.tolist()),
        losses=tuple(losses.tolist()),
        accuracy=spread(accuracies[:1]),
        loss=spread(losses[:1]),
        train_seconds=spread([1.0]),
    )
    return AblationRow(
        name="a",
        fingerprint="0",
        num_params=1,
        num_macs=1,
        epochs=1,
        measured=measured,
        accuracy=change_of(paired_difference(accuracies, np.full(len(accuracies), 0.9))),
        loss=change_of(paired_difference(losses, np.full(len(losses), 0.1))),
        loss_judged=loss_judged,
    )


def test_holm_corrects_step_by_step() -> None:
    """The smallest p is multiplied by all, the next by one less; none falls below one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("comparisons", "seeds"), [(0, 6), (1, 6), (2, 7), (8, 9), (25, 10), (26, 11)]
)
def test_the_fewest_seeds_reach_the_level_of_the_first_step(comparisons: int, seeds: int) -> None:
    """2 / 2^n of a sign-flip test is small enough with so many seeds and not with one less."""
    assert fewest_seeds(comparisons) == seeds
    assert holm([2 / 2**seeds] + [1.0] * (max(comparisons, 1) - 1))[0] <= 0.05
    assert holm([2 / 2 ** (seeds - 1)] + [1.0] * (max(comparisons, 1) - 1))[0] > 0.05


@pytest.mark.parametrize(
    ("accuracy", "loss", "verdict"),
    [
        (STEADY, NOISE, "better"),
        (tuple(-x for x in STEADY), NOISE, "worse"),
        (NOISE, tuple(-x for x in STEADY), "better"),
        (NOISE, STEADY, "worse"),
        (STEADY, STEADY, "mixed"),
        (NOISE, NOISE, "cannot tell"),
        ((0.0,) * 10, (0.0,) * 10, "cannot tell"),
    ],
)
def test_either_measure_may_decide(
    accuracy: Sequence[float], loss: Sequence[float], verdict: str
) -> None:
    """Higher accuracy and lower loss are better; where they contradict it is mixed."""
    (judged,) = judge([row(accuracy, loss)])

    assert judged.verdict == verdict
    assert ("accuracy" in judged.measures_saying("better")) == (accuracy is STEADY)
    assert ("loss" in judged.measures_saying("worse")) == (loss is STEADY)


def test_verdicts_are_corrected_for_the_size_of_the_table() -> None:
    """What is better on its own is not among thirteen variants, until it has a seed more."""
    one, eleven = STEADY, (*STEADY, 1.0)
    others = [row(NOISE) for _ in range(12)]
    longer = [row((*NOISE, 0.1)) for _ in range(12)]

    alone = judge([row(one)])[0]
    crowded = judge([row(one), *others])[0]
    with_more = judge([row(eleven, (*NOISE, 0.1)), *longer])[0]

    assert count_comparisons([row(one), *others]) == 26
    assert alone.verdict == "better"
    assert alone.accuracy is not None
    assert alone.accuracy.adjusted_p == 2 * 2 / 2**10
    assert crowded.verdict == "cannot tell"
    assert crowded.seeds_needed == 11
    assert with_more.verdict == "better"


def test_the_seeds_needed_are_those_of_all_comparisons() -> None:
    """What 33,221 seeds would show takes 61,015 among sixteen comparisons."""
    noisy = row(NOISE, loss_judged=False)
    assert noisy.accuracy is not None
    mean, sd = noisy.accuracy.mean, noisy.accuracy.sd
    assert sd is not None

    for count in (1, 16):
        needed = judge([noisy] * count)[0].seeds_needed
        assert needed is not None
        level = 0.05 / count
        assert paired_power(needed - 1, mean, sd, level) < 0.8
        assert paired_power(needed, mean, sd, level) >= 0.8


def test_a_loss_of_another_kind_decides_nothing() -> None:
    """It is shown, and neither judged nor counted."""
    given = row(NOISE, STEADY, loss_judged=False)

    (judged,) = judge([given])

    assert count_comparisons([given]) == 1
    assert judged.verdict == "cannot tell"
    assert judged.loss == given.loss
    assert judged.accuracy is not None
    assert judged.accuracy.adjusted_p == judged.accuracy.p_value


def test_a_row_without_all_its_seeds_is_failed_and_not_counted() -> None:
    """It makes the verdicts of others no harder."""
    failed = AblationRow("b", "1", 1, 1, 1, reason="diverged")

    judged = judge([failed, row(STEADY)])

    assert count_comparisons([failed]) == 0
    assert [each.verdict for each in judged] == ["failed", "better"]
    assert judged[0].seeds_needed is None


def test_one_seed_tells_nothing() -> None:
    """There is a difference, and no test of it."""
    (judged,) = judge([row([1.0])])

    assert judged.verdict == "cannot tell"
    assert judged.accuracy is not None
    assert (judged.accuracy.interval, judged.accuracy.adjusted_p) == (None, None)
    assert judged.seeds_needed is None


def test_few_seeds_tell_how_many_it_takes() -> None:
    """Below six there is no bootstrap interval, and still a p and a number of seeds."""
    (judged,) = judge([row([1.0, 1.1, 0.9])])

    assert judged.verdict == "cannot tell"
    assert judged.accuracy is not None
    assert judged.accuracy.bootstrap is None
    assert judged.accuracy.adjusted_p is not None
    assert judged.seeds_needed is not None
    assert judged.seeds_needed >= 6


def test_both_tests_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """A corrected p alone makes nobody better where the bootstrap interval holds 0."""
    given = row(STEADY)
    assert given.accuracy is not None
    monkeypatch.setattr(type(given.accuracy.bootstrap), "__contains__", lambda self, x: True)

    assert judge([given])[0].verdict == "cannot tell"


def test_few_tables_of_equals_name_a_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tables of five variants equal to their base at most 5 % call one different."""
    # both take most of the time and neither decides here
    monkeypatch.setattr("smidgen.evidence.compare.bca_of_mean", t_interval)
    for module in ("compare", "ablation"):
        monkeypatch.setattr(f"smidgen.evidence.{module}.pairs_needed", lambda *given, **more: None)
    rng = np.random.default_rng(3)
    wrong, tables = 0, 300
    for _ in range(tables):
        base, *variants = rng.normal(0.0, 1.0, (6, 2, 10))
        rows = [row(each[0] - base[0], each[1] - base[1]) for each in variants]
        wrong += any(each.verdict != "cannot tell" for each in judge(rows))

    assert wrong / tables <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / tables)


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

from collections.abc import Sequence

import numpy as np
import pytest

from smidgen.evidence.ablation import (
    AblationRow,
    Measured,
    change_of,
    count_comparisons,
    fewest_seeds,
    holm,
    judge,
)
from smidgen.evidence.compare import paired_difference
from smidgen.evidence.proof import spread
from smidgen.evidence.statistics import paired_power, t_interval

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

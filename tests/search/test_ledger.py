from collections.abc import Sequence

import pytest

from smidgen.recipes.recipe import Recipe
from smidgen.search.ledger import Candidate, Ledger, Measured, Rung, beats, front_of, rungs_of

RUNGS = rungs_of(4, 2)


def candidate(
    base: Recipe, number: int, num_params: int, losses: Sequence[float], rung: int | None = None
) -> Candidate:
    """Return a candidate that reached these losses, one per step; at the last with 2 seeds."""
    runs = [(1, 1), (2, 1), (4, 1), (4, 2)]
    measured = {
        run: Measured(f"run-{number}-{place}", loss, 1 - loss, 1.0)
        for place, (run, loss) in enumerate(zip(runs, losses, strict=False))
    }
    reached = max(0, len(losses) - 1) if rung is None else rung
    recipe = base.replace(name=f"search/{number}", epochs=4)
    return Candidate(number, recipe, num_params, 10 * num_params, reached, measured)


@pytest.mark.parametrize(
    ("epochs", "seeds", "rungs"),
    [
        (15, 4, [(4, 1), (8, 1), (15, 1), (15, 2), (15, 4)]),
        (4, 1, [(1, 1), (2, 1), (4, 1)]),
        (1, 3, [(1, 1), (1, 2), (1, 3)]),
        (2, 1, [(1, 1), (2, 1)]),
        (100, 5, [(25, 1), (50, 1), (100, 1), (100, 2), (100, 4), (100, 5)]),
    ],
)
def test_steps_double(epochs: int, seeds: int, rungs: list[tuple[int, int]]) -> None:
    """A quarter, half and all epochs; then twice as many seeds each time, up to all."""
    assert [(rung.epochs, rung.num_seeds) for rung in rungs_of(epochs, seeds)] == rungs


def test_the_better_half_goes_on(base: Recipe) -> None:
    """Of four that finished a step two may go on, best first, and those let on do not again."""
    four = [candidate(base, n, 500, [loss]) for n, loss in enumerate((0.4, 0.1, 0.3, 0.2))]
    ledger = Ledger(RUNGS, with_macs=False, candidates=four)

    order = []
    while (promoted := ledger.promotable()) is not None:
        promoted.rung += 1
        order.append(promoted.number)

    assert order == [1, 3]


def test_the_best_goes_on_when_no_more_will_come(base: Recipe) -> None:
    """A search that closes brings its best candidate to the end, though it has no rival."""
    alone = candidate(base, 0, 500, [0.4])
    ledger = Ledger(RUNGS, with_macs=False, candidates=[alone])

    assert ledger.promotable() is None
    assert ledger.promotable(closing=True) is alone


def test_those_furthest_on_come_first(base: Recipe) -> None:
    """A promotion to a late step is preferred to one to an early step."""
    early = [candidate(base, n, 500, [0.5 + n]) for n in range(2)]
    late = [candidate(base, 2 + n, 500, [0.1, 0.1 + n]) for n in range(2)]
    ledger = Ledger(RUNGS, with_macs=False, candidates=[*early, *late])

    promoted = ledger.promotable()

    assert promoted is late[0]


def test_small_networks_are_ranked_beside_large_ones(base: Recipe) -> None:
    """What nothing beats in both loss and size comes before what something does."""
    points = [(900, 0.10), (900, 0.12), (500, 0.30), (500, 0.31), (700, 0.40)]
    ledger = Ledger(
        RUNGS, False, [candidate(base, n, size, [loss]) for n, (size, loss) in enumerate(points)]
    )

    assert [each.number for each in ledger.ranked(0)] == [0, 2, 1, 3, 4]


def test_a_candidate_that_diverged_is_out(base: Recipe) -> None:
    """It has no loss, needs no runs and is never promoted."""
    failed = candidate(base, 0, 500, [0.1, 0.1])
    failed.failure = "NaN"
    other = candidate(base, 1, 500, [0.2])
    ledger = Ledger(RUNGS, False, [failed, other])

    assert ledger.missing(failed) == []
    assert ledger.ranked(0) == [other]
    assert front_of(ledger) == []


def test_what_is_missing_is_a_whole_shorter_schedule(base: Recipe) -> None:
    """The runs of a step are those of its length that were not made, for every seed."""
    begun = candidate(base, 0, 500, [0.1, 0.1, 0.1], rung=3)
    begun.recipe = begun.recipe.replace(clean_epochs=2)
    ledger = Ledger(RUNGS, False, [begun])

    fresh = candidate(base, 1, 500, [])
    ((short, seed),) = ledger.missing(fresh)

    assert ledger.missing(begun) == [(begun.recipe, 2)]
    assert (short.epochs, seed) == (1, 1)
    assert short.schedule == fresh.recipe.schedule


def test_the_model_learns_from_the_furthest_step_that_enough_reached(base: Recipe) -> None:
    """Two of three finished the second step, one the third."""
    three = [candidate(base, n, 500, [0.1] * (n + 1)) for n in range(3)]
    ledger = Ledger(RUNGS, False, three)

    assert [ledger.highest(count) for count in (1, 2, 3, 4)] == [2, 1, 0, None]


def test_the_front_holds_what_nothing_beats(base: Recipe) -> None:
    """Smallest first; only full trainings count; intervals need two seeds."""
    ledger = Ledger(
        RUNGS,
        False,
        [
            candidate(base, 0, 900, [0.3, 0.2, 0.10]),
            candidate(base, 1, 500, [0.3, 0.2, 0.15]),
            candidate(base, 2, 700, [0.3, 0.2, 0.20]),
            candidate(base, 3, 400, [0.3, 0.01]),
        ],
    )

    rows = front_of(ledger)

    assert [(row.num_params, row.candidate, row.loss) for row in rows] == [
        (500, 1, 0.15),
        (900, 0, 0.10),
    ]
    assert rows[0].loss_interval is None
    assert rows[0].runs == ("run-1-2",)


def test_a_lucky_seed_does_not_push_out_a_mean(base: Recipe) -> None:
    """One seed with the lower loss stands beside two seeds; two seeds beat one."""
    two = candidate(base, 0, 500, [0.3, 0.2, 0.10, 0.12])
    lucky = candidate(base, 1, 500, [0.3, 0.2, 0.09])
    worse = candidate(base, 2, 500, [0.3, 0.2, 0.13])

    rows = front_of(Ledger(RUNGS, False, [two, lucky, worse]))

    assert [row.candidate for row in rows] == [1, 0]
    mean = rows[1]
    assert (mean.seeds, mean.loss) == (2, pytest.approx(0.11))
    assert mean.loss_interval is not None
    assert mean.loss_interval.low < 0.11 < mean.loss_interval.high
    assert mean.to_plain()["loss_interval"]["confidence"] == 0.95


def test_macs_count_if_asked(base: Recipe) -> None:
    """A larger network with fewer multiply-accumulates stays on the front then, and only then."""
    small = candidate(base, 0, 500, [0.3, 0.2, 0.10])
    quick = candidate(base, 1, 600, [0.3, 0.2, 0.10])
    quick.num_macs = 1_000

    without = front_of(Ledger(RUNGS, False, [small, quick]))
    with_macs = front_of(Ledger(RUNGS, True, [small, quick]))

    assert [row.candidate for row in without] == [0]
    assert [row.candidate for row in with_macs] == [0, 1]


def test_equal_points_beat_nobody() -> None:
    """Beating takes being better somewhere and worse nowhere."""
    assert beats((1, 2), (1, 3))
    assert not beats((1, 2), (1, 2))
    assert not beats((1, 3), (2, 2))
    assert Rung(4, 2).runs == [(4, 1), (4, 2)]

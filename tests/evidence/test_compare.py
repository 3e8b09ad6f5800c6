from collections.abc import Callable

import numpy as np
import pytest

from smidgen.errors import RunError
from smidgen.evidence.compare import compare, paired_difference
from smidgen.evidence.statistics import t_interval
from smidgen.runs.store import RunFolder

Make = Callable[..., RunFolder]


def _side(make_run: Make, name: str, counts: dict[int, int]) -> list[RunFolder]:
    return [make_run(seed, wrong=range(count), name=name) for seed, count in counts.items()]


def test_a_clear_difference_over_enough_seeds_is_better(make_run: Make) -> None:
    """Eight pairs that all differ the same way: both tests agree."""
    a = _side(make_run, "a", {seed: 2 + seed % 2 for seed in range(1, 9)})
    b = _side(make_run, "b", {seed: 6 + seed % 3 for seed in range(1, 9)})

    found = compare(a, b)

    differences = [4 / 40 + (seed % 3 - seed % 2) / 40 for seed in range(1, 9)]
    assert found.verdict == "a is better"
    assert compare(b, a).verdict == "b is better"
    assert found.difference.p_value == 2 / 2**8
    assert found.difference.mean == pytest.approx(np.mean(differences))
    assert found.difference.interval is not None
    expected = t_interval(differences)
    assert found.difference.interval.low == pytest.approx(expected.low)
    assert found.images is not None
    assert found.difference.mean in found.images
    assert found.a.accuracy.n == 8


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_seeds_never_declare_a_win(n: int) -> None:
    """Up to five pairs no difference, however clear, is called better; six are asked for.

    Student's interval and the test are there, a bootstrap interval would be far too short.
    """
    found = paired_difference([0.99 + 0.0001 * i for i in range(n)], [0.5] * n)

    assert found.verdict == "cannot tell"
    assert found.pairs_needed == 6
    assert found.bootstrap is None
    assert found.interval is not None
    assert found.p_value == 2 / 2**n


def test_six_pairs_have_a_bootstrap_interval() -> None:
    """From there on it can decide."""
    found = paired_difference([0.99 + 0.0001 * i for i in range(6)], [0.5] * 6)

    assert found.verdict == "a is better"
    assert found.bootstrap is not None
    assert found.mean in found.bootstrap


def test_noise_cannot_be_told_and_the_needed_seeds_are() -> None:
    """A difference of a fifth of its deviation needs about 200 pairs."""
    differences = np.tile([0.0012, -0.0008], 10)  # mean 0.0002, sd 0.001

    found = paired_difference(0.99 + differences, np.full(20, 0.99))

    assert found.verdict == "cannot tell"
    assert found.pairs_needed == pytest.approx(210, abs=12)


def test_both_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interval off zero alone, or a small p alone, makes nobody better."""
    a = [0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96]
    b = [0.80] * 7
    assert paired_difference(a, b).verdict == "a is better"

    monkeypatch.setattr("smidgen.evidence.compare.sign_flip_test", lambda differences: 0.051)
    assert paired_difference(a, b).verdict == "cannot tell"
    monkeypatch.undo()
    monkeypatch.setattr(
        "smidgen.evidence.compare.bca_of_mean", lambda values: t_interval([-1.0, 1.0])
    )
    assert paired_difference(a, b).verdict == "cannot tell"


def test_more_seeds_than_there_were_are_asked_for() -> None:
    """Where as many did not tell, one more is the least."""
    a = np.array([5, 5, 5, 5, 5, 5, -4.0])

    found = paired_difference(a, np.zeros(7))

    assert found.verdict == "cannot tell"
    assert found.pairs_needed is not None
    assert found.pairs_needed > 7


def test_a_recipe_is_not_better_than_itself(make_run: Make) -> None:
    """Equal runs give a difference of exactly nothing, which no number of seeds would change."""
    a = _side(make_run, "a", {seed: seed for seed in range(1, 9)})

    found = compare(a, a)

    assert found.verdict == "cannot tell"
    assert found.difference.p_value == 1.0
    assert found.difference.pairs_needed is None


def test_one_pair_is_no_comparison(make_run: Make) -> None:
    """From one seed come a difference and no test."""
    difference = compare(_side(make_run, "a", {1: 0}), _side(make_run, "b", {1: 9})).difference

    assert (difference.n, difference.verdict) == (1, "cannot tell")
    assert (difference.p_value, difference.bootstrap, difference.pairs_needed) == (None,) * 3


def test_seeds_are_paired_and_others_left_out(make_run: Make) -> None:
    """Only seeds that both have count; the rest are named."""
    found = compare(
        _side(make_run, "a", {1: 1, 2: 2, 3: 20}), _side(make_run, "b", {2: 4, 1: 3, 5: 0})
    )

    assert found.seeds == (1, 2)
    assert found.left_out == (3, 5)
    assert found.difference.mean == pytest.approx(2 / 40)
    assert found.a.accuracy.mean == pytest.approx(38.5 / 40)


def test_what_cannot_be_compared_is_refused(make_run: Make) -> None:
    """No common seed, other images and another protocol each get one line."""
    a = _side(make_run, "a", {1: 1, 2: 1})

    with pytest.raises(RunError) as caught:
        compare(a, _side(make_run, "b", dict.fromkeys(range(3, 9), 1)))
    assert str(caught.value) == (
        "`a` has runs of the seeds 1, 2 and `b` of 3, 4, 5, 6, 7, ...: none in common to pair."
    )
    with pytest.raises(RunError, match=r"trained and measured on other images \(`stripes` 555"):
        compare(a, [make_run(1, name="b", data_sha256="7" * 64)])
    with pytest.raises(RunError, match=r"under the protocols `final` and `tune`\. Compare runs of"):
        compare(a, [make_run(1, name="b", protocol="tune")])


def test_a_comparison_is_plain_data(make_run: Make) -> None:
    """The machine-readable form nests dictionaries and lists."""
    a = _side(make_run, "a", {1: 1, 2: 1})

    plain = compare(a, a).to_plain()

    assert plain["difference"]["verdict"] == "cannot tell"
    assert plain["a"]["recipe"] == "a"


@pytest.mark.parametrize(
    ("n", "sets"), [(6, 500), (20, 500), pytest.param(20, 10_000, marks=pytest.mark.slow)]
)
def test_equals_are_rarely_called_better(n: int, sets: int) -> None:
    """Of comparisons of a recipe with itself at most 5 % name a winner, but for chance."""
    rng = np.random.default_rng(5)
    errors = rng.poisson(rng.gamma(40, 55 / 40, (sets, 2, n)))

    verdicts = [paired_difference(*(1 - pair / 10_000)).verdict for pair in errors]

    chance = 3 * np.sqrt(0.05 * 0.95 / sets)
    assert np.mean([verdict != "cannot tell" for verdict in verdicts]) <= 0.05 + chance

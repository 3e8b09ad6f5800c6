from collections.abc import Callable

import pytest

from smidgen.data import Dataset
from smidgen.errors import EngineError, SearchError
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import get_recipe
from smidgen.recipes.recipe import Recipe
from smidgen.search import SearchOptions, search
from smidgen.search.ledger import Candidate, Ledger, Measured, rungs_of
from smidgen.search.proposals import Proposal, Proposer

from .conftest import Actor

Make = Callable[..., SearchOptions]


def proposals(options: SearchOptions, count: int) -> list[Proposal]:
    """Return what is proposed one after the other, each measured before the next."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ledger = Ledger(rungs_of(4, 1), options.max_macs is not None)
    proposer = Proposer(options, (1, 28, 28), 10, "torch")
    trials, made = [], []
    for number in range(count):
        one = proposer.propose(ledger, trials)
        made.append(one)
        trials.append(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=one.params,
                distributions=one.distributions,
            )
        )
        loss = one.num_params / 1e4 + 0.01 * (number % 7)
        ledger.candidates.append(Candidate(number, one.recipe, one.num_params, one.num_macs, 0))
        ledger.candidates[-1].measured[(1, 1)] = Measured("run", loss, 0.9, 1.0)
    return made


def test_proposals_keep_the_limits_and_differ(make_options: Make) -> None:
    """Evenly drawn, modelled and mutated ones: all are new and within parameters and MACs."""
    made = proposals(make_options(max_macs=100_000), 28)

    assert len({one.recipe.fingerprint() for one in made}) == 28
    for one in made:
        totals = trace(one.recipe.network).totals
        assert (one.num_params, one.num_macs) == (totals.num_params, totals.num_macs)
        assert 300 <= one.num_params <= 600
        assert one.num_macs <= 100_000
    assert any(one.parent is not None for one in made)
    assert made[0].parent is None


def test_equal_knowledge_gives_equal_proposals(
    make_options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed proposes the same, by the model too; another seed something else."""
    monkeypatch.setattr("smidgen.search.proposals._STARTUP", 4)
    options = make_options()

    assert proposals(options, 12) == proposals(options, 12)
    assert proposals(options, 2) != proposals(make_options(seed=2), 2)


@pytest.mark.parametrize("max_params", [600, 1_500, 10_000])
def test_the_first_candidate_fills_the_budget(make_options: Make, max_params: int) -> None:
    """It is a design that is known to be good, as wide as it may be, with the base's settings."""
    options = make_options(max_params=max_params)

    (first,) = proposals(options, 1)

    assert 0.8 * max_params <= first.num_params <= max_params
    assert first.recipe.optimizer == options.base.optimizer
    assert first.params == {}


def test_a_search_around_a_recipe_begins_with_it(make_options: Make) -> None:
    """The first candidate is the recipe as it is; the others are mutants of the better ones."""
    start = get_recipe("smidgen/quick").replace(epochs=4)
    options = make_options(base=start, mutates=True, max_params=10_000, min_params=5_000)

    first, *others = proposals(options, 8)

    assert first.recipe.fingerprint() == start.fingerprint()
    assert first.recipe.name == "search/10000-0"
    assert all(one.recipe.network != start.network for one in others[:1])
    assert {one.parent for one in others[:1]} == {0}
    assert all(one.parent is not None for one in others)


def test_a_start_beyond_the_limits_is_brought_within(make_options: Make) -> None:
    """A network of 9,402 parameters begins a search for 600 as a small relative of itself."""
    start = get_recipe("smidgen/quick")

    (first,) = proposals(make_options(base=start, mutates=True), 1)

    assert 300 <= first.num_params <= 600


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"max_params": 12},
            "None of 20 networks of the family is new and has 6 to 12 parameters. The nearest has ",
        ),
        (
            {"max_macs": 20},
            "None of 20 networks of the family is new and has 300 to 600 parameters and at most "
            "20 MACs. The nearest has ",
        ),
        ({"max_params": 12, "mutates": True}, "2,000 changes did not bring 178 parameters"),
    ],
)
def test_an_impossible_budget_is_one_line(
    make_options: Make,
    stripes: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    text: str,
) -> None:
    """It says how near anything came; nothing is trained."""
    monkeypatch.setattr("smidgen.search.proposals._MOST_DRAWS", 20)
    with pytest.raises(SearchError) as caught:
        search(stripes, make_options(**changes))

    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)
    assert Actor.made == []


def test_what_the_engine_cannot_run_is_refused(
    make_options: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted as refused, and the next one is drawn."""
    asked: list[Recipe] = []

    def choosy(recipe: Recipe, choice: str, device: str) -> tuple[str, str]:
        asked.append(recipe)
        if len(asked) < 4:
            raise EngineError("no such layer")
        return choice, ""

    monkeypatch.setattr("smidgen.search.proposals.choose_engine", choosy)

    (one,) = proposals(make_options(), 1)

    assert one.num_refused >= 3
    assert one.recipe == asked[-1]


def test_refusals_are_counted_and_not_trained(
    make_options: Make, stripes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand in the result beside the candidates, which they are none of."""
    calls = [0]

    def choosy(recipe: Recipe, choice: str, device: str) -> tuple[str, str]:
        calls[0] += 1
        if calls[0] % 2:
            raise EngineError("no such layer")
        return choice, ""

    monkeypatch.setattr("smidgen.search.proposals.choose_engine", choosy)

    result = search(stripes, make_options(num_candidates=4))

    assert result.counts.refused >= 4
    assert result.counts.candidates == 4

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from smidgen.recipes.ladder import Rung, read_ladder
from smidgen.recipes.recipe import Claim, Recipe
from smidgen.report.figures import short_number
from smidgen.report.ladder_page import ladder_plots, make_ladder_page, tell_ladder
from smidgen.runs.store import RunFolder, RunStore

MakeRun = Callable[..., RunFolder]


def _rungs(recipe: Recipe) -> tuple[Rung, Rung]:
    about = replace(
        recipe.about,
        summary="<i>first</i>",
        target="reach `x`",
        claim=Claim(best_accuracy=99.0, test_log=(98.0, 99.0)),
    )
    return Rung(recipe.replace(about=about)), Rung(recipe.replace(name="other", epochs=2), "seen")


def test_steps_carry_the_curves_of_the_runs_that_were_analyzed(
    make_run: MakeRun, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """By seed, with their mean; a step without runs has none."""
    make_run(seed=2, wrong=(0, 1))
    make_run(seed=1, wrong=())

    steps = tell_ladder(_rungs(tiny_recipe), RunStore(tmp_path / "runs"))

    assert steps[0].curves == ((0.775, 0.8, 1.0), (0.775, 0.8, 0.95))
    assert steps[0].mean_curve == (0.775, 0.8, 0.975)
    assert steps[0].claimed == 0.99
    assert (steps[1].curves, steps[1].mean_curve, steps[1].claimed) == ((), (), None)


def test_page_tells_target_result_and_analysis(
    make_run: MakeRun, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """Of every step, escaped, claimed beside ours."""
    make_run(seed=1, wrong=(0, 1))

    steps = tell_ladder(_rungs(tiny_recipe), RunStore(tmp_path / "runs"))
    html = make_ladder_page("mine", steps, {"tiny": "proof-tiny.html"})

    assert "&lt;i&gt;first&lt;/i&gt;" in html
    assert "reach <code>x</code>" in html
    assert "claimed: 99.00 %, the best epoch, <em>selected on the test set</em>" in html
    assert "ours: 95.00 % on test after the last epoch, n = 1" in html
    assert "noted: seen" in html
    assert "ours: no runs here yet" in html
    assert '<a href="proof-tiny.html">tiny</a>' in html
    assert (
        "Here <code>tiny</code> ends highest: 95.00 %, one seed. Steps without runs here: 1."
        in html
    )


def test_ladder_without_runs_shows_the_claims_alone(tmp_path: Path) -> None:
    """An empty store is no error."""
    steps = tell_ladder(read_ladder("era-s7"), RunStore(tmp_path / "none"))

    assert [plot.name for plot in ladder_plots(steps)] == ["claims", "sizes"]
    assert "Nothing of it was trained here yet." in make_ladder_page("era-s7", steps)


def test_ladder_without_runs_and_claims_has_no_plots(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Its page is its steps."""
    steps = tell_ladder((Rung(tiny_recipe),), RunStore(tmp_path / "none"))

    assert ladder_plots(steps) == []
    assert "One step of" in make_ladder_page("mine.json", steps)


def test_round_numbers_are_short() -> None:
    """As people write them at an axis."""
    assert [short_number(n) for n in (0.5, 200, 5_000, 3e6)] == ["0.5", "200", "5k", "3M"]

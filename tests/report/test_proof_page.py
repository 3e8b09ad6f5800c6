from collections.abc import Callable
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from smidgen.errors import RunError
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.recipe import Recipe
from smidgen.report.pictures import Pictures
from smidgen.report.proof_page import (
    lede,
    make_proof_page,
    power_rows,
    proof_plots,
    statements,
    tell_proof,
)
from smidgen.runs.store import RunFolder

MakeRun = Callable[..., RunFolder]
PIXELS = Pictures(np.zeros((40, 1, 6, 6), np.uint8))


def test_page_shows_every_part_and_escapes_what_users_wrote(make_run: MakeRun) -> None:
    """Seeds, statements, shared errors, power, command; a hostile name stays text."""
    name = "<script>alert(1)</script>"
    runs = [make_run(seed=1, name=name, wrong=(3, 4)), make_run(seed=2, name=name, wrong=(3,))]
    story = tell_proof(runs, target=0.95)
    story = replace(story, hard=(replace(story.hard[0], label="<b>three", given="a&b"),))

    html = make_proof_page(story, PIXELS, {runs[0].name: "run-1.html"})

    assert "<script>alert" not in html
    assert "<b>three" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>&lt;b&gt;three</b> seen as <b>a&amp;b</b>" in html
    assert '<a href="run-1.html">' in html
    assert "No claim: that takes at least 20 seeds" in html
    assert "smidgen prove recipe.json --seeds 2 --target 95" in html
    assert html.count("data:image/png;base64") == 1
    assert all(f'id="plot-{plot}"' in html for plot in ("seeds", "ends", "staying"))


def test_the_command_proves_what_was_proved(make_run: MakeRun) -> None:
    """A name of the catalogue is enough; of a changed recipe the page holds the file."""
    known = RECIPES["smidgen/quick"]
    changed = known.replace(epochs=3)
    story = tell_proof([make_run(seed=1, name=known.name)])
    for recipe, name in ((known, "smidgen/quick"), (changed, "recipe.json")):
        html = unescape(make_proof_page(replace(story, recipe=recipe), PIXELS))

        assert f"smidgen prove {name} --seeds 1" in html
        assert (recipe.to_json() in html) == (recipe is changed)


def test_page_without_pictures_says_why(make_run: MakeRun) -> None:
    """The numbers of the images are shown all the same, and no broken picture."""
    story = tell_proof([make_run(seed=1, wrong=(3,)), make_run(seed=2, wrong=(3,))])

    html = make_proof_page(story, Pictures(None, "No pictures: `mnist` is elsewhere."))

    assert "No pictures: <code>mnist</code> is elsewhere." in html
    assert "<img" not in html
    assert "no. 3</p>" in html
    assert "No target was given" in html


def test_one_seed_makes_a_page_that_promises_nothing(make_run: MakeRun) -> None:
    """No interval, no scatter, no power: said instead of shown."""
    story = tell_proof([make_run(seed=3, wrong=())])

    html = make_proof_page(story, PIXELS)

    assert "One random seed gives 100.00 % on test" in html
    assert "From one seed nobody can say how much seeds scatter." in html
    assert "nan" not in html.split("<main")[1]


@pytest.mark.parametrize(
    ("target", "title"),
    [
        (0.8, "above the target of 80 %"),
        (0.999, "below the target of 99.9 %"),
        (0.925, "too close to 92.5 % to call"),
    ],
)
def test_title_says_how_the_mean_stands_to_the_target(
    make_run: MakeRun, target: float, title: str
) -> None:
    """It is computed from the interval."""
    runs = [make_run(seed=seed, wrong=range(count)) for seed, count in ((1, 2), (2, 4), (3, 3))]

    ends = proof_plots(tell_proof(runs, target))[1]

    assert ends.title.endswith(title)


def test_statements_are_those_that_prove_prints(make_run: MakeRun) -> None:
    """Title by title, with the lines of each together."""
    proof = tell_proof([make_run(seed=1), make_run(seed=2, wrong=(0, 1))], 0.9).proof

    said = dict(statements(proof))

    assert said["mean accuracy"][0].startswith("96.25 %, 95 % interval")
    assert len(said["mean accuracy"]) == 1  # two seeds have no bootstrap interval
    assert said["at 90 % or above"] == [
        "2 of 2 seeds, 95 % interval 15.81 to 100.00 % (Clopper-Pearson)"
    ]
    assert lede(proof).startswith("Over 2 random seeds, 96.25 % of the test images are right")


def test_page_of_an_origins_protocol_says_what_was_selected(make_run: MakeRun) -> None:
    """Last and best stand side by side, the best with its words."""
    result = replace(make_run(seed=9).record().result, selection="selected on the test set")
    runs = [make_run(seed=seed, protocol="origin", result=result) for seed in (1, 2)]

    html = make_proof_page(tell_proof(runs), PIXELS)

    assert "At the best epoch, <em>selected on the test set</em>, it is 97.50 %." in html
    assert "protocol origin" in html
    assert 'id="hard"' not in html


def test_fewer_epochs_than_stay_show_nothing_of_staying(make_run: MakeRun) -> None:
    """Three epochs cannot be at the target for the last five: neither tile nor column."""
    runs = [make_run(seed=1), make_run(seed=2)]

    short = make_proof_page(tell_proof(runs, 0.9), PIXELS)
    enough = make_proof_page(tell_proof(runs, 0.9, stay_epochs=3), PIXELS)

    assert "and stay there" in enough
    assert ">stays<" in enough
    assert "and stay" not in short
    assert ">stays<" not in short
    assert "at 90 % or above" in short
    assert "at target from" in short


def test_a_target_meant_for_another_data_set_is_left_out(
    make_run: MakeRun, tiny_recipe: Recipe
) -> None:
    """A moved recipe's page says so; with a target asked for there is nothing to say."""
    moved = tiny_recipe.replace(name="smidgen/quick", budget=RECIPES["smidgen/quick"].budget)
    runs = [make_run(seed=seed, name="smidgen/quick", recipe=moved) for seed in (1, 2)]
    said = "Its target of 99.4 % is meant for mnist and left out."

    page = make_proof_page(tell_proof(runs), PIXELS)
    asked = make_proof_page(tell_proof(runs, 0.9), PIXELS)

    assert said in page
    assert "or above" not in page
    assert said not in asked
    assert "at 90 % or above" in asked


def test_one_seed_is_no_distribution(make_run: MakeRun) -> None:
    """There is nothing to spread over an axis."""
    names = [plot.name for plot in proof_plots(tell_proof([make_run()], 0.9))]

    assert names == ["seeds", "staying"]


def test_story_counts_who_is_at_the_target_and_who_stays(make_run: MakeRun) -> None:
    """After each epoch: seeds at the target, and those that never fall below it again."""
    runs = [
        make_run(seed=1, errors_before=(4, 9, 4), wrong=range(4)),
        make_run(seed=2, errors_before=(9, 4, 3), wrong=range(2)),
    ]

    story = tell_proof(runs, target=0.9, stay_epochs=2)

    assert [each.count for each in story.at_target] == [1, 1, 2, 2]
    assert [each.count for each in story.staying] == [0, 1, 2, 2]
    assert story.proof.target is not None
    assert story.proof.target.stayed.count == 2
    assert story.curves[0].accuracies == (0.9, 0.775, 0.9, 0.9)
    assert story.mean_curve == pytest.approx((0.8375, 0.8375, 0.9125, 0.925))


def test_story_shows_the_images_that_every_seed_gets_wrong(make_run: MakeRun) -> None:
    """With the class most seeds see in them; images wrong for some seeds only are left out."""
    runs = [make_run(seed=1, wrong=(3, 12, 20)), make_run(seed=2, wrong=(3, 12))]

    hard = tell_proof(runs).hard

    assert [(image.position, image.label, image.given) for image in hard] == [
        (3, "3", "4"),
        (12, "2", "3"),
    ]
    assert all(image.share == 1.0 and not image.is_label_error for image in hard)


def test_story_takes_no_target_where_none_is_known(make_run: MakeRun) -> None:
    """Without `--target` and without one in the recipe's budget nothing is said about one."""
    story = tell_proof([make_run(seed=1), make_run(seed=2)])

    assert story.proof.target is None
    assert story.at_target == story.staying == ()


def test_one_seed_has_no_power_table(make_run: MakeRun) -> None:
    """From one seed, or from seeds that all came to the same, no scatter can be known."""
    run = make_run(seed=1)

    one, equal = tell_proof([run]), tell_proof([run, make_run(seed=2)])

    assert one.power == equal.power == ()


def test_power_falls_with_the_difference_and_needs_a_known_number_of_seeds(
    make_run: MakeRun,
) -> None:
    """Seeds that scatter by 0.06 points need 25 pairs for a difference of 0.05, as the docs say."""
    proof = tell_proof([make_run(seed=1), make_run(seed=2)]).proof
    scattered = replace(proof, accuracy=replace(proof.accuracy, n=20, sd=0.0006))

    rows = power_rows(scattered)

    needed = {row.points: row.pairs for row in rows}
    assert (needed[0.01], needed[0.05], needed[0.1]) == (568, 25, 8)
    assert [row.seen for row in rows] == sorted(row.seen for row in rows)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"engine": "native"}, "differ in more than the seed: engine"),
        ({"seed": 1, "name": "twin"}, "Seed 1 is"),
    ],
)
def test_runs_that_are_no_sample_are_refused(
    make_run: MakeRun, changes: dict[str, object], reason: str
) -> None:
    """Other engines, or a seed twice: the one line says what."""
    other = make_run(**{"seed": 2, **changes})
    runs = [make_run(seed=1), other]

    with pytest.raises(RunError, match=reason):
        tell_proof(runs)

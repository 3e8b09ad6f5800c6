from collections.abc import Callable
from dataclasses import replace

import pytest

from smidgen.errors import RunError
from smidgen.report.proof_story import power_rows, tell_proof
from smidgen.runs.store import RunFolder

MakeRun = Callable[..., RunFolder]


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

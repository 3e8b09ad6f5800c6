from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from smidgen.errors import RunError
from smidgen.evidence.answers import MNIST_SHA256
from smidgen.evidence.proof import SeedFailure, errors_allowed, proof_of, spread, wrong_images
from smidgen.evidence.statistics import clopper_pearson, t_interval, t_test_above
from smidgen.runs.store import RunFolder

Make = Callable[..., RunFolder]


def test_a_proof_states_the_spread_of_the_last_epoch(make_run: Make) -> None:
    """Mean, deviation, range and Student's interval are those of the accuracies."""
    runs = [make_run(seed, wrong=range(seed)) for seed in (3, 1, 2)]
    accuracies = [39 / 40, 38 / 40, 37 / 40]

    proof = proof_of(runs)

    seen = proof.accuracy
    assert [each.seed for each in proof.seeds] == [1, 2, 3]
    assert [each.accuracy for each in proof.seeds] == pytest.approx(accuracies)
    assert (seen.n, seen.mean, seen.median) == pytest.approx((3, 0.95, 0.95))
    assert (seen.minimum, seen.maximum, seen.sd) == pytest.approx((0.925, 0.975, 0.025))
    assert seen.interval == t_interval(accuracies)
    assert seen.bootstrap is None
    assert (proof.split, proof.protocol, proof.engine) == ("test", "final", "torch")
    assert proof.processors == ("a chip",)
    assert proof.versions == ("smidgen 0",)
    assert proof.train_seconds.mean == pytest.approx(4.5)


def test_a_proof_states_how_seeds_stand_to_a_target(make_run: Make) -> None:
    """At the target, staying there, first there, and never there are counted by errors."""
    runs = [
        make_run(1, wrong=[0, 1], errors_before=(9, 2, 2)),  # there from epoch 2, and stays
        make_run(2, wrong=[0], errors_before=(2, 3, 1)),  # there at once, but not throughout
        make_run(3, wrong=[0, 1, 2], errors_before=(9, 9, 2)),  # there and gone again
        make_run(4, wrong=[0, 1, 2], errors_before=(9, 9, 9)),  # never there
    ]

    at = proof_of(runs, target=0.95, stay_epochs=3).target

    assert at is not None
    assert (at.reached.count, at.reached.total, at.reached.share) == (2, 4, 0.5)
    assert at.reached.interval == clopper_pearson(2, 4)
    assert at.stayed.count == 1
    assert at.never.count == 1
    assert at.median_first_epoch == 2.5
    assert at.p_value == t_test_above([0.95, 0.975, 0.925, 0.925], 0.95)


def test_half_of_the_seeds_never_at_the_target_have_no_median(make_run: Make) -> None:
    """Seeds that never get there count as later than all others."""
    runs = [make_run(1, wrong=[0]), make_run(2, wrong=range(8))]

    at = proof_of(runs, target=0.95).target

    assert at is not None
    assert at.median_first_epoch is None
    assert at.never.count == 1


def test_fewer_epochs_than_asked_for_are_no_stay(make_run: Make) -> None:
    """Three epochs at the target do not show that five would be."""
    run = make_run(1, wrong=[0], errors_before=(0, 0))

    assert proof_of([run], 0.95, stay_epochs=3).seeds[0].stays
    assert not proof_of([run], 0.95, stay_epochs=4).seeds[0].stays


@pytest.mark.parametrize(
    ("target", "num_images", "expected"),
    [(0.994, 10_000, 60), (99.93 / 100, 10_000, 7), (0.9947, 10_000, 53), (1.0, 500, 0)],
)
def test_a_target_leaves_a_whole_number_of_errors(
    target: float, num_images: int, expected: int
) -> None:
    """99.4 % of 10,000 images allow 60 errors, whatever doubles make of 1 - 0.994."""
    assert errors_allowed(target, num_images) == expected


def test_errors_that_all_seeds_share_are_the_hard_core(make_run: Make) -> None:
    """Images wrong for every seed are listed, those wrong for any counted."""
    runs = [make_run(1, wrong=[3, 5, 7]), make_run(2, wrong=[3, 7, 11])]

    images = proof_of(runs).images

    assert images is not None
    assert images.shared == (3, 7)
    assert images.ever == 4
    assert images.num_images == 40
    assert 37 / 40 in images.interval
    assert (images.label_errors, images.known_label_errors) == ((), 0)


def test_known_label_errors_are_marked_by_the_data_hash(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the shared errors those in the data set's table are named, under its hash alone."""
    table = {MNIST_SHA256: frozenset({3, 20})}
    monkeypatch.setattr("smidgen.evidence.answers._BY_DATA", table)
    runs = [make_run(seed, wrong=[3, 5], data_sha256=MNIST_SHA256) for seed in (1, 2)]
    others = [make_run(seed, wrong=[3, 5]) for seed in (1, 2)]

    images, other_images = proof_of(runs).images, proof_of(others).images

    assert images is not None
    assert other_images is not None
    assert (images.label_errors, images.known_label_errors) == ((3,), 2)
    assert (other_images.label_errors, other_images.known_label_errors) == ((), 0)


def test_an_epoch_selected_on_the_test_set_is_not_the_headline(make_run: Make) -> None:
    """Under the origin's selection the last epoch is the headline; the best stands beside it."""
    run = make_run(1, wrong=[0, 1, 2, 3], errors_before=(2, 1))
    record = run.record()
    assert record.result is not None
    selected = replace(
        record.result, accuracy=39 / 40, num_errors=1, epoch=2, selection="selected on the test set"
    )
    run.save_record(replace(record, protocol="origin", result=selected))

    proof = proof_of([run], target=0.97)

    assert proof.accuracy.mean == pytest.approx(36 / 40)
    assert proof.target is not None
    assert proof.target.reached.count == 0
    assert proof.selected is not None
    assert proof.selected.best == pytest.approx(39 / 40)
    assert proof.selected.last == pytest.approx(36 / 40)
    assert proof.images is None  # the predictions are the selected epoch's


def test_one_seed_has_no_interval(make_run: Make) -> None:
    """From a single run come a number and no statement about its uncertainty."""
    proof = proof_of([make_run(1)], target=0.9)

    seen = proof.accuracy
    assert (seen.n, seen.sd, seen.interval, seen.bootstrap) == (1, None, None, None)
    assert proof.target is not None
    assert proof.target.p_value is None


def test_the_bootstrap_interval_takes_six_seeds(make_run: Make) -> None:
    """Student's is honest for two; drawing five anew is not."""
    runs = [make_run(seed, wrong=range(seed)) for seed in range(1, 7)]

    two, five, six = (proof_of(runs[:count]).accuracy for count in (2, 5, 6))

    assert two.interval is not None
    assert two.bootstrap is None
    assert five.bootstrap is None
    assert six.bootstrap is not None
    assert six.mean in six.bootstrap


def test_failures_are_passed_on(make_run: Make) -> None:
    """A seed without a run stands in the proof with its reason."""
    failure = SeedFailure(7, "out of luck")

    assert proof_of([make_run(1)], failures=[failure]).failures == (failure,)


def test_a_proof_is_plain_data(make_run: Make) -> None:
    """The machine-readable form nests dictionaries and lists."""
    plain = proof_of([make_run(1), make_run(2)], target=0.9).to_plain()

    assert plain["accuracy"]["interval"]["confidence"] == 0.95
    assert plain["target"]["reached"]["count"] == 2
    assert [each["seed"] for each in plain["seeds"]] == [1, 2]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"engine": "native"}, "engine, threads"),
        ({"data_sha256": "6" * 64}, "data"),
        ({"protocol": "tune"}, "protocol"),
        ({"results_version": 9}, "results version"),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_no_sample(
    make_run: Make, changes: dict[str, Any], expected: str
) -> None:
    """What differs is named."""
    runs = [make_run(1), make_run(2, **changes)]

    with pytest.raises(RunError) as caught:
        proof_of(runs)

    assert str(caught.value) == (
        f"The runs of `tiny` differ in more than the seed: {expected}. Take runs that are alike "
        "in the rest."
    )


def test_what_is_no_sample_is_refused(make_run: Make) -> None:
    """No runs, a seed twice, and an unfinished run each get one line."""
    run, unfinished = make_run(1), make_run(2, result=None, finish=False)

    with pytest.raises(RunError, match=r"^There are no finished runs to make a statement about\.$"):
        proof_of([])
    with pytest.raises(RunError, match=r"^Seed 1 is there twice\. Take one run of each seed\.$"):
        proof_of([run, run])
    with pytest.raises(RunError, match=r"^Seed 2 of `tiny` is not finished\. Only finished runs"):
        proof_of([run, unfinished])


def test_wrong_images_come_from_the_predictions(make_run: Make) -> None:
    """One row per run, True where the highest score is not the label's."""
    wrong = wrong_images([make_run(1, wrong=[2]), make_run(2, wrong=[2, 39])])

    assert wrong.shape == (2, 40)
    assert [list(np.flatnonzero(row)) for row in wrong] == [[2], [2, 39]]


def test_the_spread_of_equal_numbers_is_a_point() -> None:
    """Equal accuracies give intervals without width."""
    seen = spread([0.5] * 6)

    assert seen.sd == 0.0
    assert seen.interval is not None
    assert seen.bootstrap is not None
    assert (seen.interval.low, seen.bootstrap.high) == (0.5, 0.5)

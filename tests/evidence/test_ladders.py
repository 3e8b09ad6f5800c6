from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from smidgen.errors import RunError
from smidgen.evidence.changes import changes
from smidgen.evidence.ladders import StepRuns, analyze
from smidgen.network.layers import BatchNorm, Conv, Flatten, GlobalAvgPool, ReLU
from smidgen.network.network import Network
from smidgen.recipes.augmentation import Augmentation, Rotation
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.parts import SGD, Budget, Constant, WeightAveraging
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import RunRecord
from smidgen.runs.store import RunFolder

Make = Callable[..., RunFolder]


def trained(run: RunFolder, *shares: float) -> RunRecord:
    """Return the record with these running training accuracies."""
    record = run.record()
    epochs = tuple(
        replace(epoch, train_accuracy=share)
        for epoch, share in zip(record.epochs, shares, strict=True)
    )
    return replace(record, epochs=epochs)


def said(recipe: Recipe, *records: RunRecord, before: StepRuns | None = None) -> str:
    """Return the whole analysis."""
    return "\n".join(analyze(StepRuns(recipe, records), before))


@pytest.mark.parametrize(
    ("budget", "line"),
    [
        (Budget(max_params=700), "612 parameters: 88 under the budget of 700."),
        (Budget(max_params=612), "612 parameters: exactly the budget of 612."),
        (Budget(max_params=600), "612 parameters: 12 over the budget of 600."),
        (Budget(max_epochs=2), "3 epochs: 1 over the budget of 2."),
    ],
)
def test_size_against_the_budget(tiny_recipe: Recipe, budget: Budget, line: str) -> None:
    """Under, exactly or over, by how many."""
    assert analyze(StepRuns(tiny_recipe.replace(budget=budget)), None) == (line,)


@pytest.mark.parametrize(
    ("last", "line"),
    [
        (1.0, "Training ends at 100.00 % and test at 50.00 %: 50.00 points of gap, it memorizes."),
        (0.55, "Training ends at 55.00 % and test at 50.00 %: no gap to speak of."),
        (
            0.2,
            "Training ends at 20.00 % and test at 50.00 %: training is the harder of the two "
            "(dropout and augmentation).",
        ),
    ],
)
def test_the_gap_is_held_against_chance(
    tiny_recipe: Recipe, make_run: Make, last: float, line: str
) -> None:
    """With 40 images and half of them wrong two standard errors are 15.8 points."""
    record = trained(make_run(1, wrong=range(20)), last, last, last)

    assert line in said(tiny_recipe, record).splitlines()


def test_where_capacity_limits(tiny_recipe: Recipe, make_run: Make) -> None:
    """Training at rest below what it could memorize points to the size, and to the layer."""
    run = make_run(1, wrong=range(20), errors_before=(25, 22, 21))
    text = said(tiny_recipe, trained(run, 0.5, 0.5, 0.5, 0.5))

    assert (
        "Training has come to rest and does not outrun it: capacity limits. 72 % of the "
        "parameters are in layer 4, Conv(8, 3, stride=2, bias=True); the narrowest is layer 0 "
        "with 6 channels."
    ) in text


@pytest.mark.parametrize(
    ("errors_before", "curve", "begin"),
    [((), (0.5,), "1 epoch cannot tell"), ((25, 22), (0.5, 0.5, 0.5), "3 epochs cannot tell")],
)
def test_few_epochs_say_nothing_of_capacity(
    tiny_recipe: Recipe,
    make_run: Make,
    errors_before: tuple[int, ...],
    curve: tuple[float, ...],
    begin: str,
) -> None:
    """Whether training has come to rest takes the last three epochs' gain."""
    run = make_run(1, wrong=range(20), errors_before=errors_before)
    text = said(tiny_recipe, trained(run, *curve))

    assert f"{begin} whether training has come to rest: more epochs before more parameters." in text
    assert "capacity limits" not in text


def test_training_that_still_rises_needs_epochs(tiny_recipe: Recipe, make_run: Make) -> None:
    """Before more parameters come more epochs."""
    run = make_run(1, wrong=range(20), errors_before=(25, 22, 21))

    assert (
        "Training still gained 30.00 points in the last three epochs: more epochs or a higher "
        "rate before more parameters."
    ) in said(tiny_recipe, trained(run, 0.2, 0.3, 0.4, 0.5))


@pytest.mark.parametrize(
    ("errors", "line"),
    [
        ((21, 20), "The last 3 epochs are steady: 2.50 points between lowest and highest; "),
        ((30, 5), "The last 3 epochs swing: 62.50 points between lowest and highest; "),
    ],
)
def test_the_tail_is_steady_or_swings(
    tiny_recipe: Recipe, make_run: Make, errors: tuple[int, int], line: str
) -> None:
    """The range of the last epochs is held against what so many images can tell."""
    record = make_run(1, wrong=range(20), errors_before=errors).record()

    assert line + "the rate stays at 0.1." in said(tiny_recipe, record)


def test_one_seed_cannot_tell(tiny_recipe: Recipe, make_run: Make) -> None:
    """A difference of one seed is never more than noise."""
    before = StepRuns(tiny_recipe, (make_run(1, wrong=range(9)).record(),))
    record = make_run(1, wrong=[0], name="b").record()

    assert said(tiny_recipe, record, before=before).splitlines()[-1] == (
        "+20.00 points against `tiny`, from one seed: whether that is more than noise cannot be "
        "told."
    )


def test_many_seeds_can(tiny_recipe: Recipe, make_run: Make) -> None:
    """Eight paired seeds that agree are better; eight that do not are not shown to be."""
    worse, better, mixed = (
        tuple(make_run(seed, wrong=range(count(seed)), name=name).record() for seed in range(1, 9))
        for name, count in (
            ("worse", lambda seed: 9 + seed % 2),
            ("better", lambda seed: 1 + seed % 3),
            ("mixed", lambda seed: 7 + seed % 4 + seed % 2),
        )
    )
    before = StepRuns(tiny_recipe, worse)

    assert "over 8 seeds: better by more than noise (p = 0.0078)." in said(
        tiny_recipe, *better, before=before
    )
    assert "over 8 seeds: not shown to be more than noise" in said(
        tiny_recipe, *mixed, before=before
    )


def test_steps_that_cannot_be_weighed_say_why(tiny_recipe: Recipe, make_run: Make) -> None:
    """No runs, no seed in common, or another protocol."""
    record = make_run(1).record()
    cases = (
        (StepRuns(tiny_recipe), "`tiny` has no runs here, so the step cannot be weighed."),
        (
            StepRuns(tiny_recipe, (make_run(2).record(),)),
            "No seed in common with `tiny`, so the step cannot be weighed.",
        ),
        (
            StepRuns(tiny_recipe, (replace(record, protocol="tune"),)),
            "`tiny` was measured in another way; the two cannot be compared.",
        ),
    )
    for before, line in cases:
        assert said(tiny_recipe, record, before=before).splitlines()[-1] == line


def test_runs_that_are_no_sample_are_refused(tiny_recipe: Recipe, make_run: Make) -> None:
    """The same seed twice proves nothing."""
    record = make_run(1).record()
    with pytest.raises(RunError, match=r"^Seed 1 is there twice"):
        analyze(StepRuns(tiny_recipe, (record, record)), None)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (
            "era-s7/2",
            "era-s7/3",
            ("parameters 9,048 -> 9,180", "adds 7 x BatchNorm()"),
        ),
        ("era-s7/3", "era-s7/4", ("adds 7 x Dropout(0.1)",)),
        ("eva4-s5/3", "eva4-s5/4", ("schedule constant -> step",)),
        ("eva4-s5/4", "eva4-s5/5", ("adds 7 x Dropout(0.01)", "adds rotation (degrees 6)")),
        ("era-s7/7", "era-s7/7", ()),
    ],
)
def test_changes_between_steps_in_words(before: str, after: str, found: tuple[str, ...]) -> None:
    """What the origins' steps change is what their stories say."""
    assert changes(RECIPES[before], RECIPES[after]) == found


def test_every_setting_has_words(tiny_recipe: Recipe) -> None:
    """Groups of another kind, switches and plain numbers are each named once."""
    changed = tiny_recipe.replace(
        optimizer=SGD(lr=0.1, momentum=0.9),
        schedule=Constant(),
        averaging=None,
        augmentation=Augmentation((Rotation(7.0),)),
        batch_size=64,
    )

    found = changes(tiny_recipe, changed)

    for phrase in (
        "optimizer adam -> sgd",
        "learning rate 0.02 -> 0.1",
        "schedule one_cycle -> constant",
        "averaging off",
        "batch size 32 -> 64",
        "adds rotation (degrees 7)",
        "drops rotation (degrees 5)",
    ):
        assert phrase in found
    assert changes(changed, changed.replace(averaging=WeightAveraging(0.9))) == ("averaging on",)


def test_changes_to_images_count_as_often_as_they_are_made(tiny_recipe: Recipe) -> None:
    """A second transform like the first is one more, and their order is told where it differs."""
    turn, more = Rotation(7.0), Rotation(5.0)
    once, twice, both, swapped = (
        tiny_recipe.replace(augmentation=Augmentation(transforms))
        for transforms in ((turn,), (turn, turn), (turn, more), (more, turn))
    )

    assert changes(once, twice) == ("adds rotation (degrees 7)",)
    assert changes(twice, once) == ("drops rotation (degrees 7)",)
    assert changes(both, swapped) == (
        "augments in another way (order, interpolation, fill or position)",
    )


def test_the_same_layers_in_another_order_are_a_change(tiny_recipe: Recipe) -> None:
    """Order counts even where the table's rows are the same."""
    orders = [(ReLU(), BatchNorm()), (BatchNorm(), ReLU())]
    recipes = [
        tiny_recipe.replace(network=Network((Conv(10, 3), *order, GlobalAvgPool(), Flatten())))
        for order in orders
    ]

    assert changes(*recipes) == ("wires the same layers in another way",)


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"output": "log_softmax"}, "output logits -> log_softmax"),
        ({"init": "keras"}, "initial weights as in torch -> keras"),
        ({"input_shape": (1, 32, 32)}, "images 1x28x28 -> 1x32x32"),
    ],
)
def test_what_changes_around_the_layers_is_no_change_of_them(
    tiny_recipe: Recipe, change: dict[str, Any], phrase: str
) -> None:
    """Of a network with the same layers in the same order only what differs is told."""
    changed = tiny_recipe.replace(network=replace(tiny_recipe.network, **change))

    assert changes(tiny_recipe, changed) == (phrase,)


def test_teachers_are_named(tiny_recipe: Recipe) -> None:
    """Other teachers are told by name and seeds, not by their whole recipes."""
    one, two = (
        tiny_recipe.replace(distillation=Distillation((Teacher(tiny_recipe, seeds),), weight=w))
        for seeds, w in (((1,), 0.9), ((1, 2), 0.5))
    )

    assert changes(tiny_recipe, one) == ("distillation on",)
    assert changes(one, two) == (
        "distillation.teachers tiny, seed 1 -> tiny, seeds 1, 2",
        "distillation.weight 0.9 -> 0.5",
    )

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from smidgen.errors import RecipeError, RunError, SmidgenError, UnknownNameError
from smidgen.evidence.check import check, lines_of
from smidgen.evidence.limits import (
    LAYER_WORDS,
    Limits,
    Subject,
    layer_word,
    limits_of,
    promised_target,
    subject_of_network,
    subject_of_watched,
    void_target,
)
from smidgen.evidence.proof import proof_of
from smidgen.evidence.select import runs_of
from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    ReLU,
)
from smidgen.network.network import Network
from smidgen.reading.watched import Watched, WatchedFunction, WatchedRow
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.parts import Budget
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore
from smidgen.values import from_json

Make = Callable[..., RunFolder]


def era7(epochs: int | None = 15) -> Subject:
    """Return the step whose class registers a block that never runs."""
    return subject_of_network("era-s7/7", RECIPES["era-s7/7"].network, epochs)


def history(widths: tuple[int, ...], dense: int) -> Subject:
    """Return an early form of the origin that claimed fewer than 20,000 parameters throughout."""
    layers: list[object] = []
    for width in widths:
        layers += [Conv(width, 3, padding=1, bias=True), BatchNorm(), ReLU(), MaxPool(2)]
    layers += [Flatten(), Dense(dense), ReLU(), Dropout(0.25), Dense(10)]
    return subject_of_network("history", Network(layers=tuple(layers)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("widths", "dense", "text"),
    [
        ((16, 32), 128, "207,018 parameters, limit 19,999: 187,019 too many"),
        ((8, 16, 20), 64, "16,470 parameters, limit 19,999: 3,529 to spare"),
        ((16, 32, 32), 128, "52,490 parameters, limit 19,999: 32,491 too many"),
    ],
)
def test_history_of_a_claim(widths: tuple[int, ...], dense: int, text: str) -> None:
    """Three early forms that were told to have fewer than 20,000 parameters; one of them has."""
    (limit,) = check(history(widths, dense), Limits(max_params=19_999)).limits

    assert limit.text == text
    assert limit.kept == text.endswith("to spare")


def test_the_counting_rule_decides_and_the_rest_is_said() -> None:
    """8,932 are reached and 11,268 registered: 10,000 is kept, and the line says both."""
    (limit,) = check(era7(), Limits(max_params=10_000)).limits

    assert (limit.value, limit.limit, limit.kept) == (8_932, 10_000, True)
    assert limit.text == "8,932 parameters (11,268 registered), limit 10,000: 1,068 to spare"


@pytest.mark.parametrize(
    ("limits", "name", "kept", "text"),
    [
        (
            Limits(max_params=8_932),
            "max_params",
            True,
            "8,932 parameters (11,268 registered), limit 8,932: 0 to spare",
        ),
        (
            Limits(max_params=8_931),
            "max_params",
            False,
            "8,932 parameters (11,268 registered), limit 8,931: 1 too many",
        ),
        (
            Limits(max_macs=694_255),
            "max_macs",
            False,
            "694,256 multiply-accumulates, limit 694,255: 1 too many",
        ),
        (Limits(max_epochs=14), "max_epochs", False, "15 epochs, limit 14: 1 too many"),
        (
            Limits(require=("BatchNorm2d",)),
            "require",
            True,
            "8 batchnorm layers, at least 1 required",
        ),
        (Limits(require=("gap",)), "require", True, "1 gap layer, at least 1 required"),
        (Limits(require=("linear",)), "require", False, "no linear layers, at least 1 required"),
        (Limits(forbid=("dense",)), "forbid", True, "no linear layers, none allowed"),
        (Limits(forbid=("dropout",)), "forbid", False, "8 dropout layers, none allowed"),
    ],
)
def test_each_limit_says_value_limit_and_by_how_much(
    limits: Limits, name: str, kept: bool, text: str
) -> None:
    """One line per limit; at the limit is kept, one beyond is not; what never runs is not there."""
    checked = check(era7(), limits)

    (limit,) = checked.limits
    assert (limit.name, limit.kept, limit.text) == (name, kept, text)
    assert checked.kept is kept
    assert checked.broken == (() if kept else (limit,))


def test_broken_limits_come_first() -> None:
    """A reader sees what is broken without scrolling."""
    lines = lines_of(check(era7(), Limits(max_params=10_000, max_epochs=14)))

    assert [line.split(":")[0] for line in lines] == ["broken  max_epochs", "kept    max_params"]


def test_epochs_that_nothing_tells_are_an_error() -> None:
    """A bare module has no epochs until a recipe is named."""
    with pytest.raises(
        RunError, match=r"^Nothing says how many epochs `era-s7/7` is trained\. `--"
    ):
        check(era7(None), Limits(max_epochs=15))


def test_an_average_over_the_whole_map_is_a_gap() -> None:
    """However the last average is written it counts; one that leaves a map does not."""
    for pool, count in ((AvgPool(26), 1), (GlobalAvgPool(), 1), (AvgPool(13), 0)):
        network = Network((Conv(4, 3), pool, Flatten(), Dense(10)))
        assert subject_of_network("x", network).count("gap") == count


def test_accuracy_is_the_mean_of_the_last_epochs(make_run: Make) -> None:
    """Two seeds at 95 and 97.5 % keep 96.25 %, and miss 96.3 % by 0.05 points."""
    proof = proof_of([make_run(1, wrong=[0, 1]), make_run(2, wrong=[0])], target=0.9625)

    (kept,) = check(era7(), Limits(target_accuracy=0.9625), proof).limits
    (broken,) = check(era7(), Limits(target_accuracy=0.963), proof).limits

    assert kept.kept
    assert kept.text == (
        "96.250 % mean of the last epochs on test (n = 2, sd 1.768 points), limit 96.25 %: "
        "0.000 points to spare"
    )
    assert not broken.kept
    assert broken.text.endswith("limit 96.3 %: 0.050 points short")


def test_staying_is_asked_of_every_seed(make_run: Make) -> None:
    """One seed of two that dips in its last epochs breaks the limit."""
    runs = [make_run(1, errors_before=(0, 0), wrong=()), make_run(2, errors_before=(0, 9))]
    limits = Limits(target_accuracy=0.9, stay_epochs=2)

    accuracy, stay = check(era7(), limits, proof_of(runs, 0.9, 2)).limits

    assert accuracy.kept
    assert (stay.name, stay.value, stay.kept) == ("stay", 0.5, False)
    assert stay.text == (
        "1 of 2 seeds are at 90 % or above in each of their last 2 epochs, limit all: 1 missing"
    )


def test_accuracy_without_runs_is_an_error() -> None:
    """It says how to make some."""
    with pytest.raises(
        RunError, match=r"^`era-s7/7` has no finished runs to measure\. `--prove 20` makes some\.$"
    ):
        check(era7(), Limits(target_accuracy=0.994))


def test_runs_are_found_whatever_their_name(make_run: Make, tiny_recipe: Recipe) -> None:
    """The recipe decides, not what it is called; of several kinds that with the most seeds."""
    store = RunStore(make_run(1, name="one").path.parent)
    for seed in (2, 3):
        make_run(seed, name="two", engine="native")

    found = runs_of(store, tiny_recipe.replace(name="three"))

    assert [run.record().seed for run in found] == [2, 3]
    assert runs_of(store, tiny_recipe.replace(epochs=9)) == []
    assert runs_of(store, tiny_recipe, "tune") == []


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('{"max_param": 3}', RecipeError, "b: unknown key `max_param`. Did you mean `max_params`?"),
        (
            '{"max_params": 0}',
            RecipeError,
            "b: `max_params`: input should be greater than 0, not 0.",
        ),
        ('{"stay_epochs": 5}', RecipeError, "`stay_epochs` needs a `target_accuracy` to stay at."),
        (
            '{"require": ["batchnrm"]}',
            UnknownNameError,
            "No kind of layer is called `batchnrm`. Did you mean `batchnorm`?",
        ),
        (
            '{"require": ["bn"], "forbid": ["batchnorm"]}',
            RecipeError,
            "`batchnorm` is both required and forbidden.",
        ),
    ],
)
def test_a_budget_file_that_makes_no_sense(
    text: str, error: type[SmidgenError], message: str
) -> None:
    """A typo names the nearest key; a contradiction says what contradicts."""
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        from_json(Limits, text, RecipeError, "b")


def test_a_recipes_budget_is_a_budget_file(tiny_recipe: Recipe) -> None:
    """What a recipe promises reads as limits, field by field."""
    budget = Budget(max_params=9_999, max_epochs=15, target_accuracy=0.994)

    assert limits_of(tiny_recipe.replace(budget=budget)) == Limits(9_999, None, 15, 0.994)
    assert Limits().is_empty
    assert limits_of(tiny_recipe).is_empty


@pytest.mark.parametrize("name", ["smidgen/quick", "smidgen/quick-on-stripes"])
def test_a_target_meant_for_another_data_set_is_no_promise(name: str) -> None:
    """A recipe that was moved loses the target it took over, and keeps one of its own."""
    quick = RECIPES["smidgen/quick"]
    moved = quick.replace(name=name, dataset="stripes")
    own = moved.replace(budget=Budget(target_accuracy=0.9))

    assert [promised_target(recipe) for recipe in (quick, moved, own)] == [0.994, None, 0.9]
    assert limits_of(moved) == Limits(10_000, None, 15)
    assert void_target(moved) == "Its target of 99.4 % is meant for mnist and left out."
    assert void_target(quick) == void_target(own) == ""


def test_every_word_is_a_word() -> None:
    """Words and their usual spellings are understood."""
    assert all(layer_word(word) == word for word in LAYER_WORDS)
    spellings = ("BatchNorm2d", "max_pool", "Linear", "fc", "Conv2d")
    assert [layer_word(each) for each in spellings] == [
        "batchnorm",
        "maxpool",
        "linear",
        "linear",
        "conv",
    ]


def test_a_watched_module_is_counted_by_its_classes() -> None:
    """Known classes count, an average that leaves one position is a gap; the reader is warned."""
    row = WatchedRow("n", "BatchNorm2d", (4, 9, 9), (4, 9, 9), 8, 0, 8, 0, None, False)
    pool = replace(row, path="p", kind="AdaptiveAvgPool2d", output_shape=(4, 1, 1))
    odd = replace(row, path="s", kind="Sigmoid")
    watched = Watched((row, pool, odd), 8, 0, 3, 8, 100, ("dead",), "`sigmoid` at line 3.")

    subject = subject_of_watched("Net", watched)

    assert (subject.num_params, subject.num_registered, subject.epochs) == (8, 11, None)
    assert (subject.count("batchnorm"), subject.count("gap"), subject.count("linear")) == (1, 1, 0)
    assert subject.notes[0] == "Watched, not read: `sigmoid` at line 3."
    assert not any("Not counted" in note for note in subject.notes)


def _seen(*functions: tuple[str, tuple[int, ...], tuple[int, ...]], **more: Any) -> Subject:
    calls = tuple(WatchedFunction(*each) for each in functions)
    return subject_of_watched("Net", Watched((), 8, 0, 0, 0, 100, (), "", functions=calls, **more))


def test_functions_count_as_the_layers_they_are() -> None:
    """A pool, a dropout or a norm that is called as a function is one all the same."""
    subject = _seen(
        ("adaptive_avg_pool2d", (8, 5, 5), (8, 1, 1)),
        ("mean", (8, 5, 5), (8,)),
        ("dropout2d", (8, 5, 5), (8, 5, 5)),
        ("batch_norm", (8, 5, 5), (8, 5, 5)),
    )

    assert [subject.count(word) for word in ("gap", "dropout", "batchnorm")] == [2, 1, 1]
    assert check(subject, Limits(require=("gap", "dropout"))).kept


@pytest.mark.parametrize("limits", [Limits(require=("gap",)), Limits(forbid=("gap",))])
def test_what_cannot_be_told_is_unknown(limits: Limits) -> None:
    """A sum may be a pool or not: neither kept nor broken, and said so."""
    checked = check(_seen(("sum", (8, 5, 5), (8,))), limits)

    assert (checked.kept, checked.broken, len(checked.unknown)) == (False, (), 1)
    assert checked.to_plain()["limits"][0]["kept"] is None
    assert lines_of(checked)[0].endswith("cannot be told of functions")
    assert lines_of(checked)[0].startswith("unknown")


def test_arithmetic_that_nobody_counts_keeps_no_limit() -> None:
    """Below the limit without one layer is unknown, above it is broken."""
    subject = _seen(uncounted=("b (Bilinear)",))

    assert [check(subject, Limits(max_macs=n)).limits[0].kept for n in (100, 99)] == [None, False]
    assert check(subject, Limits(max_macs=100)).limits[0].text == (
        "100 multiply-accumulates without b (Bilinear), limit 100: cannot be told"
    )


def test_numbers_that_are_used_and_not_counted_are_told() -> None:
    """Frozen numbers and those of no layer are no parameters; keeping a limit hides neither."""
    watched = Watched((), 8, 20_800, 0, 0, 100, (), "because", num_loose=7_850)

    assert subject_of_watched("Net", watched, notes=("first",)).notes[:3] == (
        "first",
        "Not counted: 20,800 frozen numbers (`requires_grad` is False).",
        "Not counted: 7,850 numbers that belong to no layer, as in a plain list of layers or a "
        "tensor that is no `nn.Parameter`.",
    )

from collections.abc import Sequence

import pytest

from smidgen.data import Dataset
from smidgen.recipes.parts import OriginProtocol
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord
from smidgen.training.evaluation import Evaluation
from smidgen.training.results import best_index, result_of
from smidgen.training.splits import splits_for


def epochs_of(errors: Sequence[int]) -> tuple[EpochRecord, ...]:
    """Return epochs with so many errors in 40 images."""
    return tuple(
        EpochRecord(i, 0.5, 0.9, "test", 0.4, (40 - n) / 40, n, 1.0, 1.0, 1.0, 0.1, 0.1)
        for i, n in enumerate(errors, start=1)
    )


@pytest.mark.parametrize(
    ("errors", "best"), [([5], 0), ([5, 4, 3], 2), ([5, 3, 3, 4], 1), ([3, 4, 5], 0)]
)
def test_the_first_of_equals_is_the_best(errors: list[int], best: int) -> None:
    """The best epoch is the first with the fewest errors."""
    assert best_index(epochs_of(errors)) == best


def test_a_final_result_is_the_last_epochs(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """The final protocol reports the last epoch; the best is a mere observation beside it."""
    splits = splits_for("final", tiny_recipe, stripes)

    found = result_of(epochs_of([9, 1, 2, 3, 4, 5]), splits, 5, Evaluation(0.1, 5, 40))

    assert (found.split, found.accuracy, found.num_errors, found.epoch) == ("test", 0.875, 5, 6)
    assert found.selection == "last epoch"
    assert found.last_accuracy == 0.875
    assert found.mean_of_last_five == pytest.approx(1 - 15 / 200)
    assert (found.best_accuracy, found.best_epoch) == (0.975, 2)


def test_an_origins_result_says_how_it_was_selected(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """A result chosen by its test accuracy carries the words, and last and mean beside it."""
    recipe = tiny_recipe.replace(origin=OriginProtocol(None, "best_on_test"))
    splits = splits_for("origin", recipe, stripes)

    found = result_of(epochs_of([9, 1, 2]), splits, 1, Evaluation(0.1, 1, 40))

    assert found.selection == "selected on the test set"
    assert (found.accuracy, found.epoch) == (0.975, 2)
    assert found.last_accuracy == 0.95
    assert found.mean_of_last_five == pytest.approx(1 - 12 / 120)

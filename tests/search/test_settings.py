import pytest

from smidgen.recipes.augmentation import (
    Augmentation,
    Elastic,
    Erasing,
    Jitter,
    ResizedCrop,
    Rotation,
    Scaling,
    Shear,
    Translation,
)
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.parts import Linear, Plateau, StepDecay, WeightAveraging
from smidgen.recipes.recipe import Recipe
from smidgen.search.journal import import_optuna
from smidgen.search.settings import BASE, shortened, strengthened, suggest_settings

PARAMS = {
    "lr": 0.012345,
    "label_smoothing": 0.02,
    "strength": 1.5,
    "averaged": True,
    "schedule": "cosine",
    "warmup_fraction": 0.1,
    "batch_size": 512,
    "clean_epochs": 3,
}


def test_settings_are_what_was_suggested() -> None:
    """Every value arrives in the recipe, with three digits; the rest stays."""
    trial = import_optuna().trial.FixedTrial(PARAMS)

    recipe = suggest_settings(trial, BASE, 20)

    assert (recipe.optimizer.lr, recipe.batch_size, recipe.epochs) == (0.0123, 512, 20)
    assert (recipe.clean_epochs, recipe.loss.label_smoothing) == (3, 0.02)
    assert recipe.averaging == WeightAveraging(0.99)
    assert recipe.schedule.kind == "cosine"
    assert recipe.augmentation.transforms == (Rotation(12.0), Scaling(0.85, 1.15), Translation(3.0))
    assert recipe.optimizer == BASE.optimizer.__class__(0.0123, beta2=0.99, weight_decay=1e-4)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_any_recipe_can_be_varied(name: str) -> None:
    """Around each recipe of the catalogue random settings make valid recipes."""
    optuna = import_optuna()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))

    varied = [suggest_settings(study.ask(), RECIPES[name], 12) for _ in range(5)]

    assert len({recipe.fingerprint() for recipe in varied}) == 5
    assert {recipe.network for recipe in varied} == {RECIPES[name].network}
    for recipe in varied:
        assert Recipe.from_json(recipe.to_json()) == recipe


def test_a_schedule_of_another_kind_stays_a_choice() -> None:
    """A recipe that decays in steps may keep doing so."""
    own = StepDecay(6, 0.1)
    trial = import_optuna().trial.FixedTrial(PARAMS | {"schedule": "own"})

    assert suggest_settings(trial, BASE.replace(schedule=own), 20).schedule == own


@pytest.mark.parametrize(
    ("changes", "epochs", "expected"),
    [
        ({"clean_epochs": 4}, 4, {"clean_epochs": 1}),
        ({"clean_epochs": 1}, 4, {"clean_epochs": 1}),
        ({"clean_epochs": 0}, 4, {"clean_epochs": 0}),
        ({"clean_epochs": 5}, 1, {"clean_epochs": 0}),
        ({"schedule": StepDecay(8, 0.1)}, 4, {"schedule": StepDecay(2, 0.1), "clean_epochs": 1}),
        (
            {"schedule": StepDecay(2, 0.1)},
            4,
            {"schedule": StepDecay(1, 0.1), "clean_epochs": 1},
        ),
        (
            {"schedule": Plateau(2.0, first_epoch=8)},
            4,
            {"schedule": Plateau(2.0, first_epoch=2), "clean_epochs": 1},
        ),
        ({"schedule": Linear(warmup_fraction=0.2)}, 4, {"clean_epochs": 1}),
        ({}, 16, {}),
    ],
)
def test_fewer_epochs_are_a_whole_schedule(
    changes: dict[str, object], epochs: int, expected: dict[str, object]
) -> None:
    """What counts epochs is compressed with them; shares of all steps stay as they are."""
    recipe = BASE.replace(epochs=16, **changes)

    short = shortened(recipe, epochs)

    assert short == recipe.replace(epochs=epochs, **expected)


def test_every_random_change_has_a_strength() -> None:
    """Each kind grows with the factor and stays within what it may be."""
    transforms = (
        Rotation(100.0),
        Shear(5.0),
        Translation(2.0, whole_pixels=True),
        Elastic(1.0),
        Scaling(0.9, 1.2),
        ResizedCrop(0.8),
        Jitter(0.3, 0.8),
        Erasing(0.7),
    )

    doubled = strengthened(Augmentation(transforms), 2.0).transforms

    assert doubled == (
        Rotation(180.0),
        Shear(10.0),
        Translation(4.0, whole_pixels=True),
        Elastic(2.0),
        Scaling(0.8, 1.4),
        ResizedCrop(0.6),
        Jitter(0.6, 1.0),
        Erasing(1.0),
    )

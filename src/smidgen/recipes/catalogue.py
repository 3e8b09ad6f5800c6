"""The catalogue: every recipe by name, in reading order, and the ladders they form."""

from collections.abc import Mapping
from types import MappingProxyType

from smidgen.errors import RecipeError, UnknownNameError
from smidgen.places import is_python_target
from smidgen.recipes import (
    anchors,
    assignment7,
    era_s7,
    eva4_s5,
    frontier,
    mnist_99_4,
    mnist_challenge,
    smidgen_recipes,
    smidgen_teachers,
)
from smidgen.recipes.recipe import Recipe

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for origin in (
            smidgen_recipes,
            frontier,
            era_s7,
            eva4_s5,
            mnist_challenge,
            mnist_99_4,
            assignment7,
            anchors,
            smidgen_teachers,
        )
        for recipe in origin.RECIPES
    }
)
"""Ours first, then the five origins, the anchors, and the teachers."""

LADDERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "era-s7": tuple(f"era-s7/{step}" for step in range(1, 8)),
        "eva4-s5": tuple(f"eva4-s5/{step}" for step in range(1, 6)),
        "mnist-challenge": tuple(
            f"mnist-challenge/{step}" for step in ("conv", "separable", "inception")
        ),
        "mnist-99-4": ("mnist-99-4/dropout-0.3", "mnist-99-4"),
        "assignment7": tuple(f"assignment7/{step}" for step in ("1", "2", "3", "3-head")),
    }
)
"""The steps of each origin's story, in order. `mnist-99-4` names its last step as well."""


def get_recipe(name: str) -> Recipe:
    """Return a recipe of the catalogue.

    Raises:
        UnknownNameError: No recipe has this name; carries the nearest one.
        RecipeError: The name is that of a Python file, which holds no settings.
    """
    if name in RECIPES:
        return RECIPES[name]
    if is_python_target(name):
        raise RecipeError(
            f"`{name}` is a model, not a recipe: it has no settings. `smidgen inspect` shows it, "
            "`smidgen train` trains it, and the `record.json` of its run will do as a recipe."
        )
    raise UnknownNameError("recipe", name, RECIPES)

"""Options that several commands share, and what they stand for."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from smidgen.recipes.recipe import Recipe
    from smidgen.runs.store import RunStore

RunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", help="Folder of runs (else SMIDGEN_RUNS, else ./runs)."),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder with the data set's files (else SMIDGEN_DATA)."),
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting, as optimizer.lr=0.05; repeatable."
    ),
]
Like = Annotated[
    str | None,
    typer.Option(
        "--like",
        metavar="RECIPE",
        help="Whose settings train a FILE.py:Class (else smidgen/quick).",
    ),
]


def store_at(runs_dir: Path | None) -> "RunStore":
    """Return the run store of an option, of SMIDGEN_RUNS, or of ./runs."""
    from smidgen.runs.store import RunStore

    return RunStore(runs_dir or Path(os.environ.get("SMIDGEN_RUNS") or "runs"))


def recipe_from(target: str, settings: list[str] | None = None) -> "Recipe":
    """Return the recipe that a catalogue name or a JSON file stands for, with changes applied.

    Raises:
        UnknownNameError: Neither a catalogue name nor a file.
        RecipeError: A file or a change that makes no sense.
    """
    from smidgen.errors import RecipeError
    from smidgen.recipes.catalogue import get_recipe
    from smidgen.recipes.recipe import Recipe

    if target.endswith(".json"):
        path = Path(target)
        try:
            recipe = Recipe.from_json(path.read_bytes(), f"`{target}`")
        except OSError as error:
            raise RecipeError(f"Cannot read `{target}`: {error.strerror}.") from error
    else:
        recipe = get_recipe(target)
    return with_settings(recipe, settings)


def with_settings(recipe: "Recipe", settings: list[str] | None) -> "Recipe":
    """Return a recipe with the changes of `--set` applied; raises RecipeError as `recipe_from`."""
    from smidgen.errors import RecipeError

    for setting in settings or []:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise RecipeError(f"`--set {setting}` is not KEY=VALUE, as optimizer.lr=0.05.")
        recipe = recipe.with_setting(key, text)
    return recipe

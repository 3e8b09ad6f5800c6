"""From what a person names to what can be trained: recipes, and models in Python files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from smidgen.cli.options import recipe_from, with_settings
from smidgen.places import is_python_target
from smidgen.reading.python_file import Limits as FileLimits

if TYPE_CHECKING:
    from smidgen.cli.inspected import Inspected
    from smidgen.recipes.recipe import Recipe

DEFAULT_LIKE = "smidgen/quick"


@dataclass(frozen=True, slots=True)
class StudentRecipe:
    """A model of somebody's file with the settings that train it, and the file's bytes."""

    recipe: "Recipe"
    source: bytes


def student_recipe(
    target: str, settings: list[str] | None, like: str | None
) -> StudentRecipe | None:
    """Run a Python file and return what trains its model; None for any other target.

    Raises:
        NetworkError: The file gives no model, or none that can be trained.
        SmidgenError: As `recipe_from` for `like` and `settings`.
    """
    if not is_python_target(target):
        if like is not None:
            raise typer.BadParameter(
                f"it says how to train a FILE.py:Class; `{target or DEFAULT_LIKE}` has settings "
                "of its own.",
                param_hint="'--like'",
            )
        return None
    from smidgen.cli.inspected import find

    settled = recipe_from(like or DEFAULT_LIKE)
    found = find(target, settled.network.input_shape, FileLimits(), None)
    return StudentRecipe(with_settings(recipe_like(found, target, settled), settings), found.source)


def recipe_like(found: "Inspected", target: str, settled: "Recipe") -> "Recipe":
    """Return the settings of a recipe for a model that has none of its own.

    Raises:
        NetworkError: The model could not be turned into a network.
    """
    from smidgen.errors import NetworkError

    if found.network is None:
        obstacle = found.watched.obstacle if found.watched else ""
        raise NetworkError(f"`{target}` cannot be trained here: {obstacle}")
    return settled.for_network(shown_name(found, target), found.network)


def shown_name(found: "Inspected", target: str) -> str:
    """Return what a model is called: `net.py:Net(8)` for a Python file, else its own name."""
    if not is_python_target(target):
        return found.name
    file, _, call = target.partition(".py:")
    return f"{Path(file).name}.py:{call}" if call else f"{Path(target).name}:{found.name}"

"""Ladders: recipes in order, each with what it aims at, and what their steps save and cost.

A ladder of one's own is a JSON list: `[{"recipe": "era-s7/1", "target": "...", ...}, ...]`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smidgen.errors import RecipeError, UnknownNameError
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import LADDERS, RECIPES, get_recipe
from smidgen.recipes.recipe import Recipe
from smidgen.values import from_json, value


@value(RecipeError)
class Step:
    """One step of somebody's own ladder.

    Args:
        recipe: A name of the catalogue, or a JSON file beside the ladder's.
        target: What it aims at; "" for what the recipe says.
        result: What its author saw.
        analysis: What its author concludes; "" for what the recipe says.
    """

    recipe: str
    target: str = ""
    result: str = ""
    analysis: str = ""


@dataclass(frozen=True, slots=True)
class Rung:
    """A step with its recipe, whose `about` holds target and analysis, and the author's result."""

    recipe: Recipe
    result: str = ""


def read_ladder(name: str) -> tuple[Rung, ...]:
    """Return the steps of a ladder of the catalogue or of a JSON file, in order.

    Raises:
        UnknownNameError: No ladder is called so, or a step names no recipe.
        RecipeError: A file that cannot be read, or is no ladder.
    """
    if name.endswith(".json"):
        path = Path(name)
        steps = from_json(tuple[Step, ...], _read(path), RecipeError, f"`{name}`")
        if not steps:
            raise RecipeError(f"`{name}` has no steps. `smidgen ladder new` starts one with some.")
        return read_steps(steps, path.parent)
    if name not in LADDERS:
        hint = "A ladder of your own is a FILE.json."
        raise UnknownNameError("ladder", name, LADDERS, hint)
    return tuple(Rung(RECIPES[step]) for step in LADDERS[name])


def read_steps(steps: Sequence[Step], folder: Path) -> tuple[Rung, ...]:
    """Return the steps with their recipes; files are looked for in `folder`.

    Raises:
        UnknownNameError: A step names no recipe.
        RecipeError: A file that cannot be read.
    """
    return tuple(_rung(step, folder) for step in steps)


def _rung(step: Step, folder: Path) -> Rung:
    if step.recipe.endswith(".json"):
        recipe = Recipe.from_json(_read(folder / step.recipe), f"`{step.recipe}`")
    else:
        recipe = get_recipe(step.recipe)
    about = dataclasses.replace(
        recipe.about,
        target=step.target or recipe.about.target,
        analysis=step.analysis or recipe.about.analysis,
    )
    return Rung(recipe.replace(about=about), step.result)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecipeError(f"Cannot read `{path}`: {error.strerror}.") from error


@dataclass(frozen=True, slots=True)
class Saving:
    """One step of a ladder against the ladder's first.

    Args:
        name: The step's recipe.
        params_saved_percent: Parameters saved, by our counting rule.
        keras_saved_percent: Parameters and batch norm statistics saved, as Keras counts.
        points_lost: Percentage points between the headline accuracies that the sources claim;
            negative where the step gains, None where one of the two is not claimed.
    """

    name: str
    params_saved_percent: float
    keras_saved_percent: float
    points_lost: float | None


def savings(steps: Sequence[Recipe]) -> tuple[Saving, ...]:
    """Compare every step of a ladder with its first, the first with itself included.

    Source: the table of aknakshay/MNIST-Challenge.
    """
    totals = [trace(step.network).totals for step in steps]
    first, claimed = totals[0], _claimed(steps[0])
    rows = []
    for step, total in zip(steps, totals, strict=True):
        reached = _claimed(step)
        points = None if claimed is None or reached is None else claimed - reached
        rows.append(
            Saving(
                name=step.name,
                params_saved_percent=100 * (1 - total.num_params / first.num_params),
                keras_saved_percent=100 * (1 - total.keras_total / first.keras_total),
                points_lost=points,
            )
        )
    return tuple(rows)


def _claimed(step: Recipe) -> float | None:
    return step.about.claim.best_accuracy if step.about.claim else None

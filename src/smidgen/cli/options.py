"""Options that several commands share, and what they stand for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

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
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, as --set epochs=3 --set dataset=stripes --set optimizer.lr=0.05.",
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


class SettingCommand(TyperCommand):
    """A command with `--set`: told `--epochs 1` by mistake, it names `--set epochs=1`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of a command line."""
        given = list(args)  # the parser empties its own
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # click's NoSuchOption, which typer does not name
            name = getattr(error, "option_name", "")
            if hasattr(error, "possibilities") and (advice := _as_setting(name, given)):
                vars(error)["possibilities"] = [advice]
            raise


def _as_setting(option: str, given: list[str]) -> str:
    """Return how `--set` writes an option that there is not; empty if it is no setting."""
    from smidgen.recipes.catalogue import get_recipe
    from smidgen.values import to_plain

    key = option.lstrip("-").replace("-", "_")
    plain = to_plain(get_recipe("smidgen/quick"))
    if key not in plain:
        if key not in plain["optimizer"]:
            return ""
        key = f"optimizer.{key}"
    for word, after in zip(given, [*given[1:], ""], strict=True):
        if word == option and after and not after.startswith("-"):
            return f"--set {key}={after}"
        if word.startswith(f"{option}="):
            return f"--set {key}={word.partition('=')[2]}"
    return f"--set {key}=VALUE"


def store_at(runs_dir: Path | None) -> "RunStore":
    """Return the run store of an option, of SMIDGEN_RUNS, or of ./runs."""
    from smidgen.places import RUNS_VARIABLE, folder_from
    from smidgen.runs.store import RunStore

    return RunStore(runs_dir or folder_from(RUNS_VARIABLE) or Path("runs"))


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
    elif target == "last":
        raise RecipeError(
            "`last` is a run, not a recipe. `smidgen inspect last` shows its network, `smidgen "
            "runs show last` how it went, `smidgen train --resume last` goes on with it."
        )
    else:
        recipe = get_recipe(target)
    return with_settings(recipe, settings)


def with_settings(recipe: "Recipe", settings: list[str] | None) -> "Recipe":
    """Return a recipe with the changes of `--set` applied.

    Raises:
        typer.BadParameter: A change that is not KEY=VALUE.
        RecipeError: One that makes no sense.
    """
    for setting in settings or []:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"`--set {setting}` is not KEY=VALUE, as optimizer.lr=0.05.")
        recipe = recipe.with_setting(key, text)
    return recipe

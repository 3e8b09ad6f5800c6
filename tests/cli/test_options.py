from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smidgen.cli.options import store_at
from smidgen.cli.targets import recipe_from
from smidgen.errors import RecipeError, UnknownNameError
from smidgen.recipes.catalogue import get_recipe
from smidgen.recipes.recipe import Recipe


def test_where_runs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option comes first, then SMIDGEN_RUNS, then ./runs."""
    monkeypatch.setenv("SMIDGEN_RUNS", "elsewhere")
    assert store_at(Path("mine")).root == Path("mine")
    assert store_at(None).root == Path("elsewhere")
    monkeypatch.setenv("SMIDGEN_RUNS", "")
    assert store_at(None).root == Path("runs")


def test_names_and_files(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """A name stands for a recipe of the catalogue and a path that ends in .json for its file."""
    path = tmp_path / "tiny.json"
    path.write_text(tiny_recipe.to_json())

    assert recipe_from("smidgen/quick") == get_recipe("smidgen/quick")
    assert recipe_from(str(path)) == tiny_recipe
    with pytest.raises(UnknownNameError):
        recipe_from("tiny")
    with pytest.raises(RecipeError):
        recipe_from(str(tmp_path / "none.json"))


def test_what_show_prints_is_a_recipe(shell: Callable[..., Any], tmp_path: Path) -> None:
    """`show --json` can be redirected into a file that stands for the recipe."""
    path = tmp_path / "shown.json"
    path.write_text(shell("show", "smidgen/quick", "--json").out)

    assert recipe_from(str(path)) == get_recipe("smidgen/quick")
    checked = shell("check", str(path), "--max-params", "10000")
    assert (checked.code, checked.out.splitlines()[0]) == (0, "smidgen/quick keeps its limits")

    path.write_text(path.read_text().replace('"batch_size"', '"batch_sise"'))
    with pytest.raises(RecipeError) as caught:
        recipe_from(str(path))
    assert str(caught.value) == (
        f"`{path}`, in `recipe`: unknown key `batch_sise`. Did you mean `batch_size`?"
    )


def test_a_file_with_a_byte_order_mark(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """What an editor on Windows puts before the first brace is no part of the JSON."""
    path = tmp_path / "tiny.json"
    path.write_text(tiny_recipe.to_json(), encoding="utf-8-sig")

    assert recipe_from(str(path)) == tiny_recipe


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (
            "last",
            "`last` is a run, not a recipe. `smidgen inspect last` shows its network, `smidgen "
            "runs show last` how it went, `smidgen train --resume last` goes on with it.",
        ),
        (
            "net.py:Net",
            "`net.py:Net` is a model, not a recipe: it has no settings. `smidgen inspect` shows "
            "it, `smidgen train` trains it, and the `record.json` of its run will do as a recipe.",
        ),
    ],
)
def test_what_is_no_recipe_is_said_to_be_something_else(target: str, text: str) -> None:
    """A run and a Python file have commands of their own, which the error names."""
    with pytest.raises(RecipeError) as caught:
        recipe_from(target)

    assert str(caught.value) == text


def test_settings_apply_in_order() -> None:
    """Later settings see what earlier ones did; values are JSON or else text."""
    recipe = recipe_from(
        "smidgen/quick", ["epochs=3", "epochs=4", "name=mine", 'schedule={"kind": "constant"}']
    )

    assert (recipe.epochs, recipe.name, recipe.schedule.kind) == (4, "mine", "constant")

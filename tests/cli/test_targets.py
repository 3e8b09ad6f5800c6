import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from smidgen.cli.targets import find_runs, full_name, read_variants, recipe_from, trainable
from smidgen.errors import RunError, UnknownNameError
from smidgen.evidence.ablation import Variant
from smidgen.network.layers import Dense, Flatten
from smidgen.network.network import Network
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.parts import Budget, OriginProtocol
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore

MakeRun = Callable[..., RunFolder]
WIDE = Network((Flatten(), Dense(10)))


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_recipe: Recipe) -> None:
    """Work in a folder with a network and a recipe as files."""
    monkeypatch.chdir(tmp_path)
    Path("wide.json").write_text(WIDE.to_json())
    Path("other.json").write_text(tiny_recipe.replace(name="other", network=WIDE).to_json())
    Path("net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self, width: int) -> None:\n"
        "        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, 10))\n"
    )


def read(base: Recipe, option: str, text: str) -> Variant:
    """Return the variant that one option stands for."""
    given = {"settings": [], "networks": [], "recipes": [], option: [text]}
    return read_variants(base, b"the base's file", **given, runs_dir=None)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "name", "changes"),
    [
        ("epochs=4", "epochs=4", {"epochs": 4}),
        ("epochs=4;batch_size=8", "epochs=4; batch_size=8", {"epochs": 4, "batch_size": 8}),
        (" epochs = 4 ; batch_size= 8", "epochs=4; batch_size=8", {"epochs": 4, "batch_size": 8}),
        ("long, small: epochs=4; batch_size=8", "long, small", {"epochs": 4, "batch_size": 8}),
        ('about={"summary": "a; b"}', 'about={"summary": "a; b"}', {}),
        ('text: about={"summary": "a: b"}; epochs=4', "text", {"epochs": 4}),
    ],
)
def test_settings_are_joined_by_semicolons(
    tiny_recipe: Recipe, text: str, name: str, changes: dict[str, int]
) -> None:
    """A variant is called what is written, or what stands before the first colon and space."""
    variant = read(tiny_recipe, "settings", text)

    assert variant.name == name
    assert variant.recipe.fingerprint() == tiny_recipe.replace(**changes).fingerprint()
    assert variant.source == b"the base's file"


@pytest.mark.parametrize("target", ["wide.json", "other.json"])
def test_a_network_takes_the_place_of_the_base_s(tiny_recipe: Recipe, target: str) -> None:
    """Everything else stays, limits and the origin's measure too; settings may follow."""
    base = tiny_recipe.replace(
        budget=Budget(max_epochs=9), origin=OriginProtocol(selection="last"), batch_size=24
    )

    variant = read(base, "networks", f"wide: {target}; epochs=4")

    assert variant.name == "wide"
    assert variant.recipe.network == WIDE
    assert (variant.recipe.epochs, variant.recipe.batch_size) == (4, 24)
    assert (variant.recipe.budget, variant.recipe.origin) == (base.budget, base.origin)


def test_a_network_comes_from_a_python_file(tiny_recipe: Recipe) -> None:
    """The file's colon is no name; its bytes go along."""
    variant = read(tiny_recipe, "networks", "net.py:Net(6)")

    assert variant.name == "net.py:Net(6)"
    assert variant.recipe.network.layers == (Flatten(), Dense(6), Dense(10))
    assert variant.source == Path("net.py").read_bytes()


def test_a_recipe_is_taken_as_it_is(tiny_recipe: Recipe) -> None:
    """A file or a name of the catalogue, with settings behind it."""
    variant = read(tiny_recipe.replace(batch_size=24), "recipes", "other.json; epochs=4")
    named = read(tiny_recipe, "recipes", "smidgen/quick")

    assert variant.name == "other.json; epochs=4"
    assert variant.recipe.fingerprint() == tiny_recipe.replace(network=WIDE, epochs=4).fingerprint()
    assert json.loads(named.recipe.to_json())["name"] == "smidgen/quick"


def test_short_names_stand_for_the_only_recipe_that_ends_so() -> None:
    """What several recipes end with stays what it is, and is told as unknown."""
    assert recipe_from("quick") == RECIPES["smidgen/quick"]
    assert full_name("conv") == "mnist-challenge/conv"
    assert full_name("1") == "1"
    with pytest.raises(UnknownNameError, match="No recipe is called `1`"):
        recipe_from("1")


def test_network_files_and_runs_can_be_trained(tiny_recipe: Recipe, make_run: MakeRun) -> None:
    """A network alone is trained like a Python file's, a run stands for its recipe."""
    run = make_run(recipe=tiny_recipe)

    alone = trainable("wide.json", ["epochs=2"], like="eva4-s5/5").recipe
    assert (alone.network, alone.epochs) == (WIDE, 2)
    assert alone.optimizer == RECIPES["eva4-s5/5"].optimizer
    assert trainable(run.name, store=RunStore(run.path.parent)).recipe == tiny_recipe
    with pytest.raises(typer.BadParameter, match="settings of its own"):
        trainable("other.json", like="eva4-s5/5")


def test_files_stand_for_the_runs_of_what_they_train(
    tiny_recipe: Recipe, make_run: MakeRun
) -> None:
    """A report names a recipe by its file; without runs, it says what makes some."""
    other = tiny_recipe.replace(name="other", network=WIDE)
    run = make_run(recipe=other, fingerprint=other.fingerprint())
    store = RunStore(run.path.parent)

    assert [found.name for found in find_runs("other.json", store, run.record().protocol)] == [
        run.name
    ]
    with pytest.raises(RunError, match=r"`smidgen prove wide\.json` makes some"):
        find_runs("wide.json", store, "final")

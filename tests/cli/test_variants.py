import json
from pathlib import Path

import pytest

from smidgen.cli.variants import read_variants
from smidgen.evidence.ablate import Variant
from smidgen.network.layers import Dense, Flatten
from smidgen.network.network import Network
from smidgen.recipes.parts import Budget, OriginProtocol
from smidgen.recipes.recipe import Recipe

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

import json
from collections.abc import Iterable
from typing import Any, get_args

import numpy as np
import pytest

from smidgen.engines.native.toolchain import needed_features
from smidgen.network.layers import Layer
from smidgen.network.network import Network
from smidgen.recipes.augmentation import Transform
from smidgen.recipes.parts import Optimizer, Schedule
from smidgen.recipes.recipe import Recipe

from . import golden

PINNED: dict[str, Any] = json.loads(golden.PINNED.read_text())
NEAR = 5e-4
"""Largest difference, relative to the largest number of its row, that rounding may make in two
epochs; between torch and the native engine it is up to 5e-5."""


def kinds(union: Any) -> set[type]:
    """Return the classes of a union of values."""
    return set(get_args(get_args(union)[0]))


def layers_in(layers: Iterable[Any]) -> set[type]:
    """Return the classes of some layers and of those inside them."""
    found: set[type] = set()
    for layer in layers:
        found.add(type(layer))
        inner = [getattr(layer, name, ()) for name in ("body", "shortcut", "block")]
        for block in (*inner, *getattr(layer, "branches", ())):
            found |= layers_in(block)
    return found


def assert_unchanged(found: dict[str, str], pinned: dict[str, str]) -> None:
    """Fail with the names of what is new, gone or other, and with what to do."""
    changed = sorted(name for name in pinned if name in found and found[name] != pinned[name])
    gone = sorted(set(pinned) - set(found))
    new = sorted(set(found) - set(pinned))
    assert not changed, f"Other numbers: {'; '.join(changed)}. {golden.ADVICE}"
    assert not gone, f"Pinned, and not measured anymore: {'; '.join(gone)}. {golden.ADVICE}"
    assert not new, f"Not pinned: {'; '.join(new)}. Run `python tests/golden.py --write`."


def assert_near(found: dict[str, list[float]], name: str) -> None:
    """Fail with the row of a run that is further from the pinned numbers than rounding gets."""
    for row, pinned in PINNED["runs"][name].items():
        limit = 2 if row == "images right" else NEAR * max(map(abs, pinned))
        far = np.abs(np.array(found[row]) - pinned).max()
        assert far <= limit, f"Other numbers: {name}, {row}, by {far:.2g}. {golden.ADVICE}"


def assert_is_pinned(recipe: Recipe, lanes: int, optimize: str) -> None:
    """Fail if a native run differs from the pinned one: by a bit, or if not listed, by far."""
    run = golden.native_run(recipe, lanes, optimize)

    assert_near(run.numbers(), recipe.name)
    name = f"{recipe.name}, {golden.compiler_key(lanes)}"
    if name in PINNED["native runs"]:
        assert run.digest() == PINNED["native runs"][name], f"Other bits: {name}. {golden.ADVICE}"


def test_the_numbers_belong_to_this_results_version() -> None:
    """Where the version is raised, the numbers are pinned anew."""
    assert PINNED["results_version"] == golden.RESULTS_VERSION, (
        "RESULTS_VERSION was raised: remove no numbers by hand, run "
        "`python tests/golden.py --write`."
    )


def test_plans_are_what_they_were() -> None:
    """A seed draws the same order, geometry, boxes, levels, rates and keys as ever."""
    assert_unchanged(golden.plans(), PINNED["plans"])


def test_initial_weights_are_what_they_were() -> None:
    """A seed draws the same first weights as ever, by either convention."""
    assert_unchanged(golden.first_weights(), PINNED["initial weights"])


def test_every_kind_is_among_the_pinned() -> None:
    """A new transform, schedule, optimizer or layer has to be pinned too."""
    recipes: tuple[Recipe, ...] = golden.PLANNED
    networks: Iterable[Network] = golden.NETWORKS.values()
    transforms = {type(each) for recipe in recipes for each in recipe.augmentation.transforms}

    assert transforms == kinds(Transform)
    assert {type(recipe.schedule) for recipe in recipes} == kinds(Schedule)
    assert {type(recipe.optimizer) for recipe in golden.TRAINED} == kinds(Optimizer)
    assert {recipe.drop_last for recipe in recipes} == {True, False}
    assert set().union(*(layers_in(each.layers) for each in networks)) == kinds(Layer)


@pytest.mark.parametrize("lanes", golden.widths())
@pytest.mark.parametrize("recipe", golden.TRAINED, ids=lambda recipe: recipe.name)
def test_a_native_run_is_what_it_was(
    recipe: Recipe, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs end with the same bits as ever where the compiler is known, else near them."""
    monkeypatch.delenv("SMIDGEN_CC", raising=False)  # the compiler of real runs
    # without fused multiply-adds no bit depends on optimization, which takes long
    never_fuses = needed_features(8) and not needed_features(lanes)

    assert_is_pinned(recipe, lanes, "-O0" if never_fuses else "-O3")


@pytest.mark.slow
@pytest.mark.parametrize("lanes", golden.widths())
def test_optimization_alters_no_pinned_bit(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the flags of real runs every width gives the pinned bits."""
    monkeypatch.delenv("SMIDGEN_CC", raising=False)

    for recipe in golden.TRAINED:
        assert_is_pinned(recipe, lanes, "-O3")


@pytest.mark.parametrize("recipe", golden.TRAINED, ids=lambda recipe: recipe.name)
def test_a_torch_run_is_near_what_it_was(recipe: Recipe) -> None:
    """Two epochs on one thread end where they did, but for what a library may round."""
    assert_near(golden.torch_run(recipe).numbers(), recipe.name)

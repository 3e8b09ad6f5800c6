from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.cli.measuring import proof_for
from smidgen.errors import RunError
from smidgen.evidence.proof import Proof
from smidgen.recipes.catalogue import get_recipe
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore

Make = Callable[..., RunFolder]


def _measure(recipe: Recipe, folder: Path) -> Proof | None:
    return proof_for(recipe, b"", 0.9, None, None, RunStore(folder / "runs"), None)


def test_runs_with_other_settings_are_told_from_none(
    make_run: Make, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """The same network was trained, but not so: which settings were looked for is said."""
    quick = get_recipe("smidgen/quick")
    mine = quick.for_network("net.py:Net", tiny_recipe.network)
    make_run(1, name="net.py:Net")
    make_run(2, name="net.py:Net")
    short = quick.replace(epochs=1)
    make_run(3, name=quick.name, recipe=short, fingerprint=short.fingerprint())

    for recipe, text in (
        (mine, "`net.py:Net` has 2 finished runs, but none with the settings of `smidgen/quick`."),
        (mine.replace(epochs=2), "`net.py:Net` has 2 finished runs, but none with these settings."),
        (quick, "`smidgen/quick` has 1 finished run, but none with the settings of `smidgen/quic"),
    ):
        with pytest.raises(RunError) as caught:
            _measure(recipe, tmp_path)
        assert str(caught.value).startswith(text)
        assert str(caught.value).endswith(" `--prove 20` makes some.")


def test_runs_of_other_networks_are_none(make_run: Make, tmp_path: Path) -> None:
    """Files of the same name may hold the networks of different people."""
    quick = get_recipe("smidgen/quick")
    make_run(1, name="net.py:Net")

    assert _measure(quick.for_network("net.py:Net", quick.network), tmp_path) is None


def test_runs_with_these_settings_are_measured(
    make_run: Make, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """They are found whatever others are there."""
    make_run(1)
    make_run(2, fingerprint="1a2b" + "0" * 60)

    proof = _measure(tiny_recipe, tmp_path)

    assert proof is not None
    assert [seed.seed for seed in proof.seeds] == [1]

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smidgen.network.trace import trace
from smidgen.recipes.catalogue import RECIPES, get_recipe
from smidgen.recipes.recipe import Recipe
from smidgen.values import from_plain

Shell = Callable[..., Any]


def test_recipes_lists_the_catalogue(shell: Shell) -> None:
    """Every recipe has its line with its size, its claim and what we proved of it."""
    found = shell("recipes")
    lines = found.out.splitlines()

    assert found.code == 0
    assert lines[0].split() == [
        *("recipe", "params", "MACs", "RF", "epochs", "claim", "%", "proven", "%", "interval")
    ]
    assert [line.split()[0] for line in lines[2:]] == list(RECIPES)
    row = next(line for line in lines if line.startswith("era-s7/6 "))
    assert row.split() == ["era-s7/6", "6,596", "522,224", "28", "15", "99.34", "-", "-"]
    row = next(line for line in lines if line.startswith("smidgen/quick "))
    assert row.split()[5:] == ["-", "99.45", "99.43-99.47"]


def test_recipes_for_machines(shell: Shell) -> None:
    """The listing as JSON has one object per recipe with numbers as numbers."""
    rows = json.loads(shell("recipes", "--json").out)

    assert [row["name"] for row in rows] == list(RECIPES)
    row = next(row for row in rows if row["name"] == "era-s7/6")
    assert {key: row[key] for key in row if key != "summary"} == {
        "name": "era-s7/6",
        "num_params": 6596,
        "num_macs": 522_224,
        "receptive_field": 28,
        "epochs": 15,
        "claimed_percent": 99.34,
        **dict.fromkeys(("proven", "low", "high", "seeds")),
    }
    quick = next(row for row in rows if row["name"] == "smidgen/quick")
    assert quick["seeds"] == 20
    assert quick["low"] < quick["proven"] < quick["high"]
    assert all(row["summary"] for row in rows)


@pytest.mark.parametrize("name", RECIPES)
def test_show_prints_every_recipe(shell: Shell, name: str) -> None:
    """Table, totals, settings and story of every recipe can be shown, in text and JSON."""
    recipe = RECIPES[name]
    totals = trace(recipe.network).totals

    text, plain = shell("show", name), json.loads(shell("show", name, "--json").out)

    assert text.code == 0
    assert text.out.startswith(f"{name}\n{recipe.about.summary}\n")
    assert f"{totals.num_params:,}" in text.out
    for part in (recipe.about.target, recipe.about.analysis, *recipe.about.notes):
        assert part in text.out
    assert "kind=" not in text.out
    assert (
        plain["totals"].items()
        >= {
            "num_params": totals.num_params,
            "num_dead": totals.num_dead,
            "num_buffers": totals.num_buffers,
            "keras_total": totals.keras_total,
            "folded": totals.folded,
            "num_macs": totals.num_macs,
            "receptive_field": totals.receptive_field,
        }.items()
    )
    assert len(plain["layers"]) == len(recipe.network.graph.nodes)
    assert from_plain(Recipe, plain["recipe"], ValueError) == recipe  # type: ignore[arg-type]
    assert plain["fingerprint"] == recipe.fingerprint()


def test_the_table_of_a_network(shell: Shell) -> None:
    """Each row has shape, counts and reach; the dead block is told from what runs."""
    lines = shell("show", "era-s7/7").out.splitlines()

    rows = {line.split()[0]: line.split() for line in lines if line[:1].isdigit()}
    header = next(line for line in lines if line.startswith("#"))
    assert header.split() == [
        "#", "layer", "output", "params", "MACs", "RF", "jump", "start", "padding"
    ]  # fmt: skip
    assert rows["0"][-7:] == ["4x26x26", "36", "24,336", "3", "1", "1", "0"]
    totals = {" ".join(line.split()[:-1]): line.split()[-1] for line in lines if line.split()}
    assert totals["parameters (trainable, reached, shared once)"] == "8,932"
    assert totals["dead (registered, never reached)"] == "2,336"
    assert totals["folded (batch norms merged)"] == "8,844"
    assert "Result    the source claims 99.50 % at epoch 15 with " in "\n".join(lines)
    assert "mean of the last 5: 99.38 %" in "\n".join(lines)


def test_undefined_totals_are_dashes(shell: Shell) -> None:
    """What cannot be said of a network is a dash, and null for machines."""
    text = shell("show", "era-s7/1").out
    plain = json.loads(shell("show", "era-s7/1", "--json").out)

    folded = next(line for line in text.splitlines() if line.startswith("folded"))
    assert folded.split()[-1] == "-"
    assert plain["totals"]["folded"] is None


def test_settings_are_applied(shell: Shell) -> None:
    """`--set` changes what is shown, in nested settings and lists too."""
    plain = json.loads(
        shell(
            "show", "era-s7/6", "--json", "--set", "network.layers.0.out_channels=12",
            "--set", "optimizer.lr=0.5",
        ).out
    )  # fmt: skip

    assert plain["layers"][0]["num_params"] == 12 * 9
    assert plain["recipe"]["optimizer"]["lr"] == 0.5
    assert plain["fingerprint"] != get_recipe("era-s7/6").fingerprint()


WRONG = [
    (
        ["smidgen/quik"],
        "No recipe or run is called `smidgen/quik`. Did you mean `smidgen/quick`? A file of your "
        "own is FILE.py:Class or FILE.json.",
    ),
    (["nope.json"], "Cannot read `nope.json`: No such file or directory."),
    (["x", "--set", "a=1"], None),
    (
        ["era-s7/6", "--set", "optimizer.lrr=3"],
        "`--set optimizer.lrr=3`: unknown key `optimizer.lrr`. Did you mean `lr`?",
    ),
    (
        ["era-s7/6", "--set", "optimiser.lr=3"],
        "`--set optimiser.lr`: there is no `optimiser`. Did you mean `optimizer`?",
    ),
    (
        ["era-s7/6", "--set", "optimizer.lr=fast"],
        "`--set optimizer.lr=fast`: `optimizer.lr`: input should be a valid number, not 'fast'.",
    ),
    (
        ["era-s7/6", "--set", "epochs=0"],
        "`--set epochs=0`: `epochs`: input should be greater than 0, not 0.",
    ),
    (
        ["era-s7/6", "--set", "network.layers.99=1"],
        "`--set network.layers.99`: the list has positions 0 to 31.",
    ),
    (["era-s7/6", "--set", "network.layers.0.out_channels=-4"], None),
    (["era-s7/6", "--set", "network.num_classes=7"], None),
]


@pytest.mark.parametrize("setting", ["lr", "=3"])
def test_what_is_no_setting_is_wrong_usage(shell: Shell, setting: str) -> None:
    """Without a key or an equals sign the command line itself is wrong."""
    found = shell("show", "smidgen/quick", "--set", setting)

    assert (found.code, found.out) == (2, "")
    assert f"`--set {setting}` is not KEY=VALUE, as optimizer.lr=0.05." in found.err


@pytest.mark.parametrize(("arguments", "text"), WRONG)
def test_wrong_recipes_are_one_line(
    shell: Shell,
    arguments: list[str],
    text: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong name, file or setting is said in one line and ends with 1."""
    monkeypatch.chdir(tmp_path)

    found = shell("show", *arguments)

    assert (found.code, found.out) == (1, "")
    assert found.err.count("\n") == 1
    if text is not None:
        assert found.err == f"error: {text}\n"


def test_a_broken_file_is_one_line(shell: Shell, tmp_path: Path) -> None:
    """A JSON file that is none, or of another form, is named with what is wrong."""
    broken, odd = tmp_path / "broken.json", tmp_path / "odd.json"
    broken.write_text('{"name": ')
    odd.write_text('{"nam": "x"}')

    first, second = shell("show", str(broken)), shell("show", str(odd))

    assert first.code == second.code == 1
    assert first.err.startswith(f"error: `{broken}`: not valid JSON: ")
    assert second.err.startswith(f"error: `{odd}`: ")
    assert first.err.count("\n") == second.err.count("\n") == 1


def test_a_file_is_as_good_as_a_name(shell: Shell, tmp_path: Path) -> None:
    """A recipe written to a file shows the same page."""
    path = tmp_path / "mine.json"
    path.write_text(get_recipe("eva4-s5/5").to_json())

    assert shell("show", str(path)).out == shell("show", "eva4-s5/5").out


def test_schema_describes_recipes(shell: Shell) -> None:
    """The schema is JSON, names the required keys and forbids unknown ones."""
    schema = json.loads(shell("schema").out)

    assert schema["title"] == "Recipe"
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) >= {"name", "network", "optimizer", "epochs", "batch_size"}

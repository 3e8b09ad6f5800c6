import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smidgen.errors import RecipeError, SmidgenError, UnknownNameError
from smidgen.recipes.catalogue import LADDERS
from smidgen.recipes.ladder import Rung, Step, read_ladder
from smidgen.recipes.parts import Budget
from smidgen.recipes.recipe import About, Claim, Recipe
from smidgen.runs.store import RunFolder, RunStore

Shell = Callable[..., Any]
Make = Callable[..., RunFolder]


@pytest.fixture
def mine(tiny_file: str, tiny_recipe: Recipe, tmp_path: Path) -> str:
    """Return a ladder of two tiny steps; the first claims something, the second has notes."""
    claim = Claim(num_params=700, best_accuracy=97.5, best_epoch=2)
    first = tiny_recipe.replace(name="first", about=About(target="Begin.", claim=claim))
    second = tiny_recipe.replace(name="second", batch_size=16, budget=Budget(max_params=700))
    (tmp_path / "first.json").write_text(first.to_json())
    (tmp_path / "second.json").write_text(second.to_json())
    steps = [
        {"recipe": "first.json"},
        {"recipe": "second.json", "target": "Go on.", "result": "a|b", "analysis": "Fine."},
    ]
    (tmp_path / "mine.json").write_text(json.dumps(steps))
    return "mine.json"


def make_runs(make_run: Make, recipe: Recipe, protocol: str = "final") -> None:
    """Write runs of the first step and, with one error less each, of the second."""
    changed = recipe.replace(name="second", batch_size=16)
    for seed in (1, 2):
        make_run(seed, wrong=range(seed + 1), protocol=protocol)
        make_run(
            seed,
            wrong=range(seed),
            name="second",
            protocol=protocol,
            recipe=changed,
            fingerprint=changed.fingerprint(),
        )


def test_a_ladder_without_runs_tells_the_claims(shell: Shell) -> None:
    """Target, claimed result and analysis stand there; ours say that there are no runs."""
    found = shell("ladder", "era-s7")
    lines = found.out.splitlines()

    assert (found.code, found.err) == (0, "")
    assert lines[0] == "era-s7"
    assert lines[4].split() == ["1", "era-s7/1", "194,884", "15", "98.98", "%", "-", "-", "-", "-"]
    assert "   Result    ours: no runs here; `--run` makes some" in lines
    assert (
        "   Result    claimed: 99.50 % at epoch 15, the best epoch, *selected on the test set*"
    ) in lines
    assert "   Analysis  Against `era-s7/3`: adds 7 x Dropout(0.1)." in lines
    assert "   Analysis  9,048 parameters: 951 under the budget of 9,999." in lines


def test_ours_stand_beside_the_claim(
    shell: Shell, mine: str, make_run: Make, tiny_recipe: Recipe
) -> None:
    """A row per protocol with mean, deviation and n; the analysis weighs the step."""
    make_runs(make_run, tiny_recipe)
    make_run(7, wrong=[], protocol="tune")

    lines = shell("ladder", mine).out.splitlines()

    assert lines[4].split() == [
        *("1", "first", "612", "3", "97.50", "%", "93.75", "%", "1.768", "2", "final")
    ]
    assert lines[5].split() == ["100.00", "%", "-", "1", "tune"]
    assert (
        "   Result    claimed: 97.50 % at epoch 2, the best epoch, *selected on the test set*; "
        "700 parameters claimed, 612 counted"
    ) in lines
    assert (
        "   Result    ours: 93.75 % on test after the last epoch, n = 2, sd 1.768 points "
        "(protocol final, torch engine)"
    ) in lines
    assert "   Result    noted: a|b" in lines
    assert "   Analysis  told: Fine." in lines
    assert "   Analysis  Against `first`: batch size 32 -> 16." in lines
    assert lines[-1] == (
        "   Analysis  +2.50 points against `first` over 2 seeds: not shown to be more than noise; "
        "it needs about 6 seeds."
    )


def test_selection_on_the_test_set_is_said(
    shell: Shell, mine: str, make_run: Make, tiny_recipe: Recipe
) -> None:
    """Runs of the origin's protocol show last and best epoch, and how the best was chosen."""
    result = make_run(9).record().result
    assert result is not None
    make_run(1, protocol="origin", result=replace(result, selection="selected on the test set"))

    page = shell("ladder", mine).out

    assert (
        "ours: 97.50 % on test after the last epoch, n = 1; best epoch 97.50 %, *selected on the "
        "test set* (protocol origin, torch engine)"
    ) in page


def test_markdown_is_a_page(shell: Shell, mine: str, make_run: Make, tiny_recipe: Recipe) -> None:
    """A table, then a section per step with its three titles."""
    make_runs(make_run, tiny_recipe)

    lines = shell("ladder", mine, "--md").out.splitlines()

    assert lines[0] == "# mine.json"
    assert lines[2:6] == [
        "| step | recipe | params | epochs | claimed | ours | sd | n | protocol |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --- |",
        "| 1 | first | 612 | 3 | 97.50 % | 93.75 % | 1.768 | 2 | final |",
        "| 2 | second | 612 | 3 | - | 96.25 % | 1.768 | 2 | final |",
    ]
    assert "## Step 2: second" in lines
    assert "**Target**: Go on." in lines
    assert "- noted: a|b" in lines
    assert "- 612 parameters: 88 under the budget of 700." in lines


def test_json_has_the_numbers(shell: Shell, mine: str, make_run: Make, tiny_recipe: Recipe) -> None:
    """Shares, counts and sentences of each step."""
    make_runs(make_run, tiny_recipe)

    plain = json.loads(shell("ladder", mine, "--json").out)

    first, second = plain["steps"]
    assert plain["ladder"] == "mine.json"
    assert (first["recipe"], first["claimed_percent"], first["num_params"]) == ("first", 97.5, 612)
    assert first["reached"][0] == {
        "protocol": "final",
        "engine": "torch",
        "split": "test",
        "n": 2,
        "mean": pytest.approx(0.9375),
        "sd": pytest.approx(0.017678, abs=1e-6),
        "best": None,
    }
    assert (second["target"], second["claimed_result"], second["protocol"]) == (
        *("Go on.", "a|b", "final"),
    )


def test_run_trains_what_is_missing(shell: Shell, mine: str, tmp_path: Path) -> None:
    """`--run` makes a run of each step and tells it; once there it is not made again."""
    first, again = shell("ladder", mine, "--run"), shell("ladder", mine, "--run")

    names = [folder.record().recipe.name for folder in RunStore(tmp_path / "runs").folders()]
    assert (first.code, again.code) == (0, 0)
    assert sorted(names) == ["first", "second"]
    assert again.err == "2 of 2 runs are there already\n"
    assert first.out == again.out
    assert "from one seed: whether that is more than noise cannot be told." in first.out


def test_new_starts_a_file_and_never_overwrites(shell: Shell, tiny_file: str) -> None:
    """The file has the steps with their targets and is a ladder at once."""
    found = shell("ladder", "new", "own.json", "era-s7/1", tiny_file)
    again = shell("ladder", "new", "own.json", "era-s7/1")

    assert found.out == "Wrote `own.json` with 2 steps. `smidgen ladder own.json` tells it.\n"
    assert json.loads(Path("own.json").read_text()) == [
        {
            "recipe": "era-s7/1",
            "target": "Set up data, model and training loop.",
            "result": "",
            "analysis": "",
        },
        {"recipe": "tiny.json", "target": "", "result": "", "analysis": ""},
    ]
    assert (again.code, again.err) == (
        1,
        "error: `own.json` is there already. Choose another name or edit it.\n",
    )
    assert shell("ladder", "own.json").code == 0


@pytest.mark.parametrize(
    "arguments",
    [("new",), ("new", "a.json"), ("new", "era-s7/1", "era-s7/2"), ("era-s7", "eva4-s5")],
)
def test_wrong_usage_ends_with_two(shell: Shell, arguments: tuple[str, ...]) -> None:
    """A file and recipes after `new`, one ladder otherwise."""
    assert shell("ladder", *arguments).code == 2


def test_new_writes_nothing_for_an_unknown_recipe(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is none is one line, and no file."""
    monkeypatch.chdir(tmp_path)
    found = shell("ladder", "new", "own.json", "era-s7/11")

    assert found.code == 1
    assert found.err.startswith("error: No recipe is called `era-s7/11`. Did you mean `era-s7/1`?")
    assert not Path("own.json").exists()


@pytest.mark.parametrize("name", LADDERS)
def test_the_catalogue_has_ladders(name: str) -> None:
    """Each holds its recipes in order."""
    assert tuple(rung.recipe.name for rung in read_ladder(name)) == LADDERS[name]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[]", RecipeError, "`x.json` has no steps. `smidgen ladder new` starts one with some."),
        (
            '[{"recipe": "era-s7/1", "taget": ""}]',
            RecipeError,
            "`x.json`: unknown key `0.taget`. Did you mean `target`?",
        ),
        (
            '[{"recipe": "era-s7/1"}, {"recipe": "no.json"}]',
            RecipeError,
            "Cannot read `no.json`: No such file or directory.",
        ),
    ],
)
def test_files_that_are_no_ladder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    error: type[SmidgenError],
    message: str,
) -> None:
    """What is wrong is named with its place."""
    monkeypatch.chdir(tmp_path)
    Path("x.json").write_text(text)

    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        read_ladder("x.json")


def test_an_unknown_ladder_carries_the_nearest() -> None:
    """Ladders of the catalogue are named without a step."""
    with pytest.raises(
        UnknownNameError, match=r"^No ladder is called `era-7`\. Did you mean `era-"
    ):
        read_ladder("era-7")


def test_own_texts_go_before_the_recipes(tmp_path: Path) -> None:
    """Target and analysis of the file replace those of the recipe, empty ones do not."""
    file = tmp_path / "x.json"
    file.write_text('[{"recipe": "era-s7/1", "analysis": "Mine.", "result": "98 %"}]')

    (rung,) = read_ladder(str(file))

    assert isinstance(rung, Rung)
    assert rung.result == "98 %"
    assert rung.recipe.about.analysis == "Mine."
    assert rung.recipe.about.target == "Set up data, model and training loop."
    assert Step("era-s7/1").target == ""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.errors import ReportError
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import LADDERS, get_recipe
from smidgen.recipes.ladder import Rung, read_ladder
from smidgen.ship.project import project_files


@pytest.mark.parametrize("name", LADDERS)
def test_every_ladder_becomes_a_project(name: str) -> None:
    """Each origin's ladder gives valid Python, notebooks and a table with its exact counts."""
    rungs = read_ladder(name)
    made = project_files(rungs, name)

    for file, text in made.items():
        if file.endswith(".py"):
            ast.parse(text, file)
            assert all(len(line) <= 120 for line in text.splitlines()), file
        if file.endswith(".ipynb"):
            cells = json.loads(text)["cells"]
            for cell in cells:
                if cell["cell_type"] == "code":
                    ast.parse("".join(cell["source"]))
    for rung in rungs:
        assert f"| {trace(rung.recipe.network).totals.num_params:,} |" in made["README.md"]
    assert not any("smidgen." in made[f] or "import smidgen" in made[f] for f in made)
    assert "import torchvision" not in "".join(made.values())


def test_settings_are_the_recipes() -> None:
    """A model's file holds the recipe's optimizer, schedule, batch and augmentation."""
    text = project_files([Rung(get_recipe("assignment7/3"))], "x")["model_1.py"]

    assert "torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)" in text
    assert "StepLR(optimizer, step_size=7, gamma=0.1)" in text
    assert '"batch_size": 64' in text
    assert '(augment.rotation, {"degrees": 15.0})' in text
    assert '"probability": 0.1' in text


def test_what_a_plain_project_cannot_follow_is_named() -> None:
    """A recipe with elastic bends or averaged weights is refused by what it is."""
    recipe = get_recipe("eva4-s5/5").with_setting("averaging", '{"decay": 0.9}')

    with pytest.raises(ReportError, match="`eva4-s5/5`: a plain project cannot follow its `aver"):
        project_files([Rung(recipe)], "x")


@pytest.mark.slow
def test_project_trains_and_passes_its_tests(tmp_path: Path, mnist_folder: Path) -> None:
    """The project of the smallest ladder trains and passes its own tests, without smidgen."""
    for file, text in project_files(read_ladder("mnist-challenge"), "x").items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    words = [sys.executable, "-c", "import sys; sys.modules['smidgen'] = None; " + _RUN]
    trained = subprocess.run(
        [*words, "--model", "3", "--epochs", "1", "--limit", "2000", "--data", str(mnist_folder)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert trained.returncode == 0, trained.stderr
    assert "last epoch" in trained.stdout
    log = json.loads((tmp_path / "results" / "model_3_seed_1.json").read_text())
    assert log[0]["test"] > 15.0
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert tested.returncode == 0, tested.stdout


_RUN = "sys.path.insert(0, ''); sys.argv[0] = 'train.py'; import train; train.main()"

from pathlib import Path

import pytest
from typer.testing import CliRunner

from smidgen.cli.app import app
from smidgen.errors import ReportError


def run(*words: str) -> str:
    """Run `smidgen export` and return what it printed; errors come through."""
    result = CliRunner().invoke(app, ["export", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_ladder_becomes_a_project(tmp_path: Path) -> None:
    """A ladder is written with a model per step, and the next command is told."""
    text = run("mnist-challenge", "--to", "project", "-o", str(tmp_path / "mine"))
    names = {path.name for path in (tmp_path / "mine").iterdir()}

    assert "3 steps" in text
    assert "pip install -r requirements.txt && python train.py && pytest" in text
    assert {"model_1.py", "model_3.py", "train.py", "README.md", "RF Calculations 1.xlsx"} <= names


def test_recipe_becomes_a_project_of_one_step(tmp_path: Path) -> None:
    """A single recipe is a project, too."""
    run("eva4-s5/5", "--to", "project", "-o", str(tmp_path / "mine"))

    assert (tmp_path / "mine" / "model_1.py").is_file()
    assert not (tmp_path / "mine" / "model_2.py").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """A folder that holds something is left alone."""
    (tmp_path / "note").write_text("mine")

    with pytest.raises(ReportError, match="is there and not empty"):
        run("eva4-s5/5", "--to", "project", "-o", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["note"]

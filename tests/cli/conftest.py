"""The command line, run in this process as the shell would run it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import smidgen.data
from smidgen.cli import main
from smidgen.data import Dataset
from smidgen.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Shell = Callable[..., Ended]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Return a function that runs `smidgen` with arguments, on a wide terminal without color."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["smidgen", *arguments])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def tiny_file(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Return a JSON file with the tiny recipe, and let `stripes` be the small drawn set."""

    def load_small(name: str, *arguments: object, **more: object) -> Dataset:
        assert name == "stripes"
        return stripes

    monkeypatch.setattr(smidgen.data, "load_dataset", load_small)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.json").write_text(tiny_recipe.to_json())
    return "tiny.json"

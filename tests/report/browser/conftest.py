"""Pages of tiny runs, and what a real browser saw of them: made once for all tests here."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from smidgen.cli.app import app
from smidgen.data import load_dataset
from smidgen.network.layers import Conv
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.run import TrainOptions, train

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LIMIT_SECONDS = 570  # the script itself ends at 540 and closes the browser
HOSTILE = "<script>alert(1)</script>"

WRONG = """<!DOCTYPE html><html lang="en"><head><title>Wrong on purpose</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="script-src 'unsafe-inline'; font-src 'none'">
<style>@font-face { font-family: x; src: url(other.woff2); } :focus { outline: none; }</style>
</head><body><main><a href="#there">A link</a>
<p style="color: #aaa; background: #fff; font-family: x">Pale</p>
<p style="width: 900px">Wide</p><img src="missing.png">
<figure class="plot"><svg viewBox="0 0 1000 100" width="300"><text x="9" y="50" font-size="10">
small</text></svg></figure>
</main><script>console.error("broken on purpose");</script></body></html>"""
"""A page that goes wrong in every way that the tests look for."""


@pytest.fixture(scope="session")
def browser() -> str:
    """Return the browser's path; skip, or fail where it is needed, if a part is missing."""
    path = next(filter(None, map(shutil.which, BROWSERS)), "")
    missing = "" if path else "Chromium is missing: `apt-get install chromium`"
    if shutil.which("node") is None:
        missing = "node is missing: install nodejs, 20 or newer"
    elif not (HERE / "node_modules" / "playwright-core").is_dir():
        missing = "packages are missing: `make browser`"
    if missing and os.environ.get("SMIDGEN_NEED_BROWSER"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    return path


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Recipe) -> dict[str, Path]:
    """Write one page of each kind, by the commands that a user types."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SMIDGEN_DATA", raising=False)
        patch.chdir(folder)
        _train(tiny_recipe)
        _report("tiny-s1", "--image", "3", "-o", "run.html")
        _report("tiny", "--target", "30", "-o", "proof.html")
        _report("tiny", "wide", "-o", "comparison.html")
        _report("steps.json", "-o", "ladder.html")
        hostile = _hostile_runs()
        _report("--site", "site", "--runs-dir", "hostile")
    named = {name: folder / f"{name}.html" for name in ("run", "proof", "comparison", "ladder")}
    site = folder / "site"
    return named | {
        "hostile": site / f"run-{hostile}.html",
        "frontier": site / "frontier.html",
        "index": site / "index.html",
    }


@pytest.fixture(scope="session")
def _seen(
    browser: str, pages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("browser")
    (folder / "wrong.html").write_text(WRONG)
    shown = {name: str(path) for name, path in pages.items()}
    job = {"browser": browser, "pages": {**shown, "wrong": str(folder / "wrong.html")}}
    (folder / "job.json").write_text(json.dumps(job))
    ended = subprocess.run(
        ["node", str(HERE / "look.mjs"), str(folder / "job.json")],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="session")
def looks(_seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the browser saw of each page."""
    return [look for look in _seen if look["name"] != "wrong"]


@pytest.fixture(scope="session")
def looks_at_wrong(_seen: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the browser saw of the page that is wrong on purpose."""
    return next(look for look in _seen if look["name"] == "wrong")


def _train(tiny: Recipe) -> None:
    dataset, store = load_dataset("stripes"), RunStore(Path("runs"))
    layers = (Conv(9, 3, stride=2), *tiny.network.layers[1:])
    wide = tiny.replace(name="wide", network=replace(tiny.network, layers=layers))
    for recipe in (tiny, wide):
        Path(f"{recipe.name}.json").write_text(recipe.to_json())
        for seed in (1, 2):
            train(recipe, dataset, store, seed, TrainOptions(engine="torch", threads=1))
    steps = [
        {"recipe": "tiny.json", "target": "Start small.", "analysis": "It learns."},
        {"recipe": "wide.json", "target": "Widen it.", "result": "Better."},
    ]
    Path("steps.json").write_text(json.dumps(steps))


def _hostile_runs() -> str:
    """Copy runs with classes and texts that would break out of a page; return one's name."""
    store = RunStore(Path("runs"))
    for run in (store.find("tiny-s1"), store.find("tiny-s2")):
        record = run.record()
        names = (HOSTILE, '"><img src=x onerror=alert(2)>', *record.data.class_names[2:])
        about = replace(record.recipe.about, summary=HOSTILE, analysis=HOSTILE, target=HOSTILE)
        recipe, data = record.recipe.replace(about=about), replace(record.data, class_names=names)
        copy = Path("hostile") / run.name
        shutil.copytree(run.path, copy)
        RunFolder(copy).save_record(replace(record, recipe=recipe, data=data))
    return store.find("tiny-s1").name


def _report(*arguments: str) -> None:
    ended = CliRunner(env={"SMIDGEN_RUNS": "runs"}).invoke(app, ["report", *arguments])
    assert ended.exit_code == 0, f"{arguments}: {ended.output} {ended.exception!r}"

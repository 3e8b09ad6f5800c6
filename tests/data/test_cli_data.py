import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from smidgen.cli.data_command import app
from smidgen.data import dataset_stats, draw_stripes
from smidgen.errors import DataMissingError, UnknownNameError


def run(*arguments: str) -> Any:
    """Run the sub-app; deliberate errors come back as `exception`."""
    return CliRunner().invoke(app, list(arguments))


def test_stats_prints_counts_and_moments() -> None:
    """The table holds what `dataset_stats` found, in four digits."""
    result = run("stats", "stripes")

    lines = result.stdout.splitlines()
    assert lines[0].split() == ["stripes", "train", "test"]
    assert lines[1].split() == ["images", "2,000", "500"]
    stats = dataset_stats(draw_stripes())
    assert lines[2].split() == ["mean", f"{stats.train.mean:.4f}", f"{stats.test.mean:.4f}"]
    assert lines[7].split() == ["class", "narrow", "36°", "200", "50"]
    assert lines[-1].endswith(stats.sha256)


def test_stats_as_json_is_one_object_equal_to_the_librarys() -> None:
    """The machine-readable form is the library's plain data."""
    result = run("stats", "stripes", "--json")

    plain = json.loads(json.dumps(dataset_stats(draw_stripes()).to_dict()))
    assert json.loads(result.stdout) == plain


def test_fetch_imports_and_prints_the_folder_on_standard_output_alone(
    tiny: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is the path, and nothing else."""
    monkeypatch.setitem(sys.modules["smidgen.data.specs"].SPECS, "tiny", tiny.spec)
    source = tiny.write(tmp_path / "mine")

    result = run("fetch", "tiny", "--from", str(source))

    assert result.exit_code == 0
    assert result.stdout == f"{cache / 'data' / 'tiny'}\n"


def test_fetch_downloads_from_an_address(
    tiny: Any, bad_server: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address after `--from` is asked for the files."""
    monkeypatch.setitem(sys.modules["smidgen.data.specs"].SPECS, "tiny", tiny.spec)

    result = run("fetch", "tiny", "--from", bad_server.at("good"))

    assert result.stdout == f"{cache / 'data' / 'tiny'}\n"
    assert sorted(bad_server.asked("good")) == sorted(tiny.packed)


def test_samples_writes_a_grid_and_prints_its_path(tmp_path: Path) -> None:
    """The picture has one cell per image; its folder is made."""
    output = tmp_path / "new" / "samples.png"

    result = run("samples", "stripes", "-o", str(output), "--count", "20", "--split", "test")

    assert result.stdout == f"{output}\n"
    with Image.open(output) as picture:
        assert picture.format == "PNG"
        assert picture.size == (48 + 10 * 98 - 14, 48 + 2 * 122 - 14)


def test_samples_of_a_recipe_come_from_the_training_preview(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipe, data set, count and seed are handed over, and what comes back is drawn."""
    asked: list[Any] = []

    def augmented_samples(
        recipe: str, dataset: Any, count: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        asked.append((recipe, dataset.name, count, seed))
        return np.zeros((count, 1, 28, 28), np.uint8), np.zeros(count, np.int64)

    preview = types.ModuleType("smidgen.training.use")
    preview.augmented_samples = augmented_samples  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "smidgen.training.use", preview)
    output = tmp_path / "a.png"

    result = run(
        "samples",
        "stripes",
        "--recipe",
        "era-s7/1",
        "--count",
        "5",
        "--seed",
        "7",
        "-o",
        str(output),
    )

    assert result.exit_code == 0
    assert asked == [("era-s7/1", "stripes", 5, 7)]
    assert output.exists()


def test_an_unknown_recipe_is_told_before_images_are_read(tmp_path: Path) -> None:
    """A wrong name costs no waiting: the data set is not even looked for."""
    result = run("samples", "nothing", "--recipe", "era-s7/99", "-o", str(tmp_path / "a.png"))

    assert str(result.exception).startswith("No recipe is called `era-s7/99`.")


@pytest.mark.parametrize("name", ["x.txt", "x.jpg", "x"])
def test_samples_are_written_as_png_alone(tmp_path: Path, name: str) -> None:
    """Another ending is wrong usage, and nothing is written."""
    result = run("samples", "stripes", "-o", str(tmp_path / name))

    assert result.exit_code == 2
    assert "does not end in .png" in " ".join(result.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_test_images_are_not_augmented() -> None:
    """Asking for it is wrong usage."""
    result = run("samples", "stripes", "--recipe", "a/b", "--split", "test")

    assert result.exit_code == 2


def test_folder_options_reach_the_reader(tmp_path: Path) -> None:
    """`--data-dir` and `--invert` are passed on."""
    for name, ink in (("a", 10), ("b", 20)):
        (tmp_path / name).mkdir()
        for number in range(2):
            pixels = np.full((28, 28), 255, np.uint8)
            pixels[5, 5 + number] = ink
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")

    inverted = json.loads(run("stats", "folder", "--data-dir", str(tmp_path), "--json").stdout)
    kept = json.loads(
        run("stats", "folder", "--data-dir", str(tmp_path), "--invert", "no", "--json").stdout
    )

    assert inverted["train"]["mean"] < 0.1
    assert kept["train"]["mean"] > 0.9
    assert kept["class_names"] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["stats", "mnits"], UnknownNameError),
        (["samples", "folder"], DataMissingError),
        (["fetch", "mnist", "--from", "/nowhere"], DataMissingError),
    ],
)
def test_deliberate_errors_reach_the_caller(arguments: list[str], kind: type[Exception]) -> None:
    """The sub-app prints no error itself; the program's entry makes one line of it."""
    assert isinstance(run(*arguments).exception, kind)


def test_help_answers_without_the_library() -> None:
    """Listing commands loads neither the data package nor Pillow."""
    import subprocess

    script = (
        "import sys\nfrom smidgen.cli.data_command import app\n"
        "try:\n    app(['samples', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'smidgen.data', 'PIL', 'torch', 'numpy'} & set(sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "samples mnist -o samples.png" in done.stdout

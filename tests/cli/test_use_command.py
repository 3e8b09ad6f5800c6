import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smidgen.data import Dataset
from smidgen.engines.choose import EngineName
from smidgen.runs.store import RunStore
from smidgen.training import use

Shell = Callable[..., Any]


@pytest.fixture
def run(
    shell: Shell,
    tiny_file: str,
    stripes: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Return the folder of a trained run, which the torch engine reads."""

    def torch_engine(*given: object) -> tuple[EngineName, str]:
        return "torch", ""

    monkeypatch.setattr(use, "choose_engine", torch_engine)
    monkeypatch.setattr(use, "load_dataset", lambda name, folder, **more: stripes)
    assert shell("train", tiny_file, "--engine", "torch", "--threads", "1").code == 0
    return RunStore(tmp_path / "runs").find("last")


@pytest.fixture
def pictures(stripes: Dataset, tmp_path: Path) -> Path:
    """Return a folder with a sub-folder per class that has the test images as PNG."""
    folder = tmp_path / "pictures"
    pairs = zip(stripes.test.images, stripes.test.labels, strict=True)
    for number, (image, label) in enumerate(pairs):
        place = folder / stripes.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(place / f"{number:03d}.png")
    return folder


def test_eval_gives_the_recorded_result(run: Any, shell: Shell) -> None:
    """A run measured again has the errors that its record says."""
    result, last = run.record().result, run.record().epochs[-1]

    found = shell("eval", "last")

    assert found.code == 0
    assert found.out == (
        f"{100 * result.accuracy:.2f} %: {result.num_errors} errors in 40 images, "
        f"mean cross-entropy {last.eval_loss:.4f}\n"
    )


def test_eval_for_machines(run: Any, shell: Shell, pictures: Path) -> None:
    """The same numbers come as JSON, also on a folder of the same images."""
    result = run.record().result

    own = json.loads(shell("eval", run.name, "--json").out)
    folder = json.loads(
        shell("eval", "tiny", "--json", "--images", str(pictures), "--invert", "no").out
    )

    assert list(own) == ["run", "accuracy", "num_errors", "num_images", "loss"]
    assert own == folder
    assert own["run"] == run.name
    assert (own["accuracy"], own["num_errors"]) == (result.accuracy, result.num_errors)


def test_predict_prints_a_table(run: Any, shell: Shell, pictures: Path) -> None:
    """Each image has its class, probability and runner-up."""
    files = sorted(str(path) for path in pictures.glob("*/*.png"))[:3]

    found = shell("predict", "last", *files, "--invert", "no")

    lines = found.out.splitlines()
    assert found.code == 0
    assert lines[0].split() == ["image", "class", "probability", "next"]
    assert [line[: len(path)] for line, path in zip(lines[2:], files, strict=True)] == files
    names = run.record().data.class_names
    assert all(any(name in line for name in names) for line in lines[2:])


def test_predict_for_machines(run: Any, shell: Shell, pictures: Path) -> None:
    """As JSON each image has all classes with their probabilities."""
    path = str(next(iter(sorted(pictures.glob("*/*.png")))))

    (plain,) = json.loads(shell("predict", "last", path, "--invert", "no", "--json").out)

    assert list(plain) == ["image", "class", "probability", "probabilities"]
    assert plain["image"] == path
    assert plain["probabilities"][plain["class"]] == plain["probability"]
    assert sum(plain["probabilities"].values()) == pytest.approx(1)
    assert set(plain["probabilities"]) == set(run.record().data.class_names)


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_unknown_runs_are_one_line(
    shell: Shell, command: str, pictures: Path, tmp_path: Path
) -> None:
    """A run that is not there is said with where was looked."""
    arguments = [str(pictures)] if command == "predict" else []

    found = shell(command, "nothing", *arguments)

    assert (found.code, found.out) == (1, "")
    assert found.err == (
        "error: No run is called `nothing`. Known: none. "
        f"Runs are looked for in `{tmp_path / 'runs'}`.\n"
    )


def test_damaged_weights_are_one_line(run: Any, shell: Shell) -> None:
    """A run whose weights changed says so and predicts nothing."""
    path = run.path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    found = shell("eval", "last")

    assert (found.code, found.out) == (1, "")
    assert found.err == (
        f"error: `{path}` is damaged: its content does not match its SHA-256. "
        "Restore it or train again.\n"
    )


def test_a_missing_image_is_one_line(run: Any, shell: Shell) -> None:
    """An image that is not there is named."""
    found = shell("predict", "last", "nowhere.png")

    assert (found.code, found.out) == (1, "")
    assert "nowhere.png" in found.err
    assert found.err.count("\n") == 1


def test_last_is_the_newest_that_is_finished(run: Any, shell: Shell, pictures: Path) -> None:
    """A newer run that was cut short is passed over, and that is said; by name it is refused."""
    newer = run.path.with_name("newer.partial")
    shutil.copytree(run.path, newer)
    newer.touch()
    said = "`newer` is not finished. Continue it with `smidgen train --resume newer`."

    image = str(next(pictures.glob("*/*.png")))
    for words in (["eval", "last"], ["predict", "last", image]):
        found = shell(*words)
        assert (found.code, found.err) == (0, f"{said} `last` is taken for `{run.name}`.\n")
    assert shell("eval", "newer").err == f"error: {said}\n"

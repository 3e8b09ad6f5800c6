from pathlib import Path

import numpy as np
import pytest

from smidgen.data import Dataset
from smidgen.errors import NonFiniteError, RunError
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.parts import SGD, Constant
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunStore
from smidgen.runs.tensors import load_tensors, save_tensors
from smidgen.training.loop import TrainOptions, train
from smidgen.training.replay import replay


@pytest.fixture
def replay_file(tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path) -> Path:
    """Return the file that a run with an absurd learning rate wrote."""
    recipe = tiny_recipe.replace(optimizer=SGD(1e30), schedule=Constant())
    with pytest.raises(NonFiniteError):
        train(recipe, stripes, RunStore(tmp_path), 1, TrainOptions(engine="torch", threads=1))
    (folder,) = RunStore(tmp_path).folders()
    return folder.path / "replay.safetensors"


def test_a_replay_finds_the_same_culprit(replay_file: Path) -> None:
    """Running the kept batch again, from the file alone, ends at the place that was named."""
    _, metadata = load_tensors(replay_file)

    assert replay(replay_file) == metadata["culprit"]
    assert metadata["culprit"].startswith("`")


def test_a_replay_depends_on_what_was_kept(replay_file: Path) -> None:
    """With healthy weights in place of the ones from before the step, the batch is finite."""
    tensors, metadata = load_tensors(replay_file)
    healthy = {
        name: np.full_like(array, 0.01) if name.startswith("state/") else array
        for name, array in tensors.items()
    }
    save_tensors(replay_file, healthy, metadata)

    assert replay(replay_file) == "nothing (the batch is finite when run again)"


def test_a_damaged_replay_is_refused(replay_file: Path) -> None:
    """One changed bit is noticed."""
    content = bytearray(replay_file.read_bytes())
    content[-5] ^= 16
    replay_file.write_bytes(content)

    with pytest.raises(RunError) as caught:
        replay(replay_file)

    assert "does not match its SHA-256" in str(caught.value)


def test_another_file_is_no_replay(tmp_path: Path) -> None:
    """A file of ours that holds something else is refused by name."""
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"a": np.zeros(3, np.float32)})

    with pytest.raises(RunError) as caught:
        replay(path)

    assert str(caught.value) == f"`{path}` is no replay file."


def test_a_replay_knows_what_teachers_said(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student's file holds the batch's targets, and its replay uses them."""
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "cache"))
    teacher = Teacher(tiny_recipe.replace(epochs=1))
    student = tiny_recipe.replace(
        optimizer=SGD(1e30), schedule=Constant(), distillation=Distillation((teacher,))
    )
    with pytest.raises(NonFiniteError):
        train(student, stripes, RunStore(tmp_path), 1, TrainOptions(engine="torch", threads=1))
    (path,) = tmp_path.glob("*.partial/replay.safetensors")

    tensors, metadata = load_tensors(path)

    assert tensors["targets"].shape == (32, 10)
    assert replay(path) == metadata["culprit"]
    # with labels alone the batch of healthy weights is finite; with targets of infinity it is not
    healthy = {
        name: np.full_like(array, 0.01) if name.startswith("state/") else array
        for name, array in tensors.items()
    }
    save_tensors(path, healthy | {"targets": np.full((32, 10), np.inf, np.float32)}, metadata)
    assert replay(path) == "the loss"

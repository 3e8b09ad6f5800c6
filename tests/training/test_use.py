from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smidgen.data import Dataset, draw_stripes, load_dataset, samples_of
from smidgen.engines import choose
from smidgen.engines.choose import EngineName
from smidgen.errors import DataError, RunError, UnknownNameError
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training import use
from smidgen.training.run import Run, TrainOptions, train
from smidgen.training.use import (
    augmented_samples,
    evaluate_on_folder,
    evaluate_on_test,
    logits_of,
    predict_images,
    profile_recipe,
)

TrainTiny = Callable[..., Run]


@pytest.fixture(autouse=True)
def _torch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the torch engine answer, so that scores equal the recorded ones bit for bit."""

    def torch_engine(recipe: Recipe, choice: str, device: str) -> tuple[EngineName, str]:
        return "torch", ""

    monkeypatch.setattr(use, "choose_engine", torch_engine)
    assert choose.choose_engine is not torch_engine


@pytest.fixture
def run(train_tiny: TrainTiny) -> Run:
    """Return a finished run of the tiny recipe, with averaged weights."""
    return train_tiny()


@pytest.fixture
def pictures(stripes: Dataset, tmp_path: Path) -> Path:
    """Return a folder with a sub-folder per class that has the test images as PNG."""
    folder = tmp_path / "pictures"
    for number, (image, label) in enumerate(
        zip(stripes.test.images, stripes.test.labels, strict=True)
    ):
        place = folder / stripes.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(place / f"{number:03d}.png")
    return folder


def test_scores_are_those_of_the_run(run: Run, stripes: Dataset) -> None:
    """A run read back from its folder gives the scores it recorded."""
    assert (logits_of(run.folder, stripes.test.images) == run.folder.predictions()["logits"]).all()


def test_an_unfinished_run_has_no_scores(run: Run, stripes: Dataset) -> None:
    """An unfinished run is refused with what to do."""
    partial = RunFolder(run.folder.path.rename(f"{run.folder.path}.partial"))

    with pytest.raises(RunError) as caught:
        logits_of(partial, stripes.test.images)

    assert str(caught.value) == (
        f"`{partial.name}` is not finished. "
        f"Continue it with `smidgen train --resume {partial.name}`."
    )


def test_damaged_weights_give_no_scores(run: Run, stripes: Dataset) -> None:
    """One changed bit in the weights is noticed before anything is computed."""
    path = run.folder.path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(RunError) as caught:
        logits_of(run.folder, stripes.test.images)

    assert "does not match its SHA-256" in str(caught.value)


def test_its_own_test_images(run: Run, stripes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring a run on its own test images gives its recorded result."""
    monkeypatch.setattr(use, "load_dataset", lambda name, folder, **more: stripes)
    result = run.record.result
    assert result is not None

    found = evaluate_on_test(run.folder)

    assert (found.num_errors, found.accuracy) == (result.num_errors, result.accuracy)


def test_other_images_under_the_same_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set that is not the one of the run is refused."""
    monkeypatch.setattr(
        use, "load_dataset", lambda name, folder, **more: draw_stripes(120, 40, seed=3)
    )

    with pytest.raises(DataError) as caught:
        evaluate_on_test(run.folder)

    assert str(caught.value) == (
        f"The `stripes` here is not the one that `{run.folder.name}` was trained with."
    )


def test_a_folder_of_the_same_images(run: Run, pictures: Path) -> None:
    """The test images as PNG files give the recorded number of errors."""
    result = run.record.result
    assert result is not None

    found = evaluate_on_folder(run.folder, pictures, "no", "resize")

    assert (found.num_errors, found.num_images) == (result.num_errors, 40)


@pytest.fixture
def dark(stripes: Dataset, tmp_path: Path) -> Path:
    """Return a folder of training and test images, dark on light, which none looks like."""
    folder = tmp_path / "dark"
    for part, split in (("train", stripes.train), ("test", stripes.test)):
        for number, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            place = folder / part / stripes.class_names[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - image[0] // 3).save(place / f"{number:03d}.png")
    return folder


@pytest.mark.parametrize("kept", [True, False])
def test_images_are_read_as_in_training(
    tiny_recipe: Recipe, dark: Path, tmp_path: Path, kept: bool
) -> None:
    """An option that is named wins; a run from before they were kept is read as ever."""
    dataset = load_dataset("folder", dark, invert="no")
    options = TrainOptions(engine="torch", threads=1)
    recipe = tiny_recipe.replace(dataset="folder")
    trained = train(recipe, dataset, RunStore(tmp_path / "runs"), 1, options)
    folder, record = trained.folder, trained.record
    assert record.data.reading == {"invert": "no", "fit": "resize"}
    if not kept:
        folder.save_record(replace(record, data=replace(record.data, invert=None, fit=None)))
    files = sorted((dark / "test").glob("*/*.png"))

    def scores(*reading: Any) -> list[float]:
        return [each.probability for each in predict_images(folder, files, *reading)]

    as_trained, as_ever = scores("no", "resize"), scores("auto", "resize")
    assert as_trained != as_ever
    assert scores() == (as_trained if kept else as_ever)
    assert scores("auto") == as_ever
    result = evaluate_on_folder(folder, dark / "test")
    expected = record.result
    assert expected is not None
    if kept:
        assert result.num_errors == evaluate_on_test(folder, dark).num_errors
        assert result.num_errors == expected.num_errors
    else:
        with pytest.raises(DataError, match="is not the one that"):
            evaluate_on_test(folder, dark)
        assert evaluate_on_test(folder, dark, "no").num_errors == expected.num_errors


def test_predictions_by_class_name(run: Run, pictures: Path) -> None:
    """Each file gets its classes by name with probabilities, the most probable first."""
    files = sorted(pictures.glob("*/*.png"))

    found = predict_images(run.folder, files, "no", "resize")

    logits = run.folder.predictions()["logits"].astype(np.float64)
    for prediction, path in zip(found, files, strict=True):
        scores = logits[int(path.stem)]
        expected = np.exp(scores) / np.exp(scores).sum()
        names = run.record.data.class_names
        assert prediction.path == path
        assert prediction.class_name == names[int(expected.argmax())]
        assert prediction.probability == pytest.approx(expected.max(), rel=1e-4)
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        shares = list(prediction.probabilities.values())
        assert shares == sorted(shares, reverse=True)
        second = list(prediction.probabilities)[1]
        assert prediction.second() == f"{second} ({100 * shares[1]:.2f} %)"


def test_a_folder_is_predicted_file_by_file(run: Run, pictures: Path) -> None:
    """A folder stands for the files in it."""
    place = next(pictures.iterdir())

    found = predict_images(run.folder, [place], "no", "resize")

    assert [prediction.path for prediction in found] == sorted(place.iterdir())


def test_an_unreadable_image_is_named(run: Run, tmp_path: Path) -> None:
    """A file that is no image stops the prediction with its name."""
    (tmp_path / "notes.png").write_text("not an image")

    with pytest.raises(DataError) as caught:
        predict_images(run.folder, [tmp_path / "notes.png"], "auto", "resize")

    assert "notes.png" in str(caught.value)


def test_samples_are_augmented() -> None:
    """The same images come as without a recipe, changed, with the same labels."""
    dataset = draw_stripes(60, 20)
    plain, labels = samples_of(dataset.train, dataset.num_classes, 20, 1)

    images, names = augmented_samples("smidgen/quick", dataset, 20, 1)

    assert (names == labels).all()
    assert images.shape == plain.shape
    assert images.dtype == np.uint8
    assert (images != plain).any(axis=(1, 2, 3)).all()
    correlation = np.corrcoef(images.ravel(), plain.ravel())[0, 1]
    assert 0.05 < correlation < 0.999


def test_without_augmentation_they_stay() -> None:
    """A recipe that changes nothing shows the images as they are."""
    dataset = draw_stripes(60, 20)

    images, _ = augmented_samples("eva4-s5/4", dataset, 10, 1)

    assert (images == samples_of(dataset.train, dataset.num_classes, 10, 1)[0]).all()


def test_seeds_show_other_changes() -> None:
    """Another seed changes the same recipe's samples."""
    dataset = draw_stripes(60, 20)

    first, again, other = (augmented_samples("smidgen/quick", dataset, 5, s)[0] for s in (1, 1, 2))

    assert (first == again).all()
    assert (first != other).any()


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    """A wrong name is one line."""
    with pytest.raises(UnknownNameError) as caught:
        augmented_samples("smidgen/quik", draw_stripes(60, 20), 5, 1)

    assert "Did you mean `smidgen/quick`?" in str(caught.value)


@pytest.mark.parametrize("is_taught", [False, True])
def test_a_profile_shows_every_kind_of_work(
    is_taught: bool, tiny_recipe: Recipe, stripes: Dataset
) -> None:
    """Each convolution has its three kinds of work; a student is profiled without its teachers."""
    taught = Distillation((Teacher(tiny_recipe),)) if is_taught else None

    rows = profile_recipe(tiny_recipe.replace(distillation=taught), stripes, 64)

    kinds = {(row.layer, row.kind) for row in rows}
    assert {("conv2", "forward"), ("conv2", "input gradient"), ("conv2", "weight gradient")} < kinds
    assert all(row.seconds >= 0.0 for row in rows)


def test_a_profile_needs_images(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """No images are refused."""
    with pytest.raises(DataError) as caught:
        profile_recipe(tiny_recipe, stripes, 0)

    assert str(caught.value) == "`num_images` must be at least 1, not 0."

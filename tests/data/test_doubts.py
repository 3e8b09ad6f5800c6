import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from smidgen.cli.data_command import app
from smidgen.data import Dataset, Split, assemble, draw_stripes, load_dataset, split_valid
from smidgen.data.dataset import first_alike
from smidgen.data.doubts import find_doubts, is_empty, notes_on
from smidgen.errors import DataWarning
from smidgen.recipes.recipe import Recipe
from smidgen.training.splits import splits_for


def noise(count: int, key: int) -> np.ndarray:
    """Return images of which no two are alike, uint8 (count, 1, 28, 28)."""
    return np.random.default_rng(key).integers(0, 256, (count, 1, 28, 28)).astype(np.uint8)


def with_doubts() -> Dataset:
    """Return 20 + 6 images: a leak, a leak with another label, a repeat, one empty, one near."""
    train, test = noise(20, 1), noise(6, 2)
    labels, test_labels = np.arange(20) % 2, np.arange(6) % 2
    train[10] = train[0]  # the same class
    test[0] = train[4]  # the same class
    test[1] = train[6]  # another
    test[2] = 7
    test[3] = np.clip(train[5].astype(int) + 2, 0, 255)
    return assemble("x", Split(train, labels), Split(test, test_labels), ("even", "odd"))


def test_every_kind_of_doubt_is_found() -> None:
    """Copies across splits and labels, repeats, empty pictures, and near ones if asked."""
    doubts = find_doubts(with_doubts(), near=True)

    assert doubts.leaked == ((("test", 0), ("train", 4)), (("test", 1), ("train", 6)))
    assert doubts.relabelled == ((("test", 1), ("train", 6)),)
    assert doubts.repeated == 1
    assert doubts.empty == (("test", 2),)
    assert doubts.near == ((("test", 3), ("train", 5)),)


def test_each_kind_is_one_line_with_an_example() -> None:
    """The lines say how many, which, and what it means."""
    dataset = with_doubts()

    assert notes_on(dataset, find_doubts(dataset, near=True)) == [
        "2 of 6 test images are training images too, as `test image 0` is `train image 4`: "
        "accuracy on them is memory. `smidgen data check` lists all.",
        "1 picture stands under two labels, as `test image 1` (`odd`) and `train image 6` "
        "(`even`). `smidgen data check` lists all.",
        "1 of 26 images shows nothing, as `test image 2`: all pixels are (nearly) alike. Look at "
        "the file: fully transparent, or of a range that no screen shows?",
        "1 of 6 test images are nearly training images, as `test image 3` and `train image 5`.",
    ]


def test_drawn_images_give_no_doubts() -> None:
    """Data without copies are told nothing about."""
    dataset = draw_stripes(300, 100)

    assert notes_on(dataset, find_doubts(dataset, near=True)) == []


@pytest.mark.parametrize(("spread", "expected"), [(0, True), (7, True), (8, False)])
def test_empty_is_less_than_eight_levels(spread: int, expected: bool) -> None:
    """A channel with more makes a color picture one that shows something."""
    grey = np.full((1, 1, 6, 6), 100, np.uint8)
    grey[0, 0, 3, 3] += spread
    color = np.repeat(np.full_like(grey, 9), 3, axis=1)
    color[:, 1] = grey[:, 0]

    assert is_empty(grey).tolist() == is_empty(color).tolist() == [expected]


def test_valid_takes_all_copies_of_a_picture_or_none() -> None:
    """With images, copies stand on one side; the same indices come out where there are none."""
    images = np.repeat(noise(60, 3), 2, axis=0)
    labels = np.repeat(np.arange(60) % 3, 2)

    train, valid = split_valid(labels, images=images)

    assert len(train) + len(valid) == 120
    assert len(valid) > 10
    assert not {images[i].tobytes() for i in train} & {images[i].tobytes() for i in valid}
    unlike = noise(120, 4)
    for plain, careful in zip(split_valid(labels), split_valid(labels, images=unlike), strict=True):
        np.testing.assert_array_equal(plain, careful)
    assert first_alike(images).tolist() == [i - i % 2 for i in range(120)]


def test_tune_never_validates_on_a_copy_of_a_training_image(
    tmp_path: Path, tiny_recipe: Recipe
) -> None:
    """Byte copies in a folder all go where their picture goes."""
    for number in range(100):
        folder = tmp_path / f"class{number % 10}"
        folder.mkdir(exist_ok=True)
        picture = Image.fromarray(noise(1, number)[0, 0])
        for copy in ("", " copy"):
            picture.save(folder / f"{number}{copy}.png")
    dataset = load_dataset("folder", tmp_path)

    splits = splits_for("tune", tiny_recipe, dataset)

    known = {image.tobytes() for image in splits.train.images}
    assert len(splits.each_epoch) > 5
    assert not any(image.tobytes() in known for image in splits.each_epoch.images)


def leaky(folder: Path) -> Path:
    """Write a folder whose test images are its training images."""
    for part in ("train", "test"):
        for number in range(4):
            place = folder / part / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(1, number)[0, 0]).save(place / f"{number}.png")
    return folder


def test_a_leak_is_told_when_a_folder_is_read(tmp_path: Path) -> None:
    """The one line has names."""
    folder = leaky(tmp_path)

    with pytest.warns(DataWarning) as told:
        load_dataset("folder", folder)

    assert [str(each.message) for each in told] == [
        f"4 of 4 test images are training images too, as `{folder}/test/a/0.png` is "
        f"`{folder}/train/a/0.png`: accuracy on them is memory. `smidgen data check` lists all."
    ]


def check(*words: str) -> Any:
    """Run `smidgen data check`."""
    return CliRunner().invoke(app, ["check", *words])


def test_the_command_lists_all_and_says_nothing_twice(tmp_path: Path) -> None:
    """Every pair is there by name, also as JSON."""
    folder = leaky(tmp_path)

    found = check("folder", "--data-dir", str(folder))
    plain = json.loads(check("folder", "--data-dir", str(folder), "--json").stdout)

    assert (found.exit_code, found.stderr) == (0, "")
    pairs = [
        (f"{folder}/test/{name}.png", f"{folder}/train/{name}.png")
        for name in ("a/0", "a/2", "b/1", "b/3")
    ]
    assert found.stdout.splitlines() == [
        "4 test images with the pixels of a training image",
        *(f"  {test}  =  {train}" for test, train in pairs),
        "0 pictures under two labels",
        "0 test images nearly alike to a training image",
        "0 training images that repeat another of their class",
        "0 images that show nothing",
    ]
    assert plain["test_in_train"] == [list(pair) for pair in pairs]
    assert plain["test_images"] == 4


def test_drawn_data_are_checked_by_number() -> None:
    """Data without files have splits and indices for names; these have nothing to tell."""
    assert check("stripes").stdout.splitlines()[0].startswith("0 test images")

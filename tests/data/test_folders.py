from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smidgen.data import load_dataset, read_folder, read_images, read_labelled_images
from smidgen.errors import DataError, DataMissingError


def draw(path: Path, value: int, side: int = 28) -> Path:
    """Write a dark square with one pixel of a given value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((side, side), np.uint8)
    pixels[2, 2], pixels[3, 3] = value % 256, value // 256
    Image.fromarray(pixels).save(path)
    return path


def fill(folder: Path, counts: dict[str, int], start: int = 0) -> Path:
    """Write classes of different images."""
    for index, (name, count) in enumerate(counts.items()):
        for number in range(count):
            draw(folder / name / f"{number:03}.png", start + 1000 * index + number)
    return folder


def contents(images: np.ndarray) -> set[bytes]:
    """Return the images as a set."""
    return {image.tobytes() for image in images}


def test_one_level_of_classes_is_split_by_content(tmp_path: Path) -> None:
    """About a sixth of the images are for testing, classes are sorted, nothing is lost."""
    folder = fill(tmp_path, {"dog": 300, "cat": 240})

    dataset = load_dataset("folder", folder)

    assert dataset.name == "folder"
    assert dataset.class_names == ("cat", "dog")
    assert dataset.image_shape == (1, 28, 28)
    assert len(dataset.train) + len(dataset.test) == 540
    assert not contents(dataset.train.images) & contents(dataset.test.images)
    for label, count in ((0, 240), (1, 300)):
        in_test = int((dataset.test.labels == label).sum())
        assert count / 10 < in_test < count / 4


def test_a_folder_remembers_how_it_was_read(tmp_path: Path) -> None:
    """The data set holds the options, of either layout of folders."""
    flat = fill(tmp_path / "flat", {"dog": 9, "cat": 9}, start=1)
    split = tmp_path / "split"
    for part in ("train", "test"):
        fill(split / part, {"dog": 3, "cat": 3}, start=1)

    plain = load_dataset("folder", flat)
    read = [load_dataset("folder", each, invert="no", fit="mnist") for each in (flat, split)]

    assert (plain.invert, plain.fit) == ("auto", "resize")
    assert [(each.invert, each.fit) for each in read] == [("no", "mnist")] * 2
    assert read[0].sha256 != plain.sha256


def test_adding_a_file_moves_no_other(tmp_path: Path) -> None:
    """Each image decides for itself, whatever its name and its neighbors."""
    folder = fill(tmp_path, {"a": 60, "b": 60})
    before = read_folder(folder)
    draw(folder / "a" / "000-first.png", 40_000)
    draw(folder / "b" / "zzz-last.png", 41_000)
    (folder / "a" / "007.png").rename(folder / "a" / "renamed.png")

    after = read_folder(folder)

    assert contents(before.train.images) <= contents(after.train.images)
    assert contents(before.test.images) <= contents(after.test.images)
    assert len(after.train) + len(after.test) == 122


def test_copies_of_one_picture_stand_on_one_side(tmp_path: Path) -> None:
    """A copy in training would give the answer to its twin in testing away."""
    folder = fill(tmp_path, {"a": 60, "b": 60})
    for path in sorted((folder / "a").iterdir()):
        (folder / "a" / f"copy-{path.name}").write_bytes(path.read_bytes())

    dataset = read_folder(folder)

    assert not contents(dataset.train.images) & contents(dataset.test.images)
    assert len(dataset.train) + len(dataset.test) == 180


def test_small_classes_have_an_image_on_each_side(tmp_path: Path) -> None:
    """Two images are enough for a class, even if both would fall on one side."""
    folder = fill(tmp_path, {f"{number:02}": 2 for number in range(40)})

    dataset = read_folder(folder)

    assert np.bincount(dataset.train.labels).tolist() == [1] * 40
    assert np.bincount(dataset.test.labels).tolist() == [1] * 40


def test_train_and_test_folders_are_the_splits(tmp_path: Path) -> None:
    """With both folders nothing is chosen; a class may be absent from testing."""
    fill(tmp_path / "train", {"a": 4, "b": 3})
    fill(tmp_path / "test", {"b": 2}, start=5000)

    dataset = read_folder(tmp_path)

    assert dataset.class_names == ("a", "b")
    assert np.bincount(dataset.train.labels).tolist() == [4, 3]
    assert dataset.test.labels.tolist() == [1, 1]


def test_hidden_and_left_behind_files_are_no_images(tmp_path: Path) -> None:
    """What file managers leave is not counted as unreadable; a readme may lie beside."""
    folder = fill(tmp_path, {"a": 3, "b": 3})
    for name in ("a/.DS_Store", "a/Thumbs.db", "b/desktop.ini", "readme.txt", ".git"):
        (folder / name).write_text("no image")

    dataset = read_folder(folder)

    assert len(dataset.train) + len(dataset.test) == 6


def test_unreadable_images_are_named_and_counted(tmp_path: Path) -> None:
    """Nothing is skipped: the first of all that fail is named."""
    folder = fill(tmp_path, {"a": 5, "b": 5})
    (folder / "a" / "002.png").write_bytes(b"no image")
    (folder / "b" / "notes.txt").write_text("no image either")

    with pytest.raises(DataError) as caught:
        read_folder(folder)

    assert str(caught.value) == (
        f"2 of 11 files in `{folder}` cannot be used; the first: "
        f"`{folder}/a/002.png` is not a PNG, JPEG or BMP image."
    )


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (
            [],
            "`{0}` has 0 sub-folders; it needs one per class, at least 2, "
            "each with PNG, JPEG or BMP images.",
        ),
        (
            ["a/1.png"],
            "`{0}` has 1 sub-folders; it needs one per class, at least 2, "
            "each with PNG, JPEG or BMP images.",
        ),
        (
            ["a/1.png", "b/2.png", "3.PNG"],
            "`{0}/3.PNG` lies beside the class folders and has no class. "
            "Move it into one of them, or away.",
        ),
        (
            ["a/1.png", "b/c/2.png"],
            "`{0}/b/c` is a folder among images. Move its images up, or it away.",
        ),
        (["a/1.png", "b/.x"], "`{0}/b` has no images. Add some or remove the folder."),
        (
            ["a/1.png", "a/2.png", "b/1.png"],
            "Class `b` in `{0}` has only one distinct image; "
            "at least 2 are needed, one of them for testing.",
        ),
        (
            ["train/a/1.png", "test/a/2.png", "valid/a/3.png"],
            "`{0}` has `valid` beside `train` and `test`, which belongs to neither. Move it away.",
        ),
        (
            ["train/a/1.png", "train/b/2.png", "test/c/3.png"],
            "`{0}/test/c` is not called by a class; the classes are `a`, `b`.",
        ),
    ],
)
def test_folders_that_are_no_data_set_are_described(
    files: list[str], text: str, tmp_path: Path
) -> None:
    """Each way of arranging a folder wrongly has its own line."""
    for number, name in enumerate(files):
        draw(tmp_path / name, number) if name[-4:].lower() == ".png" else None
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)

    with pytest.raises(DataError) as caught:
        read_folder(tmp_path)

    assert str(caught.value) == text.format(tmp_path)


@pytest.mark.parametrize("is_file", [False, True])
def test_a_folder_that_is_none_is_said(is_file: bool, tmp_path: Path) -> None:
    """Absent, or a file."""
    path = tmp_path / "x"
    if is_file:
        path.touch()

    with pytest.raises(DataMissingError) as caught:
        load_dataset("folder", path)

    state = "is a file, not a folder" if is_file else "does not exist"
    assert str(caught.value) == f"`{path}` {state}. Give a folder of images."


def test_images_without_labels_are_read_in_order(tmp_path: Path) -> None:
    """A folder by name, a list as given, one file alone; progress is told."""
    paths = [draw(tmp_path / "in" / f"{name}.png", value) for name, value in (("b", 1), ("a", 2))]
    told: list[tuple[str, int, int]] = []

    folder_images, folder_files = read_images(
        tmp_path / "in", progress=lambda *what: told.append(what)
    )
    list_images, list_files = read_images(paths)
    one, (only,) = read_images(paths[0])

    assert [path.name for path in folder_files] == ["a.png", "b.png"]
    assert folder_images[:, 0, 2, 2].tolist() == [2, 1]
    assert list_files == tuple(paths)
    assert list_images[:, 0, 2, 2].tolist() == [1, 2]
    assert (one.shape, only) == ((1, 1, 28, 28), paths[0])
    assert told == [(str(tmp_path / "in"), 1, 2), (str(tmp_path / "in"), 2, 2)]


def test_an_empty_folder_of_images_is_said(tmp_path: Path) -> None:
    """There is nothing to predict on."""
    with pytest.raises(DataMissingError) as caught:
        read_images(tmp_path)

    assert str(caught.value) == (
        f"There are no images in `{tmp_path}`. Put PNG, JPEG or BMP files there."
    )


def test_options_reach_every_image(tmp_path: Path) -> None:
    """Size, inversion and fit are applied to all."""
    white = tmp_path / "white.png"
    pixels = np.full((50, 50), 255, np.uint8)
    pixels[10:30, 10:14] = 0
    Image.fromarray(pixels).save(white)

    kept, _ = read_images([white], (1, 14, 14), invert="no")
    fitted, _ = read_images([white], fit="mnist")

    assert kept.shape == (1, 1, 14, 14)
    assert kept[0, 0, 0, 0] == 255
    assert (fitted[0, 0].max(axis=1) > 0).sum() == 20


def test_labelled_images_take_labels_from_the_networks_classes(tmp_path: Path) -> None:
    """Labels are positions in the given names, not among the folders that exist."""
    fill(tmp_path, {"dog": 2, "ant": 1})

    split, files = read_labelled_images(tmp_path, ["cat", "dog", "ant"])

    assert split.labels.tolist() == [1, 1, 2]
    assert [path.parent.name for path in files] == ["dog", "dog", "ant"]
    assert split.images.shape == (3, 1, 28, 28)


def test_a_folder_that_is_no_class_of_the_network_is_said(tmp_path: Path) -> None:
    """An unknown sub-folder is not skipped."""
    fill(tmp_path, {"0": 1, "ten": 1})

    with pytest.raises(DataError) as caught:
        read_labelled_images(tmp_path, tuple("0123456789"))

    assert str(caught.value) == (
        f"`{tmp_path}/ten` is not called by a class; the classes are "
        "`0`, `1`, `2`, `3`, `4`, `5`, `6`, `7`, `8`, `9`."
    )


def test_wrong_options_are_refused_before_any_file_is_read(tmp_path: Path) -> None:
    """A typing error is not reported once per image."""
    wrong: Any = "atuo"

    with pytest.raises(DataError, match=r"^`invert` must be one of"):
        read_images(fill(tmp_path, {"a": 3}) / "a", invert=wrong)

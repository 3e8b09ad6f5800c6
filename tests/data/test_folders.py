import os
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smidgen.data import load_dataset, read_folder, read_images, read_labelled_images
from smidgen.errors import DataError, DataMissingError, DataWarning


def draw(path: Path, value: int, side: int = 28) -> Path:
    """Write a dark square with one pixel of a given value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((side, side), np.uint8)
    pixels[2, 2], pixels[3, 3] = value % 256, value // 256
    pixels[side // 2, side // 2] = 200  # so that none is all black
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
    for start, part in enumerate(("train", "test")):
        fill(split / part, {"dog": 3, "cat": 3}, start=1 + 100 * start)

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


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "val"), ("training", "testing"), ("Train", "Test"), ("TRAIN", "validation")],
)
def test_sides_are_known_by_their_usual_names(train: str, test: str, tmp_path: Path) -> None:
    """Two folders called as the two sides are the splits, never two classes."""
    fill(tmp_path / train, {"cat": 4, "dog": 3})
    fill(tmp_path / test, {"cat": 1, "dog": 2}, start=5000)

    dataset = read_folder(tmp_path)

    assert dataset.class_names == ("cat", "dog")
    assert np.bincount(dataset.train.labels).tolist() == [4, 3]
    assert np.bincount(dataset.test.labels).tolist() == [1, 2]


def test_a_third_folder_beside_the_two_sides_is_named(tmp_path: Path) -> None:
    """With a test side, a folder for validation belongs to neither; nothing is guessed."""
    for start, part in enumerate(("train", "val", "test")):
        fill(tmp_path / part, {"a": 2, "b": 2}, start=100 * start)

    with pytest.raises(DataError) as caught:
        read_folder(tmp_path)

    assert str(caught.value) == (
        f"`{tmp_path}` has `val` beside `train` and `test`, which belongs to neither. Move it away."
    )


def test_spellings_of_one_class_are_one(tmp_path: Path) -> None:
    """A Mac's accents and other systems' make one class, in a folder and across the splits."""
    for start, (part, form) in enumerate((("train", "NFD"), ("test", "NFC"))):
        name = unicodedata.normalize(form, "café")
        fill(tmp_path / "two" / part, {name: 3, "thé": 2}, start=9000 * start)
    both = {unicodedata.normalize(form, "café"): 2 for form in ("NFC", "NFD")}
    fill(tmp_path / "one", {**both, "thé": 3}, start=50)

    across, within = read_folder(tmp_path / "two"), read_folder(tmp_path / "one")

    assert across.class_names == within.class_names == ("café", "thé")
    assert len(within.train) + len(within.test) == 7
    mac = tuple(unicodedata.normalize("NFD", name) for name in across.class_names)
    split, _ = read_labelled_images(tmp_path / "two" / "test", mac)
    assert split.labels.tolist() == [0, 0, 0, 1, 1]


def test_names_from_another_encoding_are_read(tmp_path: Path) -> None:
    """Bytes that are no Unicode are shown escaped; nothing about them is guessed."""
    for start, name in enumerate((b"caf\xe9", b"na\xefve")):
        fill(tmp_path, {os.fsdecode(name): 3}, start=100 * start)

    dataset = read_folder(tmp_path)

    assert dataset.class_names == ("caf\\xe9", "na\\xefve")
    assert all(name.isprintable() for name in dataset.train.files)


def test_the_same_pixels_in_another_container_stay_on_one_side(tmp_path: Path) -> None:
    """The side is decided by decoded pixels, so PNG and BMP of a picture are never parted."""
    folder = fill(tmp_path, {"a": 60, "b": 60})
    for path in sorted(folder.rglob("*.png")):
        Image.open(path).save(path.with_suffix(".bmp"))

    dataset = read_folder(folder)

    assert len(dataset.train) + len(dataset.test) == 240
    assert not contents(dataset.train.images) & contents(dataset.test.images)


def test_one_picture_under_two_labels_stays_on_one_side_and_is_told(tmp_path: Path) -> None:
    """Even where it is the only one that could be a class's test image."""
    fill(tmp_path, {"a": 2, "b": 2})
    for name in ("000.png", "001.png"):
        (tmp_path / "b" / name).write_bytes((tmp_path / "a" / name).read_bytes())

    with pytest.warns(DataWarning, match="2 pictures stand under two labels, as `.*` \\(`b`\\)"):
        dataset = read_folder(tmp_path)

    assert not contents(dataset.train.images) & contents(dataset.test.images)


def deep(folder: Path, brightest: int) -> Path:
    """Write two classes of pictures of 16 bits, the second's brightest pixel as given."""
    for name, level in (("a", brightest // 4), ("b", brightest)):
        for number in range(3):
            pixels = np.zeros((28, 28), np.uint16)
            pixels[14, 5 + number :] = level
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("brightest", "bits", "expected"),
    [(255, 8, 255), (1023, 10, 255), (4000, 12, 249), (16_000, 14, 249), (65_535, 16, 255)],
)
def test_pictures_of_16_bits_are_read_by_the_range_they_share(
    brightest: int, bits: int, expected: int, tmp_path: Path
) -> None:
    """All are scaled alike, by the bits that the brightest needs, which is told if below 16."""
    deep(tmp_path, brightest)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        dataset = read_folder(tmp_path)

    images = np.concatenate([dataset.train.images, dataset.test.images])
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    assert images[labels == 1].max() == expected
    assert images[labels == 0].max() in (expected // 4, expected // 4 + 1)
    said = f"Pictures of 16 bits are read as {bits} bits, black to {(1 << bits) - 1:,}: "
    assert [str(each.message).startswith(said) for each in told] == [True] * (bits < 16)


@pytest.mark.parametrize("kind", ["black", "white", "faint", "transparent"])
def test_pictures_that_show_nothing_are_told(kind: str, tmp_path: Path) -> None:
    """All black, all white, a mask of 0 and 1, fully transparent: one line with a name."""
    fill(tmp_path, {"a": 5, "b": 5})
    pixels = np.zeros((28, 28, 4 if kind == "transparent" else 3), np.uint8)
    pixels += {"black": 0, "white": 255, "faint": 0, "transparent": 0}[kind]
    if kind == "faint":
        pixels[9:12] = 1
    Image.fromarray(pixels).save(tmp_path / "a" / "empty.png")

    with pytest.warns(DataWarning) as told:
        read_folder(tmp_path)

    assert [str(each.message) for each in told] == [
        f"1 of 11 images shows nothing, as `{tmp_path}/a/empty.png`: all pixels are (nearly) "
        "alike. Look at the file: fully transparent, or of a range that no screen shows?"
    ]

"""A folder of image files in, arrays out: as a data set, or to predict and evaluate on.

Nothing is skipped silently: hidden files and what file managers leave behind are not images,
everything else inside a class's folder must be one.
"""

import hashlib
import os
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from smidgen.data.dataset import Dataset, Progress, Split, assemble
from smidgen.data.doubts import find_doubts, notes_on
from smidgen.data.images import (
    Fit,
    Invert,
    brightest_of_deep,
    check_options,
    decode,
    fitted,
    import_pillow,
    read_bytes,
    white_of,
)
from smidgen.data.specs import FOLDER_NAME
from smidgen.errors import DataError, DataMissingError, DataWarning

_SHAPE = (1, 28, 28)
_TEST_FRACTION = 6  # one image in six, as in MNIST
_TRAINING = ("train", "training")
_TESTING = ("test", "testing", "val", "valid", "validation")
_LEFT_BEHIND = {"thumbs.db", "desktop.ini"}
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def read_images(
    source: Path | Sequence[Path],
    image_shape: tuple[int, int, int] = _SHAPE,
    *,
    invert: Invert = "auto",
    fit: Fit = "resize",
    progress: Progress | None = None,
) -> tuple[np.ndarray, tuple[Path, ...]]:
    """Read image files without labels, to predict on.

    Args:
        source: Image files, or one folder whose visible files are all images.
        image_shape: Channels (1 or 3), height and width wanted.
        invert: "yes", "no", or "auto" by the brightness of each image's edge; see
            `decode_image`.
        fit: "resize" or "mnist"; see `decode_image`.
        progress: Told (folder or "images", images read, images in all).

    Returns:
        Images uint8 (N, C, H, W) and their files in the same order: as given, or sorted by
        name.

    Raises:
        DataMissingError: No such folder, or nothing in it.
        DataError: Files that cannot be read; names the first and counts all.
    """
    if isinstance(source, Path):
        if not source.is_dir():
            return read_images([source], image_shape, invert=invert, fit=fit, progress=progress)
        files = _files_of(source)
        where = f"`{source}`"
    else:
        files, where = list(source), "the list"
    if not files:
        raise DataMissingError(f"There are no images in {where}. Put PNG, JPEG or BMP files there.")
    reader = _Reader(image_shape, invert, fit)
    reader.look_at(files)
    images, _ = reader.read_all(files, where, progress)
    return images, tuple(files)


def read_labelled_images(
    folder: Path,
    class_names: Sequence[str],
    image_shape: tuple[int, int, int] = _SHAPE,
    *,
    invert: Invert = "auto",
    fit: Fit = "resize",
    progress: Progress | None = None,
) -> tuple[Split, tuple[Path, ...]]:
    """Read a folder with one sub-folder per class, to evaluate a trained network on.

    Args:
        folder: Its sub-folders are called by class names; not every class needs one.
        class_names: What the network's outputs mean; labels are indices into it.
        image_shape: As the other options, see `read_images`.
        invert: See `read_images`.
        fit: See `read_images`.
        progress: Told (folder, images read, images in all).

    Returns:
        The images with their labels, and their files in the same order.

    Raises:
        DataMissingError: No such folder, or no images in it.
        DataError: A sub-folder that is no class, or files that cannot be read.
    """
    reader = _Reader(image_shape, invert, fit)
    files, labels = _listed(folder, _classes(folder, at_least=1), class_names)
    reader.look_at(files)
    images, _ = reader.read_all(files, f"`{folder}`", progress)
    return Split(images, labels), tuple(files)


def read_folder(
    folder: Path,
    *,
    invert: Invert = "auto",
    fit: Fit = "resize",
    progress: Progress | None = None,
) -> Dataset:
    """Make a data set of 28x28 grey images from a folder with one sub-folder per class.

    If the folder has two that are called as the two sides (`train` or `training`; `test`,
    `testing`, `val`, `valid` or `validation`; capitals do not matter), each with a sub-folder
    per class, these are the splits. Otherwise about one image in six is for testing: each
    decides for itself by a hash of its decoded pixels, so adding a file moves no other, and
    copies of one picture never stand on both sides. Every class has at least one image in each
    split. Copies across given splits or under two labels, and pictures that show nothing, are
    told by a `DataWarning`; see `find_doubts`.

    Args:
        folder: The folder. Classes are its sub-folders sorted by name, in Unicode's composed
            form; bytes of a name that are no Unicode are written with backslashes.
        invert: See `read_images`.
        fit: See `read_images`.
        progress: Told (folder, images read, images in all).

    Raises:
        DataMissingError: No such folder, or no sub-folder per class in it.
        DataError: Fewer than two classes, a class that cannot be split, a file that is not
            an image, or a test class without training images.
    """
    reader = _Reader(_SHAPE, invert, fit)
    classes = _classes(folder)
    sides = _sides(folder, tuple(classes))
    if sides is None:
        dataset = _read_one_folder(folder, classes, reader, progress)
    else:
        parts = [classes[side][0] for side in sides]
        dataset = _read_two_folders(parts, reader, progress)
    for note in notes_on(dataset, find_doubts(dataset)):
        warnings.warn(note, DataWarning, stacklevel=2)
    return replace(dataset, invert=invert, fit=fit)


def _sides(folder: Path, names: Sequence[str]) -> tuple[str, str] | None:
    """Return which sub-folders are the training and the test side, or None if none are."""
    train = [name for name in names if name.lower() in _TRAINING]
    test = [name for name in names if name.lower() in _TESTING]
    if not train or not test:
        return None
    if len(train) > 1 or len(test) > 1 or len(names) > 2:
        pair = train[0], min(test, key=lambda name: _TESTING.index(name.lower()))
        extra = min(set(names) - {*pair})
        raise DataError(
            f"`{folder}` has `{extra}` beside `{pair[0]}` and `{pair[1]}`, which belongs to "
            "neither. Move it away."
        )
    return train[0], test[0]


def _read_one_folder(
    folder: Path,
    classes: Mapping[str, Sequence[Path]],
    reader: "_Reader",
    progress: Progress | None,
) -> Dataset:
    names = tuple(classes)
    files, labels = _listed(folder, classes, names)
    reader.look_at(files)
    images, hashes = reader.read_all(files, f"`{folder}`", progress)
    is_test = _choose_test(hashes, labels, names, folder)
    splits = [_chosen(images, labels, files, part) for part in (~is_test, is_test)]
    return assemble(FOLDER_NAME, splits[0], splits[1], names)


def _read_two_folders(
    parts: Sequence[Path], reader: "_Reader", progress: Progress | None
) -> Dataset:
    names = tuple(_classes(parts[0]))
    listed = [_listed(part, _classes(part, at_least=1), names) for part in parts]
    reader.look_at([file for files, _ in listed for file in files])
    splits: list[Split] = []
    for part, (files, labels) in zip(parts, listed, strict=True):
        images, _ = reader.read_all(files, f"`{part}`", progress)
        splits.append(_chosen(images, labels, files, np.ones(len(files), bool)))
    return assemble(FOLDER_NAME, splits[0], splits[1], names)


def _chosen(
    images: np.ndarray, labels: np.ndarray, files: Sequence[Path], part: np.ndarray
) -> Split:
    names = tuple(_shown(files[index]) for index in np.flatnonzero(part).tolist())
    return Split(images[part], labels[part], names)


class _Reader:
    """Reads many files with the same options, and reports all that fail at once."""

    def __init__(self, image_shape: tuple[int, int, int], invert: Invert, fit: Fit) -> None:
        check_options(invert, fit, image_shape)
        import_pillow()
        self._shape = image_shape
        self._invert: Invert = invert
        self._fit: Fit = fit
        self._white: int | None = None

    def look_at(self, files: Sequence[Path]) -> None:
        """Find the range that all pictures of 16 bits share: many hold 12 bits, or 8."""
        brightest = max((level for level in map(brightest_of_deep, files) if level), default=None)
        if brightest is None:
            return
        self._white = white_of(brightest)
        if self._white < 0xFFFF:
            warnings.warn(
                f"Pictures of 16 bits are read as {self._white.bit_length()} bits, black to "
                f"{self._white:,}: their brightest pixel is {brightest:,}.",
                DataWarning,
                stacklevel=4,
            )

    def read_all(
        self, files: Sequence[Path], where: str, progress: Progress | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return images uint8 (N, C, H, W) and hashes of their decoded pixels, uint64 (N,)."""
        images = np.zeros((len(files), *self._shape), np.uint8)
        hashes = np.zeros(len(files), np.uint64)
        failures: list[DataError] = []
        for index, path in enumerate(files):
            try:
                picture = decode(read_bytes(path), self._shape[0], str(path), self._white)
                images[index] = fitted(
                    picture, self._shape, str(path), invert=self._invert, fit=self._fit
                )
                hashes[index] = _hash(picture)
            except DataError as error:
                failures.append(error)
            if progress:
                progress(where.strip("`"), index + 1, len(files))
        if failures and len(files) == 1:
            raise failures[0]
        if failures:
            raise DataError(
                f"{len(failures):,} of {len(files):,} files in {where} cannot be used; "
                f"the first: {failures[0]}"
            )
        return images, hashes


def _hash(picture: np.ndarray) -> int:
    digest = hashlib.sha256(f"{picture.shape}".encode())
    digest.update(np.ascontiguousarray(picture).data)
    return int.from_bytes(digest.digest()[:8], "big")


def _choose_test(
    hashes: np.ndarray, labels: np.ndarray, names: Sequence[str], folder: Path
) -> np.ndarray:
    is_test = hashes < np.uint64((1 << 64) // _TEST_FRACTION)
    for label, name in enumerate(names):
        own = labels == label
        if len(np.unique(hashes[own])) < 2:
            raise DataError(
                f"Class `{name}` in `{folder}` has only one distinct image; "
                "at least 2 are needed, one of them for testing."
            )
        # whole pictures move, whatever labels their copies have
        if not is_test[own].any():
            is_test |= hashes == hashes[own].min()
        elif is_test[own].all():
            is_test &= hashes != hashes[own].max()
    return is_test


def _listed(
    folder: Path, classes: Mapping[str, Sequence[Path]], class_names: Sequence[str]
) -> tuple[list[Path], np.ndarray]:
    """Return a folder's image files, class by class, and their labels."""
    files: list[Path] = []
    labels: list[int] = []
    places = {unicodedata.normalize("NFC", name): i for i, name in enumerate(class_names)}
    for name, folders in classes.items():
        if name not in places:
            known = ", ".join(f"`{known}`" for known in class_names[:12])
            raise DataError(f"`{folder / name}` is not called by a class; the classes are {known}.")
        own = [file for each in folders for file in _files_of(each)]
        if not own:
            raise DataError(f"`{folder / name}` has no images. Add some or remove the folder.")
        files.extend(own)
        labels.extend([places[name]] * len(own))
    order = np.argsort(np.array(labels, np.int64), kind="stable")
    return [files[i] for i in order], np.array(labels, np.int64)[order]


def _classes(folder: Path, at_least: int = 2) -> dict[str, list[Path]]:
    """Return a folder's visible sub-folders by the name they show, sorted.

    A Mac writes an accent as a letter of its own, other systems do not: both are one class.
    """
    classes: dict[str, list[Path]] = {}
    for entry in _visible(folder):
        if entry.is_dir():
            name = unicodedata.normalize("NFC", _shown(entry.name))
            classes.setdefault(name, []).append(entry)
        elif entry.is_file() and entry.suffix.lower() in _IMAGE_SUFFIXES:
            raise DataError(
                f"`{entry}` lies beside the class folders and has no class. "
                "Move it into one of them, or away."
            )
    if len(classes) < at_least:
        raise DataMissingError(
            f"`{folder}` has {len(classes)} sub-folders; it needs one per class, "
            f"at least {at_least}, each with PNG, JPEG or BMP images."
        )
    return dict(sorted(classes.items()))


def _shown(name: Path | str) -> str:
    """Return a name as Unicode text: bytes that are none, from another encoding, escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _files_of(folder: Path) -> list[Path]:
    entries = _visible(folder)
    for entry in entries:
        if entry.is_dir():
            raise DataError(f"`{entry}` is a folder among images. Move its images up, or it away.")
    return entries


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        state = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataMissingError(f"`{folder}` {state}. Give a folder of images.")
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"`{folder}` cannot be read: {error.strerror or error}.") from error
    return [e for e in entries if e.name[0] != "." and e.name.lower() not in _LEFT_BEHIND]

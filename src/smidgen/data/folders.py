"""A folder of image files in, arrays out: as a data set, or to predict and evaluate on.

Nothing is skipped silently: hidden files and what file managers leave behind are not images,
everything else inside a class's folder must be one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from smidgen.data.dataset import Dataset, Progress, Split, assemble
from smidgen.data.images import Fit, Invert, check_options, decode_image, import_pillow, read_bytes
from smidgen.data.specs import FOLDER_NAME
from smidgen.errors import DataError, DataMissingError

_SHAPE = (1, 28, 28)
_TEST_FRACTION = 6  # one image in six, as in MNIST
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
    files, labels = _listed(folder, class_names)
    images, _ = _Reader(image_shape, invert, fit).read_all(files, f"`{folder}`", progress)
    return Split(images, labels), tuple(files)


def read_folder(
    folder: Path,
    *,
    invert: Invert = "auto",
    fit: Fit = "resize",
    progress: Progress | None = None,
) -> Dataset:
    """Make a data set of 28x28 grey images from a folder with one sub-folder per class.

    If the folder has `train` and `test`, each with a sub-folder per class, these are the
    splits. Otherwise about one image in six is for testing: each file decides for itself by a
    hash of its content, so adding a file moves no other, and copies of one picture never
    stand on both sides. Every class has at least one image in each split.

    Args:
        folder: The folder. Classes are its sub-folders sorted by name.
        invert: See `read_images`.
        fit: See `read_images`.
        progress: Told (folder, images read, images in all).

    Raises:
        DataMissingError: No such folder, or no sub-folder per class in it.
        DataError: Fewer than two classes, a class that cannot be split, a file that is not
            an image, or a test class without training images.
    """
    reader = _Reader(_SHAPE, invert, fit)
    names = _class_names(folder)
    if "train" in names and "test" in names:
        dataset = _read_two_folders(folder, names, reader, progress)
    else:
        dataset = _read_one_folder(folder, names, reader, progress)
    return replace(dataset, invert=invert, fit=fit)


def _read_one_folder(
    folder: Path, names: tuple[str, ...], reader: "_Reader", progress: Progress | None
) -> Dataset:
    files, labels = _listed(folder, names)
    images, hashes = reader.read_all(files, f"`{folder}`", progress)
    is_test = _choose_test(hashes, labels, names, folder)
    train = Split(images[~is_test], labels[~is_test])
    return assemble(FOLDER_NAME, train, Split(images[is_test], labels[is_test]), names)


def _read_two_folders(
    folder: Path, names: tuple[str, ...], reader: "_Reader", progress: Progress | None
) -> Dataset:
    if extra := set(names) - {"train", "test"}:
        raise DataError(
            f"`{folder}` has `{min(extra)}` beside `train` and `test`, which belongs to neither. "
            "Move it away."
        )
    class_names = _class_names(folder / "train")
    splits: list[Split] = []
    for part in (folder / "train", folder / "test"):
        files, labels = _listed(part, class_names)
        images, _ = reader.read_all(files, f"`{part}`", progress)
        splits.append(Split(images, labels))
    return assemble(FOLDER_NAME, splits[0], splits[1], class_names)


class _Reader:
    """Reads many files with the same options, and reports all that fail at once."""

    def __init__(self, image_shape: tuple[int, int, int], invert: Invert, fit: Fit) -> None:
        check_options(invert, fit, image_shape)
        import_pillow()
        self._shape = image_shape
        self._invert: Invert = invert
        self._fit: Fit = fit

    def read_all(
        self, files: Sequence[Path], where: str, progress: Progress | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return images uint8 (N, C, H, W) and content hashes uint64 (N,)."""
        images = np.zeros((len(files), *self._shape), np.uint8)
        hashes = np.zeros(len(files), np.uint64)
        failures: list[DataError] = []
        for index, path in enumerate(files):
            try:
                content = read_bytes(path)
                images[index] = decode_image(
                    content, self._shape, str(path), invert=self._invert, fit=self._fit
                )
                digest = hashlib.sha256(content).digest()
                hashes[index] = int.from_bytes(digest[:8], "big")
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
        if not is_test[own].any():
            is_test |= own & (hashes == hashes[own].min())
        elif is_test[own].all():
            is_test &= ~(own & (hashes == hashes[own].max()))
    return is_test


def _listed(folder: Path, class_names: Sequence[str]) -> tuple[list[Path], np.ndarray]:
    """Return a folder's image files, class by class, and their labels."""
    files: list[Path] = []
    labels: list[int] = []
    for name in _class_names(folder, at_least=1):
        if name not in class_names:
            known = ", ".join(f"`{known}`" for known in class_names[:12])
            raise DataError(f"`{folder / name}` is not called by a class; the classes are {known}.")
        own = _files_of(folder / name)
        if not own:
            raise DataError(f"`{folder / name}` has no images. Add some or remove the folder.")
        files.extend(own)
        labels.extend([class_names.index(name)] * len(own))
    order = np.argsort(np.array(labels, np.int64), kind="stable")
    return [files[i] for i in order], np.array(labels, np.int64)[order]


def _class_names(folder: Path, at_least: int = 2) -> tuple[str, ...]:
    """Return the names of a folder's visible sub-folders, sorted."""
    entries = _visible(folder)
    for entry in entries:
        if entry.is_file() and entry.suffix.lower() in _IMAGE_SUFFIXES:
            raise DataError(
                f"`{entry}` lies beside the class folders and has no class. "
                "Move it into one of them, or away."
            )
    names = tuple(entry.name for entry in entries if entry.is_dir())
    if len(names) < at_least:
        raise DataMissingError(
            f"`{folder}` has {len(names)} sub-folders; it needs one per class, "
            f"at least {at_least}, each with PNG, JPEG or BMP images."
        )
    return names


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

"""A name in, a `Dataset` out: drawn, from a folder of images, or from verified IDX files."""

from pathlib import Path

import numpy as np

from smidgen.data.dataset import Dataset, Progress, Split, assemble, check_labels
from smidgen.data.idx import parse_idx, unpack_gzip
from smidgen.data.images import Fit, Invert
from smidgen.data.specs import DRAWN_NAME, FOLDER_NAME, DatasetSpec, FileSpec, find_spec
from smidgen.data.verified import (
    chosen_folder,
    dataset_folder,
    locate_all,
    read_verified,
)
from smidgen.errors import DataError, DataMissingError
from smidgen.places import DATA_VARIABLE


def load_dataset(
    name: str | DatasetSpec,
    data_dir: Path | None = None,
    *,
    invert: Invert = "auto",
    fit: Fit = "resize",
    progress: Progress | None = None,
) -> Dataset:
    """Load a data set by name.

    Published data sets (`mnist`, `fashion-mnist`, `kmnist`, `qmnist`) come from `data_dir`,
    else from the folder in `SMIDGEN_DATA`, else from the user's cache, else from the network
    into that cache. A folder that was chosen and lacks the files is an error. `stripes` is
    drawn; `folder` is any folder of images, see `read_folder`.

    Args:
        name: One of the names above, or a specification.
        data_dir: Folder with the files, or with a sub-folder called `name` that has them;
            for `folder` the folder of images.
        invert: For `folder`: whether images are dark on light, see `read_images`.
        fit: For `folder`: how images come to 28x28, see `read_images`.
        progress: Told about downloads (bytes) and about reading a folder (images).

    Returns:
        Images uint8 (N, C, H, W) and int64 labels (N,), train and test.

    Raises:
        UnknownNameError: No data set is called so.
        DataMissingError: The chosen folder lacks a file; says three ways to get it.
        DownloadError: Not on this machine, and no mirror gave it; says the same.
        DataError: A file that is damaged, wrong or does not fit the others.
    """
    if name == DRAWN_NAME:
        from smidgen.data.stripes import draw_stripes

        return draw_stripes()
    chosen = chosen_folder(data_dir)
    if name == FOLDER_NAME:
        from smidgen.data.folders import read_folder

        if chosen is None:
            raise DataMissingError(
                "`folder` needs to know which. Name one with a sub-folder of images per class "
                f"by `--data-dir` or `{DATA_VARIABLE}`."
            )
        return read_folder(chosen[0], invert=invert, fit=fit, progress=progress)
    spec = find_spec(name)
    if chosen is not None:
        return _read(spec, chosen[0])
    return _read_cached(spec, progress)


def _read_cached(spec: DatasetSpec, progress: Progress | None) -> Dataset:
    folder = dataset_folder(spec)
    try:
        return _read(spec, folder)
    except DataError:
        # Absent or damaged: the cache is ours, so what is wrong in it is fetched anew.
        from smidgen.data.fetch import fetch_dataset

        fetch_dataset(spec, progress=progress)
        return _read(spec, folder)


def _read(spec: DatasetSpec, folder: Path) -> Dataset:
    places = locate_all(spec, folder)
    splits: list[Split] = []
    for images_file, labels_file in (
        (spec.train_images, spec.train_labels),
        (spec.test_images, spec.test_labels),
    ):
        images = _array(places[images_file], images_file, 3)
        table = _array(places[labels_file], labels_file, spec.label_sides)
        labels = (table[:, 0] if spec.label_sides > 1 else table).astype(np.int64)
        if len(images) != len(labels):
            raise DataError(
                f"`{places[images_file]}` has {len(images):,} images but "
                f"`{places[labels_file].name}` {len(labels):,} labels; the counts must be equal."
            )
        check_labels(labels, len(spec.class_names), f"`{places[labels_file]}`")
        splits.append(Split(images[:, None], labels))
    return assemble(spec.name, splits[0], splits[1], spec.class_names)


def _array(path: Path, file: FileSpec, num_sides: int) -> np.ndarray:
    content = read_verified(path, file)
    if path.name.endswith(".gz"):
        content = unpack_gzip(content, file.unpacked_size_bytes, str(path))
    return parse_idx(content, num_sides, str(path))

"""A run's record in, the pictures it was measured on out: from this machine, from no network."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smidgen.data.dataset import Dataset
from smidgen.data.images import Reading, import_pillow
from smidgen.data.load import load_dataset
from smidgen.data.specs import DRAWN_NAME, FOLDER_NAME, find_spec
from smidgen.data.verified import chosen_folder, dataset_folder
from smidgen.errors import SmidgenError
from smidgen.report.page import image_uri
from smidgen.runs.record import RunRecord
from smidgen.training.splits import splits_for

_kept: ContextVar[dict[str, Dataset] | None] = ContextVar("kept", default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The images of the split that a run's result was measured on, or why there are none.

    Args:
        images: uint8 (N, C, H, W); None where they are not to be had.
        reason: Why not, in a sentence; "" where they are.
    """

    images: np.ndarray | None
    reason: str = ""

    def uri(self, position: int) -> str:
        """Return an image as an address that holds it as PNG, pixel by pixel; "" for none."""
        if self.images is None:
            return ""
        image = self.images[position]
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        buffer = io.BytesIO()
        picture = import_pillow().fromarray(np.ascontiguousarray(pixels))
        picture.save(buffer, "PNG", optimize=True)
        return image_uri(buffer.getvalue())


def pictures_of(record: RunRecord, data_dir: Path | None = None) -> Pictures:
    """Look for the images of a run: in `data_dir`, else `SMIDGEN_DATA`, else the user's cache.

    A page without pictures is better than none, so what is missing is said and never raised.
    """
    used = record.data
    found = _images_of(used.name, used.sha256, data_dir, used.reading)
    if isinstance(found, str):
        return Pictures(None, found)
    try:
        return Pictures(splits_for(record.protocol, record.recipe, found).end.images)
    except SmidgenError as error:
        return Pictures(None, f"No pictures: {error}")


def why_no_pictures(
    name: str, sha256: str, data_dir: Path | None = None, reading: Reading | None = None
) -> str:
    """Return why the images of a data set cannot be shown, or "" if they can."""
    found = _images_of(name, sha256, data_dir, reading or Reading())
    return found if isinstance(found, str) else ""


def _images_of(name: str, sha256: str, data_dir: Path | None, reading: Reading) -> Dataset | str:
    try:
        dataset = _loaded(name, _folder(name, data_dir), reading)
    except SmidgenError as error:
        return f"No pictures: {error}"
    if dataset.sha256 != sha256:
        return f"The images of `{name}` on this machine are not those of the run."
    return dataset


@contextmanager
def images_kept() -> Iterator[None]:
    """Load each data set but once while the body runs, which makes many pages."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def _loaded(name: str, folder: Path | None, reading: Reading) -> Dataset:
    kept = _kept.get()
    if kept is None:
        return load_dataset(name, folder, **reading)
    key = repr((name, folder, reading))
    if key not in kept:
        kept[key] = load_dataset(name, folder, **reading)
    return kept[key]


def _folder(name: str, data_dir: Path | None) -> Path | None:
    """Return a folder to read from; one that is named is never downloaded into."""
    chosen = chosen_folder(data_dir)
    if chosen is not None:
        return chosen[0]
    return None if name in (DRAWN_NAME, FOLDER_NAME) else dataset_folder(find_spec(name))

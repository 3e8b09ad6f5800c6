"""A run's record in, the pictures it was measured on out: from this machine, from no network."""

import io
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


class ImageSource:
    """Where images are, and what of them was loaded: each data set but once.

    Args:
        data_dir: A folder, else that of `SMIDGEN_DATA`, else the user's cache. One that is named
            is never downloaded into.
    """

    def __init__(self, data_dir: Path | None = None) -> None:
        self._data_dir = data_dir
        self._loaded: dict[str, Dataset] = {}

    def find(self, name: str, sha256: str, reading: Reading | None = None) -> Dataset | str:
        """Return the very data set of a record, or why it cannot be shown, in a sentence."""
        how = reading or Reading()
        key = repr((name, how))
        try:
            if key not in self._loaded:
                self._loaded[key] = load_dataset(name, self._folder(name), **how)
        except SmidgenError as error:
            return f"No pictures: {error}"
        if self._loaded[key].sha256 != sha256:
            return f"The images of `{name}` on this machine are not those of the run."
        return self._loaded[key]

    def _folder(self, name: str) -> Path | None:
        chosen = chosen_folder(self._data_dir)
        if chosen is not None:
            return chosen[0]
        return None if name in (DRAWN_NAME, FOLDER_NAME) else dataset_folder(find_spec(name))


def pictures_of(record: RunRecord, source: ImageSource) -> Pictures:
    """Look for the images of a run.

    A page without pictures is better than none, so what is missing is said and never raised.
    """
    used = record.data
    found = source.find(used.name, used.sha256, used.reading)
    if isinstance(found, str):
        return Pictures(None, found)
    try:
        return Pictures(splits_for(record.protocol, record.recipe, found).end.images)
    except SmidgenError as error:
        return Pictures(None, f"No pictures: {error}")

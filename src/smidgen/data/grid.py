"""Images with labels in, one picture that shows them in labelled cells out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from smidgen.data.dataset import Split
from smidgen.data.images import import_pillow
from smidgen.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_MIN_TILE_PIXELS = 72
_MARGIN, _GAP, _LABEL_HEIGHT, _CORNER = 24, 14, 24, 6
_FONT_PIXELS = 14
_PAPER, _TEXT = (250, 250, 248), (70, 70, 74)
_FINE = 4  # corners are drawn this much larger and shrunk, so that they are smooth


def pick_samples(labels: np.ndarray, num_classes: int, count: int, seed: int = 1) -> np.ndarray:
    """Choose images by lot, as evenly over the classes as `count` allows.

    Args:
        labels: int (N,).
        num_classes: Number of classes.
        count: Images to choose, 1 to N.
        seed: Another seed chooses others.

    Returns:
        int64 (count,) indices, class by class.

    Raises:
        DataError: `count` is below 1 or above the number of images.
    """
    if not 1 <= count <= len(labels):
        raise DataError(f"`count` must be from 1 to {len(labels):,}, not {count:,}.")
    ranks = np.random.Philox(key=seed).random_raw(len(labels))
    turn = np.zeros(len(labels), np.int64)
    for label in range(num_classes):
        members = np.flatnonzero(labels == label)
        turn[members[np.argsort(ranks[members], kind="stable")]] = np.arange(len(members))
    chosen = np.lexsort((labels, turn))[:count]
    return chosen[np.lexsort((turn[chosen], labels[chosen]))]


def samples_of(
    split: Split, num_classes: int, count: int, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return chosen images uint8 (count, C, H, W) and labels int64 (count,); see `pick_samples`."""
    chosen = pick_samples(split.labels, num_classes, count, seed)
    return split.images[chosen], split.labels[chosen]


def samples_grid(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], columns: int = 10
) -> "PillowImage":
    """Draw images in a grid, each enlarged without smoothing and with its class below.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3, N at least 1.
        labels: int (N,).
        class_names: One name per class; long ones are shortened to their cell.
        columns: Cells in a row, at least 1.

    Returns:
        An RGB picture; cells in rows from the top left.

    Raises:
        DataError: No images, another number of channels, no column, or no Pillow.
    """
    pillow = import_pillow()
    from PIL import ImageDraw, ImageFont

    if len(images) == 0 or images.shape[1] not in (1, 3) or columns < 1:
        raise DataError(
            "A grid needs at least 1 image of 1 or 3 channels and 1 column, "
            f"not images of shape {images.shape} and {columns} columns."
        )
    height, width = images.shape[2:]
    zoom = max(1, -(-_MIN_TILE_PIXELS // max(height, width)))
    tile = (width * zoom, height * zoom)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    page = pillow.new(
        "RGB",
        (
            2 * _MARGIN + columns * (tile[0] + _GAP) - _GAP,
            2 * _MARGIN + rows * (tile[1] + _LABEL_HEIGHT + _GAP) - _GAP,
        ),
        _PAPER,
    )
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(_FONT_PIXELS)
    mask = _rounded(tile, pillow)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = _MARGIN + index % columns * (tile[0] + _GAP)
        top = _MARGIN + index // columns * (tile[1] + _LABEL_HEIGHT + _GAP)
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        picture = pillow.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
        page.paste(picture.resize(tile, pillow.Resampling.NEAREST), (left, top), mask)
        text = _shortened(class_names[int(label)], font, tile[0] + _GAP - 4)
        middle = (left + tile[0] / 2, top + tile[1] + _LABEL_HEIGHT / 2)
        pen.text(middle, text, fill=_TEXT, font=font, anchor="mm")
    return page


def _rounded(size: tuple[int, int], pillow: Any) -> "PillowImage":
    from PIL import ImageDraw

    width, height = size
    mask = pillow.new("L", (width * _FINE, height * _FINE), 0)
    outline = (0, 0, width * _FINE - 1, height * _FINE - 1)
    ImageDraw.Draw(mask).rounded_rectangle(outline, _CORNER * _FINE, fill=255)
    return mask.resize(size, pillow.Resampling.LANCZOS)


def _shortened(text: str, font: Any, max_pixels: float) -> str:
    if font.getlength(text) <= max_pixels:
        return text
    while text and font.getlength(f"{text}…") > max_pixels:
        text = text[:-1]
    return f"{text.rstrip()}…"

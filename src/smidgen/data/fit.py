"""A picture of any size in, the picture as a network expects it out."""

from typing import Literal, TypedDict, get_args

import numpy as np

from smidgen.errors import DataError

Invert = Literal["auto", "yes", "no"]
Fit = Literal["resize", "mnist"]


class Reading(TypedDict, total=False):
    """How images of a folder are read, as options of whatever reads them."""

    invert: Invert
    fit: Fit


_BOX_FRACTION = 20 / 28  # the makers of MNIST scaled digits into 20x20 of 28x28
_MIN_INK = 0.04  # of the way from ground to the brightest pixel; fainter may be noise
_NOISE_SIGMAS = 4.0  # of the ground's own noise; fainter is no ink either


def reading_of(invert: Invert | None, fit: Fit | None) -> Reading:
    """Return the options that were chosen; None stands for none."""
    chosen = Reading()
    if invert is not None:
        chosen["invert"] = invert
    if fit is not None:
        chosen["fit"] = fit
    return chosen


def check_options(invert: str, fit: str, image_shape: tuple[int, int, int]) -> None:
    """Refuse options that do not exist, and shapes that no picture can have.

    Raises:
        DataError: Names the option, its value and what it may be.
    """
    for name, given, known in (("invert", invert, Invert), ("fit", fit, Fit)):
        if given not in get_args(known):
            allowed = ", ".join(f"`{choice}`" for choice in get_args(known))
            raise DataError(f"`{name}` must be one of {allowed}, not `{given}`.")
    if image_shape[0] not in (1, 3):
        raise DataError(f"Image files have 1 or 3 channels, not {image_shape[0]}.")
    if fit == "mnist" and image_shape[0] != 1:
        raise DataError("`fit` `mnist` is for grey images, not for 3 channels. Use `resize`.")


def is_dark_on_light(picture: np.ndarray) -> bool:
    """Return whether the outermost pixels are on average lighter than mid-grey.

    Args:
        picture: uint8 (H, W) or (H, W, 3).
    """
    grey = picture if picture.ndim == 2 else picture.mean(axis=-1)
    edge = (grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1])
    return float(np.concatenate(edge).mean()) > 127.5


def fit_image(
    picture: np.ndarray, image_shape: tuple[int, int, int], fit: Fit, where: str
) -> np.ndarray:
    """Bring a picture to a shape.

    Args:
        picture: uint8 (H, W) or (H, W, 3), light on dark.
        image_shape: Channels, height, width wanted.
        fit: "resize" or "mnist", see `decode_image`.
        where: What to call the picture in errors.

    Returns:
        uint8, of `image_shape`.

    Raises:
        DataError: "mnist" was asked for and the picture is blank.
    """
    _, height, width = image_shape
    if fit == "mnist":
        return _center_ink(picture, height, width, where)[None]
    fitted = _resize(picture, height, width)
    return fitted[None] if fitted.ndim == 2 else np.ascontiguousarray(fitted.transpose(2, 0, 1))


def _resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    if picture.shape[:2] == (height, width):
        return picture
    from PIL import Image

    # Pillow widens the filter when it shrinks a picture, so nothing is skipped over.
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def _center_ink(picture: np.ndarray, height: int, width: int, where: str) -> np.ndarray:
    """Crop to the ink, scale it into the inner box, and center its mass.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to
    Document Recognition" (1998), section III.A.
    """
    ink = _crop(picture, where)
    scale = round(min(height, width) * _BOX_FRACTION) / max(ink.shape)
    tall, wide = (max(1, round(side * scale)) for side in ink.shape)
    ink = _resize(ink, tall, wide)
    mass = ink.astype(np.float64)
    total = max(mass.sum(), 1.0)
    center_y = (mass.sum(axis=1) @ np.arange(tall)) / total
    center_x = (mass.sum(axis=0) @ np.arange(wide)) / total
    top = min(max(round(height / 2 - center_y), 0), height - tall)
    left = min(max(round(width / 2 - center_x), 0), width - wide)
    canvas = np.zeros((height, width), np.uint8)
    canvas[top : top + tall, left : left + wide] = ink
    return canvas


def _crop(picture: np.ndarray, where: str) -> np.ndarray:
    """Return the ink's bounding box, its ground at 0 and its brightest pixel at 255."""
    edge = np.concatenate((picture[0], picture[-1], picture[:, 0], picture[:, -1]))
    ground, peak = float(np.median(edge)), float(picture.max())
    if peak - ground < 1:
        raise DataError(f"`{where}` is blank, so there is no ink to center. Use `fit` `resize`.")
    level = (picture - ground) / (peak - ground)
    is_ink = level > _faintest_ink(edge, ground, peak)
    rows, columns = np.flatnonzero(is_ink.any(axis=1)), np.flatnonzero(is_ink.any(axis=0))
    cropped = level[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return (cropped.clip(0, 1) * 255).round().astype(np.uint8)


def _faintest_ink(edge: np.ndarray, ground: float, peak: float) -> float:
    """Return how far from ground (0) to peak (1) a pixel must be to be ink, from the edge."""
    if edge.min() == edge.max():
        return 0.0  # a clean drawing: every grey pixel counts, as it did for MNIST
    # The median deviation, so that ink that touches the edge does not count as noise.
    sigma = 1.4826 * float(np.median(np.abs(edge - ground))) / (peak - ground)
    return max(_MIN_INK, min(_NOISE_SIGMAS * sigma, 0.5))

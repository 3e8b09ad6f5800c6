"""An image file in, an array of a network's input shape out; no file can exhaust the machine.

Only PNG, JPEG and BMP are opened, by content and not by name, and the dimensions are checked
before a single pixel is decoded.
"""

import io
import re
import warnings
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypedDict, get_args

import numpy as np

from smidgen.choices import Fit, Invert
from smidgen.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MAX_PIXELS = 1 << 22
MAX_FILE_BYTES = 64 << 20
_FORMATS = ("PNG", "JPEG", "BMP")
_DEEP_GREY = re.compile(rb"\x89PNG\r\n\x1a\n.{16}\x10\x00", re.DOTALL)
_MAX_PARTS = 20_000  # Pillow needs 24 s for a million; 64 MiB of usual ones are 8,192
_MAX_SCANS = 100  # of a JPEG file: each goes over every pixel, and usual ones have 10
_JPEG_PART = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_BOX_FRACTION = 20 / 28  # the makers of MNIST scaled digits into 20x20 of 28x28
_MIN_INK = 0.04  # of the way from ground to the brightest pixel; fainter may be noise
_NOISE_SIGMAS = 4.0  # of the ground's own noise; fainter is no ink either


class Reading(TypedDict, total=False):
    """How images of a folder are read, as options of whatever reads them."""

    invert: Invert
    fit: Fit


def read_image(
    path: Path,
    image_shape: tuple[int, int, int],
    *,
    invert: Invert = "auto",
    fit: Fit = "resize",
) -> np.ndarray:
    """Read one image file; see `decode_image`.

    Raises:
        DataError: Not there, unreadable, or see `decode_image`.
    """
    return decode_image(read_bytes(path), image_shape, str(path), invert=invert, fit=fit)


def read_bytes(path: Path) -> bytes:
    """Return a file's content if it is small enough to be an image.

    Raises:
        DataError: Not there, not a file, unreadable, or larger than 64 MiB.
    """
    try:
        size = path.stat().st_size if path.is_file() else -1
        if 0 <= size <= MAX_FILE_BYTES:
            return path.read_bytes()
    except OSError as error:
        raise DataError(f"`{path}` cannot be read: {error.strerror or error}.") from error
    if size < 0:
        state = "is a folder, not an image" if path.is_dir() else "does not exist"
        raise DataError(f"`{path}` {state}. Give PNG, JPEG or BMP files.")
    raise DataError(
        f"`{path}` has {size:,} bytes; images may have up to {MAX_FILE_BYTES:,}. Make it smaller."
    )


def decode_image(
    content: bytes,
    image_shape: tuple[int, int, int],
    where: str,
    *,
    invert: Invert = "auto",
    fit: Fit = "resize",
) -> np.ndarray:
    """Decode a PNG, JPEG or BMP file into what a network reads: light ink on dark ground.

    Transparent parts become paper of the shade that shows the ink. A phone's note on how the
    picture is to be turned is followed.

    Args:
        content: The whole file.
        image_shape: Channels (1 or 3), height and width wanted.
        where: What to call the file in errors.
        invert: "yes", "no", or "auto": if the outermost pixels are on average lighter than
            mid-grey, the picture is dark on light and is inverted.
        fit: "resize" scales to height and width, smoothing; a picture of that size already is
            left as it is. "mnist" does what the makers of MNIST did: crop to the ink, scale
            its longer side to 20 of 28 pixels, put its center of mass in the middle.

    Returns:
        uint8, of `image_shape`.

    Raises:
        DataError: Another format, damaged, more than 4,194,304 pixels, blank for "mnist", or
            an option that does not exist.
    """
    check_options(invert, fit, image_shape)
    picture = decode(content, image_shape[0], where)
    return fitted(picture, image_shape, where, invert=invert, fit=fit)


def decode(content: bytes, channels: int, where: str, white: int | None = None) -> np.ndarray:
    """Decode a PNG, JPEG or BMP file as it is, transparent parts on paper, turned upright.

    Args:
        content: The whole file.
        channels: 1 or 3.
        where: What to call the file in errors.
        white: What stands for white in a picture of 16 bits; by default what its own brightest
            pixel makes likely.

    Returns:
        uint8 (H, W) or (H, W, 3).

    Raises:
        DataError: As `decode_image`.
    """
    pillow = import_pillow()
    with warnings.catch_warnings():
        # Pillow warns of large pictures while it opens them; they are refused just below.
        warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
        return _decode(_open(content, where, pillow), channels, where, white)


def fitted(
    picture: np.ndarray, image_shape: tuple[int, int, int], where: str, *, invert: Invert, fit: Fit
) -> np.ndarray:
    """Bring what `decode` gave to a shape, light on dark; see `decode_image`."""
    if invert == "yes" or (invert == "auto" and is_dark_on_light(picture)):
        picture = 255 - picture
    return fit_image(picture, image_shape, fit, where)


def white_of(brightest: int) -> int:
    """Return what stands for white where a picture of 16 bits is at most this bright.

    Cameras and scanners write their 8, 10, 12 or 14 bits into 16 without scaling them.
    """
    return next((1 << bits) - 1 for bits in (8, 10, 12, 14, 16) if brightest < 1 << bits)


def brightest_of_deep(path: Path) -> int | None:
    """Return the brightest pixel of a grey PNG file of 16 bits, None for any other file."""
    try:
        with open(path, "rb") as file:
            if not _DEEP_GREY.match(file.read(26)):
                return None
        pillow = import_pillow()
        return int(np.asarray(_open(read_bytes(path), str(path), pillow)).max())
    except Exception:  # whatever is wrong with it is said when it is read
        return None


def import_pillow() -> ModuleType:
    """Return the module `PIL.Image`.

    Raises:
        DataError: Pillow is not installed; says how to install it.
    """
    try:
        import PIL.Image
    except ImportError:
        raise DataError("Image files need Pillow. Install it with `pip install pillow`.") from None
    return PIL.Image


def _open(content: bytes, where: str, pillow: ModuleType) -> "PillowImage":
    if _num_parts(content) > _MAX_PARTS or content.count(b"\xff\xda") > _MAX_SCANS:
        raise DataError(
            f"`{where}` is cut into so many parts that reading it would take minutes. "
            "Save it again with any program."
        )
    try:
        picture = pillow.open(io.BytesIO(content), formats=_FORMATS)
        width, height = picture.size
    except pillow.DecompressionBombError:
        raise DataError(
            f"`{where}` has far more than the {MAX_PIXELS:,} pixels allowed. Make it smaller."
        ) from None
    except pillow.UnidentifiedImageError:
        raise DataError(f"`{where}` is not a PNG, JPEG or BMP image.") from None
    except Exception as error:  # a broken header raises nearly anything in Pillow
        raise DataError(f"`{where}` is damaged ({_text(error)}).") from None
    if width * height > MAX_PIXELS:
        raise DataError(
            f"`{where}` has {width:,}x{height:,} pixels, more than the {MAX_PIXELS:,} allowed. "
            "Make it smaller."
        )
    return picture


def _num_parts(content: bytes) -> int:
    """Return how many chunks (PNG) or markers (JPEG) a file has; not far beyond the limit."""
    count, place = 0, 8
    if content.startswith(b"\x89PNG"):
        while place + 8 <= len(content) and count <= _MAX_PARTS:
            place += 12 + int.from_bytes(content[place : place + 4], "big")
            count += 1
    elif content.startswith(b"\xff\xd8"):
        first_scan = content.find(b"\xff\xda")
        start = len(content) if first_scan < 0 else first_scan
        count = content.count(b"\xff", 0, start)
        count += sum(1 for _ in islice(_JPEG_PART.finditer(content, start), _MAX_PARTS + 1))
    return count


def _decode(picture: "PillowImage", channels: int, where: str, white: int | None) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip, not scale
            levels = np.asarray(picture).astype(np.int64).clip(0, 0xFFFF)
            white = white or white_of(int(levels.max()))
            picture = Image.fromarray((levels * 255 // white).clip(0, 255).astype(np.uint8))
        if "A" in picture.getbands() or "transparency" in picture.info:
            picture = _on_paper(picture.convert("RGBA"), Image)
        return np.array(picture.convert("L" if channels == 1 else "RGB"))
    except Exception as error:  # a broken body raises nearly anything in Pillow
        raise DataError(f"`{where}` is damaged ({_text(error)}).") from None


def _on_paper(picture: "PillowImage", pillow: ModuleType) -> "PillowImage":
    """Lay a transparent picture on white, or on black if its ink is light."""
    pixels = np.asarray(picture).astype(np.float64)
    opacity = pixels[..., 3].sum()
    lightness = (pixels[..., :3].mean(axis=-1) * pixels[..., 3]).sum() / max(opacity, 1.0)
    shade = 0 if lightness > 127.5 else 255
    paper = pillow.new("RGBA", picture.size, (shade, shade, shade, 255))
    return pillow.alpha_composite(paper, picture)


def _text(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


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

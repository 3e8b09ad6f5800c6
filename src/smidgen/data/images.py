"""An image file in, an array of a network's input shape out; no file can exhaust the machine.

Only PNG, JPEG and BMP are opened, by content and not by name, and the dimensions are checked
before a single pixel is decoded.
"""

import io
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from smidgen.data.fit import Fit, Invert, check_options, fit_image, is_dark_on_light
from smidgen.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MAX_PIXELS = 1 << 22
MAX_FILE_BYTES = 64 << 20
_FORMATS = ("PNG", "JPEG", "BMP")


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
    pillow = import_pillow()
    with warnings.catch_warnings():
        # Pillow warns of large pictures while it opens them; they are refused just below.
        warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
        picture = _open(content, where, pillow)
        grey_or_color = _decode(picture, image_shape[0], where, pillow)
    if invert == "yes" or (invert == "auto" and is_dark_on_light(grey_or_color)):
        grey_or_color = 255 - grey_or_color
    return fit_image(grey_or_color, image_shape, fit, where)


def import_pillow() -> ModuleType:
    """Return the module `PIL.Image`.

    Raises:
        DataError: Pillow is not installed; says how to install it.
    """
    try:
        import PIL.Image
    except ImportError:
        raise DataError(
            'Image files need Pillow. Install it with `pip install "smidgen[images]"`.'
        ) from None
    return PIL.Image


def _open(content: bytes, where: str, pillow: ModuleType) -> "PillowImage":
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


def _decode(picture: "PillowImage", channels: int, where: str, pillow: ModuleType) -> np.ndarray:
    """Return uint8 (H, W) or (H, W, 3)."""
    from PIL import ImageOps

    try:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip, not scale
            levels = np.asarray(picture).astype(np.int64).clip(0, 0xFFFF)
            picture = pillow.fromarray((levels * 255 // 0xFFFF).astype(np.uint8))
        if "A" in picture.getbands() or "transparency" in picture.info:
            picture = _on_paper(picture.convert("RGBA"), pillow)
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

"""Numbers in, striped images out: a drawn data set that needs no file and no network.

The class is the direction in which the stripes follow each other times their width; where they
lie, how bright they are, how strong and how noisy says nothing about it. So a network that
pools over positions can learn it, and nothing that only looks at brightness can.

Only the raw words of a counter-based generator and whole numbers are used, so that the bytes
are the same on every machine and with every version of NumPy.
"""

import math

import numpy as np

from smidgen.data.dataset import Dataset, Split, assemble
from smidgen.data.specs import DRAWN_NAME
from smidgen.errors import DataError

_SIDE = 28
_DIRECTIONS_DEGREES = (0, 36, 72, 108, 144)
_PERIODS_PIXELS = {"narrow": 4, "wide": 6}
_TURN = 1 << 16  # one period in units of phase
_UNIT = 1 << 14  # one in fixed-point cosines and in the height of the wave
_MAX_TILT = _UNIT // 5  # about 11 degrees either way
_NOISE_WORDS = 2 * _SIDE * _SIDE // 8
_WORDS = 2 + _NOISE_WORDS


def draw_stripes(num_train: int = 2000, num_test: int = 500, seed: int = 0) -> Dataset:
    """Draw the data set `stripes`.

    Args:
        num_train: Training images, at least 10; classes are balanced to within one image.
        num_test: Test images, at least 10.
        seed: Another seed draws other images of the same kind; 0 to 2**63 - 1.

    Returns:
        Images uint8 (N, 1, 28, 28) of 10 classes: five directions times two widths.

    Raises:
        DataError: Fewer than 10 images in a split.
    """
    if min(num_train, num_test) < 10:
        raise DataError(
            f"`stripes` needs at least 10 images in each split, not {num_train} and {num_test}."
        )
    names = tuple(f"{w} {d}°" for w in _PERIODS_PIXELS for d in _DIRECTIONS_DEGREES)
    train = _draw(num_train, key=2 * seed)
    test = _draw(num_test, key=2 * seed + 1)
    return assemble(DRAWN_NAME, train, test, names)


def _draw(count: int, key: int) -> Split:
    words = np.random.Philox(key=key).random_raw(count * _WORDS).reshape(count, _WORDS)
    labels = np.arange(count, dtype=np.int64) % (len(_PERIODS_PIXELS) * len(_DIRECTIONS_DEGREES))
    step_x, step_y = _steps(labels, tilt=_field(words, 0, 0), stretch=_field(words, 0, 1))
    start = _field(words, 0, 2)
    pixels = np.arange(_SIDE)
    phase = (
        step_x[:, None, None] * pixels
        + step_y[:, None, None] * pixels[:, None]
        + start[:, None, None]
    )
    wave = np.abs((phase & (_TURN - 1)) - _TURN // 2) - _UNIT  # a triangle, -_UNIT to _UNIT
    contrast = 25 + (_field(words, 0, 3) * 76 >> 16)  # 25 to 100 grey levels
    brightness = 90 + (_field(words, 1, 0) * 76 >> 16)  # 90 to 165
    grey = brightness[:, None, None] + (contrast[:, None, None] * wave >> 14) + _noise(words)
    images = np.clip(grey, 0, 255).astype(np.uint8)
    return Split(images[:, None], labels)


def _steps(
    labels: np.ndarray, tilt: np.ndarray, stretch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the phase grows per pixel to the right and per pixel down."""
    radians = [math.radians(degrees) for degrees in _DIRECTIONS_DEGREES]
    cosines = np.array([round(math.cos(r) * _UNIT) for r in radians])
    sines = np.array([round(math.sin(r) * _UNIT) for r in radians])
    frequencies = np.array([_TURN // p for p in _PERIODS_PIXELS.values()])
    width, direction = np.divmod(labels, len(_DIRECTIONS_DEGREES))
    cosine, sine = cosines[direction], sines[direction]
    lean = ((tilt - 0x8000) * _MAX_TILT) >> 15
    across = cosine - (sine * lean >> 14)
    down = sine + (cosine * lean >> 14)
    frequency = frequencies[width] * (7 * _TURN + 2 * stretch) // (8 * _TURN)  # within 1/8
    return across * frequency >> 14, down * frequency >> 14


def _field(words: np.ndarray, word: int, quarter: int) -> np.ndarray:
    """Return one 16-bit field of each image's random words as int64 (N,)."""
    return ((words[:, word] >> np.uint64(16 * quarter)) & np.uint64(0xFFFF)).astype(np.int64)


def _noise(words: np.ndarray) -> np.ndarray:
    """Return the sum of two uniform draws per pixel, int16 (N, 28, 28), -64 to 63."""
    octets = words[:, 2:].astype("<u8").view(np.uint8).reshape(len(words), 2, _SIDE, _SIDE)
    return (octets.astype(np.int16).sum(axis=1, dtype=np.int16) >> 2) - 64

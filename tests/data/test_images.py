import io
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smidgen.data import decode_image, read_image
from smidgen.data.images import fit_image, is_dark_on_light
from smidgen.errors import DataError

GREY = (1, 28, 28)


def encoded(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """Return a picture as a file."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def ink() -> np.ndarray:
    """Return light ink on dark ground, 28x28, in every grey level."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[6:22, 6:22] = np.arange(256).reshape(16, 16)
    return pixels


def claim(width: int, height: int) -> bytes:
    """Return a tiny PNG file that claims to be of a given size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@pytest.mark.parametrize("form", ["PNG", "BMP"])
@pytest.mark.parametrize("is_dark_on_light", [False, True])
def test_a_picture_of_the_right_size_is_read_pixel_for_pixel(
    form: str, is_dark_on_light: bool
) -> None:
    """Neither reading nor inverting changes a lossless 28x28 picture."""
    shown = 255 - ink() if is_dark_on_light else ink()

    read = decode_image(encoded(Image.fromarray(shown), form), GREY, "x")

    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, ink()[None])


def test_hundreds_of_inverted_pictures_read_back_exactly() -> None:
    """300 drawn images, written dark on light, come back as they were."""
    words = np.random.Philox(key=1).random_raw(300 * 98)
    images = words.view(np.uint8).reshape(300, 28, 28).copy()
    images[:, [0, -1]] //= 4  # a darkish border, as any light-on-dark picture has
    images[:, :, [0, -1]] //= 4

    for image in images:
        content = encoded(Image.fromarray(255 - image))
        np.testing.assert_array_equal(decode_image(content, GREY, "x")[0], image)


@pytest.mark.parametrize(
    ("invert", "edge", "is_inverted"),
    [
        ("auto", 128, True),
        ("auto", 127, False),
        ("yes", 0, True),
        ("yes", 255, True),
        ("no", 0, False),
        ("no", 255, False),
    ],
)
def test_the_edge_decides_and_yes_and_no_overrule_it(
    invert: Any, edge: int, is_inverted: bool
) -> None:
    """`auto` looks at the outermost pixels alone."""
    pixels = np.full((28, 28), edge, np.uint8)
    pixels[1:-1, 1:-1] = 200

    read = decode_image(encoded(Image.fromarray(pixels)), GREY, "x", invert=invert)

    assert read[0, 14, 14] == (55 if is_inverted else 200)


def modes() -> list[tuple[str, Image.Image, dict[str, Any]]]:
    """Return the same dark-on-light drawing in every kind of file."""
    grey = Image.fromarray(255 - ink())
    alpha = Image.fromarray(ink())
    black_ink = Image.merge("RGBA", [Image.new("L", (28, 28), 0)] * 3 + [alpha])
    white_ink = Image.merge("RGBA", [Image.new("L", (28, 28), 255)] * 3 + [alpha])
    deep = Image.fromarray((255 - ink()).astype(np.uint16) * 257)
    return [
        ("PNG", grey.convert("RGB"), {}),
        ("PNG", grey.convert("RGBA"), {}),
        ("PNG", grey.convert("LA"), {}),
        ("PNG", black_ink, {}),
        ("PNG", white_ink, {}),
        ("PNG", deep, {}),
        ("PNG", grey.convert("P"), {}),
        ("BMP", grey.convert("RGB"), {}),
        ("JPEG", grey, {"quality": 100}),
        ("JPEG", grey.convert("RGB"), {"quality": 100}),
        ("JPEG", grey.convert("CMYK"), {"quality": 100}),
    ]


@pytest.mark.parametrize(("form", "picture", "options"), modes())
def test_every_kind_of_picture_gives_the_same_ink(
    form: str, picture: Image.Image, options: dict[str, Any]
) -> None:
    """Color, transparency, palettes, 16 bits and lossy files are all read as light on dark."""
    read = decode_image(encoded(picture, form, **options), GREY, "x")

    error = np.abs(read[0].astype(int) - ink()).max()
    assert error <= (12 if form == "JPEG" else 1)


def test_a_bilevel_picture_is_read() -> None:
    """One bit per pixel becomes black and white."""
    picture = Image.fromarray(ink() > 127)

    read = decode_image(encoded(picture), GREY, "x")

    np.testing.assert_array_equal(read[0], np.where(ink() > 127, 255, 0))


def test_three_channels_keep_the_color() -> None:
    """For a network of color images the channels come first."""
    picture = Image.new("RGB", (56, 56), (10, 20, 30))

    read = decode_image(encoded(picture), (3, 28, 28), "x")

    assert read.shape == (3, 28, 28)
    assert read[:, 0, 0].tolist() == [10, 20, 30]
    assert read.flags.c_contiguous


def test_a_phones_note_on_orientation_is_followed() -> None:
    """EXIF orientation 6 means that the picture is to be turned by a quarter."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[2:6, 4:24] = 255
    exif = Image.Exif()
    exif[0x0112] = 6

    read = decode_image(encoded(Image.fromarray(pixels), "PNG", exif=exif), GREY, "x")

    np.testing.assert_array_equal(read[0], np.rot90(pixels, -1))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "`x` is not a PNG, JPEG or BMP image."),
        (b"hello", "`x` is not a PNG, JPEG or BMP image."),
        (
            encoded(Image.new("L", (9, 9)), "GIF"),
            "`x` is not a PNG, JPEG or BMP image.",
        ),
        (
            claim(5000, 4000),
            "`x` has 5,000x4,000 pixels, more than the 4,194,304 allowed. Make it smaller.",
        ),
        (
            claim(10_000, 10_000),
            "`x` has 10,000x10,000 pixels, more than the 4,194,304 allowed. Make it smaller.",
        ),
        (
            claim(60_000, 60_000),
            "`x` has far more than the 4,194,304 pixels allowed. Make it smaller.",
        ),
    ],
)
def test_what_cannot_be_read_is_described(content: bytes, text: str) -> None:
    """Other formats by content, and pictures that are too large before they are decoded."""
    with pytest.raises(DataError) as caught:
        decode_image(content, GREY, "x")

    assert str(caught.value) == text


def test_a_cut_picture_is_damaged_and_not_half_read() -> None:
    """A truncated file is an error, not a picture with a grey lower half."""
    content = encoded(Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28)))

    with pytest.raises(DataError, match=r"^`x` is damaged \("):
        decode_image(content[: len(content) // 2], GREY, "x")


def test_a_bomb_takes_no_memory() -> None:
    """A small file that claims 60,000x60,000 pixels is refused on its header."""
    decode_image(encoded(Image.new("L", (28, 28))), GREY, "x")
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            decode_image(claim(60_000, 60_000), GREY, "x")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 1_000_000


@pytest.mark.parametrize(
    ("options", "shape", "text"),
    [
        (
            {"invert": "maybe"},
            GREY,
            "`invert` must be one of `auto`, `yes`, `no`, not `maybe`.",
        ),
        ({"fit": "crop"}, GREY, "`fit` must be one of `resize`, `mnist`, not `crop`."),
        ({}, (2, 28, 28), "Image files have 1 or 3 channels, not 2."),
        (
            {"fit": "mnist"},
            (3, 28, 28),
            "`fit` `mnist` is for grey images, not for 3 channels. Use `resize`.",
        ),
    ],
)
def test_options_that_do_not_exist_are_refused(
    options: Any, shape: tuple[int, int, int], text: str
) -> None:
    """The option, its value and what it may be."""
    with pytest.raises(DataError) as caught:
        decode_image(encoded(Image.new("L", (28, 28))), shape, "x", **options)

    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (lambda path: None, "does not exist. Give PNG, JPEG or BMP files."),
        (Path.mkdir, "is a folder, not an image. Give PNG, JPEG or BMP files."),
    ],
)
def test_a_path_that_is_no_file_is_described(prepare: Any, text: str, tmp_path: Path) -> None:
    """Absent, or a folder."""
    path = tmp_path / "a.png"
    prepare(path)

    with pytest.raises(DataError) as caught:
        read_image(path, GREY)

    assert str(caught.value) == f"`{path}` {text}"


def test_a_huge_file_is_not_even_read(tmp_path: Path) -> None:
    """The size on disk is looked at first."""
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(70 << 20)

    with pytest.raises(DataError) as caught:
        read_image(path, GREY)

    assert str(caught.value) == (
        f"`{path}` has 73,400,320 bytes; images may have up to 67,108,864. Make it smaller."
    )


def test_without_pillow_the_install_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that is missing is named."""
    monkeypatch.setitem(sys.modules, "PIL.Image", None)

    with pytest.raises(DataError) as caught:
        decode_image(b"", GREY, "x")

    assert str(caught.value) == ("Image files need Pillow. Install it with `pip install pillow`.")


FILES = [
    encoded(Image.fromarray(ink()).convert(mode), form)
    for mode, form in (("L", "PNG"), ("P", "PNG"), ("RGB", "JPEG"), ("RGB", "BMP"))
]


@settings(deadline=None, max_examples=300)
@given(
    content=st.sampled_from(FILES),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 3000),
    fit=st.sampled_from(["resize", "mnist"]),
)
def test_damaged_pictures_raise_only_data_errors(
    content: bytes, changes: list[tuple[int, int]], cut: int, fit: Any
) -> None:
    """Whatever bytes are changed, an array of the right shape comes out or a clear line."""
    broken = bytearray(content)
    for position, octet in changes:
        broken[position % len(broken)] = octet

    try:
        read = decode_image(bytes(broken[:cut]), GREY, "x", fit=fit)
    except DataError:
        return
    assert read.shape == GREY


def center_of_mass(image: np.ndarray) -> tuple[float, float]:
    """Return row and column."""
    mass = image.astype(float)
    rows, columns = np.indices(image.shape)
    return float((mass * rows).sum() / mass.sum()), float((mass * columns).sum() / mass.sum())


@pytest.mark.parametrize("shape", [(28, 28), (56, 56), (300, 90), (5, 5), (1, 400)])
def test_resize_gives_the_shape_and_keeps_a_uniform_grey(shape: tuple[int, int]) -> None:
    """Any size becomes 28x28, and what is even stays even."""
    fitted = fit_image(np.full(shape, 77, np.uint8), GREY, "resize", "x")

    assert fitted.shape == GREY
    assert (fitted == 77).all()


def test_resize_smooths_instead_of_skipping() -> None:
    """A fine checkerboard becomes mid-grey; nearest neighbor would keep black and white."""
    board = (np.indices((280, 280)).sum(axis=0) % 2 * 255).astype(np.uint8)

    fitted = fit_image(board, GREY, "resize", "x")

    assert 120 < fitted.min() <= fitted.max() < 135


@pytest.mark.parametrize(
    ("height", "width", "top", "left"),
    [(200, 100, 0, 0), (100, 200, 150, 300), (20, 9, 40, 40), (7, 3, 10, 200), (300, 4, 0, 7)],
)
def test_mnist_scales_the_longer_side_to_20_and_centers(
    height: int, width: int, top: int, left: int
) -> None:
    """Wherever and however large a bar was drawn, it ends in the middle with the right size."""
    picture = np.zeros((400, 600), np.uint8)
    picture[top : top + height, left : left + width] = 255

    fitted = fit_image(picture, GREY, "mnist", "x")[0]

    rows, columns = np.flatnonzero(fitted.any(axis=1)), np.flatnonzero(fitted.any(axis=0))
    sides = (np.ptp(rows) + 1, np.ptp(columns) + 1)
    longer = max(height, width)
    assert sides == (max(1, round(20 * height / longer)), max(1, round(20 * width / longer)))
    row, column = center_of_mass(fitted)
    assert abs(row - 14) <= 0.5
    assert abs(column - 14) <= 0.5


def test_mnist_keeps_lopsided_ink_inside() -> None:
    """Where centering the mass would push ink over the edge, it stops at the edge."""
    picture = np.zeros((100, 100), np.uint8)
    picture[:90, 10:12] = 255
    picture[85:90, 10:90] = 255

    fitted = fit_image(picture, GREY, "mnist", "x")[0]

    rows, columns = np.flatnonzero(fitted.any(axis=1)), np.flatnonzero(fitted.any(axis=0))
    assert np.ptp(rows) + 1 == 20
    assert np.ptp(columns) + 1 == 18


def test_mnist_ignores_paper_grain_and_shade() -> None:
    """A noisy grey ground becomes black, and the ink is found as on clean paper."""
    noise = np.random.Philox(key=3).random_raw(200 * 200 // 8).view(np.uint8).reshape(200, 200)
    picture = 30 + noise // 16
    picture[60:140, 80:120] = 230

    fitted = fit_image(picture.astype(np.uint8), GREY, "mnist", "x")[0]

    rows, columns = np.flatnonzero(fitted.any(axis=1)), np.flatnonzero(fitted.any(axis=0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 10)
    assert fitted.max() == 255


def test_mnist_leaves_a_picture_already_made_so_alone() -> None:
    """A centered glyph of 20 pixels at full strength passes unchanged."""
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 10:18] = 255
    picture[5, 11] = 1

    np.testing.assert_array_equal(fit_image(picture, GREY, "mnist", "x")[0], picture)


@pytest.mark.parametrize("grey", [0, 255])
def test_mnist_refuses_a_blank_picture(grey: int) -> None:
    """Without ink there is nothing to center."""
    with pytest.raises(DataError) as caught:
        fit_image(np.full((40, 40), grey, np.uint8), GREY, "mnist", "a.png")

    assert str(caught.value) == (
        "`a.png` is blank, so there is no ink to center. Use `fit` `resize`."
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (28, 28), (9, 9, 3)])
def test_edges_are_judged_in_any_shape(shape: tuple[int, ...]) -> None:
    """Thin and colored pictures have an edge too."""
    assert is_dark_on_light(np.full(shape, 200, np.uint8))
    assert not is_dark_on_light(np.full(shape, 50, np.uint8))


def chunks(count: int) -> bytes:
    """Return a PNG file with so many tiny text chunks before its pixels."""
    picture = encoded(Image.new("L", (28, 28), 50))
    tiny = struct.pack(">I", 0) + b"tEXt" + struct.pack(">I", zlib.crc32(b"tEXt"))
    return picture[:33] + tiny * count + picture[33:]


def scans(count: int) -> bytes:
    """Return a JPEG file with so many empty scans behind its own."""
    picture = encoded(Image.new("L", (28, 28), 50), "JPEG")
    return picture[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * count + picture[-2:]


@pytest.mark.parametrize(
    "content",
    [
        chunks(1_000_000),
        scans(5_000),
        b"\xff\xd8" + b"\xff" * 1_000_000,
        b"\xff\xd8" + b"\xff\x00" * 1_000_000,
        b"\xff\xd8" + b"\xff\xfe\x00\x02" * 1_000_000,
    ],
    ids=["chunks", "scans", "padding", "escapes", "comments"],
)
def test_a_picture_of_a_million_parts_is_refused_before_it_is_read(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow goes through parts one by one, so it never sees such a file."""
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("it was opened"))

    with pytest.raises(DataError) as caught:
        decode_image(content, GREY, "x")

    assert str(caught.value) == (
        "`x` is cut into so many parts that reading it would take minutes. "
        "Save it again with any program."
    )


def test_usual_files_of_many_parts_are_read() -> None:
    """Some thousand chunks, restart markers in every row and progressive scans are fine."""
    picture = Image.fromarray(
        np.random.default_rng(3).integers(0, 256, (900, 900)).astype(np.uint8)
    )

    for content in (
        chunks(5_000),
        encoded(picture, "JPEG", progressive=True, quality=95),
        encoded(picture, "JPEG", restart_marker_blocks=1),
        encoded(picture, "PNG", compress_level=0),
    ):
        assert decode_image(content, GREY, "x").shape == GREY

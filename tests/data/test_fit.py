import numpy as np
import pytest

from smidgen.data.fit import fit_image, is_dark_on_light
from smidgen.errors import DataError

GREY = (1, 28, 28)


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

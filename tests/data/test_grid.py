import numpy as np
import pytest

from smidgen.data import draw_stripes, pick_samples, samples_grid, samples_of
from smidgen.errors import DataError

TILE, STEP_X, STEP_Y, MARGIN = 84, 98, 122, 24


def test_samples_are_balanced_sorted_by_class_and_chosen_by_the_seed() -> None:
    """As even as the count allows; another seed chooses others, the same one the same."""
    labels = np.arange(200) % 10

    chosen = pick_samples(labels, 10, 25, seed=1)

    counts = np.bincount(labels[chosen])
    assert sorted(counts) == [2] * 5 + [3] * 5
    assert len(set(chosen.tolist())) == 25
    assert (np.diff(labels[chosen]) >= 0).all()
    np.testing.assert_array_equal(chosen, pick_samples(labels, 10, 25, seed=1))
    assert chosen.tolist() != pick_samples(labels, 10, 25, seed=2).tolist()


def test_samples_take_all_of_a_rare_class() -> None:
    """A class with few images leaves its places to the others."""
    labels = np.array([0] * 50 + [1])

    assert np.bincount(labels[pick_samples(labels, 2, 10)]).tolist() == [9, 1]


@pytest.mark.parametrize("count", [0, 51])
def test_more_samples_than_images_are_refused(count: int) -> None:
    """The allowed range is said."""
    with pytest.raises(DataError) as caught:
        samples_of(draw_stripes(50, 10).train, 10, count)

    assert str(caught.value) == f"`count` must be from 1 to 50, not {count}."


def test_the_grid_shows_every_image_enlarged_without_smoothing() -> None:
    """Each pixel is a 3x3 block, cells follow each other in rows, labels leave ink below."""
    dataset = draw_stripes(50, 12)

    page = samples_grid(dataset.test.images, dataset.test.labels, dataset.class_names, columns=5)

    pixels = np.asarray(page)
    assert pixels.shape == (2 * MARGIN + 3 * STEP_Y - 14, 2 * MARGIN + 5 * STEP_X - 14, 3)
    for index, image in enumerate(dataset.test.images):
        top, left = MARGIN + index // 5 * STEP_Y, MARGIN + index % 5 * STEP_X
        tile = pixels[top : top + TILE, left : left + TILE, 0]
        inner = slice(4, 24)  # corners are rounded
        shown = tile[1::3, 1::3][inner, inner]
        np.testing.assert_array_equal(shown, image[0, inner, inner])
        label = pixels[top + TILE : top + TILE + 24, left : left + TILE]
        assert label.min() < 120
    empty = pixels[MARGIN + 2 * STEP_Y :, MARGIN + 2 * STEP_X :]
    assert (empty == empty[0, 0]).all()


def test_color_and_large_images_and_long_names_fit() -> None:
    """Colors are shown, large images are not enlarged, and labels stay in their cell."""
    images = np.zeros((1, 3, 100, 90), np.uint8)
    images[0, 1] = 200

    page = np.asarray(samples_grid(images, np.zeros(1, int), ("an unusually long name " * 4,)))

    assert page.shape == (100 + 24 + 48, 90 + 48, 3)
    assert page[60, 60].tolist() == [0, 200, 0]
    assert (page[:, :10] == page[0, 0]).all()
    assert (page[124:148].min() < 120).all()


@pytest.mark.parametrize(("shape", "columns"), [((0, 1, 9, 9), 3), ((1, 2, 9, 9), 3)])
def test_a_grid_of_nothing_is_refused(shape: tuple[int, ...], columns: int) -> None:
    """No images, or ones that cannot be shown."""
    with pytest.raises(DataError) as caught:
        samples_grid(np.zeros(shape, np.uint8), np.zeros(shape[0], int), ("a",), columns)

    assert str(caught.value) == (
        "A grid needs at least 1 image of 1 or 3 channels and 1 column, "
        f"not images of shape {shape} and {columns} columns."
    )

import numpy as np
import pytest
import torch
from scipy import ndimage

from smidgen.data import Dataset
from smidgen.engines.plan import EpochPlan, Erasures, Geometry
from smidgen.engines.torch_augment import augmented
from smidgen.recipes.augmentation import (
    Augmentation,
    ResizedCrop,
    Rotation,
    Scaling,
    Shear,
    Translation,
)
from smidgen.recipes.recipe import Recipe
from smidgen.training.planning import plan

COUNT = 24


def empty_plan(**parts: Geometry | np.ndarray | Erasures | None) -> EpochPlan:
    """Return a plan of one batch of COUNT images that changes what `parts` say."""
    order = np.arange(COUNT, dtype=np.int32)
    nothing = np.zeros(1)
    return EpochPlan(1, 0, COUNT, order, nothing, nothing, 0, **parts)  # pyright: ignore


def images(seed: int = 0, channels: int = 1, height: int = 28, width: int = 28) -> np.ndarray:
    """Return uint8 noise, smoothed a little so that tiny errors of position stay tiny."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (COUNT, channels, height, width)).astype(np.float64)
    return ndimage.gaussian_filter(noise, (0, 0, 1, 1)).astype(np.uint8)


def ours(pixels: np.ndarray, plan: EpochPlan) -> np.ndarray:
    """Return the whole batch as the engine changes it."""
    return augmented(torch.from_numpy(pixels), plan, plan.rows(0)).numpy()


def sampled(
    pixels: np.ndarray, columns: np.ndarray, rows: np.ndarray, order: int, fill: float
) -> np.ndarray:
    """Return images read at (N, H, W) positions by SciPy, the outside being all `fill`."""
    padded = np.pad(pixels / 255, ((0, 0), (0, 0), (40, 40), (40, 40)), constant_values=fill)
    return np.stack(
        [
            [
                ndimage.map_coordinates(channel, [v + 40, u + 40], order=order, cval=fill)
                for channel in image
            ]
            for image, u, v in zip(padded, columns, rows, strict=True)
        ]
    )


def positions(affine: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where affine maps (N, 6) read each output pixel: columns, rows, (N, H, W) each."""
    y, x = np.mgrid[:height, :width]
    a, b, c, d, e, f = affine.astype(np.float64).T[:, :, None, None]
    return a * x + b * y + c, d * x + e * y + f


@pytest.mark.parametrize("fill", [0.0, 1 / 255, 0.4])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    "transforms",
    [
        (Rotation(25.0),),
        (Translation(4.0),),
        (Translation(4.0, whole_pixels=True),),
        (Scaling(0.6, 1.6),),
        (Shear(25.0),),
        (ResizedCrop(0.3),),
        (Rotation(180.0), Translation(30.0), Scaling(0.5, 2.0)),
    ],
    ids=["rotation", "translation", "whole", "scaling", "shear", "crop", "all"],
)
def test_geometry_is_scipys(
    tiny_recipe: Recipe, transforms: tuple[Rotation, ...], interpolation: str, fill: float
) -> None:
    """Planned maps applied in torch equal SciPy's reading of the same positions."""
    augmentation = Augmentation(transforms, interpolation, fill)  # pyright: ignore
    drawn = plan(tiny_recipe.replace(augmentation=augmentation), 3, 1, [], COUNT)
    assert drawn.geometry is not None
    pixels = images()

    found = ours(pixels, empty_plan(geometry=drawn.geometry))

    columns, rows = positions(drawn.geometry.affine, 28, 28)
    expected = sampled(pixels, columns, rows, 1 if interpolation == "bilinear" else 0, fill)
    if interpolation == "bilinear":
        np.testing.assert_allclose(found, expected, atol=2e-4)
    else:  # a position within rounding of the middle between two pixels may go either way
        tied = np.minimum(*(np.abs(at - np.floor(at) - 0.5) for at in (columns, rows))) < 1e-4
        differs = np.abs(found - expected)[:, 0] > 1e-6
        assert not (differs & ~tied).any()
        assert tied.mean() < 0.2


def test_affine_transform_of_scipy_agrees() -> None:
    """One map written by hand equals `scipy.ndimage.affine_transform` with that matrix."""
    affine = np.tile(np.array([0.9, 0.2, 1.0, -0.1, 1.1, -2.0], np.float32), (COUNT, 1))
    pixels = images(1)

    found = ours(pixels, empty_plan(geometry=Geometry(affine)))

    a, b, c, d, e, f = affine[0].astype(np.float64)
    inside = np.s_[:, 0, 8:20, 8:20]  # at the rim SciPy fades to the fill in another way
    expected = np.stack(
        [
            ndimage.affine_transform(image[0] / 255, [[e, d], [b, a]], [f, c], order=1)
            for image in pixels
        ]
    )
    np.testing.assert_allclose(found[inside], expected[:, 8:20, 8:20], atol=1e-4)


def test_rectangles_and_channels() -> None:
    """Images that are not square, with three channels, are moved alike in each channel."""
    affine = np.tile(np.array([1.0, 0.3, -1.0, -0.2, 0.8, 2.0], np.float32), (COUNT, 1))
    pixels = images(2, channels=3, height=20, width=32)

    found = ours(pixels, empty_plan(geometry=Geometry(affine, fill=0.2)))

    columns, rows = positions(affine, 20, 32)
    np.testing.assert_allclose(found, sampled(pixels, columns, rows, 1, 0.2), atol=2e-4)


def test_nothing_planned_changes_nothing() -> None:
    """Without parts a batch is pixel / 255; the identity map gives the same to rounding."""
    pixels = images(3)
    identity = np.tile(np.array([1, 0, 0, 0, 1, 0], np.float32), (COUNT, 1))

    plain = ours(pixels, empty_plan())
    moved = ours(pixels, empty_plan(geometry=Geometry(identity)))

    assert (plain == pixels.astype(np.float32) / np.float32(255)).all()
    np.testing.assert_allclose(moved, plain, atol=1e-5)


def test_whole_shifts_are_exact_copies() -> None:
    """Shifting by whole pixels, nearest, copies pixels and fills the rest."""
    affine = np.tile(np.array([1, 0, 3, 0, 1, -2], np.float32), (COUNT, 1))
    pixels = images(4)

    found = ours(pixels, empty_plan(geometry=Geometry(affine, "nearest", 0.0)))

    expected = np.zeros_like(found)
    expected[:, :, 2:, :-3] = pixels[:, :, :-2, 3:].astype(np.float32) / np.float32(255)
    assert (found == expected).all()


def test_rotation_turns_the_picture() -> None:
    """A quarter turn equals `numpy.rot90`, in the direction that the map says."""
    affine = np.tile(np.array([0, 1, 0, -1, 0, 27], np.float32), (COUNT, 1))
    pixels = images(5)

    found = ours(pixels, empty_plan(geometry=Geometry(affine)))

    np.testing.assert_allclose(found, np.rot90(pixels / 255, -1, (2, 3)), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (20, 32)])
def test_elastic_bends_as_scipy_does(height: int, width: int) -> None:
    """Displacements are read from the grid bilinearly, corners on corner pixels, and added."""
    rng = np.random.default_rng(6)
    affine = np.tile(np.array([0.95, 0.1, 0.5, -0.1, 1.05, 1.0], np.float32), (COUNT, 1))
    grid = rng.normal(0, 1.5, (COUNT, 2, 7, 7)).astype(np.float32)
    pixels = images(7, height=height, width=width)

    found = ours(pixels, empty_plan(geometry=Geometry(affine, fill=0.1, elastic=grid)))

    y, x = np.mgrid[:height, :width]
    at = [y * 6 / (height - 1), x * 6 / (width - 1)]
    bend = np.array([[ndimage.map_coordinates(axis, at, order=1) for axis in one] for one in grid])
    columns, rows = positions(affine, height, width)
    expected = sampled(pixels, columns + bend[:, 0], rows + bend[:, 1], 1, 0.1)
    np.testing.assert_allclose(found, expected, atol=5e-4)


def test_jitter_follows_its_formula() -> None:
    """Brightness multiplies and clips; contrast pulls to the image's mean and clips."""
    rng = np.random.default_rng(8)
    factors = rng.uniform(0.3, 1.9, (COUNT, 2)).astype(np.float32)
    pixels = images(9, channels=3)

    found = ours(pixels, empty_plan(jitter=factors))

    bright = np.clip(pixels / 255 * factors[:, 0, None, None, None].astype(float), 0, 1)
    mean = bright.mean((1, 2, 3), keepdims=True)
    contrast = factors[:, 1, None, None, None].astype(float)
    expected = np.clip(mean + contrast * (bright - mean), 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found == 0).any()
    assert (found == 1).any()


def test_erasing_sets_boxes_and_nothing_else() -> None:
    """Exactly the pixels of the box take the level, in every channel; height 0 erases nothing."""
    rng = np.random.default_rng(10)
    sides = rng.integers(0, 20, (COUNT, 2))
    corners = (rng.uniform(size=(COUNT, 2)) * (28 - sides + 1)).astype(int)
    boxes = np.concatenate([corners, sides], axis=1).astype(np.int32)
    boxes[0] = (0, 0, 0, 0)
    boxes[1] = (0, 0, 27, 27)
    pixels = images(11, channels=2)

    found = ours(pixels, empty_plan(erasing=Erasures(boxes, -0.42)))

    expected = pixels.astype(np.float32) / np.float32(255)
    for image, (top, left, height, width) in zip(expected, boxes, strict=True):
        image[:, top : top + height, left : left + width] = np.float32(-0.42)
    assert (found == expected).all()


def test_parts_act_in_the_documented_order() -> None:
    """Geometry comes first, then jitter, then erasing."""
    affine = np.tile(np.array([1, 0, 5, 0, 1, 0], np.float32), (COUNT, 1))
    factors = np.tile(np.array([0.5, 1.0], np.float32), (COUNT, 1))
    boxes = np.tile(np.array([0, 0, 4, 4], np.int32), (COUNT, 1))
    pixels = images(12)

    found = ours(
        pixels,
        empty_plan(
            geometry=Geometry(affine, "nearest", 1.0),
            jitter=factors,
            erasing=Erasures(boxes, 0.9),
        ),
    )

    assert (found[:, :, :4, :4] == np.float32(0.9)).all()
    np.testing.assert_allclose(found[:, :, 10, 23:], 0.5)  # the fill, made darker
    np.testing.assert_allclose(found[:, 0, 10, 5], pixels[:, 0, 10, 10] / 510, atol=1e-6)


def test_rows_belong_to_their_images(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """A later batch takes its own rows of the plan, not the first ones."""
    drawn = plan(tiny_recipe, 1, 1, [], len(stripes.train))
    pixels = torch.from_numpy(stripes.train.images[drawn.order])

    whole = augmented(pixels, drawn, slice(0, len(pixels)))

    for step in range(drawn.num_steps):
        rows = drawn.rows(step)
        assert torch.equal(augmented(pixels[rows], drawn, rows), whole[rows])

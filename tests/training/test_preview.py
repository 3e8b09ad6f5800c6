import numpy as np
import pytest

from smidgen.data import draw_stripes, samples_of
from smidgen.errors import UnknownNameError
from smidgen.training.preview import augmented_samples


def test_samples_are_augmented() -> None:
    """The same images come as without a recipe, changed, with the same labels."""
    dataset = draw_stripes(60, 20)
    plain, labels = samples_of(dataset.train, dataset.num_classes, 20, 1)

    images, names = augmented_samples("smidgen/quick", dataset, 20, 1)

    assert (names == labels).all()
    assert images.shape == plain.shape
    assert images.dtype == np.uint8
    assert (images != plain).any(axis=(1, 2, 3)).all()
    correlation = np.corrcoef(images.ravel(), plain.ravel())[0, 1]
    assert 0.05 < correlation < 0.999


def test_without_augmentation_they_stay() -> None:
    """A recipe that changes nothing shows the images as they are."""
    dataset = draw_stripes(60, 20)

    images, _ = augmented_samples("eva4-s5/4", dataset, 10, 1)

    assert (images == samples_of(dataset.train, dataset.num_classes, 10, 1)[0]).all()


def test_seeds_show_other_changes() -> None:
    """Another seed changes the same recipe's samples."""
    dataset = draw_stripes(60, 20)

    first, again, other = (augmented_samples("smidgen/quick", dataset, 5, s)[0] for s in (1, 1, 2))

    assert (first == again).all()
    assert (first != other).any()


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    """A wrong name is one line."""
    with pytest.raises(UnknownNameError) as caught:
        augmented_samples("smidgen/quik", draw_stripes(60, 20), 5, 1)

    assert "Did you mean `smidgen/quick`?" in str(caught.value)

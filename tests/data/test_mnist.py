import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smidgen.data import Dataset, dataset_stats, fetch_dataset, load_dataset, read_labelled_images
from smidgen.data.images import fit_image
from smidgen.data.specs import MNIST
from smidgen.data.verified import chosen_folder, dataset_folder, locate

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(user_settings: None) -> Path:
    """Where the user keeps MNIST; nothing is downloaded."""
    chosen = chosen_folder(None)
    place = chosen[0] if chosen else dataset_folder(MNIST)
    if any(locate(MNIST, file, place) is None for file in MNIST.files):
        pytest.skip("MNIST is neither in SMIDGEN_DATA nor in the user's cache")
    return place


@pytest.fixture
def mnist(folder: Path) -> Dataset:
    """The real data set."""
    return load_dataset("mnist", folder)


def test_mnist_has_the_known_numbers(mnist: Dataset) -> None:
    """Counts, mean and deviation are those that are printed everywhere."""
    stats = dataset_stats(mnist)

    assert (stats.train.num_images, stats.test.num_images) == (60_000, 10_000)
    assert stats.train.class_counts == (
        *(5923, 6742, 5958, 6131, 5842),
        *(5421, 5918, 6265, 5851, 5949),
    )
    assert stats.test.class_counts == (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    assert round(stats.train.mean, 4) == 0.1307
    assert round(stats.train.std, 4) == 0.3081
    assert round(stats.test.mean, 4) == 0.1325
    assert (stats.train.minimum, stats.train.maximum) == (0, 1)
    assert mnist.sha256 == "a3e0bbee0c5b9e21f03a5162a50aece5fc8ebe2afb64cf9872c882d13fd864a8"


def test_unpacked_mnist_is_accepted_and_equal(mnist: Dataset, folder: Path, tmp_path: Path) -> None:
    """The hashes of the unpacked files are right."""
    for file in MNIST.files:
        path = locate(MNIST, file, folder)
        assert path is not None
        content = path.read_bytes()
        unpacked = gzip.decompress(content) if path.name.endswith(".gz") else content
        (tmp_path / file.unpacked_name).write_bytes(unpacked)

    imported = fetch_dataset("mnist", source=tmp_path, cache_dir=tmp_path / "cache")

    assert load_dataset("mnist", imported).sha256 == mnist.sha256


def test_all_test_images_read_back_from_inverted_files(mnist: Dataset, tmp_path: Path) -> None:
    """10,000 dark-on-light PNG files give the original pixels and labels."""
    for name in mnist.class_names:
        (tmp_path / name).mkdir()
    pairs = zip(mnist.test.images, mnist.test.labels, strict=True)
    for number, (image, label) in enumerate(pairs):
        path = tmp_path / mnist.class_names[label] / f"{number:05}.png"
        Image.fromarray(255 - image[0]).save(path, compress_level=1)

    split, files = read_labelled_images(tmp_path, mnist.class_names)

    order = [int(path.stem) for path in files]
    np.testing.assert_array_equal(split.images, mnist.test.images[order])
    np.testing.assert_array_equal(split.labels, mnist.test.labels[order])


def test_our_fit_is_the_one_mnist_was_made_with(mnist: Dataset) -> None:
    """Fitting an MNIST image again gives it back, but for its brightest pixel becoming 255."""
    images = mnist.test.images[:, 0]

    fitted = np.stack([fit_image(image, (1, 28, 28), "mnist", "x")[0] for image in images])

    difference = np.abs(fitted.astype(int) - images).max(axis=(1, 2))
    assert (difference <= 1).mean() > 0.999
    assert (difference == 0).mean() > 0.85

import numpy as np
import pytest

from smidgen.data import draw_stripes
from smidgen.errors import DataError


def test_stripes_are_the_same_bytes_everywhere() -> None:
    """Only whole numbers and raw words are used, so the hash can be pinned."""
    dataset = draw_stripes()

    assert dataset.sha256 == ("2c6ddb0de30ec73e2714739032538e19a6d0c59722d35eac4aaf5817a56b37f8")
    assert (len(dataset.train), len(dataset.test)) == (2000, 500)
    assert dataset.image_shape == (1, 28, 28)
    assert dataset.class_names[0] == "narrow 0°"
    assert dataset.class_names[9] == "wide 144°"


def test_classes_are_balanced_and_splits_differ() -> None:
    """Every class is as frequent as the others, and no test image is a training image."""
    dataset = draw_stripes()

    assert set(np.bincount(dataset.train.labels)) == {200}
    assert set(np.bincount(dataset.test.labels)) == {50}
    train = {image.tobytes() for image in dataset.train.images}
    assert not train & {image.tobytes() for image in dataset.test.images}
    assert len(train) == 2000


def test_another_seed_draws_other_images_and_fewer_are_the_first_ones() -> None:
    """Images depend on the seed and their position alone."""
    full, small, other = draw_stripes(), draw_stripes(50, 20), draw_stripes(50, 20, seed=1)

    np.testing.assert_array_equal(small.train.images, full.train.images[:50])
    assert not np.array_equal(other.train.images, small.train.images)


def nearest_mean_accuracy(train: np.ndarray, test: np.ndarray) -> float:
    """Classify by the nearest class mean of the given features."""
    dataset = draw_stripes()
    means = np.stack([train[dataset.train.labels == label].mean(axis=0) for label in range(10)])
    distances = np.linalg.norm(test[:, None] - means, axis=-1)
    return float((distances.argmin(axis=1) == dataset.test.labels).mean())


def test_brightness_says_nothing_about_the_class() -> None:
    """Mean and spread of the pixels do hardly better than the 10 % of chance."""
    dataset = draw_stripes()

    def features(images: np.ndarray) -> np.ndarray:
        pixels = images.reshape(len(images), -1) / 255
        return np.stack((pixels.mean(axis=1), pixels.std(axis=1)), axis=1)

    accuracy = nearest_mean_accuracy(features(dataset.train.images), features(dataset.test.images))

    assert accuracy < 0.2


def test_the_spectrum_tells_the_class_wherever_the_stripes_lie() -> None:
    """A classifier that is blind to positions gets far, so the label lies in the stripes."""
    dataset = draw_stripes()

    def features(images: np.ndarray) -> np.ndarray:
        spectrum = np.abs(np.fft.fft2(images[:, 0] - images[:, 0].mean(axis=(1, 2), keepdims=True)))
        flat = spectrum.reshape(len(images), -1)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    accuracy = nearest_mean_accuracy(features(dataset.train.images), features(dataset.test.images))

    assert accuracy > 0.9


def test_a_tiny_network_learns_it_in_a_few_epochs() -> None:
    """1,254 parameters that pool over all positions get more than 95 % right after six epochs."""
    import torch
    from torch import nn

    torch.manual_seed(1)
    dataset = draw_stripes()
    images, unseen = (
        torch.from_numpy(split.images).float() / 127.5 - 1
        for split in (dataset.train, dataset.test)
    )
    labels = torch.from_numpy(dataset.train.labels)
    network = nn.Sequential(
        *(nn.Conv2d(1, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10)),
    )
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    for _ in range(6):
        for batch in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    network.eval()

    found = network(unseen).argmax(dim=1).numpy()

    assert sum(parameter.numel() for parameter in network.parameters()) == 1254
    assert (found == dataset.test.labels).mean() > 0.95


def test_too_few_images_are_refused() -> None:
    """Every class needs an image in every split."""
    with pytest.raises(DataError) as caught:
        draw_stripes(2000, 9)

    assert str(caught.value) == (
        "`stripes` needs at least 10 images in each split, not 2000 and 9."
    )

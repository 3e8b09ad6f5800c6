import json

import numpy as np

from smidgen.data import Split, assemble, dataset_stats, draw_stripes


def test_stats_equal_what_numpy_computes() -> None:
    """Counts, mean, standard deviation and range agree with the direct formulas."""
    dataset = draw_stripes(5000, 30)

    stats = dataset_stats(dataset)

    for part, split in ((stats.train, dataset.train), (stats.test, dataset.test)):
        pixels = split.images / 255
        assert part.num_images == len(split)
        assert part.class_counts == tuple(np.bincount(split.labels))
        np.testing.assert_allclose(
            [part.mean, part.std, part.minimum, part.maximum],
            [pixels.mean(), pixels.std(), pixels.min(), pixels.max()],
            rtol=1e-12,
        )
    assert stats.image_shape == (1, 28, 28)
    assert stats.sha256 == dataset.sha256


def test_a_constant_image_has_no_spread_and_absent_classes_count_zero() -> None:
    """The standard deviation is exactly 0, and every class has a count."""
    images = np.full((2, 1, 3, 3), 51, np.uint8)
    split = Split(images, np.array([2, 2], np.int64))

    stats = dataset_stats(assemble("flat", split, split, ("a", "b", "c", "d")))

    assert stats.train.class_counts == (0, 0, 2, 0)
    assert (stats.train.mean, stats.train.std) == (0.2, 0.0)
    assert (stats.train.minimum, stats.train.maximum) == (0.2, 0.2)


def test_stats_become_json() -> None:
    """The plain form has the documented keys and survives JSON."""
    plain = dataset_stats(draw_stripes(20, 20)).to_dict()

    assert set(plain) == {"name", "sha256", "image_shape", "class_names", "train", "test"}
    assert set(plain["train"]) == {
        "num_images",
        "class_counts",
        "mean",
        "std",
        "minimum",
        "maximum",
    }
    assert json.loads(json.dumps(plain))["train"]["class_counts"] == [2] * 10

from pathlib import Path

from smidgen.data import Dataset, load_dataset
from smidgen.evidence.answers import MNIST_SHA256, known_label_errors


def test_fifteen_labels_of_mnist_are_known_to_be_wrong() -> None:
    """The table holds 15 different test images."""
    known = known_label_errors(MNIST_SHA256)

    assert len(known) == 15
    assert {947, 9729} <= known
    assert all(0 <= image < 10_000 for image in known)


def test_nothing_is_known_of_other_images(stripes: Dataset) -> None:
    """Another hash, another data set: an empty table."""
    assert known_label_errors(stripes.sha256) == frozenset()


def test_the_table_is_for_the_mnist_that_is_loaded(mnist_folder: Path) -> None:
    """The hash in the table is that of the published files."""
    assert load_dataset("mnist", mnist_folder).sha256 == MNIST_SHA256

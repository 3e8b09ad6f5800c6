"""Trained runs put to use: class scores, accuracy on other images, predictions for files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smidgen.data import Fit, Invert, load_dataset, read_images, read_labelled_images
from smidgen.data.images import Reading, reading_of
from smidgen.engines.choose import choose_engine, make_engine
from smidgen.errors import DataError, RunError
from smidgen.runs.record import RunRecord
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.divergence import why_unfinished
from smidgen.training.evaluation import Evaluation, evaluate


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one image file.

    Args:
        path: The file.
        class_name: The most probable class.
        probability: Its probability by the model, in [0, 1].
        probabilities: All classes by name, the most probable first.
    """

    path: Path
    class_name: str
    probability: float
    probabilities: dict[str, float]

    def second(self) -> str:
        """Return the runner-up as `name (probability)`."""
        name, probability = list(self.probabilities.items())[1]
        return f"{name} ({100 * probability:.2f} %)"

    def to_plain(self) -> dict[str, object]:
        """Return the machine-readable form."""
        return {
            "image": str(self.path),
            "class": self.class_name,
            "probability": self.probability,
            "probabilities": self.probabilities,
        }


def find_trained(
    store: RunStore, query: str, on_note: Callable[[str], None] = lambda text: None
) -> RunFolder:
    """Return the run that a query stands for; of `last`, the newest that is finished.

    Args:
        store: Where to look.
        query: As in `RunStore.find`.
        on_note: Told, in a line, where newer runs were passed over.

    Raises:
        UnknownNameError: There is none.
        RunError: A prefix fits several runs.
    """
    newest = store.find(query)
    if query != "last" or newest.is_finished:
        return newest
    finished = [folder for folder in store.folders() if folder.is_finished]
    if not finished:
        return newest
    on_note(f"{why_unfinished(newest)} `last` is taken for `{finished[-1].name}`.")
    return finished[-1]


def logits_of(folder: RunFolder, images: np.ndarray) -> np.ndarray:
    """Return float32 (N, classes) class scores of uint8 (N, C, H, W) by a finished run.

    Raises:
        RunError: The run is unfinished or its weights are damaged.
    """
    _check_finished(folder)
    recipe = folder.record().recipe
    shape = (0, *recipe.network.input_shape)
    name, _ = choose_engine(recipe, "auto", "cpu")
    nothing = np.zeros(shape, np.uint8), np.zeros(0, np.int64)
    engine = make_engine(name, recipe.replace(averaging=None), *nothing, seed=1, threads=1)
    engine.load_state(engine.state() | folder.model())
    return engine.logits(images)


def _check_finished(folder: RunFolder) -> None:
    if not folder.is_finished:
        raise RunError(why_unfinished(folder))


def evaluate_on_test(
    folder: RunFolder,
    data_dir: Path | None = None,
    invert: Invert | None = None,
    fit: Fit | None = None,
) -> Evaluation:
    """Measure a finished run on the test images of its own data set.

    Args:
        folder: The run's.
        data_dir: As for `load_dataset`.
        invert: As for `load_dataset`; None for as the run's own images were read.
        fit: The same.

    Raises:
        DataError: The data set here is not the one the run was trained with.
        RunError: The run is unfinished or damaged.
    """
    _check_finished(folder)
    record = folder.record()
    dataset = load_dataset(record.data.name, data_dir, **_reading(record, invert, fit))
    if dataset.sha256 != record.data.sha256:
        raise DataError(
            f"The `{dataset.name}` here is not the one that `{folder.name}` was trained with."
        )
    return evaluate(logits_of(folder, dataset.test.images), dataset.test.labels)


def evaluate_on_folder(
    folder: RunFolder, images: Path, invert: Invert | None = None, fit: Fit | None = None
) -> Evaluation:
    """Measure a finished run on a folder with one sub-folder per class, named as its classes.

    Args:
        folder: The run's.
        images: The folder.
        invert: As for `read_images`; None for as the run's own images were read.
        fit: The same.
    """
    _check_finished(folder)
    record = folder.record()
    shape = record.recipe.network.input_shape
    reading = _reading(record, invert, fit)
    split, _ = read_labelled_images(images, record.data.class_names, shape, **reading)
    return evaluate(logits_of(folder, split.images), split.labels)


def _reading(record: RunRecord, invert: Invert | None, fit: Fit | None) -> Reading:
    """Return how to read images for a run: as asked, else as its own were read."""
    return {**record.data.reading, **reading_of(invert, fit)}


def predict_images(
    folder: RunFolder,
    paths: Sequence[Path],
    invert: Invert | None = None,
    fit: Fit | None = None,
) -> list[Prediction]:
    """Say what is on each image file, or on each file of one folder.

    Args:
        folder: The run's.
        paths: Image files, or one folder of them.
        invert: As for `read_images`; None for as the run's own images were read.
        fit: The same.

    Raises:
        DataError: Files that cannot be read; names the first and counts all.
        RunError: The run is unfinished or damaged.
    """
    _check_finished(folder)
    record = folder.record()
    source = paths[0] if len(paths) == 1 else paths
    shape = record.recipe.network.input_shape
    images, files = read_images(source, shape, **_reading(record, invert, fit))
    scores = logits_of(folder, images).astype(np.float64)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    names = record.data.class_names
    found = []
    for path, row in zip(files, shares, strict=True):
        ranked = {names[i]: float(row[i]) for i in np.argsort(-row, kind="stable")}
        first = next(iter(ranked))
        found.append(Prediction(path, first, ranked[first], ranked))
    return found

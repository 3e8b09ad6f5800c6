"""Recipes and trained runs put to use: class scores, predictions, samples, a profile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from smidgen.data import Fit, Invert, load_dataset, read_images, read_labelled_images
from smidgen.data.dataset import Dataset
from smidgen.data.grid import samples_of
from smidgen.data.images import Reading, reading_of
from smidgen.engines.choose import choose_engine, make_engine
from smidgen.engines.native.profile import ProfileRow, profile
from smidgen.errors import DataError, RunError
from smidgen.extras import require
from smidgen.recipes.catalogue import get_recipe
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import RunRecord
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.checkpoints import why_unfinished
from smidgen.training.plan import plan
from smidgen.training.splits import Evaluation, evaluate, softmax, splits_for


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
    shares = softmax(logits_of(folder, images))
    names = record.data.class_names
    found = []
    for path, row in zip(files, shares, strict=True):
        ranked = {names[i]: float(row[i]) for i in np.argsort(-row, kind="stable")}
        first = next(iter(ranked))
        found.append(Prediction(path, first, ranked[first], ranked))
    return found


def augmented_samples(
    recipe_name: str, dataset: Dataset, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return images as the recipe augments them in its first epoch.

    Args:
        recipe_name: A name in the catalogue.
        dataset: Where the training images come from.
        count: How many images.
        seed: Decides which images and how they are changed.

    Returns:
        uint8 (count, C, H, W) before normalization, and int64 (count,) labels.
    """
    require("Augmenting images for a look needs", "torch")
    import torch

    from smidgen.engines.torch_engine import augmented

    recipe = get_recipe(recipe_name).replace(batch_size=count)
    images, labels = samples_of(dataset.train, dataset.num_classes, count, seed)
    planned = plan(recipe.replace(clean_epochs=0), seed, 1, [], len(images))
    rows = planned.rows(0)
    chosen = torch.from_numpy(images)
    # the plan's rows are used in the order of the samples, which keeps the classes together
    changed = augmented(chosen, planned, rows)
    pixels = (changed.clamp(0.0, 1.0) * 255).round().to(torch.uint8)
    return pixels.numpy(), labels


def profile_recipe(recipe: Recipe, dataset: Dataset, num_images: int) -> list[ProfileRow]:
    """Return where the first epoch's time goes on one thread, by layer and kind of work.

    Args:
        recipe: What is trained; its seed is 1.
        dataset: Where the images come from.
        num_images: How many of its training images the epoch has; all if there are fewer.

    Raises:
        CompilerError: No C compiler.
        DataError: The images do not fit the network, or `num_images` is below 1.
    """
    if num_images < 1:
        raise DataError(f"`num_images` must be at least 1, not {num_images}.")
    train = splits_for("final", recipe, dataset).train
    images, labels = train.images[:num_images], train.labels[:num_images]
    planned = plan(recipe, 1, 1, [], len(images))
    if recipe.distillation is not None:  # what teachers say does not change the time
        shape = (len(planned.order), dataset.num_classes)
        targets = np.full(shape, 1 / dataset.num_classes, np.float32)
        planned = replace(planned, targets=targets)
    return profile(recipe.network, recipe, images, labels, planned)

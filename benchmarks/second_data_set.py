"""The frontier's networks, unchanged, on digits that other people wrote.

    pip install scikit-learn
    python benchmarks/second_data_set.py [--data-dir DIR] [--runs-dir DIR] [--seeds 20] [NAME ...]

The second data set is the one that scikit-learn carries: 1,797 digits of 8x8 pixels (UCI, "Optical
Recognition of Handwritten Digits", 43 writers; Alpaydin and Kaynak, 1998). It becomes a folder of
PNG files, read by `--fit mnist --invert no` like anybody's own images. Nothing is tuned on it:

- *taken as they are*: the networks trained on MNIST (random seeds 1 to n) name all 1,797;
- *trained on it*: some of the recipes on the first 1,200, measured on the last 597, in the order
  of the file. Epochs are 50 times as many, so that a network sees as many images as on MNIST.

Beside them the nearest neighbour of the same pixels. Needs the MNIST runs (trained if they are not
in the store). Results: `docs/results/second_data_set.{json,md}`, written after every recipe.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from smidgen.data import load_dataset
from smidgen.data.dataset import Dataset
from smidgen.evidence.proof import spread
from smidgen.evidence.prove import ProveOptions, prove
from smidgen.files import write_atomically
from smidgen.recipes.catalogue import get_recipe
from smidgen.recipes.frontier import RECIPES as FRONTIER
from smidgen.recipes.parts import Budget
from smidgen.recipes.recipe import Recipe
from smidgen.recipes.smidgen_recipes import QUICK
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.splits import evaluate
from smidgen.training.use import logits_of
from smidgen.values import to_plain

RESULTS = Path(__file__).parent.parent / "docs" / "results"
NAMES = tuple(recipe.name for recipe in (*FRONTIER, QUICK))
TRAINED = ("smidgen/2k-15", "smidgen/3k", "smidgen/quick")
"""The others have so many epochs that 50 times as many would take days."""
NUM_TRAIN = 1_200
TIMES = 50
"""60,000 / 1,200: as many images in all as on MNIST."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _write_images(Path(folder))
        digits = load_dataset("folder", Path(folder), invert="no", fit="mnist")
    mnist, store = load_dataset("mnist", options.data_dir), RunStore(options.runs_dir)
    chosen = ProveOptions(workers=options.workers)
    for name in options.names:
        recipe, seeds = get_recipe(name), range(1, options.seeds + 1)
        on_mnist = prove(recipe, mnist, store, seeds, chosen)
        runs = [store.find(each.run) for each in on_mnist.seeds]
        taken = spread([_accuracy(run, digits) for run in runs])
        row = {"recipe": name, "num_params": on_mnist.num_params, "n": len(seeds)}
        row.update(taken=to_plain(taken), trained=None)
        if name in TRAINED:
            proof = prove(_longer(recipe), digits, store, seeds, chosen)
            row["trained"] = to_plain(proof.accuracy)
        _write(row, _nearest_neighbour(digits))
        print(row, flush=True)


def _write_images(folder: Path) -> None:
    data = load_digits()
    pixels = np.round(data.images * (255 / 16)).astype(np.uint8)
    for position, (image, label) in enumerate(zip(pixels, data.target, strict=True)):
        part = "train" if position < NUM_TRAIN else "test"
        where = folder / part / str(label)
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(where / f"{position:04}.png")


def _longer(recipe: Recipe) -> Recipe:
    return recipe.replace(
        dataset="folder",
        epochs=TIMES * recipe.epochs,
        clean_epochs=TIMES * recipe.clean_epochs,
        budget=Budget(),
    )


def _accuracy(run: RunFolder, digits: Dataset) -> float:
    images = np.concatenate([digits.train.images, digits.test.images])
    labels = np.concatenate([digits.train.labels, digits.test.labels])
    return evaluate(logits_of(run, images), labels).accuracy


def _nearest_neighbour(digits: Dataset) -> float:
    def pixels(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32)

    model = KNeighborsClassifier(n_neighbors=1)
    model.fit(pixels(digits.train.images), digits.train.labels)
    return model.score(pixels(digits.test.images), digits.test.labels)


def _write(row: dict, nearest: float) -> None:
    path = RESULTS / "second_data_set.json"
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [each for each in old if each["recipe"] != row["recipe"]] + [row]
    rows.sort(key=lambda each: each["num_params"])
    content = {"command": "python benchmarks/second_data_set.py", "nearest_neighbour": nearest}
    content["rows"] = rows
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    markdown = _markdown(rows, nearest)
    write_atomically(RESULTS / "second_data_set.md", markdown.encode())


def _markdown(rows: list[dict], nearest: float) -> str:
    lines = [
        "# Digits that other people wrote",
        "",
        "`python benchmarks/second_data_set.py`: the 1,797 digits of 8x8 pixels that scikit-learn",
        'carries (UCI, "Optical Recognition of Handwritten Digits"), brought to 28x28 by',
        "`--fit mnist`. Networks and settings are those of the catalogue; nothing was tuned.",
        "*Taken*: trained on MNIST, measured on all 1,797. *Trained*: on the first 1,200 of them,",
        "50 times the epochs, measured on the other 597 after the last epoch. Percent, means over",
        "n random seeds; *interval*: 95 %, Student's t. The nearest neighbour of the same pixels",
        f"is right on {100 * nearest:.1f} % of the 597.",
        "",
        "| recipe | parameters | n | taken | interval | lowest to highest | trained | interval |"
        " lowest to highest |",
        "|---|--:|--:|--:|---|---|--:|---|---|",
    ]
    for row in rows:
        cells = [f"`{row['recipe']}`", f"{row['num_params']:,}", str(row["n"])]
        for seen in (row["taken"], row["trained"]):
            if seen is None:
                cells += ["–"] * 3
                continue
            interval = seen["interval"]
            cells += [
                f"**{100 * seen['mean']:.1f}**",
                _range(interval["low"], interval["high"]) if interval else "–",
                _range(seen["minimum"], seen["maximum"]),
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _range(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


if __name__ == "__main__":
    main()

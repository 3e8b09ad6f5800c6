"""Forms of small networks, compared on 15,000 images held out of the training set.

    python benchmarks/forms.py [--data-dir DIR] [--workers 2] [SIZE ...]

Three times the images of `valid` tell small differences apart earlier. All forms of a size are
trained alike, on the other 45,000, with the same random seeds; the test set is never opened.
Results: `docs/results/forms.{json,md}`, written after every size; rows that are there are kept.
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from choose_frontier import (
    BENT,
    FAST,
    LIGHT,
    MILD,
    STRONG,
    T1,
    T2,
    T3,
    T5,
    T10,
    leaky,
    max_tower,
    of,
    sloped,
)

from smidgen.data import load_dataset
from smidgen.data.dataset import Dataset
from smidgen.files import write_atomically
from smidgen.network.layers import AvgPool, MaxPool, Residual
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.augmentation import Rotation, Translation
from smidgen.recipes.catalogue import get_recipe
from smidgen.recipes.frontier import tower, two_pools
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunStore
from smidgen.training.run import TrainOptions, train

RESULTS = Path(__file__).parent.parent / "docs" / "results"
NUM_HELD_OUT = 15_000


def pooled(network: Network, *pools: type[MaxPool] | type[AvgPool]) -> Network:
    """Return the network with its 2x2 pools replaced, from the first on."""
    left = list(pools)
    layers = (left.pop(0)(2) if isinstance(x, MaxPool | AvgPool) else x for x in network.layers)
    return Network(tuple(layers))


def with_sum(network: Network) -> Network:
    """Return the tower with its padded convolution (10 to 10 maps) added to what goes in."""
    before, padded, after = network.layers[:7], network.layers[7:10], network.layers[10:]
    return Network((*before, Residual(padded), *after))


QUICK = get_recipe("smidgen/quick")
T25 = max_tower((8, 8), (16, 15, 16, 16))
ONE_EARLY, TWO_EARLY = max_tower((8,), (13, 12, 13, 13)), max_tower((6, 6), (11, 11, 11, 10))
FIVE, SEVEN = two_pools(5, (), (8,), (8,)), two_pools(5, (), (8, 8), (10,))
BRIEF = {**FAST, "epochs": 20, "clean_epochs": 2}
SLIGHT = (Rotation(3.0), Translation(0.5))
AT_15K = {"epochs": 30, "lr": 0.06, "clean_epochs": 3, "transforms": MILD}
AT_2K = {"epochs": 15, "lr": 0.03, "clean_epochs": 2, "transforms": STRONG}
AT_5K = {**AT_2K, "clean_epochs": 1, "transforms": BENT}


def _quick(first: type, second: type, slopes: bool = False, epochs: int = 7) -> Recipe:
    network = pooled(QUICK.network, first, second)
    return QUICK.replace(network=sloped(network) if slopes else network, epochs=epochs)


FORMS: dict[str, dict[str, Recipe]] = {
    "500": {
        "tower": of(max_tower((5,), (6, 6, 6)), **BRIEF),
        "two pools, max and max": of(pooled(FIVE, MaxPool, MaxPool), **BRIEF),
        "two pools, max and mean": of(pooled(FIVE, MaxPool, AvgPool), **BRIEF),
        "two pools, mean and mean": of(FIVE, **BRIEF),
        "the same, 60 epochs": of(FIVE, 60, 0.08, 12, MILD),
        "the same, changed less": of(FIVE, 60, 0.08, 12, LIGHT),
        "the same, changed least": of(FIVE, 60, 0.08, 12, SLIGHT),
        "the same, not changed": of(FIVE, 60, 0.08, 60),
    },
    "700": {
        "tower": of(max_tower((6,), (7, 7, 7, 6)), **BRIEF),
        "two pools, max and max": of(pooled(SEVEN, MaxPool, MaxPool), **BRIEF),
        "two pools, mean and mean": of(SEVEN, **BRIEF),
    },
    "1k": {
        "tower, max": of(T1, **BRIEF),
        "tower, mean": of(pooled(T1, AvgPool), **BRIEF),
        "two pools, mean and mean": of(two_pools(6, (), (11, 11), (13,)), **BRIEF),
        "two pools, separable before": of(two_pools(5, (8,), (10, 10), (11,)), **BRIEF),
        "tower, max, a sum": of(with_sum(max_tower((6,), (10, 10, 9, 9))), **BRIEF),
        "tower, max, two padded": of(max_tower((6,), (10, 9, 10, 9), num_padded=2), **BRIEF),
        "tower, max, 40 epochs": of(T1, 40, 0.08, 5, MILD),
        "tower, max, 120 epochs": of(T1, 120, 0.08, 8, MILD),
        "tower, mean, 120 epochs": of(pooled(T1, AvgPool), 120, 0.08, 8, MILD),
        "tower, mean, 200 epochs": of(pooled(T1, AvgPool), 200, 0.08, 12, MILD),
    },
    "1.5k": {
        "one early, max": of(ONE_EARLY, **AT_15K),
        "one early, mean": of(pooled(ONE_EARLY, AvgPool), **AT_15K),
        "two early, max": of(TWO_EARLY, **AT_15K),
    },
    "2k-15": {
        "two early, max": of(T2, **AT_2K),
        "two early, mean": of(pooled(T2, AvgPool), **AT_2K),
        "one early, mean": of(tower(8, (16, 16, 17, 16)), **AT_2K),
    },
    "2.5k-15": {
        "two early, max": of(T25, **AT_2K),
        "two early, mean": of(pooled(T25, AvgPool), **AT_2K),
        "one early, mean": of(tower(8, (20, 19, 19, 19)), **AT_2K),
    },
    "3k": {
        "two early, max": of(T3, **AT_2K),
        "two early, mean": of(pooled(T3, AvgPool), **AT_2K),
        "one early of 8, mean": of(tower(8, (22, 22, 22, 21)), **AT_2K),
        "one early of 10, mean": of(tower(10, (22, 21, 21, 21)), **AT_2K),
    },
    "5k": {
        "two early, max": of(T5, **AT_5K),
        "two early, mean": of(pooled(T5, AvgPool), **AT_5K),
        "one early of 10, mean": of(tower(10, (31, 31, 30, 30)), **AT_5K),
        "one early of 12, mean": of(tower(12, (30, 30, 30, 30)), **AT_5K),
    },
    "10k": {
        "two early, max": of(leaky(T10), **AT_5K),
        "two early, mean": of(pooled(leaky(T10), AvgPool), **AT_5K),
        "one early of 14, mean": of(leaky(tower(14, (48, 47, 47, 47))), **AT_5K),
    },
    "quick": {
        "max and max": _quick(MaxPool, MaxPool),
        "mean and max": _quick(AvgPool, MaxPool),
        "max and mean": _quick(MaxPool, AvgPool),
        "mean and mean": _quick(AvgPool, AvgPool),
        "max and mean, PReLU, 5 epochs": _quick(MaxPool, AvgPool, True, 5),
        "max and mean, PReLU, 6 epochs": _quick(MaxPool, AvgPool, True, 6),
    },
}
SEEDS = {"quick": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", help="all by default")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    for size in options.sizes or FORMS:
        rows = _measured(size)
        num_seeds = SEEDS.get(size, 3)
        jobs = [
            (size, form, seed, options.data_dir)
            for form in FORMS[size]
            for seed in range(1, num_seeds + 1)
            if form not in rows
        ]
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            runs = list(pool.map(_one, jobs))
        for form in FORMS[size]:
            if form not in rows:
                rows[form] = _row(size, form, runs)
        _write(size, [rows[form] for form in FORMS[size]])


def _measured(size: str) -> dict[str, dict]:
    """Return the rows that are there already, by form."""
    rows = {row["form"]: row for row in _read() if row["size"] == size}
    return {
        form: rows[form]
        for form, recipe in FORMS[size].items()
        if form in rows and rows[form]["fingerprint"] == recipe.fingerprint()
    }


def _read() -> list[dict]:
    path = RESULTS / "forms.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def _one(job: tuple[str, str, int, Path | None]) -> dict:
    size, form, seed, data_dir = job
    dataset = _held_out(load_dataset("mnist", data_dir))
    with tempfile.TemporaryDirectory() as folder:
        options = TrainOptions("final", threads=1)
        run = train(FORMS[size][form], dataset, RunStore(Path(folder)), seed, options)
    last = run.record.epochs[-1]
    return {
        "form": form,
        "accuracy": 100 * last.eval_accuracy,
        "loss": last.eval_loss,
        "train_loss": last.train_loss,
    }


def _held_out(dataset: Dataset) -> Dataset:
    """Return the data set with part of its training images in place of the test images."""
    order = np.random.default_rng(123).permutation(len(dataset.train))
    held_out, kept = order[:NUM_HELD_OUT], order[NUM_HELD_OUT:]

    def part(which: np.ndarray):
        images, labels = dataset.train.images[which], dataset.train.labels[which]
        return replace(dataset.train, images=images, labels=labels)

    return replace(dataset, train=part(kept), test=part(held_out))


def _row(size: str, form: str, runs: list[dict]) -> dict:
    own = [run for run in runs if run["form"] == form]
    recipe = FORMS[size][form]
    totals = trace(recipe.network).totals
    row = {"size": size, "form": form, "n": len(own), "epochs": recipe.epochs}
    row["fingerprint"] = recipe.fingerprint()
    row.update(num_params=totals.num_params, num_macs=totals.num_macs)
    for name in ("loss", "train_loss", "accuracy"):
        row[f"mean_{name}"] = round(mean(run[name] for run in own), 5)
        row[f"{name}_error"] = round(stdev(run[name] for run in own) / len(own) ** 0.5, 5)
    print(row, flush=True)
    return row


def _write(size: str, rows: list[dict]) -> None:
    path = RESULTS / "forms.json"
    rows = [row for row in _read() if row["size"] != size] + rows
    rows.sort(key=lambda row: list(FORMS).index(row["size"]))
    split = "15,000 of the training images, trained on the other 45,000, last epoch"
    content = {"command": "python benchmarks/forms.py", "split": split, "rows": rows}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(RESULTS / "forms.md", _markdown(rows).encode())


def _markdown(rows: list[dict]) -> str:
    lines = [
        "# Forms of small networks",
        "",
        "`python benchmarks/forms.py`: forms of one size, all trained alike on 45,000 of the",
        "training images and measured on the other 15,000 after the last epoch; the test set is",
        "never opened. Means over n random seeds with their standard errors. *Mean* and *max*:",
        "what a pool takes. *Changed*: how far augmentation turns, scales and shifts the images.",
        "",
        "| size | form | parameters | MACs | epochs | n | training loss | loss held out |"
        " accuracy held out |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['size']} | {row['form']} | {row['num_params']:,} | {row['num_macs']:,}"
            f" | {row['epochs']} | {row['n']} | {row['mean_train_loss']:.4f}"
            f" | {row['mean_loss']:.4f} ± {row['loss_error']:.4f}"
            f" | {row['mean_accuracy']:.2f} ± {row['accuracy_error']:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""Forms of small networks, compared on 15,000 images held out of the training set.

    python benchmarks/forms.py [--data-dir DIR] [--workers 2] [SIZE ...]

Three times the images of `valid` tell small differences apart earlier. All forms of a size are
trained alike, on the other 45,000, with the same random seeds; the test set is never opened.
Results: `docs/results/forms.{json,md}`, written after every size.
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
from choose_frontier import FAST, MILD, STRONG, T1, T2, of, sloped

from smidgen.data import load_dataset
from smidgen.data.dataset import Dataset
from smidgen.files import write_atomically
from smidgen.network.blocks import Residual
from smidgen.network.layers import AvgPool, MaxPool
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import get_recipe
from smidgen.recipes.frontier import tower, two_pools
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunStore
from smidgen.training.loop import TrainOptions, train

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
ONE_EARLY, TWO_EARLY = tower((8,), (13, 12, 13, 13)), tower((6, 6), (11, 11, 11, 10))
FIVE, SEVEN = two_pools(5, (8,), (8,)), two_pools(5, (8, 8), (10,))
BRIEF = {**FAST, "epochs": 20, "clean_epochs": 2}
AT_15K = {"epochs": 30, "lr": 0.06, "clean_epochs": 3, "transforms": MILD}
AT_2K = {"epochs": 15, "lr": 0.03, "clean_epochs": 2, "transforms": STRONG}


def _quick(first: type, second: type, slopes: bool = False, epochs: int = 7) -> Recipe:
    network = pooled(QUICK.network, first, second)
    return QUICK.replace(network=sloped(network) if slopes else network, epochs=epochs)


FORMS: dict[str, dict[str, Recipe]] = {
    "500": {
        "tower": of(tower((5,), (6, 6, 6)), **BRIEF),
        "two pools, max and max": of(pooled(FIVE, MaxPool, MaxPool), **BRIEF),
        "two pools, max and mean": of(pooled(FIVE, MaxPool, AvgPool), **BRIEF),
        "two pools, mean and mean": of(FIVE, **BRIEF),
    },
    "700": {
        "tower": of(tower((6,), (7, 7, 7, 6)), **BRIEF),
        "two pools, max and max": of(pooled(SEVEN, MaxPool, MaxPool), **BRIEF),
        "two pools, mean and mean": of(SEVEN, **BRIEF),
    },
    "1k": {
        "tower, max": of(T1, **BRIEF),
        "tower, mean": of(pooled(T1, AvgPool), **BRIEF),
        "two pools, mean and mean": of(two_pools(6, (11, 11), (13,)), **BRIEF),
        "tower, max, a sum": of(with_sum(tower((6,), (10, 10, 9, 9))), **BRIEF),
        "tower, max, two padded": of(tower((6,), (10, 9, 10, 9), num_padded=2), **BRIEF),
        "tower, max, 40 epochs": of(T1, 40, 0.08, 5, MILD),
        "tower, max, 120 epochs": of(T1, 120, 0.08, 8, MILD),
    },
    "1.5k": {
        "one early, max": of(ONE_EARLY, **AT_15K),
        "one early, mean": of(pooled(ONE_EARLY, AvgPool), **AT_15K),
        "two early, max": of(TWO_EARLY, **AT_15K),
    },
    "2k-15": {
        "two early, max": of(T2, **AT_2K),
        "two early, mean": of(pooled(T2, AvgPool), **AT_2K),
        "one early, mean": of(tower((8,), (16, 16, 17, 16), averages=True), **AT_2K),
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
        jobs = [
            (size, form, seed, options.data_dir)
            for form in FORMS[size]
            for seed in range(1, SEEDS.get(size, 3) + 1)
        ]
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            runs = list(pool.map(_one, jobs))
        _write(size, [_row(size, form, runs) for form in FORMS[size]])


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
    row.update(num_params=totals.num_params, num_macs=totals.num_macs)
    for name in ("loss", "train_loss", "accuracy"):
        row[f"mean_{name}"] = round(mean(run[name] for run in own), 5)
        row[f"{name}_error"] = round(stdev(run[name] for run in own) / len(own) ** 0.5, 5)
    print(row, flush=True)
    return row


def _write(size: str, rows: list[dict]) -> None:
    path = RESULTS / "forms.json"
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [row for row in old if row["size"] != size] + rows
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
        "what a pool takes.",
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

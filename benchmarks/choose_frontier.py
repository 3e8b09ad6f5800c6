"""How the frontier's recipes were chosen: candidates of each size on `valid`.

    python benchmarks/choose_frontier.py [--data-dir DIR] [--runs-dir DIR] [--seeds 2] [SIZE ...]

Every candidate is trained under the `tune` protocol (55,000 images, measured on the 5,000 of
`valid` after the last epoch; the test set is never opened) with random seeds 1 to n. The loss
is what chooses: on 5,000 images it separates candidates earlier than 20 to 60 errors do. Runs
in the store are not trained again.
Results: `docs/results/frontier_choice.{json,md}`.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

from smidgen.data import load_dataset
from smidgen.files import write_atomically
from smidgen.network.layers import Dense, Flatten, GlobalAvgPool, LeakyReLU, PReLU
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.augmentation import (
    Augmentation,
    Elastic,
    Rotation,
    Scaling,
    Shear,
    Translation,
)
from smidgen.recipes.frontier import tower
from smidgen.recipes.parts import AdamW, Linear, WeightAveraging
from smidgen.recipes.recipe import Recipe
from smidgen.recipes.shared import MNIST_NORMALIZATION
from smidgen.runs.store import RunStore
from smidgen.training.loop import TrainOptions, train

RESULTS = Path(__file__).parent.parent / "docs" / "results"
MILD = (Rotation(8.0), Scaling(0.9, 1.1), Translation(2.0))
STRONG = (Rotation(10.0), Scaling(0.85, 1.15), Translation(2.5))
BENT = (*STRONG, Elastic(0.5))
HEAD_LAYERS = 6  # of a tower: its last convolution, norm, activation, and three without weights


def leaky(network: Network, slope: float = 0.1) -> Network:
    """Return the network with a fixed slope in place of every PReLU."""
    layers = (LeakyReLU(slope) if isinstance(x, PReLU) else x for x in network.layers)
    return Network(tuple(layers))


def with_dense(network: Network) -> Network:
    """Return the tower with a dense layer in place of its last convolution."""
    head = (GlobalAvgPool(), Flatten(), Dense(10))
    return Network((*network.layers[:-HEAD_LAYERS], *head))


def of(
    network: Network,
    epochs: int = 15,
    lr: float = 0.03,
    clean_epochs: int = 2,
    transforms: tuple = STRONG,
    **settings: object,
) -> Recipe:
    """Return a candidate: what differs from the settings that all share."""
    weight_decay = settings.pop("weight_decay", 1e-4)
    shared = {
        "schedule": Linear(warmup_fraction=0.2),
        "normalization": MNIST_NORMALIZATION,
        "augmentation": Augmentation(transforms),
        "optimizer": AdamW(lr=lr, beta2=0.99, weight_decay=weight_decay),
        "batch_size": 256,
    }
    return Recipe(
        name="candidate",
        network=network,
        epochs=epochs,
        clean_epochs=clean_epochs,
        **{**shared, **settings},
    )


T1, T3 = tower((6,), (10, 9, 10, 9)), tower((8, 8), (18, 18, 18, 20))
SMALL = {"epochs": 40, "lr": 0.04, "clean_epochs": 5, "transforms": MILD}
CANDIDATES: dict[str, dict[str, Recipe]] = {
    "1k": {
        "leaky 0.1": of(leaky(tower((6,), (10, 10, 10, 10))), **SMALL),
        "PReLU": of(T1, **SMALL),
        "PReLU, two early": of(tower((4, 5), (9, 9, 9, 9)), **SMALL),
        "PReLU, one deeper": of(tower((5,), (8, 8, 8, 8, 9), 2), **SMALL),
        "PReLU, dense head": of(with_dense(tower((5,), (9, 8, 9, 9, 9))), **SMALL),
        "PReLU, average of weights": of(T1, **SMALL, averaging=WeightAveraging(0.995)),
        "PReLU, lr 0.08": of(T1, **{**SMALL, "lr": 0.08}),
        "PReLU, lr 0.15": of(T1, **{**SMALL, "lr": 0.15}),
        "PReLU, lr 0.08, stronger": of(T1, 40, 0.08, 3),
    },
    "2.5k-15": {
        "leaky 0.1": of(leaky(tower((8, 8), (16, 16, 16, 16)))),
        "PReLU": of(tower((8, 8), (16, 15, 16, 16))),
    },
    "3k": {
        "leaky 0.1": of(leaky(T3)),
        "leaky 0.1, shear 10": of(leaky(T3), transforms=(*STRONG, Shear(10.0))),
        "leaky 0.1, elastic 0.5": of(leaky(T3), transforms=BENT),
        "leaky 0.1, elastic 1": of(leaky(T3), transforms=(*STRONG, Elastic(1.0))),
        "leaky 0.1, batch 128, lr 0.02": of(leaky(T3), lr=0.02, batch_size=128),
        "leaky 0.1, lr 0.05": of(leaky(T3), lr=0.05),
        "leaky 0.1, one clean": of(leaky(T3), clean_epochs=1),
        "leaky 0.1, three clean": of(leaky(T3), clean_epochs=3),
        "leaky 0.1, weight decay 0.01": of(leaky(T3), weight_decay=0.01),
        "leaky 0.25": of(leaky(T3, 0.25)),
        "leaky 0.25, elastic, decay": of(leaky(T3, 0.25), transforms=BENT, weight_decay=0.01),
        "PReLU": of(T3),
        "PReLU, elastic, decay": of(T3, transforms=BENT, weight_decay=0.01),
        "PReLU, lr 0.06": of(T3, lr=0.06),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", help="all by default")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    for size in options.sizes or CANDIDATES:
        jobs = [
            (size, name, seed, options.data_dir, options.runs_dir)
            for name in CANDIDATES[size]
            for seed in range(1, options.seeds + 1)
        ]
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            runs = list(pool.map(_one, jobs))
        _write(size, [_row(name, runs) for name in CANDIDATES[size]])


def _one(job: tuple[str, str, int, Path | None, Path]) -> dict:
    size, name, seed, data_dir, runs_dir = job
    dataset = load_dataset("mnist", data_dir)
    recipe = CANDIDATES[size][name]
    run = train(recipe, dataset, RunStore(runs_dir), seed, TrainOptions("tune", threads=1))
    last = run.record.epochs[-1]
    return {
        "candidate": name,
        "accuracy": 100 * last.eval_accuracy,
        "loss": last.eval_loss,
        "train_loss": last.train_loss,
    }


def _row(name: str, runs: list[dict]) -> dict:
    own = [run for run in runs if run["candidate"] == name]
    losses = [run["loss"] for run in own]
    return {
        "candidate": name,
        "n": len(own),
        "mean_loss": round(mean(losses), 5),
        "standard_error": round(stdev(losses) / len(own) ** 0.5, 5) if len(own) > 1 else None,
        "mean_train_loss": round(mean(run["train_loss"] for run in own), 5),
        "mean_accuracy": round(mean(run["accuracy"] for run in own), 3),
    }


def _write(size: str, rows: list[dict]) -> None:
    for row in rows:
        recipe = CANDIDATES[size][row["candidate"]]
        totals = trace(recipe.network).totals
        row.update(size=size, epochs=recipe.epochs, fingerprint=recipe.fingerprint())
        row.update(num_params=totals.num_params, num_macs=totals.num_macs)
        print(row, flush=True)
    path = RESULTS / "frontier_choice.json"
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [row for row in old if row["size"] != size] + rows
    rows.sort(key=lambda row: list(CANDIDATES).index(row["size"]))
    command = "python benchmarks/choose_frontier.py"
    content = {"command": command, "split": "valid, 5,000 images, last epoch", "rows": rows}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(RESULTS / "frontier_choice.md", _markdown(rows).encode())


def _markdown(rows: list[dict]) -> str:
    lines = [
        "# How the frontier's recipes were chosen",
        "",
        "`python benchmarks/choose_frontier.py`: every candidate of a size with the same random",
        "seeds under the `tune` protocol (trained on 55,000 images, measured on the 5,000 of",
        "`valid` after the last epoch; the test set is never opened). Loss: mean cross-entropy,",
        "with the standard error over seeds. Two seeds rank coarse differences only.",
        "",
        "| size | candidate | parameters | MACs | epochs | n | valid loss | training loss |"
        " mean valid |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        error = f" ± {row['standard_error']:.4f}" if row["standard_error"] is not None else ""
        lines.append(
            f"| {row['size']} | {row['candidate']} | {row['num_params']:,} | {row['num_macs']:,}"
            f" | {row['epochs']} | {row['n']} | {row['mean_loss']:.4f}{error}"
            f" | {row['mean_train_loss']:.4f} | {row['mean_accuracy']:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

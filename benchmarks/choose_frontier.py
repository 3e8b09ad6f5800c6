"""How the frontier's recipes were chosen: candidates of each size on `valid`.

    python benchmarks/choose_frontier.py [--data-dir DIR] [--runs-dir DIR] [--seeds 2] [SIZE ...]

Every candidate is trained under the `tune` protocol (55,000 images, measured on the 5,000 of
`valid` after the last epoch; the test set is never opened) with random seeds 1 to n. The loss
is what chooses: on 5,000 images it separates candidates earlier than 20 to 60 errors do. Runs
in the store are not trained again.
Results: `docs/results/frontier_choice.{json,md}`.
"""

import argparse
import dataclasses
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

from choose_quick import TWO_POOLS

from smidgen.data import load_dataset
from smidgen.files import write_atomically
from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    LeakyReLU,
    MaxPool,
    Multiply,
    PReLU,
    ReLU,
    Repeat,
    SeparableConv,
)
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
from smidgen.training.run import TrainOptions, train

RESULTS = Path(__file__).parent.parent / "docs" / "results"
MILD = (Rotation(8.0), Scaling(0.9, 1.1), Translation(2.0))
STRONG = (Rotation(10.0), Scaling(0.85, 1.15), Translation(2.5))
BENT = (*STRONG, Elastic(0.5))
NUM_EARLY_LAYERS = 4  # of a tower: its first convolution, norm, activation and pool
NUM_HEAD_LAYERS = 6  # of a tower: its last convolution, norm, activation, and three without weights


def max_tower(stem: tuple[int, ...], body: tuple[int, ...], num_padded: int = 1) -> Network:
    """Return a tower as all were then: several early convolutions, a pool that keeps the largest.

    Args:
        stem: Output channels of the full convolutions.
        body: As for `tower`.
        num_padded: How many of the body, from the second on, are padded by one pixel.
    """
    layers: list = []
    for width in stem:
        layers += [Conv(width, 3), BatchNorm(scale=False), PReLU()]
    late = list(tower(1, body).layers[NUM_EARLY_LAYERS:])
    for position in range(len(body)):
        padding = int(1 <= position <= num_padded)
        late[3 * position] = dataclasses.replace(late[3 * position], padding=padding)
    return Network((*layers, MaxPool(2), *late))


def leaky(network: Network, slope: float = 0.1) -> Network:
    """Return the network with a fixed slope in place of every PReLU."""
    layers = (LeakyReLU(slope) if isinstance(x, PReLU) else x for x in network.layers)
    return Network(tuple(layers))


def sloped(network: Network) -> Network:
    """Return the network with a PReLU in place of every ReLU."""
    return Network(tuple(PReLU() if isinstance(x, ReLU) else x for x in network.layers))


def with_dense(network: Network) -> Network:
    """Return the tower with a dense layer in place of its last convolution."""
    head = (GlobalAvgPool(), Flatten(), Dense(10))
    return Network((*network.layers[:-NUM_HEAD_LAYERS], *head))


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


def shared(stem: int, width: int, times: int) -> Network:
    """Return a tower of one early convolution whose body is one block, applied several times."""
    one = max_tower((stem,), (width,), 0).layers
    block = one[NUM_EARLY_LAYERS:-NUM_HEAD_LAYERS]
    padded = (dataclasses.replace(block[0], padding=1), *block[1:])
    return Network((*one[:-NUM_HEAD_LAYERS], Repeat(padded, times), *one[-NUM_HEAD_LAYERS:]))


def chain(*parts: object, head: str = "separable", factor: float = 10.0) -> Network:
    """Return a network of one path, for sizes at which every parameter is argued about.

    Args:
        parts: A width is a 3x3 convolution (separable after the first); `(width, "padded")` the
            same with padding; `(width, "rank 1")` has depthwise kernels of 3x1 and 1x3; "max" and
            "average" pool.
        head: "separable" or "point" convolutions to ten maps, or a "dense" layer.
        factor: What the scores are multiplied by; the head's norm learns no scale.
    """
    layers: list = []
    for part in parts:
        if part in ("max", "average"):
            layers.append(MaxPool(2) if part == "max" else AvgPool(2))
            continue
        width, how = part if isinstance(part, tuple) else (part, "")
        if not layers:
            layers.append(Conv(width, 3))
        elif how == "rank 1":
            before = next(x.out_channels for x in reversed(layers) if hasattr(x, "out_channels"))
            layers += [Conv(before, (3, 1), groups=before), Conv(before, (1, 3), groups=before)]
            layers.append(Conv(width, 1))
        else:
            layers.append(SeparableConv(width, 3, padding=int(how == "padded"), bias=False))
        layers += [BatchNorm(scale=False), PReLU()]
    if head == "dense":
        return Network((*layers, GlobalAvgPool(), Flatten(), Dense(10)))
    layers.append(Conv(10, 1) if head == "point" else SeparableConv(10, 3, bias=False))
    layers += [BatchNorm(scale=False), LeakyReLU(0.1)]
    return Network((*layers, GlobalAvgPool(), Flatten(), Multiply(factor)))


T1, T3 = max_tower((6,), (10, 9, 10, 9)), max_tower((8, 8), (18, 18, 18, 20))
T5, T10 = max_tower((10, 10), (27, 26, 27, 27)), max_tower((12, 12), (43, 42, 42, 42))
T2 = max_tower((7, 7), (14, 13, 14, 13))
SMALL = {"epochs": 40, "lr": 0.04, "clean_epochs": 5, "transforms": MILD}
FAST = {**SMALL, "lr": 0.08, "clean_epochs": 3}
LIGHT = (Rotation(5.0), Scaling(0.95, 1.05), Translation(1.0))
SLOW = {**SMALL, "epochs": 60, "clean_epochs": 8}
LATE = (5, "max", 6, 6, "max", (7, "padded"))
RANK_1 = ((6, "rank 1"), (7, "rank 1"), (7, "rank 1"))
CANDIDATES: dict[str, dict[str, Recipe]] = {
    "500": {
        "PReLU, four": of(max_tower((5,), (5, 5, 5, 5)), **{**FAST, "epochs": 80}),
        "PReLU, three": of(max_tower((5,), (6, 6, 6)), **{**FAST, "epochs": 80}),
        "leaky 0.1, four": of(leaky(max_tower((5,), (5, 5, 6, 5))), **{**FAST, "epochs": 80}),
        "leaky 0.1, three": of(leaky(max_tower((6,), (6, 6, 6))), **{**FAST, "epochs": 80}),
        "PReLU, three, 40 epochs": of(max_tower((5,), (6, 6, 6)), **FAST),
        "no scale in the head": of(chain(5, "max", 6, 7, 6, factor=4.0), **FAST),
        "no scale, lr 0.04": of(chain(5, "max", 6, 7, 6, factor=4.0), **{**FAST, "lr": 0.04}),
        "no scale, times 10": of(chain(5, "max", 6, 7, 6), **FAST),
        "two pools, times 4": of(chain(6, "max", 8, "max", 8, factor=4.0), **FAST),
        "two pools": of(chain(6, "max", 8, "max", 8), **FAST),
        "late pool, times 4": of(chain(*LATE, factor=4.0), **FAST),
        "late pool": of(chain(*LATE), **FAST),
        "late pool, 60 epochs, lr 0.04": of(chain(*LATE), **SLOW),
        "late pool, leaky 0.1, wider": of(leaky(chain(6, "max", 6, 7, *LATE[-2:])), **SLOW),
        "average pool": of(chain(6, "average", 6, 6, 6, factor=4.0), **FAST),
        "rank 1, times 4": of(chain(6, "max", *RANK_1, factor=4.0), **FAST),
        "rank 1": of(chain(6, "max", *RANK_1), **FAST),
        "point head": of(chain(5, "max", 7, 7, 7, head="point", factor=4.0), **FAST),
        "dense head": of(chain(6, "max", 7, 7, 7, head="dense"), **FAST),
        "dense head, two pools": of(
            chain(6, "max", 7, "max", (7, "padded"), (7, "padded"), head="dense"), **FAST
        ),
        "leaky 0.1, growing, 60 epochs": of(leaky(chain(5, "max", 6, 6, 8)), **SLOW),
        "PReLU, growing, 60 epochs": of(chain(5, "max", 6, 6, 7), **SLOW),
    },
    "1k": {
        "leaky 0.1": of(leaky(max_tower((6,), (10, 10, 10, 10))), **SMALL),
        "PReLU": of(T1, **SMALL),
        "PReLU, two early": of(max_tower((4, 5), (9, 9, 9, 9)), **SMALL),
        "PReLU, one deeper": of(max_tower((5,), (8, 8, 8, 8, 9), 2), **SMALL),
        "PReLU, dense head": of(with_dense(max_tower((5,), (9, 8, 9, 9, 9))), **SMALL),
        "PReLU, average of weights": of(T1, **SMALL, averaging=WeightAveraging(0.995)),
        "PReLU, lr 0.08": of(T1, **{**SMALL, "lr": 0.08}),
        "PReLU, lr 0.15": of(T1, **{**SMALL, "lr": 0.15}),
        "PReLU, lr 0.08, stronger": of(T1, 40, 0.08, 3),
        "PReLU, lr 0.08, three clean": of(T1, **FAST),
        "PReLU, lr 0.08, average": of(T1, **FAST, averaging=WeightAveraging(0.995)),
        "shared, 15 x 3": of(shared(6, 15, 3), **FAST),
        "shared, 16 x 2": of(shared(6, 16, 2), **FAST),
        "shared, stem 8, 14 x 3": of(shared(8, 14, 3), **FAST),
        "batch 128, lr 0.04": of(T1, **{**FAST, "lr": 0.04}, batch_size=128),
        "batch 512, lr 0.08": of(T1, **FAST, batch_size=512),
        "batch 512, lr 0.12": of(T1, **{**FAST, "lr": 0.12}, batch_size=512),
        "batch 1024, lr 0.12": of(T1, **{**FAST, "lr": 0.12}, batch_size=1024),
        "lighter augmentation": of(T1, **{**FAST, "transforms": LIGHT}),
        "weight decay 0.01": of(T1, **FAST, weight_decay=0.01),
        "80 epochs, lr 0.05": of(T1, **{**FAST, "epochs": 80, "lr": 0.05}),
        "100 epochs": of(T1, **{**FAST, "epochs": 100}),
        "100 epochs, stronger": of(T1, 100, 0.08, 3),
    },
    "2.5k-15": {
        "leaky 0.1": of(leaky(max_tower((8, 8), (16, 16, 16, 16)))),
        "PReLU": of(max_tower((8, 8), (16, 15, 16, 16))),
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
    "5k": {
        "PReLU": of(T5),
        "PReLU, elastic, one clean": of(T5, transforms=BENT, clean_epochs=1),
    },
    "10k": {
        "leaky 0.1": of(leaky(max_tower((12, 12), (42, 42, 42, 42)))),
        "leaky 0.1, elastic, one clean": of(leaky(T10), transforms=BENT, clean_epochs=1),
        "PReLU": of(T10),
        "PReLU, elastic, one clean": of(T10, transforms=BENT, clean_epochs=1),
    },
    "sprint": {
        "five epochs": of(TWO_POOLS, 5, 0.02, 2, MILD, batch_size=128),
        "PReLU": of(sloped(TWO_POOLS), 5, 0.02, 2, MILD, batch_size=128),
        "PReLU, six epochs": of(sloped(TWO_POOLS), 6, 0.02, 2, MILD, batch_size=128),
        "PReLU, six epochs, lr 0.03": of(sloped(TWO_POOLS), 6, 0.03, 2, MILD, batch_size=128),
        "PReLU, lr 0.03": of(sloped(TWO_POOLS), 5, 0.03, 2, MILD, batch_size=128),
        "PReLU, lr 0.03, one clean": of(sloped(TWO_POOLS), 5, 0.03, 1, MILD, batch_size=128),
        "PReLU, four epochs": of(sloped(TWO_POOLS), 4, 0.03, 1, MILD, batch_size=128),
        "PReLU, four epochs, light": of(sloped(TWO_POOLS), 4, 0.03, 1, LIGHT, batch_size=128),
        "PReLU, four epochs, two clean": of(sloped(TWO_POOLS), 4, 0.03, 2, MILD, batch_size=128),
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

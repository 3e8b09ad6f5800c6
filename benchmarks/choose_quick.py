"""How `smidgen/quick` was chosen: candidates against the 8-epoch base on `valid`, paired by seed.

    python benchmarks/choose_quick.py [--data-dir DIR] [--seeds 20] [NAME ...]

Every candidate is trained under the `tune` protocol (55,000 images; the test set is never
opened) with the same random seeds. The cheapest whose mean validation accuracy is, paired by
seed, above the base's by at least one standard error becomes the default: asking only that it
be not below would pick among candidates that these 5,000 images cannot tell apart.
Results: `docs/results/quick.{json,md}`.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

from smidgen.data import load_dataset
from smidgen.files import write_atomically
from smidgen.network.layers import (
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    ReLU,
)
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import get_recipe
from smidgen.runs.store import RunStore
from smidgen.training.run import TrainOptions, train

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def stack(*parts: Conv | MaxPool) -> Network:
    """Return convolutions (each with batch norm and ReLU) and pools, then mean and dense."""
    layers = []
    for part in parts:
        layers += [part, BatchNorm(), ReLU()] if isinstance(part, Conv) else [part]
    return Network((*layers, GlobalAvgPool(), Flatten(), Dense(10)))


BASE = get_recipe("smidgen/yardstick")
TWO_POOLS = stack(Conv(8, 4), MaxPool(2), Conv(16, 3), MaxPool(2), Conv(24, 3), Conv(20, 3))
WIDE_END = stack(Conv(8, 4), MaxPool(2), Conv(16, 3), MaxPool(2), Conv(20, 3), Conv(28, 3))
CANDIDATES = {
    "base": BASE,
    "two-pools-8": BASE.replace(network=TWO_POOLS, batch_size=128),
    "two-pools-7": BASE.replace(network=TWO_POOLS, batch_size=128, epochs=7),
    "two-pools-6": BASE.replace(network=TWO_POOLS, batch_size=128, epochs=6),
    "two-pools-5": BASE.replace(network=TWO_POOLS, batch_size=128, epochs=5),
    "wide-end-7": BASE.replace(network=WIDE_END, batch_size=128, epochs=7),
    "wide-end-6": BASE.replace(network=WIDE_END, batch_size=128, epochs=6),
    "wide-end-5": BASE.replace(network=WIDE_END, batch_size=128, epochs=5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="candidates; all by default")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    seeds = range(1, options.seeds + 1)
    for name in ["base", *(options.names or list(CANDIDATES)[1:])]:
        jobs = [(name, seed, options.data_dir, options.runs_dir) for seed in seeds]
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            done = list(pool.map(_one, jobs))
        _write(name, done)


def _one(job: tuple[str, int, Path | None, Path]) -> dict[str, float]:
    name, seed, data_dir, runs_dir = job
    recipe = CANDIDATES[name].replace(name=f"choose-{name}")
    dataset = load_dataset("mnist", data_dir)
    run = train(recipe, dataset, RunStore(runs_dir), seed, TrainOptions("tune", threads=1))
    last = run.record.epochs[-1]
    return {
        "seed": seed,
        "accuracy": 100 * last.eval_accuracy,
        "loss": last.eval_loss,
        "seconds": run.record.train_seconds,
    }


def _write(name: str, runs: list[dict[str, float]]) -> None:
    path = RESULTS / "quick.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    base = next((row["accuracies"] for row in rows if row["candidate"] == "base"), None)
    accuracies = [run["accuracy"] for run in runs]
    base = base if base and len(base) == len(accuracies) else accuracies
    differences = [ours - theirs for ours, theirs in zip(accuracies, base, strict=True)]
    totals = trace(CANDIDATES[name].network).totals
    row = {
        "candidate": name,
        "num_params": totals.num_params,
        "num_macs": totals.num_macs,
        "epochs": CANDIDATES[name].epochs,
        "n": len(runs),
        "mean": round(mean(accuracies), 3),
        "sd": round(stdev(accuracies), 3),
        "mean_loss": round(mean(run["loss"] for run in runs), 5),
        "mean_difference": round(mean(differences), 3) + 0.0,
        "standard_error": round(stdev(differences) / len(runs) ** 0.5, 3),
        "seconds": round(mean(run["seconds"] for run in runs), 2),
        "accuracies": [round(accuracy, 2) for accuracy in accuracies],
    }
    print({key: cell for key, cell in row.items() if key != "accuracies"}, flush=True)
    rows = [old for old in rows if old["candidate"] != name] + [row]
    command = "python benchmarks/choose_quick.py"
    content = {"command": command, "split": "valid, 5,000 images, last epoch", "rows": rows}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(RESULTS / "quick.md", _markdown(rows).encode())


def _markdown(rows: list[dict]) -> str:
    lines = [
        "# How `smidgen/quick` was chosen",
        "",
        "`python benchmarks/choose_quick.py`: every candidate with the same random seeds under the",
        "`tune` protocol (trained on 55,000 images, measured on the 5,000 of `valid` after the",
        "last epoch; the test set is never opened). Percent; differences are paired by seed with",
        "the 8-epoch base, with their standard error. Seconds of training, one thread, on a shared",
        "machine: a candidate's own seconds vary with what else ran, MACs x epochs do not.",
        "",
        "| candidate | parameters | MACs | epochs | MACs x epochs | n | mean valid | sd | loss |"
        " difference | seconds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        work = row["num_macs"] * row["epochs"] / 1e6
        lines.append(
            f"| {row['candidate']} | {row['num_params']:,} | {row['num_macs']:,} | {row['epochs']}"
            f" | {work:.2f}M | {row['n']} | {row['mean']:.3f} | {row['sd']:.3f}"
            f" | {row['mean_loss']:.4f} | {row['mean_difference']:+.3f} +- "
            f"{row['standard_error']:.3f} | {row['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

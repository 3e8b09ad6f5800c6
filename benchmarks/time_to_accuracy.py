"""Wall seconds from process start to trained, and what accuracy that buys.

    python benchmarks/time_to_accuracy.py [--data-dir DIR] [--seeds 20] [--threads 2]

Each seed is a fresh process (`smidgen train smidgen/quick`, then `smidgen/sprint`; data on disk).
Warm: the generated C is compiled already. Cold: an empty cache, so the compiler runs. Between
them, the ordinary way: `mnist-99-4` as its origin trains it (PIL transforms in a DataLoader with 2
workers), one epoch timed and multiplied by its 19. Writes `docs/results/time_to_accuracy.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median, stdev

import torch
from ordinary import OrdinaryTraining

from smidgen.data import load_dataset
from smidgen.engines.choose import default_threads
from smidgen.recipes.catalogue import get_recipe
from smidgen.training.run import describe_environment

RESULT = Path(__file__).parent.parent / "docs" / "results" / "time_to_accuracy.json"
RECIPES = ("smidgen/quick", "smidgen/sprint")
ORDINARY = "mnist-99-4"
COLD_RUNS = 3
ORDINARY_ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=default_threads())
    options = parser.parse_args()
    if options.data_dir is not None:
        os.environ["SMIDGEN_DATA"] = str(options.data_dir)
    for name in RECIPES:
        _one_run(name, 1, options.threads, cache=None)  # fills the compile cache
    warm: dict[str, list[dict]] = {name: [] for name in RECIPES}
    cold: dict[str, list[dict]] = {name: [] for name in RECIPES}
    ordinary = []
    ordinary_way = _ordinary_way(options.data_dir, options.threads)
    for seed in range(1, options.seeds + 1):
        for name in RECIPES:
            warm[name].append(_one_run(name, seed, options.threads, cache=None))
            if seed <= COLD_RUNS:
                with tempfile.TemporaryDirectory() as cache:
                    cold[name].append(_one_run(name, seed, options.threads, cache))
        if seed <= ORDINARY_ROUNDS:
            ordinary.append(_epoch_seconds(ordinary_way))
    seconds = get_recipe(ORDINARY).epochs * median(ordinary)
    content = {
        "command": "python benchmarks/time_to_accuracy.py",
        "threads": options.threads,
        "hardware": describe_environment("native", "cpu", options.threads).hardware,
        "recipes": [_row(name, warm[name], cold[name], seconds) for name in RECIPES],
        "ordinary_recipe": ORDINARY,
        "ordinary_epoch_seconds": round(median(ordinary), 1),
        "ordinary_seconds": round(seconds),
    }
    print(json.dumps(content, indent=1))
    RESULT.write_text(json.dumps(content, indent=1) + "\n")


def _row(name: str, warm: list[dict], cold: list[dict], ordinary_seconds: float) -> dict:
    accuracies = [100 * run["accuracy"] for run in warm]
    process = median(run["process"] for run in warm)
    return {
        "recipe": name,
        "num_params": warm[0]["num_params"],
        "epochs": warm[0]["epochs"],
        "n": len(warm),
        "mean_accuracy": round(mean(accuracies), 3),
        "sd_accuracy": round(stdev(accuracies), 3),
        "min_accuracy": round(min(accuracies), 2),
        "warm_process_seconds": round(process, 2),
        "warm_training_seconds": round(median(run["train_seconds"] for run in warm), 2),
        "cold_process_seconds": round(median(run["process"] for run in cold), 2),
        "ratio": round(ordinary_seconds / process, 1),
    }


def _one_run(name: str, seed: int, threads: int, cache: str | None) -> dict[str, float]:
    environment = os.environ | ({"SMIDGEN_CACHE": cache} if cache else {})
    command = [sys.executable, "-m", "smidgen", "train", name, "--json"]
    with tempfile.TemporaryDirectory() as runs:
        command += ["--engine", "native", "--threads", str(threads), "--seed", str(seed)]
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "--runs-dir", runs], env=environment, check=True, capture_output=True
        )
        seconds = time.perf_counter() - start
    return json.loads(done.stdout.splitlines()[-1]) | {"process": seconds}


def _ordinary_way(data_dir: Path | None, threads: int) -> OrdinaryTraining:
    torch.set_num_threads(threads)
    way = OrdinaryTraining(get_recipe(ORDINARY), load_dataset("mnist", data_dir).train)
    way.steps(5)  # starts the workers
    way.steps()  # to the end of the epoch
    return way


def _epoch_seconds(way: OrdinaryTraining) -> float:
    start = time.perf_counter()
    way.steps()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

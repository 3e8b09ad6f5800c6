"""Two threads on one model, and two models side by side, against one thread on one model.

    python benchmarks/engine_threads.py [--rounds 9]

The modes take turns and the median of the rounds counts. Wall time, so the machine must be idle.
"""

import argparse
import json
import statistics
import threading
import time
from pathlib import Path

import numpy as np

from smidgen.engines.contract import EpochPlan
from smidgen.engines.native.engine import NativeEngine
from smidgen.recipes.catalogue import RECIPES

BATCH, STEPS = 256, 60
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "engine_threads.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--recipe", default="smidgen/quick")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    single, other, double = (engine(arguments.recipe, threads) for threads in (1, 1, 2))
    seconds: dict[str, list[float]] = {"one": [], "two threads": [], "two models": []}
    for _ in range(arguments.rounds):
        seconds["one"].append(timed([single]))
        seconds["two threads"].append(timed([double]))
        seconds["two models"].append(timed([single, other]))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    gains = {
        "two threads": medians["one"] / medians["two threads"],
        "two models": 2 * medians["one"] / medians["two models"],
    }
    for name, gain in gains.items():
        print(f"{arguments.recipe}, batch {BATCH}, {name}: {gain:.2f}x one thread")
    result = {"recipe": arguments.recipe, "batch_size": BATCH, "seconds": medians, "gains": gains}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def engine(name: str, threads: int) -> NativeEngine:
    rng = np.random.default_rng(1)
    network = RECIPES[name].network
    images = rng.integers(0, 256, (BATCH * STEPS, *network.input_shape), dtype=np.uint8)
    labels = rng.integers(0, network.num_classes, len(images))
    return NativeEngine(network, RECIPES[name], images, labels, threads=threads)


def timed(engines: list[NativeEngine]) -> float:
    """Return the seconds that an epoch of all engines at once takes."""
    order = np.arange(BATCH * STEPS, dtype=np.int32)
    plan = EpochPlan(1, 0, BATCH, order, np.full(STEPS, 1e-3), np.full(STEPS, 0.9), 1)
    workers = [
        threading.Thread(target=each.train_epoch, args=(plan, lambda: False)) for each in engines
    ]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

"""Our engines against the ordinary way (PIL transforms in a DataLoader with 2 workers).

    python benchmarks/loader.py [--data-dir DIR] [--rounds 7] [--steps 60]

Same network, same batch, same threads; short stretches of each alternate in one process, and
the medians and their ratios are printed and written to `docs/results/loader.json`.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from statistics import median

import torch
from ordinary import OrdinaryTraining

from smidgen.data import Split, load_dataset
from smidgen.engines.choose import default_threads
from smidgen.engines.native.engine import NativeEngine
from smidgen.engines.torch_engine import TorchEngine
from smidgen.recipes.catalogue import get_recipe
from smidgen.training.plan import plan
from smidgen.training.run import describe_environment

RESULT = Path(__file__).parent.parent / "docs" / "results" / "loader.json"
RECIPES = ("mnist-99-4", "eva4-s5/5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60, help="batches per stretch")
    options = parser.parse_args()
    threads = default_threads()
    torch.set_num_threads(threads)
    train = load_dataset("mnist", options.data_dir).train
    rows = [measure(name, train, options.rounds, options.steps, threads) for name in RECIPES]
    for row in rows:
        print(
            f"{row['recipe']:12}  ordinary {row['ordinary']:7,.0f} images/s   "
            f"torch engine {row['torch']:7,.0f}, {row['torch_ratio']:.2f}x   "
            f"native engine {row['native']:7,.0f}, {row['native_ratio']:.2f}x"
        )
    environment = describe_environment("torch", "cpu", threads)
    content = {
        "command": "python benchmarks/loader.py",
        "threads": threads,
        "workers_of_the_ordinary_way": 2,
        "rounds": options.rounds,
        "hardware": environment.hardware,
        "versions": environment.versions | {"system": platform.platform()},
        "rows": rows,
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")


def measure(name: str, train: Split, rounds: int, steps: int, threads: int) -> dict[str, object]:
    """Alternate stretches of all and return median images per second and the ratios."""
    recipe = get_recipe(name)
    ordinary = OrdinaryTraining(recipe, train)
    count = steps * recipe.batch_size
    images, labels = train.images[:count], train.labels[:count]
    engines = {
        "torch": TorchEngine(recipe.network, recipe, images, labels),
        "native": NativeEngine(recipe.network, recipe, images, labels, threads=threads),
    }
    ordinary.steps(10)
    speeds: dict[str, list[float]] = {"ordinary": [], "torch": [], "native": []}
    for number in range(rounds):
        start = time.perf_counter()
        seen = ordinary.steps(steps)
        speeds["ordinary"].append(seen / (time.perf_counter() - start))
        for kind, engine in engines.items():
            start = time.perf_counter()
            stats = engine.train_epoch(plan(recipe, 1, number + 1, [], count), lambda: False)
            speeds[kind].append(stats.num_images / (time.perf_counter() - start))
    row: dict[str, object] = {"recipe": name, "batch_size": recipe.batch_size}
    for kind, measured in speeds.items():
        row[kind] = round(median(measured))
        pairs = zip(measured, speeds["ordinary"], strict=True)
        row[f"{kind}_ratio"] = round(median(ours / theirs for ours, theirs in pairs), 2)
    return row


if __name__ == "__main__":
    main()

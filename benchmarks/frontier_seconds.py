"""How long a run of each frontier recipe takes one core: `docs/results/frontier_seconds.json`.

    python benchmarks/frontier_seconds.py [--data-dir DIR] [--rounds 3]

One epoch with augmentation and one without are trained by the native engine on one thread, all
recipes in turn, and the medians multiplied by how many of each the recipe has. Processor seconds,
so that a busy machine changes little; compiling and measuring accuracy are not in them.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

from smidgen.data import load_dataset
from smidgen.data.dataset import Split
from smidgen.engines.choose import make_engine
from smidgen.engines.contract import Engine
from smidgen.files import write_atomically
from smidgen.recipes.frontier import RECIPES as FRONTIER
from smidgen.recipes.recipe import Recipe
from smidgen.recipes.smidgen_recipes import QUICK, SPRINT
from smidgen.training.plan import plan
from smidgen.training.run import describe_environment

RESULT = Path(__file__).parent.parent / "docs" / "results" / "frontier_seconds.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    train = load_dataset("mnist", options.data_dir).train
    recipes = (*FRONTIER, QUICK, SPRINT)
    engines = [
        make_engine("native", each, train.images, train.labels, seed=1, threads=1)
        for each in recipes
    ]
    seen: dict[str, list[tuple[float, float]]] = {each.name: [] for each in recipes}
    for _ in range(options.rounds):
        for recipe, engine in zip(recipes, engines, strict=True):
            first, last = (_seconds(engine, recipe, train, at) for at in (1, recipe.epochs))
            seen[recipe.name].append((first, last))
    seconds = {}
    for recipe in recipes:
        augmented, clean = (median(pair[at] for pair in seen[recipe.name]) for at in (0, 1))
        num_augmented = recipe.epochs - recipe.clean_epochs
        total = num_augmented * augmented + recipe.clean_epochs * clean
        seconds[recipe.name] = round(total, 2)
        print(f"{recipe.name}: {total:.1f} s", flush=True)
    content = {
        "command": "python benchmarks/frontier_seconds.py",
        "hardware": describe_environment("native", "cpu", threads=1).hardware,
        "seconds": seconds,
    }
    write_atomically(RESULT, (json.dumps(content, indent=1) + "\n").encode())


def _seconds(engine: Engine, recipe: Recipe, train: Split, epoch: int) -> float:
    start = time.process_time()
    drawn = plan(recipe, 1, epoch, [0.0] * (epoch - 1), len(train.images))
    engine.train_epoch(drawn, lambda: False)
    return time.process_time() - start


if __name__ == "__main__":
    main()

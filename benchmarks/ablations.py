"""The ablations behind `docs/findings.md`: `docs/results/ablation_NAME.md`.

    python benchmarks/ablations.py [--data-dir DIR] [--runs-dir DIR] [--workers N] NAME ...

The same as `smidgen ablate` with each table's base and variants; on `valid`, the test set is never
opened. Runs in the store are not trained again.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from choose_frontier import BENT, CANDIDATES, STRONG, leaky, shared
from forms import pooled

from smidgen.cli.ablate_command import markdown
from smidgen.data import load_dataset
from smidgen.evidence.ablation import AblateOptions, Variant, ablate
from smidgen.files import write_atomically
from smidgen.network.layers import AvgPool
from smidgen.recipes.augmentation import Augmentation, Shear
from smidgen.recipes.catalogue import get_recipe
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.parts import WeightAveraging
from smidgen.recipes.recipe import Recipe
from smidgen.recipes.smidgen_teachers import TEACHER_25K
from smidgen.runs.store import RunStore

RESULTS = Path(__file__).parent.parent / "docs" / "results"


@dataclass(frozen=True)
class Table:
    """A base, its variants by name, and how many random seeds."""

    base: Recipe
    variants: dict[str, Recipe]
    num_seeds: int


def taught(recipe: Recipe, temperature: float, weight: float) -> Recipe:
    """Return the recipe with four trained networks of 25k parameters to learn from."""
    teachers = (Teacher(TEACHER_25K, (1, 2, 3, 4)),)
    return recipe.replace(distillation=Distillation(teachers, temperature, weight, bank_epochs=10))


BASE_1K = get_recipe("smidgen/1k").replace(epochs=20, clean_epochs=2)
BASE_3K = get_recipe("smidgen/3k")
STUDENT = CANDIDATES["1k"]["leaky 0.1"].replace(name="994 parameters", epochs=30, clean_epochs=6)
SHARED = pooled(shared(6, 15, 3), AvgPool)
NUM_SEEDS = 8  # the fewest that can tell three variants from their base
TABLES = {
    "activation": Table(
        BASE_3K,
        {
            f"fixed slope {slope}": BASE_3K.replace(network=leaky(BASE_3K.network, slope))
            for slope in (0.1, 0.25)
        },
        NUM_SEEDS,
    ),
    "augmentation": Table(
        BASE_3K,
        {
            "with shear 10": BASE_3K.replace(augmentation=Augmentation((*STRONG, Shear(10.0)))),
            "with elastic 0.5": BASE_3K.replace(augmentation=Augmentation(BENT)),
        },
        NUM_SEEDS,
    ),
    "averaging": Table(
        BASE_1K,
        {
            f"decay {decay}": BASE_1K.replace(averaging=WeightAveraging(decay))
            for decay in (0.99, 0.995)
        },
        NUM_SEEDS,
    ),
    "clean": Table(
        BASE_1K,
        {f"{count} clean epochs": BASE_1K.replace(clean_epochs=count) for count in (0, 1, 6)},
        NUM_SEEDS,
    ),
    "sharing": Table(
        BASE_1K,
        {"one block of 15 maps, three times": BASE_1K.replace(network=SHARED)},
        NUM_SEEDS,
    ),
    "distillation": Table(
        STUDENT,
        {
            "T 1, weight 0.9": taught(STUDENT, 1.0, 0.9),
            "T 2, weight 0.9": taught(STUDENT, 2.0, 0.9),
        },
        num_seeds=6,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=TABLES)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    dataset, store = load_dataset("mnist", options.data_dir), RunStore(options.runs_dir)
    for name in options.names:
        table = TABLES[name]
        variants = [Variant(title, recipe) for title, recipe in table.variants.items()]
        seeds = range(1, table.num_seeds + 1)
        chosen = AblateOptions(workers=options.workers)
        found = ablate(table.base, variants, dataset, store, seeds, chosen)
        text = markdown(found, f"python benchmarks/ablations.py {name}")
        write_atomically(RESULTS / f"ablation_{name}.md", text.encode())
        print(text)


if __name__ == "__main__":
    main()

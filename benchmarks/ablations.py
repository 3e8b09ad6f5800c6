"""The ablations behind `docs/findings.md`: `docs/results/ablation_NAME.md`.

    python benchmarks/ablations.py [--data-dir DIR] [--runs-dir DIR] [--workers N] NAME ...

The same as `smidgen ablate` with each table's base and variants; on `valid`, the test set is never
opened. Runs in the store are not trained again.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from choose_frontier import BENT, CANDIDATES, STRONG, T3, leaky, shared

from smidgen.cli.ablation_page import markdown
from smidgen.data import load_dataset
from smidgen.evidence.ablate import AblateOptions, Variant, ablate
from smidgen.files import write_atomically
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


BASE_1K, BASE_3K = CANDIDATES["1k"]["PReLU, lr 0.08"], get_recipe("smidgen/3k")
LEAKY_3K = BASE_3K.replace(name="3k with a fixed slope", network=leaky(T3))
STUDENT = CANDIDATES["1k"]["leaky 0.1"].replace(name="994 parameters", epochs=30, clean_epochs=6)
TABLES = {
    "activation": Table(
        BASE_3K,
        {
            "fixed slope 0.1": BASE_3K.replace(network=leaky(T3)),
            "fixed slope 0.25": BASE_3K.replace(network=leaky(T3, 0.25)),
        },
        num_seeds=6,
    ),
    "augmentation": Table(
        LEAKY_3K,
        {
            "with shear 10": LEAKY_3K.replace(augmentation=Augmentation((*STRONG, Shear(10.0)))),
            "with elastic 0.5": LEAKY_3K.replace(augmentation=Augmentation(BENT)),
        },
        num_seeds=6,
    ),
    "averaging": Table(
        BASE_1K,
        {
            f"decay {decay}": BASE_1K.replace(averaging=WeightAveraging(decay))
            for decay in (0.99, 0.999)
        },
        num_seeds=6,
    ),
    "clean": Table(
        BASE_1K,
        {f"{count} clean epochs": BASE_1K.replace(clean_epochs=count) for count in (0, 2, 10)},
        num_seeds=6,
    ),
    "epochs": Table(
        BASE_1K,
        {
            f"{epochs} epochs, {clean} clean": BASE_1K.replace(epochs=epochs, clean_epochs=clean)
            for epochs, clean in ((20, 3), (120, 8), (200, 12))
        },
        num_seeds=6,
    ),
    "sharing": Table(
        BASE_1K,
        {"one block of 15 maps, three times": BASE_1K.replace(network=shared(6, 15, 3))},
        num_seeds=6,
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

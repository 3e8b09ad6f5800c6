"""Rewrite the fingerprints of committed results from the first canonical form to today's.

    python benchmarks/rewrite_fingerprints.py [--check]

No number changes. For each row the recipe is taken from where the row's own script takes it, its
fingerprint of the first form is found again, and only if that is the one in the file is it the
same recipe, and gets the fingerprint of today. A row that is neither ends the script before
anything is written. With `--check` nothing is written, and a row of the first form is an error.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from choose_frontier import CANDIDATES
from forms import FORMS

from smidgen.files import write_atomically
from smidgen.recipes.catalogue import get_recipe
from smidgen.recipes.recipe import Recipe
from smidgen.runs.first_form import first_fingerprint

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    texts = {}
    for path in (
        ROOT / "docs/results/proofs.json",
        ROOT / "docs/results/frontier_choice.json",
        ROOT / "docs/results/forms.json",
        ROOT / "src/smidgen/report/proven.json",
    ):
        texts[path], counts = rewritten(path)
        print(f"{path.relative_to(ROOT)}: {counts[0]} of today, {counts[1]} of the first form")
        if options.check and counts[1]:
            raise SystemExit("Run this without `--check`.")
    if not options.check:
        for path, text in texts.items():
            write_atomically(path, text.encode())


def rewritten(path: Path) -> tuple[str, tuple[int, int]]:
    """Return a file's text with today's fingerprints, and how many were today's and were not."""
    text = path.read_text()
    known = there = 0
    for label, recipe, fingerprint in recipes_of(json.loads(text)):
        if fingerprint == recipe.fingerprint():
            there += 1
        elif fingerprint == first_fingerprint(recipe):
            known += 1
            text = text.replace(fingerprint, recipe.fingerprint())
        else:
            raise SystemExit(f"{path}: {label} is another recipe than that of today.")
    return text, (there, known)


def recipes_of(content: dict | list) -> Iterator[tuple[str, Recipe, str]]:
    """Yield what a row is called, its recipe and the fingerprint in it."""
    if isinstance(content, list):
        for point in content:
            yield point["name"], get_recipe(point["name"]), point["fingerprint"]
        return
    for proof in content.get("proofs", []):
        yield proof["recipe"], get_recipe(proof["recipe"]), proof["fingerprint"]
    for row in content.get("rows", []):
        table = FORMS if "form" in row else CANDIDATES
        name = row["form"] if "form" in row else row["candidate"]
        yield f"{row['size']}, {name}", table[row["size"]][name], row["fingerprint"]


if __name__ == "__main__":
    main()

"""Prove recipes over 20 random seeds and keep the statements: `docs/results/proofs.{json,md}`.

    python benchmarks/proofs.py [--data-dir DIR] [--engine native] [--seeds 20] NAME ...

The same as `smidgen prove NAME --seeds 20 --target 99.4` for each name, one after another; runs
that are in the store are not trained again, and the files are written anew after each proof.
"""

import argparse
import json
from pathlib import Path

from published import PACKED, packed

from smidgen.data import load_dataset
from smidgen.evidence.prove import ProveOptions, prove
from smidgen.files import write_atomically
from smidgen.recipes.catalogue import RECIPES, get_recipe
from smidgen.report.page import interval_text
from smidgen.runs.store import RunStore

RESULTS = Path(__file__).parent.parent / "docs" / "results"
TARGET = 0.994


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--engine", choices=("auto", "native", "torch"), default="auto")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    dataset = load_dataset("mnist", options.data_dir)
    store = RunStore(options.runs_dir)
    chosen = ProveOptions(engine=options.engine, workers=options.workers, target=TARGET)
    for name in options.names:
        seeds = range(1, options.seeds + 1)
        proof = prove(get_recipe(name), dataset, store, seeds, chosen)
        _write(proof.to_plain())


def _write(proof: dict) -> None:
    path = RESULTS / "proofs.json"
    proofs = json.loads(path.read_text())["proofs"] if path.exists() else []
    key = (proof["recipe"], proof["engine"])
    proofs = [old for old in proofs if (old["recipe"], old["engine"]) != key] + [proof]
    # a recipe that has changed since is another recipe
    proofs = [each for each in proofs if each["fingerprint"] == _fingerprint(each["recipe"])]
    order = list(RECIPES)
    proofs.sort(key=lambda each: (order.index(each["recipe"]), each["engine"]))
    content = {"command": "python benchmarks/proofs.py NAME", "proofs": proofs}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(RESULTS / "proofs.md", _markdown(proofs).encode())
    write_atomically(PACKED, packed().encode())  # what `smidgen report frontier` shows
    print(f"{proof['recipe']} ({proof['engine']}): {proof['accuracy']}", flush=True)


def _fingerprint(name: str) -> str | None:
    return RECIPES[name].fingerprint() if name in RECIPES else None


def _markdown(proofs: list[dict]) -> str:
    lines = [
        "# What holds as a mean",
        "",
        "`python benchmarks/proofs.py NAME ...`: each recipe trained from scratch, random seeds",
        "1 to n on all 60,000 images (`final` protocol), accuracy on the 10,000 test images after",
        "the last epoch, in percent. Nothing was selected. *Interval*: 95 %, Student's t. *Stays*:",
        "the last five epochs are all at or above 99.40. *Claim*: the source's headline, one run,",
        "its best epoch on the test set (`mnist-challenge`: its last).",
        "",
        "| recipe | engine | parameters | epochs | n | mean | interval | sd | min | median | max |"
        " at 99.40 or above | and stays | claim | seconds per run |",
        "|---|---|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [_row(proof) for proof in proofs]
    return "\n".join(lines) + "\n"


def _row(proof: dict) -> str:
    accuracy, target = proof["accuracy"], proof["target"]
    interval = accuracy["interval"]
    claim = get_recipe(proof["recipe"]).about.claim
    claimed = f"{claim.best_accuracy:.2f}" if claim and claim.best_accuracy else "–"
    cells = [
        f"`{proof['recipe']}`",
        proof["engine"],
        f"{proof['num_params']:,}",
        str(proof["epochs"]),
        str(accuracy["n"]),
        f"**{100 * accuracy['mean']:.3f}**",
        interval_text(interval["low"], interval["high"]) if interval else "–",
        f"{100 * accuracy['sd']:.3f}" if accuracy["sd"] is not None else "–",
        f"{100 * accuracy['minimum']:.2f}",
        f"{100 * accuracy['median']:.2f}",
        f"{100 * accuracy['maximum']:.2f}",
        f"{target['reached']['count']} of {target['reached']['total']}",
        f"{target['stayed']['count']} of {target['stayed']['total']}",
        claimed,
        f"{proof['train_seconds']['median']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

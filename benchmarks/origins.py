"""Train every recipe of the five origins once, by the origin's own protocol, beside its claim.

    python benchmarks/origins.py [--data-dir DIR] [--engine auto] [NAME ...]

Each recipe is trained with seed 1; a recipe that is done already is not trained again. After
each one `docs/results/origins.json` and `docs/results/origins.md` are written anew.
"""

import argparse
import json
from pathlib import Path
from statistics import mean

from smidgen.data import load_dataset
from smidgen.files import write_atomically
from smidgen.recipes.catalogue import RECIPES, get_recipe
from smidgen.recipes.recipe import Claim
from smidgen.runs.record import RunRecord
from smidgen.runs.store import RunStore
from smidgen.training.events import EpochDone, Event
from smidgen.training.run import TrainOptions, train

RESULTS = Path(__file__).parent.parent / "docs" / "results"
ORIGINS = ("era-s7/", "eva4-s5/", "mnist-challenge/", "mnist-99-4", "assignment7/")
OURS = ("era-s7/as-told",)
NOTABLE_POINTS = 0.15
"""A difference of last-five means above this, in percentage points, gets a remark."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="recipes; all of the origins' by default")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--engine", choices=("auto", "native", "torch"), default="auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    names = options.names or [
        name for name in RECIPES if name.startswith(ORIGINS) and name not in OURS
    ]
    dataset = load_dataset("mnist", options.data_dir)
    store = RunStore(options.runs_dir)
    chosen = TrainOptions("origin", options.engine, threads=options.threads)
    for name in names:
        run = train(get_recipe(name), dataset, store, 1, chosen, print_epoch)
        _write(row_of(name, run.record))
        print(f"{name}: {run.record.result}", flush=True)


def print_epoch(event: Event) -> None:
    if isinstance(event, EpochDone):
        print(event.record.epoch, event.record.eval_accuracy)


def row_of(name: str, record: RunRecord) -> dict[str, object]:
    """Return what we measured and what the source logged, accuracies in percent."""
    result = record.result
    assert result is not None
    ours = [100 * epoch.eval_accuracy for epoch in record.epochs]
    claim = record.recipe.about.claim or Claim()
    seconds = [epoch.train_seconds + epoch.eval_seconds for epoch in record.epochs]
    row: dict[str, object] = {
        "recipe": name,
        "num_params": record.num_params,
        "epochs": len(record.epochs),
        "split": record.epochs[-1].split,
        "best": round(max(ours), 2),
        "best_epoch": ours.index(max(ours)) + 1,
        "last": round(ours[-1], 2),
        "mean_of_last_five": round(mean(ours[-5:]), 2),
        "test_at_end": round(100 * result.accuracy, 2),
        "selection": result.selection,
        "train_mean_of_last_five": round(
            mean(100 * epoch.train_accuracy for epoch in record.epochs[-5:]), 2
        ),
        "origin_train_mean_of_last_five": round(mean(claim.train_log[-5:]), 2)
        if claim.train_log
        else None,
        "log": [round(value, 2) for value in ours],
        "origin_best": claim.best_accuracy,
        "origin_last": claim.test_log[-1] if claim.test_log else None,
        "origin_mean_of_last_five": round(mean(claim.test_log[-5:]), 2) if claim.test_log else None,
        "origin_seconds_per_epoch": claim.seconds_per_epoch,
        "seconds_per_epoch": round(mean(seconds), 1),
        "engine": record.environment.engine,
        "threads": record.environment.threads,
        "processor": record.environment.hardware["processor"],
        "versions": record.environment.versions,
        "run": record.identity[:8],
    }
    row["remark"] = remark_on(row)
    return row


def remark_on(row: dict) -> str:
    """Say by how much our tail differs from the origin's, where it does."""
    theirs = row["origin_mean_of_last_five"]
    if theirs is None:
        return "the origin left no log to compare with"
    difference = row["mean_of_last_five"] - theirs
    if abs(difference) <= NOTABLE_POINTS:
        return ""
    training = row["train_mean_of_last_five"], row["origin_train_mean_of_last_five"]
    return (
        f"our last five epochs are {difference:+.2f} points from the origin's "
        f"(training accuracy {training[0]:.2f} against {training[1]:.2f})"
    )


def _write(row: dict[str, object]) -> None:
    path = RESULTS / "origins.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [old for old in rows if old["recipe"] != row["recipe"]] + [row]
    rows.sort(key=lambda each: list(RECIPES).index(each["recipe"]))
    content = {"command": "python benchmarks/origins.py", "seed": 1, "rows": rows}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(RESULTS / "origins.md", _markdown(rows).encode())


def _markdown(rows: list[dict]) -> str:
    lines = [
        "# The origins' recipes, trained again",
        "",
        "One run each (random seed 1) with the origin's own split, schedule and selection, by",
        "`python benchmarks/origins.py`. Accuracies in percent, on the split that the origin",
        "watched after each epoch (`mnist-challenge`: its validation part; elsewhere the test",
        "set, whose best epoch the origins report: *selected on the test set*). One run proves",
        "little; the differences below a tenth of a point are noise. *Test, selected*: of the",
        "epoch that the origin would have kept. A recipe without a row has not been trained yet.",
        "",
        "| recipe | parameters | best (epoch) | last | mean of last 5 | origin best | origin last |"
        " origin mean of last 5 | test, selected | s per epoch | origin s per epoch | engine |"
        " remark |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|",
    ]
    for row in rows:
        origin_seconds = row["origin_seconds_per_epoch"]
        cells = [
            f"`{row['recipe']}`",
            f"{row['num_params']:,}",
            f"{row['best']:.2f} ({row['best_epoch']})",
            f"{row['last']:.2f}",
            f"{row['mean_of_last_five']:.2f}",
            *(
                "–" if row[key] is None else f"{row[key]:.2f}"
                for key in ("origin_best", "origin_last", "origin_mean_of_last_five")
            ),
            f"{row['test_at_end']:.2f}",
            f"{row['seconds_per_epoch']:.1f}",
            "–" if origin_seconds is None else "-".join(f"{s:g}" for s in origin_seconds),
            f"{row['engine']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}",
            row["remark"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""Put the frontier together: `docs/results/frontier.{json,md}` and the README's table.

    python benchmarks/proofs.py smidgen/3k ...   # trains; 20 random seeds each
    python benchmarks/frontier_seconds.py        # trains two epochs of each, some times
    python benchmarks/frontier.py                # trains nothing

Takes every recipe of `smidgen/` that is proven (`proofs.json`), counts it by every rule, and adds
how many candidates of its size were looked at on held-out training images (`frontier_choice.json`,
`quick.json`, a search, and the forms behind `forms.json`), and what an earlier version reached.
"""

import json
from pathlib import Path

from smidgen.files import write_atomically
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import get_recipe
from smidgen.report.page import interval_text

ROOT = Path(__file__).parent.parent
RESULTS, README = ROOT / "docs" / "results", ROOT / "README.md"
BEGIN, END = "<!-- frontier: made by benchmarks/frontier.py -->\n", "<!-- end of frontier -->"


SEARCHED = {"smidgen/1k": 108}
"""Candidates of the search in `search_1k.md`."""
FORMS_SEEN = {
    "smidgen/500": 29,
    "smidgen/700": 12,
    "smidgen/1k": 53,
    "smidgen/1.5k": 6,
    "smidgen/2k": 3,
    "smidgen/2k-15": 3,
    "smidgen/2.5k-15": 3,
    "smidgen/3k": 4,
    "smidgen/5k": 4,
    "smidgen/10k": 3,
    "smidgen/quick": 9,
    "smidgen/sprint": 9,
}
"""Forms, lengths and optimizers tried on held-out images; `forms.json` has those that decided."""
READ_BEFORE = {
    "smidgen/500": (0.98597,),
    "smidgen/700": (0.98873,),
    "smidgen/1k": (0.99158, 0.99225),
    "smidgen/1.5k": (0.99364,),
    "smidgen/2k": (0.99408,),
    "smidgen/2k-15": (0.99384,),
    "smidgen/2.5k-15": (0.99452,),
    "smidgen/3k": (0.99471,),
    "smidgen/5k": (0.99569,),
    "smidgen/quick": (0.99413,),
    "smidgen/sprint": (0.99411,),
    "smidgen/10k": (0.99593,),
}
"""Means of 20 seeds on the test set of earlier versions; each recipe's analysis says which."""


def main() -> None:
    proofs = json.loads((RESULTS / "proofs.json").read_text())["proofs"]
    seen = _candidates_seen()
    seconds = json.loads((RESULTS / "frontier_seconds.json").read_text())["seconds"]
    rows = [
        _row(proof, seen, seconds) for proof in proofs if proof["recipe"].startswith("smidgen/")
    ]
    rows.sort(key=lambda row: (row["num_params"], row["engine"]))
    content = {"command": "python benchmarks/frontier.py", "rows": rows}
    write_atomically(RESULTS / "frontier.json", (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(RESULTS / "frontier.md", _markdown(rows).encode())
    before, rest = README.read_text().split(BEGIN)
    after = rest.split(END)[1]
    write_atomically(README, f"{before}{BEGIN}{_headline(rows)}{END}{after}".encode())


def _candidates_seen() -> dict[str, int]:
    seen = {"smidgen/quick": len(json.loads((RESULTS / "quick.json").read_text())["rows"])}
    for row in json.loads((RESULTS / "frontier_choice.json").read_text())["rows"]:
        name = f"smidgen/{row['size']}"
        seen[name] = seen.get(name, 0) + 1
    for more in (SEARCHED, FORMS_SEEN):
        for name, count in more.items():
            seen[name] = seen.get(name, 0) + count
    return seen


def _row(proof: dict, seen: dict[str, int], seconds: dict[str, float]) -> dict:
    recipe = get_recipe(proof["recipe"])
    totals = trace(recipe.network).totals
    accuracy = proof["accuracy"]
    return {
        "recipe": proof["recipe"],
        "num_params": totals.num_params,
        "folded": totals.folded,
        "keras_total": totals.keras_total,
        "num_buffers": totals.num_buffers,
        "num_macs": totals.num_macs,
        "epochs": proof["epochs"],
        "engine": proof["engine"],
        "aim": recipe.budget.target_accuracy,
        **{key: accuracy[key] for key in ("n", "mean", "sd", "minimum", "maximum", "interval")},
        "core_seconds": seconds[proof["recipe"]],
        "candidates_seen": seen.get(proof["recipe"], 0),
        "means_read_before": READ_BEFORE.get(proof["recipe"], ()),
    }


def _markdown(rows: list[dict]) -> str:
    lines = [
        "# The frontier",
        "",
        "`python benchmarks/frontier.py`: our proven recipes by size. Mean test accuracy after the",
        "last epoch in percent, random seeds 1 to n, trained on all 60,000 images; *interval*:",
        "95 %, Student's t. *Aim*: the mean that the recipe's budget names.",
        "*Folded*: with every batch norm merged where that is exact. *Core seconds*: of one run",
        "by the native engine ([frontier_seconds.json](frontier_seconds.json)).",
        "*Candidates*: how many recipes of this size were looked at before, all on training images",
        "held out ([frontier_choice.md](frontier_choice.md), [quick.md](quick.md),",
        "[search_1k.md](search_1k.md), [forms.md](forms.md)). *Before*: the means of earlier",
        "versions of the recipe, whose place this one took; the test set was read for all of them,",
        "and decided nothing.",
        "",
        "| recipe | parameters | folded | Keras total | MACs | epochs | engine | n | aim | mean |"
        " interval | sd | min | max | core seconds | candidates | before |",
        "|---|--:|--:|--:|--:|--:|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [_line(row) for row in rows]
    return "\n".join(lines) + "\n"


def _headline(rows: list[dict]) -> str:
    lines = [
        "| recipe | parameters | MACs | epochs | mean test accuracy | lowest to highest of 20 |"
        " core seconds |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if row["engine"] != "native":
            continue
        cells = [
            f"`{row['recipe']}`",
            f"{row['num_params']:,}",
            f"{row['num_macs']:,}",
            str(row["epochs"]),
            f"**{100 * row['mean']:.2f} %** ± {100 * _half(row['interval']):.2f}",
            f"{100 * row['minimum']:.2f} to {100 * row['maximum']:.2f}",
            f"{row['core_seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _half(interval: dict) -> float:
    return (interval["high"] - interval["low"]) / 2


def _line(row: dict) -> str:
    cells = [
        f"`{row['recipe']}`",
        *(f"{row[key]:,}" for key in ("num_params", "folded", "keras_total", "num_macs")),
        str(row["epochs"]),
        row["engine"],
        str(row["n"]),
        f"{100 * row['aim']:.2f}",
        f"**{100 * row['mean']:.3f}**",
        interval_text(row["interval"]["low"], row["interval"]["high"]),
        f"{100 * row['sd']:.3f}",
        f"{100 * row['minimum']:.2f}",
        f"{100 * row['maximum']:.2f}",
        f"{row['core_seconds']:.1f}",
        str(row["candidates_seen"]),
        ", ".join(f"{100 * mean:.3f}" for mean in row["means_read_before"]),
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

"""Write `docs/origins.md`: what the five origins say, what tried it, and the verdict.

    python scripts/origins_page.py

The statements stand in `docs/origins.json`, one row each. What a row needs as evidence is read
from `docs/results/`: proofs over many random seeds, ablations in `origin_ablations.json`; counts
are counted here and now. A row whose evidence is missing says so, with the command that makes it.
"""

import json
from pathlib import Path
from typing import Any

from smidgen.network.trace import trace
from smidgen.recipes.catalogue import get_recipe

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
HOLDS, FAILS, UNKNOWN, NEVER, OPEN = (
    "holds",
    "does not hold",
    "cannot tell",
    "cannot be tried",
    "not tried yet",
)
VERDICTS = (HOLDS, FAILS, UNKNOWN, NEVER, OPEN)
TITLES = {
    "era-s7": "The-School-of-AI/era-s7-ram",
    "eva4-s5": "shan18/EVA4, 05 - Coding Drill Down",
    "mnist-challenge": "aknakshay/MNIST-Challenge",
    "mnist-99-4": "shishir13/Personal_Projects, MNIST_99.4",
    "assignment7": "Shilpaj1994/Assignment7",
}


def verdict(test: dict[str, Any]) -> tuple[str, str, str]:
    """Return (verdict, what was found, command) of one statement's test."""
    kind = test["kind"]
    if kind == "said":
        return test["verdict"], test["why"], ""
    if kind == "count":
        return _count(test)
    return _accuracy(test) if kind == "accuracy" else _ablation(test)


def _count(test: dict[str, Any]) -> tuple[str, str, str]:
    found = getattr(trace(get_recipe(test["recipe"]).network).totals, test["what"])
    word = HOLDS if found == test["number"] else FAILS
    return word, f"{found:,} counted", f"smidgen show {test['recipe']}"


def _accuracy(test: dict[str, Any]) -> tuple[str, str, str]:
    """Hold a claimed accuracy against the 95 % interval of the mean over many seeds."""
    recipe, claim = test["recipe"], test["percent"] / 100
    protocol = test.get("protocol", "final")
    command = f"smidgen prove {recipe} --seeds 20"
    command += "" if protocol == "final" else f" --protocol {protocol}"
    proofs = json.loads((RESULTS / "proofs.json").read_text(encoding="utf-8"))["proofs"]
    proof = next((p for p in proofs if (p["recipe"], p["protocol"]) == (recipe, protocol)), None)
    if proof is None:
        return OPEN, _single(recipe), command
    accuracy = proof["accuracy"]
    low, high = accuracy["interval"]["low"], accuracy["interval"]["high"]
    found = (
        f"mean {100 * accuracy['mean']:.2f} % ({100 * low:.2f} to {100 * high:.2f}) over "
        f"{len(proof['seeds'])} seeds"
    )
    if low <= claim <= high:
        return UNKNOWN, found, command
    return (HOLDS if claim < low else FAILS) + " as a mean", found, command


def _single(recipe: str) -> str:
    rows = json.loads((RESULTS / "origins.json").read_text(encoding="utf-8"))["rows"]
    row = next((row for row in rows if row["recipe"] == recipe), None)
    if row is None:
        return "no run yet"
    return f"one run: best {row['best']:.2f} %, last {row['last']:.2f} %"


def _ablation(test: dict[str, Any]) -> tuple[str, str, str]:
    path = RESULTS / "origin_ablations.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    fitting = (r for r in rows if (r["base"], r["variant"]) == (test["recipe"], test["variant"]))
    row = next(fitting, None)
    if row is None:
        return OPEN, "", f"smidgen ablate {test['recipe']}: {test['variant']}"
    return row["verdict"], row["found"], row["command"]


def page(statements: list[dict[str, Any]]) -> str:
    """Return the page."""
    lines = [
        "# What the origins say, and what holds",
        "",
        "Every statement of the five projects that says something, what tried it here, and the",
        "verdict. Written by `python scripts/origins_page.py` from `docs/origins.json` and",
        "`docs/results/`. A claimed accuracy *holds as a mean* if it lies below the 95 % interval",
        "of our mean over 20 random seeds at the last epoch, does not if above, and cannot be",
        "told if within. Four of the five report the best epoch on the test set of one run.",
        "",
    ]
    found = {row["id"]: verdict(row["test"]) for row in statements}
    counts = {
        word: sum(given.startswith(word) for given, _, _ in found.values()) for word in VERDICTS
    }
    lines += [", ".join(f"{word}: {count}" for word, count in counts.items()) + ".", ""]
    for origin, title in TITLES.items():
        lines += [f'<a id="{origin}"></a>', f"## `{origin}` ({title})", ""]
        lines += [
            "| statement | where | verdict | found | command |",
            "| --- | --- | --- | --- | --- |",
        ]
        for row in statements:
            if row["origin"] == origin:
                word, what, command = found[row["id"]]
                note = row["test"].get("note", "")
                what = "; ".join(part for part in (what, note) if part)
                command = command if not command or "`" in command else f"`{command}`"
                lines.append(
                    f"| {row['statement']} | {row['where']} | {word} | {what} | {command} |"
                )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Write the page."""
    statements = json.loads((ROOT / "docs" / "origins.json").read_text(encoding="utf-8"))
    text = page(statements["statements"])
    (ROOT / "docs" / "origins.md").write_text(text, encoding="utf-8")
    print(next(line for line in text.splitlines() if line.startswith("holds:")))


if __name__ == "__main__":
    main()

"""Pack the proofs under `docs/results/` into the file that `smidgen report frontier` shows.

    python benchmarks/published.py

Reads `proofs.json` and writes `src/smidgen/report/proven.json`, a point for each recipe and engine,
so that somebody who has trained nothing yet sees what is proved. `proofs.py` does the same.
"""

import json
from pathlib import Path

from smidgen.files import write_atomically
from smidgen.recipes.catalogue import get_recipe
from smidgen.report.frontier_points import Point, network_line
from smidgen.values import to_plain

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
PACKED = ROOT / "src" / "smidgen" / "report" / "proven.json"


def main() -> None:
    write_atomically(PACKED, packed().encode())
    print(PACKED.relative_to(ROOT))


def packed() -> str:
    proofs = json.loads((RESULTS / "proofs.json").read_text())["proofs"]
    lines = [f" {json.dumps(_plain(_point(proof)))}" for proof in proofs]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _plain(point: Point) -> dict:
    return {key: thing for key, thing in to_plain(point).items() if thing not in (None, "")}


def _point(proof: dict) -> Point:
    seen, interval = proof["accuracy"], proof["accuracy"]["interval"]
    return Point(
        name=proof["recipe"],
        measured="mean",
        num_params=proof["num_params"],
        accuracy=seen["mean"],
        n=seen["n"],
        sd=seen["sd"],
        low=interval["low"],
        high=interval["high"],
        num_macs=proof["num_macs"],
        seconds=proof["train_seconds"]["median"],
        epochs=proof["epochs"],
        engine=proof["engine"],
        fingerprint=proof["fingerprint"],
        network=network_line(get_recipe(proof["recipe"]).network),
        source="published proof",
    )


if __name__ == "__main__":
    main()

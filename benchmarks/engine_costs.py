"""What a native engine costs before it trains: seconds to compile, and memory for each model.

    python benchmarks/engine_costs.py [--compilers gcc,zig]

Every network of the catalogue is compiled anew, in an empty cache; processor seconds of the
compiler count, so that a busy machine changes little.
"""

import argparse
import json
import os
import resource
import tempfile
from pathlib import Path

from smidgen.engines.native.build import CompileOptions, compile_library
from smidgen.engines.native.codegen import generate
from smidgen.engines.native.toolchain import lanes_of_host
from smidgen.recipes.catalogue import RECIPES

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "engine_costs.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compilers", default="gcc")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = []
    seen = set()
    for name, recipe in RECIPES.items():
        program = generate(recipe.network, lanes_of_host())
        if program.source in seen:
            continue
        seen.add(program.source)
        row: dict[str, object] = {"recipe": name}
        for compiler in arguments.compilers.split(","):
            row[f"{compiler}_seconds"] = round(compile_seconds(program.source, compiler), 2)
        for batch_size in (128, 256):
            row[f"megabytes_at_batch_{batch_size}"] = round(
                program.working_bytes(batch_size) / 1e6, 1
            )
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        rows.append(row)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def compile_seconds(source: str, compiler: str) -> float:
    """Return the processor seconds of compiling into an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SMIDGEN_CACHE"] = folder
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        compile_library(source, CompileOptions(compiler=compiler))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()

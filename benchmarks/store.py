"""Measure a store of many runs: to list them, and to find one by what it is.

    python benchmarks/store.py [--runs 30000] [--listed 5000] [--folder DIR]

Writes `docs/results/store.json` and `docs/results/store.md`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median

from smidgen.data import draw_stripes
from smidgen.files import write_atomically
from smidgen.recipes.catalogue import get_recipe
from smidgen.runs.listing import list_runs
from smidgen.runs.record import DataUsed, EpochRecord, Result, RunRecord
from smidgen.runs.store import RunFolder, RunStore, run_name
from smidgen.training.run import describe_environment

RESULTS = Path(__file__).parent.parent / "docs" / "results"
LOOKS = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30_000)
    parser.add_argument("--listed", type=int, default=5_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        content = {
            **measure_list(RunStore(folder / "listed"), options.listed),
            **measure_finding(RunStore(folder / "runs"), options.runs),
        }
    finally:
        shutil.rmtree(folder)
    write_atomically(RESULTS / "store.json", (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(RESULTS / "store.md", _markdown(content).encode())
    print(_markdown(content))


def measure_list(store: RunStore, num_runs: int) -> dict[str, object]:
    """Fill a store and return how long it takes to list it."""
    record = fill(store, num_runs)
    listed = [timed(lambda: list_runs(store)) for _ in range(5)]
    environment = os.environ | {"SMIDGEN_RUNS": str(store.root)}
    command = [sys.executable, "-m", "smidgen", "runs", "--json"]
    shown = [
        timed(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))
        for _ in range(3)
    ]
    return {
        "command": "python benchmarks/store.py",
        "listed": num_runs,
        "epochs_per_run": len(record.epochs),
        "list_seconds": round(median(listed), 3),
        "command_seconds": round(median(shown), 3),
        "hardware": record.environment.hardware,
        "versions": record.environment.versions,
    }


def measure_finding(store: RunStore, num_runs: int) -> dict[str, object]:
    """Fill a store and return how long it takes to find a run in it, or that there is none."""
    spec = fill(store, num_runs).spec
    linked = timed(store.link)
    store = RunStore(store.root)  # as another process sees it
    there = [replace(spec, seed=1 + seed * num_runs // LOOKS) for seed in range(LOOKS)]
    absent = [replace(spec, seed=num_runs + 1 + seed) for seed in range(LOOKS)]
    found = timed(lambda: check([store.finished(each) for each in there], all))
    first = timed(lambda: check([store.finished(replace(spec, seed=num_runs + 10**6))], any, False))
    missed = timed(lambda: check([store.finished(each) for each in absent], any, False))
    return {
        "runs": num_runs,
        "link_seconds": round(linked, 2),
        "found_milliseconds": round(1000 * found / LOOKS, 4),
        "first_missed_milliseconds": round(1000 * first, 1),
        "missed_milliseconds": round(1000 * missed / LOOKS, 4),
    }


def check(
    found: list[RunFolder | None], how: Callable[[Iterable[bool]], bool], expected: bool = True
) -> None:
    if how(each is not None for each in found) is not expected:
        raise SystemExit("a run was not found, or one that is not there was")


def fill(store: RunStore, num_runs: int) -> RunRecord:
    """Write records only, without the durable writes of real runs; return one."""
    record = finished_record()
    for seed in range(1, num_runs + 1):
        one = replace(record, seed=seed)
        one = replace(one, identity=one.spec.identity)
        folder = store.root / run_name(one.recipe.name, seed, one.identity)
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(one.to_json())
    return record


def finished_record() -> RunRecord:
    """Return a record as long as that of a real run."""
    recipe = get_recipe("smidgen/quick").replace(dataset="stripes", epochs=15)
    dataset = draw_stripes()
    used = describe_environment("torch", "cpu", 1)
    epochs = tuple(
        EpochRecord(number, 0.5, 0.9, "test", 0.4, 0.91, 45, 1.5, 0.5, 80.0, 0.1, 0.1)
        for number in range(1, recipe.epochs + 1)
    )
    result = Result("test", 0.91, 45, 500, recipe.epochs, "last epoch", 0.91, 0.91, 0.91, 1)
    return RunRecord(
        recipe=recipe,
        fingerprint=recipe.fingerprint(),
        identity="",
        seed=1,
        protocol="final",
        environment=used,
        data=DataUsed("stripes", dataset.sha256, dataset.class_names, 6_000, 0, 500),
        num_params=9_402,
        num_macs=230_824,
        started="2026-01-01T00:00:00+00:00",
        epochs=epochs,
        result=result,
        train_seconds=22.5,
        wall_seconds=30.0,
    )


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _markdown(content: dict) -> str:
    hardware = content["hardware"]
    rows = [
        (f"list {content['listed']:,} runs", f"{content['list_seconds']:.2f} s"),
        ("the same by `smidgen runs --json`", f"{content['command_seconds']:.2f} s"),
        (
            f"find a run among {content['runs']:,} by its identity",
            f"{content['found_milliseconds']:.3f} ms",
        ),
        ("know that there is none", f"{content['missed_milliseconds']:.3f} ms"),
        (
            "the same for the first time in a process: folders are held against links",
            f"{content['first_missed_milliseconds']:.0f} ms",
        ),
        (f"link {content['runs']:,} runs anew", f"{content['link_seconds']:.1f} s"),
    ]
    lines = [
        "# A store of many runs",
        "",
        f"By `{content['command']}`, on {hardware['cores']} cores ({hardware['processor']}), with",
        f"runs of {content['epochs_per_run']} epochs. The aims: 5,000 runs listed within a second,",
        "a run found among 30,000 within 0.2 ms.",
        "",
        "| what | how much |",
        "|---|--:|",
        *(f"| {what} | {amount} |" for what, amount in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""Measure the index of runs: finished runs indexed per second, and the time to list them.

    python benchmarks/store.py [--runs 10000] [--folder DIR]

Writes `docs/results/store.json` and `docs/results/store.md`.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from smidgen.data import draw_stripes
from smidgen.files import write_atomically
from smidgen.recipes.catalogue import get_recipe
from smidgen.runs.listing import list_runs
from smidgen.runs.record import EpochRecord, Result, RunRecord
from smidgen.runs.store import RunStore
from smidgen.training.listener import Listener
from smidgen.training.loop import TrainOptions, prepare

RESULTS = Path(__file__).parent.parent / "docs" / "results"
PROCESSES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        content = measure(RunStore(folder / "runs"), options.runs)
    finally:
        shutil.rmtree(folder)
    write_atomically(RESULTS / "store.json", (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(RESULTS / "store.md", _markdown(content).encode())
    print(_markdown(content))


def measure(store: RunStore, num_runs: int) -> dict[str, object]:
    """Fill a store and return what takes how long."""
    record = finished_record()
    for seed in range(1, num_runs + 1):  # without the durable writes of a real run
        folder = store.root / name_of(seed)
        folder.mkdir(parents=True)
        text = replace(record, seed=seed).to_json()
        (folder / "record.json").write_text(text)
    one = num_runs / timed(lambda: add_part(store, record, 0, 1, num_runs))
    forget(store)
    many = num_runs / timed(lambda: add_by_processes(store, record, num_runs))
    check_complete(store, num_runs)
    listed = [timed(lambda: list_runs(store)) for _ in range(5)]
    environment = os.environ | {"SMIDGEN_RUNS": str(store.root)}
    command = [sys.executable, "-m", "smidgen", "runs", "--json"]
    shown = [
        timed(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))
        for _ in range(3)
    ]
    rebuilt = timed(store.index.rebuild)
    return {
        "command": "python benchmarks/store.py",
        "runs": num_runs,
        "epochs_per_run": len(record.epochs),
        "indexed_per_second_one_process": round(one),
        "indexed_per_second_many_processes": round(many),
        "processes": PROCESSES,
        "list_seconds": round(median(listed), 3),
        "command_seconds": round(median(shown), 3),
        "rebuild_seconds": round(rebuilt, 2),
        "index_bytes": store.index.path.stat().st_size,
        "hardware": record.environment.hardware,
        "versions": record.environment.versions,
    }


def finished_record() -> RunRecord:
    """Return a record as long as that of a real run."""
    recipe = get_recipe("smidgen/quick").replace(dataset="stripes", epochs=15)
    record, _ = prepare(recipe, draw_stripes(), 1, TrainOptions(engine="torch"), Listener())
    epochs = tuple(
        EpochRecord(number, 0.5, 0.9, "test", 0.4, 0.91, 45, 1.5, 0.5, 80.0, 0.1, 0.1)
        for number in range(1, recipe.epochs + 1)
    )
    result = Result("test", 0.91, 45, 500, recipe.epochs, "last epoch", 0.91, 0.91, 0.91, 1)
    return replace(record, epochs=epochs, result=result, train_seconds=22.5, wall_seconds=30.0)


def name_of(seed: int) -> str:
    return f"smidgen-quick-s{seed}-{seed:08x}"


def add_part(store: RunStore, record: RunRecord, part: int, parts: int, num_runs: int) -> None:
    for seed in range(1 + part, num_runs + 1, parts):
        store.index.add(name_of(seed), replace(record, seed=seed))


def add_by_processes(store: RunStore, record: RunRecord, num_runs: int) -> None:
    context = get_context("fork")  # starting Python anew is not what is measured
    workers = [
        context.Process(target=add_part, args=(store, record, part, PROCESSES, num_runs))
        for part in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def check_complete(store: RunStore, num_runs: int) -> None:
    """Fail if a row was not written: listing would quietly make up for it."""
    with closing(sqlite3.connect(store.index.path)) as database:
        (count,) = database.execute("SELECT count(*) FROM runs").fetchone()
    if count != num_runs:
        raise SystemExit(f"{num_runs - count} of {num_runs} rows were not written")


def forget(store: RunStore) -> None:
    for path in store.root.glob(".index.sqlite*"):
        path.unlink()


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _markdown(content: dict) -> str:
    hardware = content["hardware"]
    rows = [
        ("runs indexed per second, 1 process", f"{content['indexed_per_second_one_process']:,}"),
        (
            f"runs indexed per second, {content['processes']} processes at once",
            f"{content['indexed_per_second_many_processes']:,}",
        ),
        (f"list {content['runs']:,} runs", f"{content['list_seconds']:.2f} s"),
        ("the same by `smidgen runs --json`", f"{content['command_seconds']:.2f} s"),
        (f"rebuild the index of {content['runs']:,} runs", f"{content['rebuild_seconds']:.1f} s"),
        ("size of the index", f"{content['index_bytes'] / 1e6:.1f} MB"),
    ]
    lines = [
        "# The index of runs",
        "",
        f"By `{content['command']}`, on {hardware['cores']} cores ({hardware['processor']}), with",
        f"runs of {content['epochs_per_run']} epochs. The aims: 1,000 runs indexed per second,",
        "10,000 listed within a second.",
        "",
        "| what | how much |",
        "|---|--:|",
        *(f"| {what} | {amount} |" for what, amount in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from smidgen.runs.index import RunIndex
from smidgen.runs.store import RunFolder, RunStore

Make = Callable[..., RunFolder]

WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from smidgen.runs.record import RunRecord
from smidgen.runs.store import RunStore

template, root, first, count = sys.argv[1:]
record, store = RunRecord.read(Path(template)), RunStore(Path(root))
for seed in range(int(first), int(first) + int(count)):
    name = f"empty-s{seed}-00000000"
    if (store.root / name).exists():
        continue
    folder = store.partial(name)
    folder.save_record(replace(record, seed=seed))
    store.finish(folder)
    print(seed, flush=True)
"""


def write_runs(
    root: Path, template: Path, first: int, count: int, kills: Sequence[int]
) -> set[int]:
    """Write empty runs in a process that is killed after so many, and started again.

    Returns:
        The seeds whose runs the process said are finished.
    """
    told: set[int] = set()
    for kill_after in (*kills, count + 1):
        command = [sys.executable, "-c", WRITER, str(template), str(root), str(first), str(count)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                told.add(int(line))
                if len(told) == kill_after:
                    process.send_signal(signal.SIGKILL)
        assert process.returncode in (0, -signal.SIGKILL)
    return told


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("processes", "count", "kills"),
    [
        pytest.param(2, 10, [[3], []], id="small"),
        pytest.param(8, 100, [[30, 60], [20, 70], *[[40]] * 6], id="full", marks=pytest.mark.slow),
    ],
)
def test_kills_lose_no_finished_run(
    make_run: Make, tmp_path: Path, processes: int, count: int, kills: list[list[int]]
) -> None:
    """Every run that a killed writer finished is there, and the index is the rebuilt one."""
    template = make_run(1).path / "record.json"
    store = RunStore(tmp_path / "many")

    with ThreadPoolExecutor(processes) as threads:
        told = threads.map(
            lambda number: write_runs(
                store.root, template, 1 + number * count, count, kills[number]
            ),
            range(processes),
        )
        finished = set().union(*told)

    runs, problems = store.index.runs()
    listed = {run.seed for run in runs}
    assert problems == []
    assert finished <= listed
    assert listed == set(range(1, processes * count + 1))
    store.index.rebuild()
    assert store.index.runs() == (runs, [])


def test_a_kill_between_folder_and_index_loses_nothing(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that got its name but no row in the index is listed all the same."""
    make_run(1)
    with monkeypatch.context() as patched:
        patched.setattr(RunIndex, "add", lambda self, name, record=None: None)
        make_run(2)

    runs, _ = RunStore(tmp_path / "runs").index.runs()

    assert [run.seed for run in runs] == [1, 2]

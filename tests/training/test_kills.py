import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from smidgen.recipes.catalogue import get_recipe
from smidgen.runs.store import RunStore

SCRIPT = Path(__file__).parent / "killed_runs.py"
SHORT: dict[str, Any] = {"dataset": "stripes", "epochs": 6, "batch_size": 50}


def outcomes(folder: Path, *kinds: str) -> dict[str, Any]:
    """Return what the script found for some kinds of events."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), str(folder), *kinds],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=1200,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what came of deaths at every fsync and epoch, and of signals."""
    return outcomes(tmp_path_factory.mktemp("quick"), "fsync", "epoch", "signals")


@pytest.mark.parametrize(("kind", "at_least"), [("fsync", 20), ("epoch", 3)])
def test_a_killed_run_ends_as_an_undisturbed_one(
    quick: dict[str, Any], kind: str, at_least: int
) -> None:
    """Whichever fsync or epoch a process dies at, the next one ends with the same bits."""
    assert quick[kind]["problems"] == []
    assert quick[kind]["deaths"] >= at_least


@pytest.mark.slow
def test_a_run_killed_anywhere_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """The same holds before and after every rename and before every step."""
    found = outcomes(tmp_path, "replace", "replaced", "step")

    assert {kind: one["problems"] for kind, one in found.items()} == {
        "replace": [],
        "replaced": [],
        "step": [],
    }
    assert found["replace"]["deaths"] == found["replaced"]["deaths"] >= 8
    assert found["step"]["deaths"] == 9


CASES = [
    (0, 130, "Stopped in epoch 1; no epoch is saved yet."),
    (1, 130, "Stopped in epoch 2; epoch 1 is saved."),
    (2, 143, "Stopped in epoch 2; epoch 1 is saved."),
    (3, 143, "Stopped in epoch 3; epoch 2 is saved."),
]


@pytest.mark.parametrize(("number", "status", "text"), CASES)
def test_a_signal_stops_in_good_order(
    quick: dict[str, Any], number: int, status: int, text: str
) -> None:
    """SIGINT ends with 130 and SIGTERM with 143, one line says what is saved, and it resumes."""
    found = quick["signals"][number]

    (line,) = [line for line in found["said"] if line.startswith("error")]
    advice = r"Continue with `smidgen train --resume tiny-s1-[0-9a-f]{8}`\."
    assert found["status"] == status
    assert re.fullmatch(rf"error: {re.escape(text)} {advice}", line)
    assert (found["resumed"], found["problems"]) == (0, [])


@pytest.mark.parametrize(("number", "killer"), [(4, signal.SIGINT), (5, signal.SIGINT)])
def test_a_second_signal_ends_at_once(
    quick: dict[str, Any], number: int, killer: signal.Signals
) -> None:
    """A second signal does what it does to any process, and the run resumes all the same."""
    found = quick["signals"][number]

    assert found["status"] == -killer
    assert not any(line.startswith("error") for line in found["said"])
    assert (found["resumed"], found["problems"]) == (0, [])


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_a_real_process_killed_at_odd_moments(tmp_path: Path, attempt: int) -> None:
    """`smidgen train`, killed again and again at moments drawn by lot, ends with the same bits."""
    moments = random.Random(attempt)
    recipe = tmp_path / "tiny.json"
    recipe.write_text(get_recipe("smidgen/quick").replace(name="tiny", **SHORT).to_json())
    command = [sys.executable, "-m", "smidgen", "train", str(recipe), "--engine", "torch"]
    command += ["--threads", "1", "--runs-dir"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, timeout=600)
    deaths = 0

    while not any(folder.is_finished for folder in RunStore(tmp_path / "runs").folders()):
        saved = [
            n for folder in RunStore(tmp_path / "runs").folders() for n in folder.checkpoints()
        ]
        process = subprocess.Popen([*command, str(tmp_path / "runs")], stderr=subprocess.PIPE)
        assert process.stderr is not None
        for _ in range(2 + max(saved, default=0) + 1):  # two of heading, old epochs, a new one
            process.stderr.readline()
        time.sleep(moments.uniform(0.0, 1.0))
        process.send_signal(moments.choice([signal.SIGKILL, signal.SIGTERM]))
        process.communicate(timeout=600)
        deaths += process.returncode != 0
        assert process.returncode in (0, -signal.SIGKILL, -signal.SIGTERM, 143)

    (whole,), (killed,) = (RunStore(tmp_path / name).folders() for name in ("whole", "runs"))
    assert killed.is_finished
    assert deaths > 0
    expected, found = whole.record(), killed.record()
    assert [e.without_times() for e in found.epochs] == [e.without_times() for e in expected.epochs]
    assert found.result == expected.result
    for name in ("model.safetensors", "predictions.safetensors"):
        assert (killed.path / name).read_bytes() == (whole.path / name).read_bytes()
    last = len(expected.epochs)
    states = [folder.load_checkpoint(last)[0] for folder in (whole, killed)]
    assert states[0].keys() == states[1].keys()
    assert all(states[0][name].tobytes() == states[1][name].tobytes() for name in states[0])

"""Real commands under SIGKILL; the whole campaign is `benchmarks/kills.py`."""

import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[2] / "benchmarks" / "kills.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize("command", ["prove", "ablate", "search", "grade"])
def test_nothing_is_lost_doubled_or_left_over(command: str) -> None:
    """Parent, worker and both killed three times each: the runs are those of an undisturbed one."""
    ended = subprocess.run(
        [sys.executable, str(CAMPAIGN), "--kills", "3", "--only", command],
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{command}: 9 of 9 the same, 0 left over\n"

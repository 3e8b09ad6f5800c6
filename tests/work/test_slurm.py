import os
import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.errors import ClusterError
from smidgen.work.slurm import array_script


def test_script_is_for_sbatch(tmp_path: Path) -> None:
    """The script names array, cores and time, and runs the command with as many workers."""
    words = ["smidgen", "prove", "my recipe.json", "--seeds", "100"]
    script = array_script(words, tmp_path / "runs", tasks=5, cores=3, minutes=90)

    assert script.startswith("#!/bin/bash\n#SBATCH")
    for line in ("--array=1-5", "--cpus-per-task=3", "--time=90"):
        assert f"#SBATCH {line}\n" in script
    assert "smidgen prove 'my recipe.json' --seeds 100 --workers 3 &" in script


def test_tasks_run_the_command(tmp_path: Path) -> None:
    """A task of the array runs the command and ends with its exit code."""
    words = [sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)"]
    script = tmp_path / "script"
    script.write_text(array_script(words, tmp_path / "runs", cores=2))
    ended = subprocess.run(
        ["bash", str(script)],
        env={**os.environ, "SLURM_ARRAY_TASK_ID": "7"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 7
    assert ended.stdout.strip() == "['--workers', '2']"


def test_folder_without_locks_is_told(tmp_path: Path) -> None:
    """Where locks do not work the task says so and runs nothing."""
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "flock").write_text("#!/bin/sh\nexit 1\n")
    (fake / "flock").chmod(0o755)
    script = tmp_path / "script"
    script.write_text(array_script(["touch", str(tmp_path / "ran")], tmp_path / "runs"))
    ended = subprocess.run(
        ["bash", str(script)],
        env={"PATH": f"{fake}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "7"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 1
    assert "Locks do not work in" in ended.stdout
    assert not (tmp_path / "ran").exists()


def test_senseless_numbers_are_refused(tmp_path: Path) -> None:
    """An array of no tasks is refused."""
    with pytest.raises(ClusterError, match="`tasks` is 0; it must be at least 1"):
        array_script(["smidgen"], tmp_path, tasks=0)

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from smidgen.cli.options import place_of
from smidgen.work.local import Local


def test_local_is_this_machine(tmp_path: Path) -> None:
    """`local` means processes of this machine."""
    assert place_of("local", tmp_path) is Local


@pytest.mark.parametrize("on", ["mars", "ray", "ray:", "ray://", "Local", ""])
def test_unknown_places_are_refused(on: str, tmp_path: Path) -> None:
    """Another word is refused with those there are."""
    with pytest.raises(typer.BadParameter, match="none of local, ray:local, ray:auto"):
        place_of(on, tmp_path)


def test_slurm_prints_this_very_command(tmp_path: Path) -> None:
    """The printed script repeats the command without `--on`, and runs nothing."""
    words = ["prove", "smidgen/500", "--seeds", "7", "--on", "slurm", "--workers", "2"]
    ended = subprocess.run(
        [sys.executable, "-m", "smidgen", *words, "--runs-dir", str(tmp_path / "my runs")],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert ended.returncode == 0, ended.stderr
    assert f"smidgen prove smidgen/500 --seeds 7 --runs-dir '{tmp_path}/my runs'" in ended.stdout
    assert not (tmp_path / "my runs").exists()

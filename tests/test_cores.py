import os
from pathlib import Path

import pytest

from smidgen import cores


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of eight cores whose control groups lie in a folder."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "_OWN_GROUPS", tmp_path / "own")
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    """Write small files with the folders they need."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("own", "groups", "expected"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "350000 100000"}, 3),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "6400000 100000"}, 8),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
        ("0::/host/path/of/container", {"cpu.max": "400000 100000"}, 4),
        ("0::/", {"cpu.max": "garbage"}, 8),
        (
            "4:cpu,cpuacct:/x\n1:name=systemd:/\n0::/",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        (
            "1:cpu:/x",
            {
                "cpu/x/cpu.cfs_quota_us": "-1",
                "cpu/x/cpu.cfs_period_us": "100000",
                "cpu/cpu.cfs_quota_us": "500000",
                "cpu/cpu.cfs_period_us": "100000",
            },
            5,
        ),
        ("3:cpuset:/x", {"cpuset/x/cpu.max": "100000 100000"}, 8),
    ],
)
def test_a_containers_quota_bounds_the_cores(
    machine: Path, own: str, groups: dict[str, str], expected: int
) -> None:
    """Both versions of control groups count, and those above as well; whole cores, at least 1."""
    write(machine, {"own": own})
    write(machine / "groups", groups)

    assert cores.num_cores() == expected


def test_without_control_groups_affinity_counts() -> None:
    """Where the system has none, the cores that this process may run on are all."""
    assert cores.num_cores() == 8

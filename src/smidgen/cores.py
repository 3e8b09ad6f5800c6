"""How many cores this process may use: affinity and a container's quota, counted in one place."""

import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def num_cores() -> int:
    """Return how many cores this process may use, at least 1.

    A container of `--cpus=1.5` sees every core of its machine and is stopped for the rest of
    each period once all of them together have used it up; threads that wait for each other
    then lose far more than the half core that is left unused here.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, *(int(share) for share in _shares()), 1 << 16))


def _shares() -> Iterator[float]:
    """Yield the cores that each control group of this process may use, where it says so."""
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts = [_GROUPS, _GROUPS / "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [_GROUPS / "cpu", _GROUPS / controllers]
        else:
            continue
        for mount in mounts:
            yield from _shares_above(mount, path)


def _shares_above(mount: Path, path: str) -> Iterator[float]:
    """Yield what a group and those above it may use; a container sees its own as the root."""
    here = mount / path.strip("/")
    for group in (here, *here.parents):
        if mount not in (group, *group.parents):
            return
        share = _share(group)
        if share is not None:
            yield share


def _share(group: Path) -> float | None:
    """Return quota / period of one group: version 2 in one file, version 1 in two."""
    try:
        if (both := group / "cpu.max").exists():
            quota, period = both.read_text(encoding="utf-8").split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (group / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None

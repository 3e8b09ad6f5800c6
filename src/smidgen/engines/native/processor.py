"""This machine in, lanes out: how many images the processor can hold side by side."""

import ctypes
import functools
import platform
import subprocess
import sys
from pathlib import Path

LANES = (16, 8, 4, 1)
"""Images side by side in one vector that code can be generated for."""

_FEATURES_OF_LANES = {
    16: ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"),
    8: ("avx2", "fma"),
}
"""What an x86-64 processor needs beyond its baseline, whose SSE2 has vectors of four floats.

The kernels themselves need avx512f; bw, dq and vl come with it on every processor since 2017
and let compilers handle bytes, masks and short vectors without detours.
"""

_CPUINFO = Path("/proc/cpuinfo")
_WINDOWS_FEATURES = {40: ("avx2", "fma")}
"""Windows tells of AVX2 (which brings FMA) but not of the parts of AVX-512: 8 lanes at most."""


@functools.cache
def processor_features() -> frozenset[str]:
    """Return what this processor can do beyond its baseline, in Linux's spelling.

    Read from `/proc/cpuinfo` on Linux, `sysctl` on macOS and the kernel's own answer on
    Windows; empty elsewhere, or where they tell nothing.
    """
    if sys.platform == "win32":
        is_present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        known = [names for number, names in _WINDOWS_FEATURES.items() if is_present(number)]
        return frozenset(name for names in known for name in names)
    if sys.platform == "darwin":
        return frozenset(_ask_sysctl().lower().split())
    try:
        return features_in_cpuinfo(_CPUINFO.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return frozenset()


def features_in_cpuinfo(text: str) -> frozenset[str]:
    """Return the features that the text of `/proc/cpuinfo` tells of its first processor."""
    for line in text.splitlines():
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(values.split())
    return frozenset()


def is_x86() -> bool:
    """Tell whether this machine has a 64-bit processor of the x86 family."""
    return platform.machine().lower() in ("x86_64", "amd64")


def needed_features(lanes: int) -> tuple[str, ...]:
    """Return what this machine's processor must offer beyond its baseline for so many lanes."""
    return _FEATURES_OF_LANES.get(lanes, ()) if is_x86() else ()


def missing_features(lanes: int) -> tuple[str, ...]:
    """Return what so many lanes need and this processor lacks."""
    return tuple(name for name in needed_features(lanes) if name not in processor_features())


def lanes_of_host() -> int:
    """Return how many images this processor computes side by side: 16, 8, 4 or 1.

    16 with AVX-512 (F, BW, DQ and VL), 8 with AVX2 and FMA, 4 on every other x86-64 (SSE2)
    and on 64-bit ARM (NEON), 1 on any other machine.
    """
    if is_x86():
        return next(lanes for lanes in LANES if not missing_features(lanes))
    return 4 if platform.machine().lower() in ("aarch64", "arm64") else 1


def _ask_sysctl() -> str:
    """Return macOS' lists of features; Apple's own processors have none and need none."""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout

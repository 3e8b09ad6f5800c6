"""Where a run runs: versions and hardware, as the record keeps them."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from smidgen.engines.choose import EngineName
from smidgen.runs.record import Environment


def describe_environment(engine: EngineName, device: str, threads: int) -> Environment:
    """Return what is worth knowing about this machine; imports torch only to name a GPU."""
    packages = ("smidgen", "numpy", *(("torch",) if engine == "torch" else ()))
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that was never installed
            versions[package] = "unknown"
    hardware = {
        "processor": _processor(),
        "cores": str(os.cpu_count() or 1),
        "machine": platform.machine(),
        "system": platform.system(),
    }
    if device != "cpu":
        hardware["gpu"] = _gpu(device)
    return Environment(engine, device, threads, versions, hardware)


def _gpu(device: str) -> str:
    import torch

    if not torch.cuda.is_available():
        return "none"
    try:
        return torch.cuda.get_device_name(device)
    except (ValueError, RuntimeError):  # no such device: making the engine will say so
        return "unknown"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"

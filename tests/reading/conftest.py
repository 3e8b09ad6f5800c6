"""Models for the tests of reading: students' own, and networks written in torch's own layers."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from smidgen.network.network import Network

if TYPE_CHECKING:
    from torch import nn

STUDENTS = Path(__file__).parent / "students.py"


@pytest.fixture(scope="session")
def students() -> ModuleType:
    """Return the module with the students' models."""
    return load(STUDENTS, "students")


@pytest.fixture(scope="session")
def in_torch_layers() -> "Callable[[Network], nn.Module]":
    """Return what writes a network in torch's own layers, as a person would."""
    return load(
        Path(__file__).parent.parent / "network" / "torch_layers.py", "torch_layers"
    ).in_torch_layers


def load(path: Path, name: str) -> ModuleType:
    """Import a file that is no test."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

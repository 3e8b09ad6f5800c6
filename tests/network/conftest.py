"""Networks written in torch's own layers, as a person would write them."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smidgen.network.network import Network

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture(scope="session")
def in_torch_layers() -> "Callable[[Network], nn.Module]":
    """Return what writes a network in torch's own layers."""
    path = Path(__file__).parent / "torch_layers.py"
    spec = importlib.util.spec_from_file_location("torch_layers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.in_torch_layers

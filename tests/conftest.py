"""What every test gets: one torch thread, a clean environment, no network beyond loopback."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # tiny tensors make threads wait for each other

_DATA_AT_START = os.environ.get("SMIDGEN_DATA", "")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's own settings and folders out of every test."""
    for name in ("SMIDGEN_DATA", "SMIDGEN_RUNS", "SMIDGEN_MIRROR", "SMIDGEN_CC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SMIDGEN_RUNS", str(tmp_path / "runs"))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail any connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> object:
        if isinstance(address, tuple) and address[0] not in _LOOPBACK:
            raise AssertionError(f"a test tried to reach {address[0]}")
        return connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """Return the folder with the four MNIST files, from the setting a user has, or skip."""
    folder = _DATA_AT_START
    if not folder or not list(Path(folder).glob("**/train-images-idx3-ubyte*")):
        pytest.skip("SMIDGEN_DATA names no folder with the MNIST files")
    return Path(folder)


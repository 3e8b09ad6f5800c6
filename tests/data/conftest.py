"""A tiny published data set, and a server on this machine that misbehaves in every known way."""

import dataclasses
import gzip
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smidgen.data import DatasetSpec, FileSpec

_VARIABLES = ("SMIDGEN_DATA", "SMIDGEN_CACHE", "SMIDGEN_MIRROR")
_SET_BY_USER = {name: os.environ.get(name) for name in _VARIABLES}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own empty cache and none of the user's settings."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "cache"
    monkeypatch.setenv("SMIDGEN_CACHE", str(folder))
    return folder


@pytest.fixture
def user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring back what the user set, for slow tests on real data."""
    for name, value in _SET_BY_USER.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


def idx(array: np.ndarray) -> bytes:
    """Return an array as an IDX file."""
    kind = 0x08 if array.dtype == np.uint8 else 0x0C
    header = bytes((0, 0, kind, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@dataclass(frozen=True)
class Published:
    """A specification together with the bytes it pins."""

    spec: DatasetSpec
    packed: dict[str, bytes]
    unpacked: dict[str, bytes]

    def write(self, folder: Path, unpacked: bool = False) -> Path:
        """Put all four files into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (self.unpacked if unpacked else self.packed).items():
            (folder / name).write_bytes(content)
        return folder

    def at(self, *mirrors: str) -> DatasetSpec:
        """Return the specification with other mirrors."""
        return dataclasses.replace(self.spec, mirrors=mirrors)


def publish(contents: dict[str, bytes], **changes: Any) -> Published:
    """Pin the given unpacked files, keyed by the role they have in a specification."""
    names = {
        "train_images": "train-images-idx3-ubyte",
        "train_labels": "train-labels-idx1-ubyte",
        "test_images": "t10k-images-idx3-ubyte",
        "test_labels": "t10k-labels-idx1-ubyte",
    }
    packed = {role: gzip.compress(content, mtime=0) for role, content in contents.items()}
    files = {
        role: FileSpec(
            name=f"{names[role]}.gz",
            size_bytes=len(packed[role]),
            sha256=hashlib.sha256(packed[role]).hexdigest(),
            unpacked_size_bytes=len(content),
            unpacked_sha256=hashlib.sha256(content).hexdigest(),
        )
        for role, content in contents.items()
    }
    spec = DatasetSpec(
        **{"name": "tiny", "mirrors": (), "class_names": tuple("0123456789"), **files, **changes}
    )
    return Published(
        spec,
        {f"{names[role]}.gz": content for role, content in packed.items()},
        {names[role]: content for role, content in contents.items()},
    )


def tiny_contents() -> dict[str, bytes]:
    """Return four IDX files: 120 training and 30 test images of noise, 28x28, 10 classes."""
    words = np.random.Philox(key=5).random_raw(150 * 98)
    images = words.view(np.uint8).reshape(150, 28, 28)
    labels = (np.arange(150) % 10).astype(np.uint8)
    return {
        "train_images": idx(images[:120]),
        "train_labels": idx(labels[:120]),
        "test_images": idx(images[120:]),
        "test_labels": idx(labels[120:]),
    }


@pytest.fixture
def tiny() -> Published:
    """A published data set of 120 + 30 images."""
    return publish(tiny_contents())


@pytest.fixture(name="publish")
def publish_fixture() -> Callable[..., Published]:
    """The function that pins given files."""
    return publish


@pytest.fixture(name="idx")
def idx_fixture() -> Callable[[np.ndarray], bytes]:
    """The function that writes an IDX file."""
    return idx


@pytest.fixture
def contents() -> dict[str, bytes]:
    """The four files of `tiny`, unpacked, by role; tests break them."""
    return tiny_contents()


@dataclass
class BadServer:
    """Serves files below one folder per kind of misbehavior; remembers what was asked."""

    files: dict[str, bytes]
    address: str = ""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def at(self, behavior: str) -> str:
        """Return the mirror address with this behavior."""
        return f"{self.address}/{behavior}"

    def asked(self, behavior: str) -> list[str]:
        """Return the file names asked for under a behavior."""
        prefix = f"/{behavior}/"
        return [p.removeprefix(prefix) for p, _ in self.requests if p.startswith(prefix)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    bad: BadServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.bad.requests.append((self.path, self.headers.get("Range")))
        _, behavior, *_, name = self.path.split("/")
        content = self.bad.files.get(name, b"")
        try:
            getattr(self, f"be_{behavior}")(content)
        except OSError:  # the client has hung up on us, as it should
            self.close_connection = True

    def _head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()

    def _send(self, content: bytes) -> None:
        self._head(200, Content_Length=len(content))
        self.wfile.write(content)

    def be_good(self, content: bytes) -> None:
        asked = self.headers.get("Range")
        if asked is None:
            self._send(content)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        part = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(206, Content_Range=part, Content_Length=len(content) - start)
        self.wfile.write(content[start:])

    def be_without_range(self, content: bytes) -> None:
        self._send(content)

    def be_wrong_range(self, content: bytes) -> None:
        self._head(206, Content_Range=f"bytes 1-9/{len(content)}", Content_Length=9)
        self.wfile.write(content[1:10])

    def be_refusing_range(self, content: bytes) -> None:
        if self.headers.get("Range"):
            self._head(416)
        else:
            self._send(content)

    def be_unlabelled(self, content: bytes) -> None:
        self._head(200)
        self.wfile.write(content)

    def be_missing(self, _: bytes) -> None:
        self._head(404, Content_Length=0)

    def be_truncated(self, content: bytes) -> None:
        self._head(200, Content_Length=len(content))
        self.wfile.write(content[: len(content) // 2])

    def be_wrong(self, content: bytes) -> None:
        self._send(content[:-1] + bytes((content[-1] ^ 1,)))

    def be_longer(self, content: bytes) -> None:
        self._send(content + b"garbage")

    def be_portal(self, _: bytes) -> None:
        self._send(b"<html>Please log in.</html>")

    def be_redirecting(self, _: bytes) -> None:
        self._head(302, Location="http://example.invalid/file")

    def be_circling(self, _: bytes) -> None:
        self._head(302, Location=self.path)

    def be_moved(self, _: bytes) -> None:
        self._head(301, Location=self.path.replace("moved", "good"))

    def be_garbage(self, _: bytes) -> None:
        self.wfile.write(b"\x00\xff not http at all\r\n\r\n")

    def be_silent(self, _: bytes) -> None:
        self.bad.closing.wait(60)

    def be_slow(self, content: bytes) -> None:
        self._head(200, Content_Length=len(content))
        self._drip(content)

    def be_dripping_headers(self, _: bytes) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        self._drip(b"X-Filler: 1\r\n" * 4000)

    def be_endless(self, _: bytes) -> None:
        self._head(200)
        self._flood()

    def be_endless_redirect(self, _: bytes) -> None:
        self._head(302, Location=self.path)
        self._flood()

    def be_stalling(self, content: bytes) -> None:
        self._head(200, Content_Length=len(content))
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.bad.closing.wait(60)

    def _drip(self, content: bytes) -> None:
        for octet in content:
            if self.bad.closing.wait(0.05):
                return
            self.wfile.write(bytes((octet,)))

    def _flood(self) -> None:
        end = time.monotonic() + 60
        while not self.bad.closing.is_set() and time.monotonic() < end:
            self.wfile.write(b"\0" * 65536)


@pytest.fixture
def bad_server(tiny: Published) -> Iterator[BadServer]:
    """A server that holds the files of `tiny`."""
    bad = BadServer(dict(tiny.packed))
    handler = type("Handler", (_Handler,), {"bad": bad})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    bad.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield bad
    bad.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()

"""Stand-ins for compilers, and a cache that belongs to one test."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FakeCompiler = Callable[..., Path]
Lifeline = tuple[Path, Callable[[], bool]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and nothing of the caller's own choices."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SMIDGEN_CACHE", str(folder))
    monkeypatch.delenv("SMIDGEN_CC", raising=False)
    return folder


@pytest.fixture
def fake_compiler(tmp_path: Path) -> FakeCompiler:
    """Write a shell script that tells a version as gcc does and then runs the given lines."""

    def write(body: str = "exit 0", version: str | None = None, name: str = "fakecc") -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        told = version or "fakecc (Fake) 13.1.0\nFree Software Foundation"
        path.write_text(
            f'#!/bin/sh\nif [ "$1" = --version ]; then cat <<END\n{told}\nEND\nexit 0; fi\n{body}\n'
        )
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def lifeline(tmp_path: Path) -> Iterator[Lifeline]:
    """A pipe for a program to hold open; and whether, within a generous time, nobody does."""
    pipe = tmp_path / "lifeline"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    def is_let_go() -> bool:
        for _ in range(2_000):
            with contextlib.suppress(BlockingIOError):
                if os.read(reading, 100) == b"":
                    return True
            time.sleep(0.01)
        return False

    yield pipe, is_let_go
    os.close(reading)


@pytest.fixture
def counting_compiler(fake_compiler: FakeCompiler, tmp_path: Path) -> tuple[Path, Path]:
    """A compiler that does its work, and the file to which it adds one line each time."""
    real = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if real is None:
        pytest.skip("no C compiler on this machine")
    count = tmp_path / "count"
    return fake_compiler(f"echo compiled >> '{count}'\nexec '{real}' \"$@\""), count

"""Stand-ins for compilers, and a cache that belongs to one test."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

FakeCompiler = Callable[..., Path]


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
            "#!/bin/sh\n"
            f'if [ "$1" = --version ]; then cat <<END\n{told}\nEND\nexit 0; fi\n'
            f"{body}\n"
        )
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def counting_compiler(fake_compiler: FakeCompiler, tmp_path: Path) -> tuple[Path, Path]:
    """A compiler that does its work, and the file to which it adds one line each time."""
    real = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if real is None:
        pytest.skip("no C compiler on this machine")
    count = tmp_path / "count"
    return fake_compiler(f"echo compiled >> '{count}'\nexec '{real}' \"$@\""), count

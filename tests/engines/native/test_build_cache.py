import errno
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smidgen import files
from smidgen.engines.native import build as build_cache
from smidgen.engines.native.build import cached, check_space
from smidgen.errors import CompilerError, StorageError

KEY = "ab" * 16
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for open files")
CONTENT = b"machine code"


class Builder:
    """Makes one file and counts how often."""

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def __call__(self, folder: Path) -> Path:
        """Make the file in the folder it is given."""
        self.folders.append(folder)
        made = folder / "made.so"
        made.write_bytes(CONTENT)
        return made


@pytest.fixture
def builder() -> Builder:
    """A builder that was not called yet."""
    return Builder()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's temporary folder, as far as this test goes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(build_cache, "_warned", [])
    build_cache._private_folder.cache_clear()
    yield folder
    build_cache._private_folder.cache_clear()


def test_entry_is_built_once(cache: Path, builder: Builder) -> None:
    """The second call for a key finds what the first has built."""
    first = cached(KEY, ".so", builder)
    second = cached(KEY, ".so", builder)

    assert first == second
    assert first.read_bytes() == CONTENT
    assert len(builder.folders) == 1


def test_entry_is_named_after_its_content(cache: Path, builder: Builder) -> None:
    """Key and SHA-256 stand in the name, so that one rename sets both."""
    entry = cached(KEY, ".so", builder)

    assert entry == cache / "native" / f"{KEY}.{files.sha256_of(entry)}.so"


def test_nothing_else_stays(cache: Path, builder: Builder) -> None:
    """Beside the entry neither a lock nor the folder it was built in is left."""
    entry = cached(KEY, ".so", builder)

    assert list(entry.parent.iterdir()) == [entry]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[:5],
        lambda content: b"",
        lambda content: content + b"x",
    ],
    ids=["bit flipped", "truncated", "emptied", "lengthened"],
)
def test_damaged_entry_is_built_again(
    cache: Path, builder: Builder, damage: Callable[[bytes], bytes]
) -> None:
    """An entry that does not hash to its name is replaced without a word."""
    entry = cached(KEY, ".so", builder)
    entry.write_bytes(damage(CONTENT))

    again = cached(KEY, ".so", builder)

    assert again == entry
    assert again.read_bytes() == CONTENT
    assert len(builder.folders) == 2


def test_entry_with_a_foreign_name_is_not_believed(cache: Path, builder: Builder) -> None:
    """A file that bears the key and a wrong digest is removed."""
    entry = cached(KEY, ".so", builder)
    foreign = entry.rename(entry.with_name(f"{KEY}.{'0' * 64}.so"))

    assert cached(KEY, ".so", builder) == entry
    assert not foreign.exists()


def test_failed_build_leaves_nothing(cache: Path) -> None:
    """An error of the builder goes through, and its folder is removed."""

    def fail(folder: Path) -> Path:
        (folder / "half").write_bytes(b"half")
        raise CompilerError("no")

    with pytest.raises(CompilerError, match="no"):
        cached(KEY, ".so", fail)

    assert list((cache / "native").iterdir()) == []


def test_left_overs_of_killed_processes_are_swept(cache: Path, builder: Builder) -> None:
    """All of the same key go, others once they are an hour old; what may live stays."""
    folder = cache / "native"
    same, old, young = (folder / f".{key}.build-x" for key in (KEY, "cd" * 16, "ef" * 16))
    old_files = [folder / f".{'cd' * 16}{ending}" for ending in (".so.1-ab.partial", ".lock")]
    for path in (same, old, young):
        path.mkdir(parents=True)
        (path / "network.c").write_text("")
    for path in old_files:
        path.write_bytes(b"part")
    for path in (old, *old_files):
        os.utime(path, (0, 0))

    entry = cached(KEY, ".so", builder)

    assert set(folder.iterdir()) == {young, entry}


def fill_cache(folder: Path, age_seconds: float) -> list[Path]:
    """Write four entries of a megabyte, each used a second after the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [folder / f"{digit * 32}.{'0' * 64}.so" for digit in "4213"]
    for place, entry in enumerate(entries):
        entry.write_bytes(bytes(2**20))
        used = time.time() - age_seconds + place
        os.utime(entry, (used, used))
    return entries


def test_what_was_not_used_for_longest_goes(
    cache: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build removes the oldest entries until the rest fits, and leaves nothing else behind."""
    monkeypatch.setenv("SMIDGEN_CACHE_MEGABYTES", "2.5")
    entries = fill_cache(cache / "native", age_seconds=5000)

    built = cached(KEY, ".so", builder)

    assert set((cache / "native").iterdir()) == {built, *entries[2:]}


@pytest.mark.parametrize(("size", "age"), [("2.5", 300), ("100", 5000), ("a lot", 5000)])
def test_nothing_goes_without_need(
    cache: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch, size: str, age: float
) -> None:
    """What was used minutes ago may be about to be loaded; below the size all stays."""
    monkeypatch.setenv("SMIDGEN_CACHE_MEGABYTES", size)
    entries = fill_cache(cache / "native", age_seconds=age)

    built = cached(KEY, ".so", builder)

    assert set((cache / "native").iterdir()) == {built, *entries}


def test_using_an_entry_keeps_it(
    cache: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old entry that is found again is the last to go."""
    monkeypatch.setenv("SMIDGEN_CACHE_MEGABYTES", "0")
    first = cached(KEY, ".so", builder)
    entries = fill_cache(cache / "native", age_seconds=5000)
    os.utime(first, (0, 0))

    cached(KEY, ".so", builder)
    other = cached("cd" * 16, ".so", builder)

    assert set((cache / "native").iterdir()) == {first, other}
    assert not any(entry.exists() for entry in entries)


def test_an_entry_that_is_being_built_stays(
    cache: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds a key's lock its entry is left alone, and another one goes."""
    monkeypatch.setenv("SMIDGEN_CACHE_MEGABYTES", "3.5")
    oldest, second, *rest = fill_cache(cache / "native", age_seconds=5000)

    with files.locked(cache / "native" / f".{'4' * 32}.lock", remove=True):
        built = cached(KEY, ".so", builder)

    assert set((cache / "native").iterdir()) == {built, oldest, *rest}
    assert not second.exists()


def test_lock_of_a_dead_process_is_taken_and_kept_while_needed(cache: Path) -> None:
    """A lock file from long ago is not swept by the very process that holds it now."""
    lock = cache / "native" / f".{KEY}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (0, 0))
    held = []

    def build(folder: Path) -> Path:
        held.append(lock.exists())
        (folder / "made").write_bytes(CONTENT)
        return folder / "made"

    cached(KEY, ".so", build)

    assert held == [True]
    assert not lock.exists()


def test_file_in_place_of_the_cache_does_not_stop_anybody(
    cache: Path,
    temporary: Path,
    builder: Builder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A temporary folder serves instead, one line says so, and nothing is built twice."""
    cache.write_text("in the way")

    with caplog.at_level(logging.WARNING):
        first = cached(KEY, ".so", builder)
        second = cached(KEY, ".so", builder)
        other = cached("cd" * 16, ".so", builder)

    assert first == second
    assert first.parent == other.parent
    assert first.is_relative_to(temporary)
    assert first.read_bytes() == CONTENT
    assert len(builder.folders) == 2
    assert first.parent.stat().st_mode & 0o077 == 0
    assert caplog.messages == [
        f"Cannot write `{cache}/native`: a file stands where a folder should be. Move it or "
        "choose another folder. Compiled code is kept for this process only; name a writable "
        "folder with `SMIDGEN_CACHE`."
    ]


@needs_proc
def test_full_cache_does_not_stop_anybody(
    cache: Path,
    temporary: Path,
    builder: Builder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the cache's disk is full when the entry is written, a temporary folder serves."""
    fill_disk(monkeypatch, lambda path: path.startswith(str(cache)))

    entry = cached(KEY, ".so", builder)

    assert entry.is_relative_to(temporary)
    assert entry.read_bytes() == CONTENT
    assert "no space left on the device" in caplog.text
    assert list((cache / "native").iterdir()) == []


def test_full_disk_that_a_compiler_met_counts_as_one(
    cache: Path, temporary: Path, builder: Builder, caplog: pytest.LogCaptureFixture
) -> None:
    """The compiler's own complaint about space sends the build elsewhere too."""

    def build(folder: Path) -> Path:
        if folder.is_relative_to(cache):
            check_space("a.s: fatal error: No space left on device", folder)
        return builder(folder)

    assert cached(KEY, ".so", build).is_relative_to(temporary)
    assert "no space left on the device" in caplog.text


@needs_proc
def test_no_space_anywhere_is_one_clear_line(
    cache: Path, temporary: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both disks full there is an error that names the place."""
    fill_disk(monkeypatch, lambda path: True)

    with pytest.raises(StorageError) as error:
        cached(KEY, ".so", builder)

    (private,) = temporary.iterdir()
    assert str(error.value).startswith(f"Cannot write `{private}/{KEY}.")
    assert str(error.value).endswith(
        "no space left on the device. Free some space or choose another folder."
    )


@needs_proc
def test_file_system_without_locks_is_left_alone(
    cache: Path,
    temporary: Path,
    builder: Builder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where the cache cannot be locked, as on some network drives, it is not used."""
    fcntl = pytest.importorskip("fcntl")
    flock = fcntl.flock

    def refuse(descriptor: int, operation: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(cache)):
            raise OSError(errno.ENOLCK, "No locks available")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", refuse)

    assert cached(KEY, ".so", builder).is_relative_to(temporary)
    assert caplog.messages == [
        f"Cannot write `{cache}/native/.{KEY}.lock`: No locks available. Compiled code is kept "
        "for this process only; name a writable folder with `SMIDGEN_CACHE`."
    ]


def fill_disk(monkeypatch: pytest.MonkeyPatch, is_full: Callable[[str], bool]) -> None:
    """Let fsync meet a full disk for some paths."""
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if is_full(os.readlink(f"/proc/self/fd/{descriptor}")):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)

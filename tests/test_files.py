import errno
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from smidgen import files
from smidgen.errors import StorageError, StorageWarning
from smidgen.files import (
    locked,
    make_folder,
    sha256_of,
    storage_errors,
    sweep_temporaries,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    """Return what stands in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def dead_process() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_bytes_and_functions_are_written(tmp_path: Path) -> None:
    """Content may be bytes or a function that writes; folders are made as needed."""
    write_atomically(tmp_path / "a" / "b" / "one", b"bytes")
    write_atomically(tmp_path / "two", lambda file: file.writelines([b"x", b"y"]))

    assert (tmp_path / "a" / "b" / "one").read_bytes() == b"bytes"
    assert (tmp_path / "two").read_bytes() == b"xy"
    assert names(tmp_path) == ["a", "two"]


def test_everything_is_synced_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is durable before it gets its name, and the name before the call returns."""
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
        events.append(f"fsync {'folder' if os.path.isdir(target) else 'file'}")
        fsync(descriptor)

    def noted_replace(source: Any, target: Any) -> None:
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)

    write_atomically(tmp_path / "x", b"content")

    assert events == ["fsync file", "replace", "fsync folder"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whichever step fails, the old file stands, no temporary stays, and the line is clear."""
    path = tmp_path / "x"
    write_atomically(path, b"old")

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "write":
        content: Any = full
    else:
        content = b"new"
        monkeypatch.setattr(os, call, full)

    with pytest.raises(StorageError) as caught:
        write_atomically(path, content)

    assert str(caught.value) == (
        f"Cannot write `{path}`: no space left on the device. "
        "Free some space or choose another folder."
    )
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_an_interruption_removes_the_temporary(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a write leaves the old content and nothing else."""
    path = tmp_path / "x"
    write_atomically(path, b"old")

    def interrupted(file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_a_file_in_place_of_a_folder_is_one_line(tmp_path: Path) -> None:
    """Where a folder is needed and a file stands, the line says so."""
    (tmp_path / "file").write_text("in the way")

    for path in (tmp_path / "file" / "x", tmp_path / "file" / "deeper" / "x"):
        with pytest.raises(StorageError) as caught:
            write_atomically(path, b"")
        assert str(caught.value) == (
            f"Cannot write `{path}`: a file stands where a folder should be. "
            "Move it or choose another folder."
        )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EACCES, "no permission to write there. Choose another folder."),
        (errno.EROFS, "no permission to write there. Choose another folder."),
        (errno.EIO, "Input/output error."),
    ],
)
def test_other_complaints_are_one_line(tmp_path: Path, number: int, text: str) -> None:
    """What the system says is put in words, and an own error passes as it is."""
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    with pytest.raises(StorageError) as own, storage_errors(tmp_path):
        raise StorageError("ours")

    assert str(caught.value) == f"Cannot write `{tmp_path}`: {text}"
    assert str(own.value) == "ours"


def test_leftovers_of_the_dead_are_swept(tmp_path: Path) -> None:
    """The next writer of a file removes what killed writers of it left; nothing else."""
    dead = dead_process()
    for name in (
        f".x.{dead}-00ff.partial",
        f".x.{os.getppid()}-00ff.partial",
        f".y.{dead}-00ff.partial",
        ".x.notes.partial",
    ):
        (tmp_path / name).write_bytes(b"half")

    write_atomically(tmp_path / "x", b"whole")

    assert names(tmp_path) == sorted(
        [f".x.{os.getppid()}-00ff.partial", f".y.{dead}-00ff.partial", ".x.notes.partial", "x"]
    )
    sweep_temporaries(tmp_path / "y")
    assert f".y.{dead}-00ff.partial" not in names(tmp_path)


def test_folders_are_made_durably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new folder's name is synced in the one above it; an old one costs nothing."""
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)

    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")

    assert synced == [tmp_path, tmp_path / "a"]
    assert (tmp_path / "a" / "b").is_dir()


def test_sha256(tmp_path: Path) -> None:
    """The hash is that of the bytes, in hexadecimal digits."""
    (tmp_path / "x").write_bytes(b"abc" * 1000)

    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_a_lock_excludes_others_and_ends(tmp_path: Path) -> None:
    """While one holds the lock another that does not wait is told whose it is."""
    path = tmp_path / "deep" / ".lock"

    with (
        locked(path),
        pytest.raises(StorageError) as caught,
        locked(path, wait=False, owner="The run `x`"),
    ):
        pass
    with locked(path, wait=False):
        pass

    assert str(caught.value) == (
        "The run `x` is in use by another process. Wait for it or stop it."
    )
    assert path.is_file()


def test_a_lock_file_can_go_away(tmp_path: Path) -> None:
    """With `remove` nothing stays behind, not even after an error."""
    path = tmp_path / ".lock"

    with locked(path, remove=True):
        assert path.is_file()
    with pytest.raises(RuntimeError), locked(path, remove=True):
        raise RuntimeError

    assert names(tmp_path) == []


def test_a_removed_lock_is_not_held_twice(tmp_path: Path) -> None:
    """Threads that wait for a lock whose file comes and goes enter one at a time."""
    path = tmp_path / ".lock"
    inside, most, entries = 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most, entries
        for _ in range(40):
            with locked(path, remove=True):
                with guard:
                    inside, entries = inside + 1, entries + 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (most, entries) == (1, 160)


def test_a_lock_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """Where no file can be made, the line names it."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StorageError) as caught, locked(tmp_path / "file" / ".lock"):
        pass

    assert str(caught.value).startswith(f"Cannot write `{tmp_path / 'file' / '.lock'}`: ")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The body runs, with one warning that says what nobody guards now and what to do."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    ran = False

    with pytest.warns(StorageWarning) as told, locked(tmp_path / "deep" / ".lock", remove=True):
        ran = True

    assert ran
    assert [str(each.message) for each in told] == [
        f"The file system of `{tmp_path / 'deep'}` has no locks, so nothing keeps two processes "
        "apart there. Run one at a time, or choose another folder."
    ]

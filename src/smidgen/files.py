"""Files that survive power loss: durable atomic writes, hashes, locks between processes.

A reader sees the old content or the new, never a part; a temporary file that a killed
process left behind is removed by the next writer of the same file.
"""

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from smidgen.errors import StorageError

TEMPORARY_SUFFIX = ".partial"


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file so that it is complete or absent, even if power fails.

    Args:
        path: Where the file shall stand; its folder is made if missing.
        content: The bytes, or a function that writes them to an open binary file.

    Raises:
        StorageError: The folder cannot be made or the disk is full. What stood at `path`
            before is untouched.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(path)
        temporary = path.with_name(
            f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
        )
        try:
            with open(temporary, "xb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a no-op where folders cannot be opened)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporaries(path: Path) -> None:
    """Remove what dead writers of `path` left behind; living writers keep their files."""
    for leftover in path.parent.glob(f".{path.name}.*{TEMPORARY_SUFFIX}"):
        owner = leftover.name.removeprefix(f".{path.name}.").split("-")[0]
        if owner.isdigit() and not _is_alive(int(owner)):
            leftover.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path: Path, wait: bool = True, owner: str = "This") -> Iterator[None]:
    """Hold a lock that other processes respect while the body runs.

    The lock belongs to the open file, so the system frees it when a process dies.

    Args:
        path: The lock file; it stays behind, empty.
        wait: Whether to wait for one's turn, or to fail if another process holds the lock.
        owner: What the lock protects, for the message.

    Raises:
        StorageError: The lock file cannot be made, or another process holds it.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _lock(descriptor, wait):
            raise StorageError(f"{owner} is in use by another process. Wait for it or stop it.")
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the system's complaint about writing `path` into one clear line.

    Raises:
        StorageError: In place of any OSError that is not already ours.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"Cannot write `{path}`: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "no space left on the device. Free some space or choose another folder."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return "a file stands where a folder should be. Move it or choose another folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission to write there. Choose another folder."
    return f"{error.strerror or error}."


def _is_alive(process_id: int) -> bool:
    if os.name != "posix":  # on Windows os.kill would end the process
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


if os.name == "posix":
    import fcntl

    def _lock(descriptor: int, wait: bool) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

else:  # pragma: no cover - Windows
    import msvcrt

    def _lock(descriptor: int, wait: bool) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

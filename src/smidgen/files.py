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

from smidgen.errors import InUseError, StorageError

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
        make_folder(path.parent)
        sweep_temporaries(path)
        temporary = path.with_name(
            f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
        )
        try:
            _write_durably(temporary, content)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _write_durably(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    with open(path, "xb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durably; nothing happens if it is there."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


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
def locked(
    path: Path, wait: bool = True, owner: str = "This", remove: bool = False
) -> Iterator[None]:
    """Hold a lock that other processes respect while the body runs.

    The lock belongs to the open file, so the system frees it when a process dies.

    Args:
        path: The lock file; what a dead process left behind does no harm.
        wait: Whether to wait for one's turn, or to fail if another process holds the lock.
        owner: What the lock protects, for the message.
        remove: Whether the lock file goes away afterwards; else it stays behind, empty.

    Raises:
        StorageError: The lock file cannot be made.
        InUseError: Another process holds it.
    """
    with storage_errors(path):
        make_folder(path.parent)
        descriptor = _acquire(path, wait)
    if descriptor is None:
        raise InUseError(f"{owner} is in use by another process. Wait for it or stop it.")
    try:
        yield
    finally:
        if remove:
            with contextlib.suppress(OSError):  # Windows keeps a file that is open
                path.unlink()
        os.close(descriptor)


def _acquire(path: Path, wait: bool) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _lock(descriptor, wait):
            os.close(descriptor)
            return None
        if _names_it(path, descriptor):
            return descriptor
        os.close(descriptor)  # its last holder removed it in the meantime: take the next one


def _names_it(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


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

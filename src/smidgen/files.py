"""Files that survive power loss: durable atomic writes, hashes, locks between processes.

A reader sees the old content or the new, never a part; a temporary file that a killed
process left behind is removed by the next writer of the same file.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from smidgen.errors import InUseError, StorageError, StorageWarning

TEMPORARY_SUFFIX = ".partial"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some NFS, Lustre and FUSE mounts


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
    """Make the names in a folder durable."""
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

    The lock belongs to the open file, so the system frees it when a process dies. Where the
    file system has no locks, the body runs all the same, and a `StorageWarning` says so.

    Args:
        path: The lock file; what a dead process left behind does no harm.
        wait: Whether to wait for one's turn, or to fail if another process holds the lock.
        owner: What the lock protects, for the message.
        remove: Whether the lock file goes away afterwards; else it stays behind, empty.

    Raises:
        StorageError: The lock file cannot be made.
        InUseError: Another process holds it.
    """
    from filelock import FileLock, Timeout  # 50 ms that `--help` and listings need not wait

    # a soft lock would outlive a killed process; without one we can at least say so
    lock = FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
    with storage_errors(path):
        make_folder(path.parent)
        try:
            lock.acquire()
        except Timeout:
            raise InUseError(
                f"{owner} is in use by another process. Wait for it or stop it."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                f"The file system of `{path.parent}` has no locks, so nothing keeps two "
                "processes apart there. Run one at a time, or choose another folder.",
                StorageWarning,
                stacklevel=3,
            )
    try:
        yield
    finally:
        if remove:
            path.unlink(missing_ok=True)
        lock.release()


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
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

"""A key and a way to build in, a verified file out: compiled code that is kept between runs.

An entry is called `KEY.DIGEST.so`: one atomic rename sets the library and its SHA-256 together,
and an entry that does not hash to its name is thrown away and built again. Processes that
want the same key at once wait for one of them to build it.

Where the cache cannot be written (a file in the place of a folder, no permission, a full disk,
no locks on that file system), entries live in a temporary folder of this process that is removed
at its end, and one line on standard error says so.
"""

import atexit
import contextlib
import errno
import functools
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from smidgen.files import (
    TEMPORARY_SUFFIX,
    locked,
    sha256_of,
    storage_errors,
    write_atomically,
)
from smidgen.places import CACHE_VARIABLE, cache_folder

_BUILD_MARK = ".build-"
_STALE_SECONDS = 3600.0
"""No build lives that long: what is older was left by a process that was killed."""

_logger = logging.getLogger(__name__)


def cached(key: str, suffix: str, build: Callable[[Path], Path]) -> Path:
    """Return the verified file that belongs to a key, built first if there is none.

    Args:
        key: Hexadecimal digits that stand for everything the content depends on.
        suffix: How the file's name ends, as `.so`.
        build: Makes the file inside the empty folder it is given and returns its path. The
            folder above that one is the cache; both are absolute.

    Raises:
        StorageError: Neither the cache nor the system's temporary folder can be written.
    """
    try:
        return _cached(cache_folder().absolute() / "native", key, suffix, build)
    except OSError as error:
        _say_once(str(error))
    with storage_errors(Path(os.environ.get("TMPDIR", "/tmp"))):
        return _cached(_private_folder(os.getpid()), key, suffix, build)


def check_space(output: str, folder: Path) -> None:
    """Notice in what a compiler printed that its disk was full.

    Raises:
        OSError: It was; so `cached` goes on elsewhere.
    """
    if os.strerror(errno.ENOSPC) in output:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _cached(folder: Path, key: str, suffix: str, build: Callable[[Path], Path]) -> Path:
    with storage_errors(folder):
        if entry := _verified(folder, key):
            return entry
        # 256 locks for all keys: few files stay behind, and different networks rarely wait.
        with locked(folder / f".{key[:2]}.lock"):
            return _verified(folder, key) or _build(folder, key, suffix, build)


def _build(folder: Path, key: str, suffix: str, build: Callable[[Path], Path]) -> Path:
    """Make the key's entry while its lock is held, in place of what may stand there."""
    for damaged in folder.glob(f"{key}.*"):
        damaged.unlink(missing_ok=True)
    _sweep(folder, key)
    scratch = Path(tempfile.mkdtemp(prefix=f".{key}{_BUILD_MARK}", dir=folder))
    try:
        made = build(scratch)
        entry = folder / f"{key}.{sha256_of(made)}{suffix}"
        write_atomically(entry, made.read_bytes())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return entry


def _verified(folder: Path, key: str) -> Path | None:
    """Return the key's entry if its bytes still hash to its name."""
    for entry in folder.glob(f"{key}.*"):
        with contextlib.suppress(FileNotFoundError):  # another process replaces it right now
            if sha256_of(entry) == entry.name.split(".")[1]:
                return entry
    return None


def _sweep(folder: Path, key: str) -> None:
    """Remove what killed processes left: of this key, whose lock we hold, and all that is old."""
    for leftover in folder.glob(".*"):
        if _BUILD_MARK not in leftover.name and not leftover.name.endswith(TEMPORARY_SUFFIX):
            continue
        with contextlib.suppress(OSError):
            age_seconds = time.time() - leftover.stat().st_mtime
            if leftover.name.startswith(f".{key}.") or age_seconds > _STALE_SECONDS:
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink()


@functools.cache
def _say_once(reason: str) -> None:
    _logger.warning(
        "%s Compiled code is kept for this process only; name a writable folder with `%s`.",
        reason,
        CACHE_VARIABLE,
    )


@functools.cache
def _private_folder(process_id: int) -> Path:
    """Return a new folder that only this user can read, removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="smidgen-"))

    def remove() -> None:
        if os.getpid() == process_id:  # a fork inherits the duty, not the right
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder

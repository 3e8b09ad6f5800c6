"""A key and a way to build in, a verified file out: compiled code that is kept between runs.

An entry is called `KEY.DIGEST.so`: one atomic rename sets the library and its SHA-256 together,
and an entry that does not hash to its name is thrown away and built again. Processes that
want the same key at once wait for one of them to build it.

Where the cache cannot be written (a file in the place of a folder, no permission, a full disk,
no locks on that file system), entries live in a temporary folder of this process that is removed
at its end, and one line on standard error says so.

All entries together take a gigabyte at most, or what `SMIDGEN_CACHE_MEGABYTES` says; a search makes
thousands. Whoever builds one removes those that were not used for longest, but none that was used
in the last minutes, for a process may be about to load it.
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
    locked,
    make_folder,
    sha256_of,
    storage_errors,
    write_atomically,
)
from smidgen.places import CACHE_VARIABLE, cache_folder

_LOCK_SUFFIX = ".lock"
SIZE_VARIABLE = "SMIDGEN_CACHE_MEGABYTES"
_DEFAULT_MEGABYTES = 1024.0
_IN_USE_SECONDS = 600.0
"""Between finding an entry and loading it lies far less."""
_STALE_SECONDS = 3600.0
"""No build lives that long: what is older was left by a process that was killed."""
_WARNING = "%s Compiled code is kept for this process only; name a writable folder with `%s`."
_warned: list[str] = []
"""What was told already: a search compiles thousands of networks and one line is enough."""

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
        if not _warned:
            _warned.append(str(error))
            _logger.warning(_WARNING, error, CACHE_VARIABLE)
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
        make_folder(folder)
        lock = folder / f".{key}{_LOCK_SUFFIX}"
        with locked(lock, remove=True):
            lock.touch()  # a dead process may have left it long ago, and nobody shall sweep it now
            return _verified(folder, key) or _build(folder, key, suffix, build)


def _build(folder: Path, key: str, suffix: str, build: Callable[[Path], Path]) -> Path:
    """Make the key's entry while its lock is held, in place of what may stand there."""
    for damaged in folder.glob(f"{key}.*"):
        damaged.unlink(missing_ok=True)
    _sweep(folder, key)
    scratch = Path(tempfile.mkdtemp(prefix=f".{key}.build-", dir=folder))
    try:
        made = build(scratch)
        entry = folder / f"{key}.{sha256_of(made)}{suffix}"
        write_atomically(entry, made.read_bytes())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _shrink(folder)
    return entry


def _verified(folder: Path, key: str) -> Path | None:
    """Return the key's entry if its bytes still hash to its name."""
    for entry in folder.glob(f"{key}.*"):
        with contextlib.suppress(FileNotFoundError):  # another process replaces it right now
            with contextlib.suppress(OSError):  # in a cache that can only be read
                os.utime(entry)  # first, so that nobody removes it as long unused
            if sha256_of(entry) == entry.name.split(".")[1]:
                return entry
    return None


def _shrink(folder: Path) -> None:
    """Remove what was not used for longest until the cache keeps its size."""
    limit = _most_bytes()
    entries = []
    for entry in folder.glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):
            status = entry.stat()
            entries.append((status.st_mtime, status.st_size, entry))
    excess = sum(size for _, size, _ in entries) - limit
    for used, size, entry in sorted(entries):
        if excess <= 0 or time.time() - used < _IN_USE_SECONDS:
            return
        with contextlib.suppress(OSError):  # Windows keeps a library that is loaded
            _remove_unused(folder, entry, used)
            excess -= size


def _remove_unused(folder: Path, entry: Path, used: float) -> None:
    """Remove an entry while nobody builds it, unless it was used again in the meantime."""
    lock = folder / f".{entry.name.split('.')[0]}{_LOCK_SUFFIX}"
    with locked(lock, wait=False, remove=True):
        if entry.stat().st_mtime == used:
            entry.unlink()


def _most_bytes() -> float:
    """Return how much all entries may take together; what is no size counts as the default."""
    try:
        megabytes = float(os.environ.get(SIZE_VARIABLE, _DEFAULT_MEGABYTES))
    except ValueError:
        megabytes = _DEFAULT_MEGABYTES
    return megabytes * 2**20


def _sweep(folder: Path, key: str) -> None:
    """Remove what killed processes left: of this key, whose lock is held, and all that is old.

    Hidden names are locks, folders to build in and files being written.
    """
    for hidden in folder.glob(".*"):
        with contextlib.suppress(OSError):
            is_of_key = hidden.name.startswith(f".{key}.") and hidden.suffix != _LOCK_SUFFIX
            is_old = time.time() - hidden.stat().st_mtime > _STALE_SECONDS
            if is_of_key or is_old:
                shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()


@functools.cache
def _private_folder(process_id: int) -> Path:
    """Return a new folder that only this user can read, removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="smidgen-"))

    def remove() -> None:
        if os.getpid() == process_id:  # a fork inherits the duty, not the right
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder

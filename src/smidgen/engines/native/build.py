"""C source in, a library that this process has loaded out; compiled code is kept between runs.

An entry of the cache is called `KEY.DIGEST.so`: one atomic rename sets the library and its SHA-256
together, and an entry that does not hash to its name is thrown away and built again. Processes
that want the same key at once wait for one of them to build it. Nothing is loaded that belongs to
another user, or lies in a folder that others may write: such code would run as this user.

Where the cache cannot be used (a file in the place of a folder, no permission, a full disk or
quota, others' hands, a mount from which nothing may be run), entries live in a temporary folder of
this process that is removed at its end, and one line on standard error says so.

All entries together take a gigabyte at most, or what `SMIDGEN_CACHE_MEGABYTES` says; a search makes
thousands. Whoever builds one removes those that were not used for longest, but none that was used
in the last minutes, for a process may be about to load it.
"""

import atexit
import contextlib
import ctypes
import errno
import functools
import hashlib
import json
import logging
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smidgen.engines.native.job import job_header
from smidgen.engines.native.toolchain import (
    ADVICE,
    Compiler,
    checked_features,
    describe_failure,
    find_compiler,
    find_compilers,
    lanes_of_host,
    library_command,
    processor_features,
    run,
)
from smidgen.errors import CompilerError, StorageError
from smidgen.files import locked, make_folder, sha256_of, storage_errors, write_atomically
from smidgen.places import CACHE_VARIABLE, cache_folder

HEADER_FOLDER = Path(__file__).resolve().parent
"""Its headers can be included by everything compiled here and are part of every key."""
SIZE_VARIABLE = "SMIDGEN_CACHE_MEGABYTES"

_KEY_VERSION = 2
_SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"
_MAGIC = (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe") if sys.platform == "darwin" else (b"\x7fELF",)
_LOCK_SUFFIX = ".lock"
_FROM_SUFFIX = ".from"
_DEFAULT_MEGABYTES = 1024.0
_IN_USE_SECONDS = 600.0
"""Between finding an entry and loading it lies far less."""
_STALE_SECONDS = 3600.0
"""No build lives that long: what is older was left by a process that was killed."""
_WARNING = "%s Compiled code is kept for this process only; name a writable folder with `%s`."
_NEXT = "%s Going on with the C compiler `%s`."
_FULL = (errno.ENOSPC, errno.EDQUOT)

_warned: list[str] = []
"""What was told already: a search compiles thousands of networks and one line is enough."""
_given_up: set[Compiler] = set()
"""Compilers that failed in this process while another one was at hand."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """How C becomes machine code.

    Args:
        compiler: What `find_compiler` shall look for; None for the first that does the work.
        lanes: Images side by side, 16, 8, 4 or 1; decides which instructions may be used.
            None means as many as this processor can.
        optimize: The compiler's optimization flag.
        timeout_seconds: When a compiler that hangs is ended.
    """

    compiler: str | None = None
    lanes: int | None = None
    optimize: str = "-O3"
    timeout_seconds: float = 300.0


DEFAULT_OPTIONS = CompileOptions()


def headers() -> dict[str, str]:
    """Return all that generated C may include, by file name."""
    found = {path.name: path.read_text(encoding="utf-8") for path in HEADER_FOLDER.glob("*.h")}
    return {**found, "job.h": job_header()}


BUILD = "smidgen_build"
"""Attribute of a loaded library: who built it (`compiler`) and what it is (`sha256`)."""


def build_library(
    source: str, symbols: Sequence[str] = (), options: CompileOptions = DEFAULT_OPTIONS
) -> ctypes.CDLL:
    """Compile and load C by the first compiler whose work can be used.

    One that fails is told in one line if there is another, and not asked again in this process.

    Args:
        source: A C file; it may include what `headers` returns.
        symbols: Functions that the library must have.
        options: Compiler, lanes, optimization.

    Raises:
        CompilerError: No compiler, or none whose library can be loaded.
        StorageError: No folder can be written at all.
    """
    if options.compiler is None and (placed := _placed(source, options.lanes)) is not None:
        return placed
    failures: list[CompilerError] = []
    for compiler in find_compilers(options.compiler):
        if options.compiler is None and compiler in _given_up:
            continue
        if failures:
            why = str(failures[-1]).removesuffix(ADVICE).strip()
            _logger.warning(_NEXT, why, compiler.name)
        try:
            return _loaded(source, symbols, compiler, options)
        except CompilerError as failure:
            failures.append(failure)
            if options.compiler is None:
                _given_up.add(compiler)
    if not failures:
        raise CompilerError(f"Every C compiler has failed before. {ADVICE}")
    raise failures[0]


def compile_library(source: str, options: CompileOptions = DEFAULT_OPTIONS) -> Path:
    """Compile C into a shared library for this machine, or find the one made before.

    Raises:
        CompilerError: No compiler, lanes this processor lacks, or a compiler that refuses
            the source, crashes, is killed, hangs or makes no library.
        StorageError: No folder can be written at all.
    """
    return _compiled(source, find_compiler(options.compiler), options)


@dataclass(frozen=True, slots=True)
class CarriedLibrary:
    """A compiled library on its way to machines that need no compiler then.

    Args:
        key: Stands for the source, the headers, the lanes and the system that it was made for.
        content: Its bytes.
        sha256: Their digest.
        lanes: Images side by side.
        compiler: Who made it, as a run's record says it.
    """

    key: str
    content: bytes
    sha256: str
    lanes: int
    compiler: str


def carry_library(source: str, lanes: int) -> CarriedLibrary:
    """Compile a program for machines with so many lanes, or find it, to be sent to them.

    Raises:
        CompilerError: No compiler, or it failed.
        StorageError: No folder can be written at all.
    """
    options = CompileOptions(lanes=lanes)
    compiler = find_compiler()
    content = _compiled(source, compiler, options).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    who = f"{compiler.kind}, {compiler.version}"
    return CarriedLibrary(_carried_key(source, lanes), content, digest, lanes, who)


def place_library(carried: CarriedLibrary) -> Path:
    """Put a library that was sent here where `build_library` finds it before any compiler.

    Raises:
        CompilerError: Its bytes are not those that were sent, or this processor lacks its lanes.
        StorageError: The cache cannot be written, or others may write there.
    """
    checked_features(carried.lanes)
    if hashlib.sha256(carried.content).hexdigest() != carried.sha256:
        raise CompilerError("The compiled library arrived damaged. Send it again.")
    folder = _own_folder()
    entry = folder / f"{carried.key}.{carried.sha256}{_SUFFIX}"
    with storage_errors(folder):
        write_atomically(entry.with_suffix(_FROM_SUFFIX), carried.compiler.encode())
        write_atomically(entry, carried.content)
    return entry


def _placed(source: str, lanes: int | None) -> ctypes.CDLL | None:
    """Return a library that was sent here for this very program, loaded, or None."""
    lanes = lanes_of_host() if lanes is None else lanes
    with contextlib.suppress(OSError, CompilerError):
        checked_features(lanes)
        if path := _verified(_own_folder(), _carried_key(source, lanes)):
            who = path.with_suffix(_FROM_SUFFIX)
            told = who.read_text(encoding="utf-8") if who.is_file() else "unknown"
            library = load_library(path)
            setattr(library, BUILD, {"compiler": told, "sha256": path.name.split(".")[1]})
            return library
    return None


def _carried_key(source: str, lanes: int) -> str:
    parts = ["carried", _KEY_VERSION, headers(), source, lanes, sys.platform, platform.machine()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def load_library(path: Path) -> ctypes.CDLL:
    """Load what `compile_library` made; from a copy where its own folder forbids running.

    Raises:
        CompilerError: The system refuses it, for instance a library for another processor.
    """
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        refusal = error
    with contextlib.suppress(OSError):
        copy = _private_folder(os.getpid()) / path.name
        if copy != path:
            write_atomically(copy, path.read_bytes())  # never into a file that is loaded already
            library = ctypes.CDLL(str(copy))
            _warn(f"The compiled library cannot be loaded from `{path.parent}`.")
            return library
    raise CompilerError(
        f"The compiled library `{path.name}` cannot be loaded: {refusal}. Set `SMIDGEN_CACHE` "
        f"to a folder that programs may be run from, or name another compiler with "
        f"`SMIDGEN_CC`. {ADVICE}"
    ) from refusal


def _loaded(
    source: str, symbols: Sequence[str], compiler: Compiler, options: CompileOptions
) -> ctypes.CDLL:
    path = _compiled(source, compiler, options)
    library = load_library(path)
    if all(hasattr(library, symbol) for symbol in symbols):
        return _labelled(library, compiler)
    with contextlib.suppress(OSError):  # it is no library of ours, whatever its name says
        path.unlink()
    library = load_library(_compiled(source, compiler, options))
    missing = [symbol for symbol in symbols if not hasattr(library, symbol)]
    if missing:
        who = f"The library that the C compiler `{compiler.name}` made"
        raise CompilerError(f"{who} has no `{missing[0]}`. {ADVICE}")
    return _labelled(library, compiler)


def _labelled(library: ctypes.CDLL, compiler: Compiler) -> ctypes.CDLL:
    """Keep with a library what a run's record says of it."""
    digest = sha256_of(Path(library._name))
    setattr(library, BUILD, {"compiler": f"{compiler.kind}, {compiler.version}", "sha256": digest})
    return library


def _compiled(source: str, compiler: Compiler, options: CompileOptions) -> Path:
    command = library_command(compiler, options.lanes, options.optimize)
    files = {**headers(), "network.c": source}
    parts = [
        _KEY_VERSION,
        files,
        command[1:],
        compiler.kind,
        compiler.version,
        sys.platform,
        platform.machine(),
        sorted(processor_features()),  # a command of one's own may look at the processor
    ]
    # 128 bits: encrypted home folders allow names of 143 characters, and a digest follows.
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def build(folder: Path) -> Path:
        return _compile(folder, command, files, compiler, options.timeout_seconds)

    return cached(key, _SUFFIX, build)


def _compile(
    folder: Path,
    command: Sequence[str],
    files: Mapping[str, str],
    compiler: Compiler,
    timeout_seconds: float,
) -> Path:
    """Compile in an empty folder and return the library that is in it afterwards."""
    for name, text in files.items():  # just what the key stands for
        (folder / name).write_text(text, encoding="utf-8")
    made = folder / f"made{_SUFFIX}"
    outcome = run(
        [*command, "network.c", "-o", str(made), "-lm"],
        timeout_seconds,
        folder,
        {
            **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(folder)),
            "ZIG_LOCAL_CACHE_DIR": str(folder / "zig"),
            "ZIG_GLOBAL_CACHE_DIR": str(folder.parent / "zig"),
        },
    )
    if outcome.status != 0:
        check_space(outcome.output, folder)
        how = describe_failure(outcome, timeout_seconds)
        raise CompilerError(f"The C compiler `{compiler.name}` {how}. {ADVICE}")
    if not made.is_file() or not made.read_bytes().startswith(_MAGIC):
        said = outcome.first_error()
        raise CompilerError(
            f"The C compiler `{compiler.name}` ended without an error but made no shared library"
            f"{f': {said}' if said else ''}. {ADVICE}"
        )
    return made


def check_space(output: str, folder: Path) -> None:
    """Notice in what a compiler printed that its disk or quota was full.

    Raises:
        OSError: It was; so `cached` goes on elsewhere.
    """
    for number in _FULL:
        if os.strerror(number) in output:
            raise OSError(number, os.strerror(number), str(folder))


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
        return _cached(_own_folder(), key, suffix, build)
    except OSError as error:
        _warn(str(error))
    with storage_errors(Path(os.environ.get("TMPDIR", "/tmp"))):
        return _cached(_private_folder(os.getpid()), key, suffix, build)


def _warn(what: str) -> None:
    if not _warned:
        _warned.append(what)
        _logger.warning(_WARNING, what, CACHE_VARIABLE)


def _cached(folder: Path, key: str, suffix: str, build: Callable[[Path], Path]) -> Path:
    with storage_errors(folder):
        if entry := _verified(folder, key):
            return entry
        lock = folder / f".{key}{_LOCK_SUFFIX}"
        with locked(lock, remove=True):
            lock.touch()  # a dead process may have left it long ago, and nobody shall sweep it now
            return _verified(folder, key) or _build(folder, key, suffix, build)


def _own_folder() -> Path:
    """Return the cache's folder, made if there is none.

    Raises:
        StorageError: It cannot be made, or others may write to it.
    """
    folder = cache_folder().absolute() / "native"
    with storage_errors(folder):
        if not folder.is_dir():
            make_folder(folder)
            folder.chmod(0o755)  # whatever the umask would let others do
    _check_hands(folder)
    return folder


def _check_hands(folder: Path) -> None:
    """Refuse a folder in which others could place code; one's own group is locked out.

    Raises:
        StorageError: It belongs to another user, or all may write to it.
    """
    status = folder.stat()
    if not _is_ours(status) or status.st_mode & stat.S_IWOTH:
        raise StorageError(f"Others may write to `{folder}`, so no code is loaded from there.")
    if status.st_mode & stat.S_IWGRP and status.st_uid == os.geteuid():
        folder.chmod(stat.S_IMODE(status.st_mode) & ~stat.S_IWGRP)


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in (os.geteuid(), 0)


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
    """Return the key's entry if it is this user's and its bytes still hash to its name."""
    for entry in folder.glob(f"{key}.*"):
        with contextlib.suppress(FileNotFoundError):  # another process replaces it right now
            status = entry.lstat()
            if not stat.S_ISREG(status.st_mode) or not _is_ours(status):
                continue
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
        with contextlib.suppress(OSError):
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

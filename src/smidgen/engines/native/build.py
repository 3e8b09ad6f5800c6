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
import ctypes
import errno
import functools
import hashlib
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smidgen.engines.native.toolchain import (
    ADVICE,
    COMMON_FLAGS,
    LIBRARIES,
    SANITIZE_FLAGS,
    THREAD_FLAGS,
    WASM_FLAGS,
    Compiler,
    describe_failure,
    find_compiler,
    lanes_of_host,
    library_flags,
    processor_features,
    run,
    target_flags,
)
from smidgen.errors import CompilerError
from smidgen.files import (
    locked,
    make_folder,
    sha256_of,
    storage_errors,
    write_atomically,
)
from smidgen.places import CACHE_VARIABLE, cache_folder

__all__ = [
    "CompileOptions",
    "Compiler",
    "compile_executable",
    "compile_library",
    "compile_wasm",
    "find_compiler",
    "lanes_of_host",
    "load_library",
]

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


HEADER_FOLDER = Path(__file__).resolve().parent
"""Its headers can be included by everything compiled here and are part of every key."""

_KEY_VERSION = 1
_MAGIC = {
    "linux": (b"\x7fELF",),
    "darwin": (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"),
    "win32": (b"MZ",),
}


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """How C becomes machine code.

    Args:
        compiler: What `find_compiler` shall look for; None for the first that is found.
        lanes: Images side by side, 16, 8, 4 or 1; decides which instructions may be used.
            None means as many as this processor can.
        optimize: The compiler's optimization flag.
        sanitize: Whether reads and writes outside of memory and undefined behavior end the
            program with a report; for executables, by gcc or clang.
        timeout_seconds: When a compiler that hangs is ended.
    """

    compiler: str | None = None
    lanes: int | None = None
    optimize: str = "-O3"
    sanitize: bool = False
    timeout_seconds: float = 300.0


DEFAULT_OPTIONS = CompileOptions()


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is made: its name in errors, how its file's name ends and its bytes begin."""

    noun: str
    suffix: str
    magic: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    """One call of a compiler; everything its output depends on but headers and processor."""

    kind: _Kind
    compiler: Compiler
    flags: Sequence[str]
    sources: Mapping[str, str]
    libraries: Sequence[str]
    timeout_seconds: float


def compile_library(source: str, options: CompileOptions = DEFAULT_OPTIONS) -> Path:
    """Compile C into a shared library for this machine, or find the one made before.

    Args:
        source: A C file; it may include the headers of this folder.
        options: Compiler, lanes, optimization.

    Returns:
        The library, verified: in the cache, or in a temporary folder of this process where
        the cache cannot be written.

    Raises:
        CompilerError: No compiler, lanes this processor lacks, or a compiler that refuses
            the source, crashes, is killed, hangs or makes no library.
        StorageError: No folder can be written at all.
    """
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    kind = _Kind("shared library", suffix, _native_magic())
    flags = library_flags(options.sanitize)
    return _compile_native(kind, flags, {"network.c": source}, options)


def compile_executable(
    source: str, main_source: str, options: CompileOptions = DEFAULT_OPTIONS
) -> Path:
    """Compile C and a second C file with its `main` into a program for this machine.

    Args:
        source: As for `compile_library`.
        main_source: A C file of its own, which declares what it calls.
        options: As for `compile_library`; `sanitize` is meant for this.

    Raises:
        CompilerError: As `compile_library`.
        StorageError: No folder can be written at all.
    """
    suffix = ".exe" if sys.platform == "win32" else ""
    kind = _Kind("program", suffix, _native_magic())
    program = _compile_native(kind, [], {"network.c": source, "main.c": main_source}, options)
    program.chmod(0o700)  # at every return: a process killed right before never got here
    return program


def compile_wasm(
    source: str, exports: Sequence[str] = (), options: CompileOptions = DEFAULT_OPTIONS
) -> Path:
    """Compile C into a WebAssembly module with 128-bit vectors, by zig: four lanes.

    The module has a `_initialize` to call first, exports its memory, and imports nothing as
    long as the source neither prints nor opens files.

    Args:
        source: As for `compile_library`, without threads.
        exports: Functions to export, beside those marked with `export_name`.
        options: Optimization and time limit; compiler and lanes are given.

    Raises:
        CompilerError: No zig, or it failed.
        StorageError: No folder can be written at all.
    """
    try:
        zig = find_compiler("zig")
    except CompilerError as error:
        raise CompilerError(
            "WebAssembly is made by the compiler zig, which was not found. "
            "Run `pip install ziglang`."
        ) from error
    flags = [*WASM_FLAGS, *COMMON_FLAGS, options.optimize]
    flags += [f"-Wl,--export={name}" for name in exports]
    job = _Job(
        kind=_Kind("WebAssembly module", ".wasm", (b"\0asm",)),
        compiler=zig,
        flags=flags,
        sources={"network.c": source},
        libraries=("-lm",),
        timeout_seconds=options.timeout_seconds,
    )
    return _compile(job, ())


def load_library(path: Path) -> ctypes.CDLL:
    """Load what `compile_library` made.

    Raises:
        CompilerError: The system refuses it, for instance a library for another processor
            or a folder from which nothing may be run.
    """
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise CompilerError(
            f"The compiled library `{path.name}` cannot be loaded: {error}. Set `SMIDGEN_CACHE` "
            f"to a folder that programs may be run from, or name another compiler with "
            f"`SMIDGEN_CC`. {ADVICE}"
        ) from error


def _compile_native(
    kind: _Kind, flags: Sequence[str], sources: Mapping[str, str], options: CompileOptions
) -> Path:
    compiler = find_compiler(options.compiler)
    job = _Job(
        kind=kind,
        compiler=compiler,
        flags=[
            *flags,
            *COMMON_FLAGS,
            options.optimize,
            *target_flags(compiler, options.lanes),
            *THREAD_FLAGS,
            *(SANITIZE_FLAGS if options.sanitize else ()),
        ],
        sources=sources,
        libraries=LIBRARIES,
        timeout_seconds=options.timeout_seconds,
    )
    return _compile(job, sorted(processor_features()))


def _native_magic() -> tuple[bytes, ...]:
    return _MAGIC.get(sys.platform, _MAGIC["linux"])


def _compile(job: _Job, processor: Sequence[str]) -> Path:
    headers = {path.name: path.read_text(encoding="utf-8") for path in HEADER_FOLDER.glob("*.h")}
    key = _key(job, headers, processor)
    return cached(key, job.kind.suffix, _builder(job, headers))


def _key(job: _Job, headers: Mapping[str, str], processor: Sequence[str]) -> str:
    """Hash all the output depends on; a command of one's own may look at the processor."""
    parts = [
        _KEY_VERSION,
        job.kind.noun,
        dict(job.sources),
        dict(headers),
        [*job.compiler.command[1:], *job.flags, *job.libraries],
        job.compiler.kind,
        job.compiler.version,
        sys.platform,
        platform.machine(),
        list(processor),
    ]
    text = json.dumps(parts, sort_keys=True)
    # 128 bits: encrypted home folders allow names of 143 characters, and a digest follows.
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _builder(job: _Job, headers: Mapping[str, str]) -> Callable[[Path], Path]:
    compiler, noun = job.compiler, job.kind.noun

    def build(folder: Path) -> Path:
        for name, text in {**headers, **job.sources}.items():  # just what the key stands for
            (folder / name).write_text(text, encoding="utf-8")
        made = folder / f"made{job.kind.suffix}"
        inputs = [*job.sources, "-o", str(made), *job.libraries]
        outcome = run(
            [*compiler.command, *job.flags, *inputs],
            job.timeout_seconds,
            folder,
            {
                **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(folder)),
                "ZIG_LOCAL_CACHE_DIR": str(folder / "zig"),
                "ZIG_GLOBAL_CACHE_DIR": str(folder.parent / "zig"),
            },
        )
        if outcome.status != 0:
            check_space(outcome.output, folder)
            how = describe_failure(outcome, job.timeout_seconds)
            raise CompilerError(f"The C compiler `{compiler.name}` {how}. {ADVICE}")
        if not made.is_file() or not made.read_bytes().startswith(job.kind.magic):
            said = outcome.first_error()
            raise CompilerError(
                f"The C compiler `{compiler.name}` ended without an error but made no {noun}"
                f"{f': {said}' if said else ''}. {ADVICE}"
            )
        return made

    return build

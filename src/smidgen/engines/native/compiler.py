"""C source in, a verified file out that this machine, or a browser, can run."""

import ctypes
import hashlib
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smidgen.engines.native.build_cache import cached, check_space
from smidgen.engines.native.flags import (
    COMMON_FLAGS,
    LIBRARIES,
    SANITIZE_FLAGS,
    THREAD_FLAGS,
    WASM_FLAGS,
    library_flags,
    target_flags,
)
from smidgen.engines.native.processor import lanes_of_host, processor_features
from smidgen.engines.native.toolchain import (
    ADVICE,
    Compiler,
    describe_failure,
    find_compiler,
    run,
)
from smidgen.errors import CompilerError

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
            'Run `pip install "smidgen[native]"`.'
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

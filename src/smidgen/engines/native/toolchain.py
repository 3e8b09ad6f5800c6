"""This machine in, C compilers, their flags and the lanes of its processor out.

Which optimizations are safe for training:

- `-ffp-contract=fast`: a product and a sum become one FMA, which is half of the speed. The
  choice is made when compiling, so it is the same in every run and thread.
- `-fno-math-errno`: `sqrtf` is one instruction. `-fno-trapping-math`: a branch on floats may
  become a select. Both change no value, only error flags that nobody reads.
- `-fno-strict-aliasing`: kernels read bytes and floats as vectors.
- Not `-ffast-math`. It assumes that NaN and infinity never happen, and a training step that
  goes wrong has to be seen; it may sum in another order, so that gcc and clang, or two widths,
  drift apart; and linking with it makes the whole process, NumPy too, flush denormals.
- Not `-march=native`. Features named by lanes give the same instructions on every processor
  that has them, so a seed gives the same bits in a mixed cluster.
"""

import contextlib
import functools
import importlib.util
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from smidgen.errors import CompilerError
from smidgen.places import at_home

COMPILER_VARIABLE = "SMIDGEN_CC"
OLDEST_GCC = 12
"""The first gcc with `__builtin_shufflevector`, which the kernels are written with."""
ADVICE = f"Use `--engine torch`, install gcc {OLDEST_GCC} or newer, or run `pip install ziglang`."
COMMON_FLAGS = (
    "-std=gnu11",
    "-Wno-psabi",  # about vectors in registers of functions that are all inlined
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
)
# With `-z defs` a function that is missing is an error now, not when the library is loaded.
_LIBRARY_FLAGS = ("-shared", "-fPIC", *(() if sys.platform == "darwin" else ("-Wl,-z,defs",)))

LANES = (16, 8, 4, 1)
"""Images side by side in one vector that code can be generated for."""

_FEATURES_OF_LANES = {
    16: ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"),
    8: ("avx2", "fma"),
}
"""What an x86-64 processor needs beyond its baseline, whose SSE2 has vectors of four floats.

The kernels themselves need avx512f; bw, dq and vl come with it on every processor since 2017
and let compilers handle bytes, masks and short vectors without detours.
"""
_CPUINFO = Path("/proc/cpuinfo")

_NAMES = ("cc", "gcc", "clang")
_PROBE_SECONDS = 30.0
"""A compiler tells its version in 5 ms, a cold zig in 200; one that hangs must not hang us."""
_OUTPUT_BYTES = 65_536
"""How much of what a compiler prints is kept; errors come first, and one line is shown."""
_ERROR = re.compile(r"\berror\b|\bundefined (reference|symbol)", re.IGNORECASE)
_LINE_CHARACTERS = 200
_LAST_WORDS_SECONDS = 10.0
"""Only something left in the background keeps the pipe open after the end; it is not awaited."""


@functools.cache
def processor_features() -> frozenset[str]:
    """Return what this processor can do beyond its baseline, in Linux's spelling.

    Read from `/proc/cpuinfo` on Linux and `sysctl` on macOS; empty elsewhere, or where they tell
    nothing.
    """
    if sys.platform == "darwin":
        return frozenset(_ask_sysctl().lower().split())
    try:
        return features_in_cpuinfo(_CPUINFO.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return frozenset()


def features_in_cpuinfo(text: str) -> frozenset[str]:
    """Return the features that the text of `/proc/cpuinfo` tells of its first processor."""
    for line in text.splitlines():
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(values.split())
    return frozenset()


def needed_features(lanes: int) -> tuple[str, ...]:
    """Return what this machine's processor must offer beyond its baseline for so many lanes."""
    return _FEATURES_OF_LANES.get(lanes, ()) if _is_x86() else ()


def missing_features(lanes: int) -> tuple[str, ...]:
    """Return what so many lanes need and this processor lacks."""
    return tuple(name for name in needed_features(lanes) if name not in processor_features())


def lanes_of_host() -> int:
    """Return how many images this processor computes side by side: 16, 8, 4 or 1.

    16 with AVX-512 (F, BW, DQ and VL), 8 with AVX2 and FMA, 4 on every other x86-64 (SSE2)
    and on 64-bit ARM (NEON), 1 on any other machine.
    """
    if _is_x86():
        return next(lanes for lanes in LANES if not missing_features(lanes))
    return 4 if platform.machine().lower() in ("aarch64", "arm64") else 1


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def _ask_sysctl() -> str:
    """Return macOS' lists of features; Apple's own processors have none and need none."""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C compiler that has told its version.

    Args:
        command: How it is called, absolute, with its leading arguments, as `(".../zig", "cc")`.
        version: The line in which it tells its version.
        kind: Whose flags it takes.
    """

    command: tuple[str, ...]
    version: str
    kind: Literal["gcc", "clang", "zig"]

    @property
    def name(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.command)


def library_command(compiler: Compiler, lanes: int | None, optimize: str) -> list[str]:
    """Return the call that makes a shared library, but for its sources and its name.

    Args:
        compiler: Which one.
        lanes: 16, 8, 4 or 1 images side by side; None for as many as this processor can.
        optimize: The optimization flag.

    Raises:
        CompilerError: Another number, or more than this processor can run.
    """
    flags = (*_LIBRARY_FLAGS, *COMMON_FLAGS, optimize, *target_flags(compiler, lanes), "-pthread")
    return [*compiler.command, *flags]


def target_flags(compiler: Compiler, lanes: int | None) -> tuple[str, ...]:
    """Return the flags for code with so many images side by side; see `library_command`."""
    features = checked_features(lanes_of_host() if lanes is None else lanes)
    if compiler.kind != "zig":
        return tuple(f"-m{name}" for name in features)
    # Left alone, zig takes what it finds in this processor, adds checks and keeps symbols.
    return ("-mcpu=" + "+".join(["baseline", *features]), "-fno-sanitize=undefined", "-s")


def checked_features(lanes: int) -> tuple[str, ...]:
    """Return what so many lanes need of this processor; raises CompilerError if it lacks that."""
    if lanes not in LANES:
        raise CompilerError(f"`lanes` must be 16, 8, 4 or 1, not {lanes}.")
    if missing := missing_features(lanes):
        raise CompilerError(
            f"{lanes} lanes need {', '.join(f'`{name}`' for name in missing)}, which this "
            f"processor lacks. Use `lanes={lanes_of_host()}`."
        )
    return needed_features(lanes)


def find_compiler(name: str | None = None) -> Compiler:
    """Return the first of `find_compilers`."""
    return next(find_compilers(name))


def find_compilers(name: str | None = None) -> Iterator[Compiler]:
    """Go through the C compilers for the native engine, the one to be preferred first.

    Each is asked only when it is its turn.

    Args:
        name: `gcc`, `clang`, `cc`, `zig`, a path, or a command with arguments: that one alone.
            None takes `SMIDGEN_CC` if it is set, else all that answer of `cc`, `gcc` and `clang`
            on PATH and the zig of the package `ziglang`; gcc comes before clang, whose code was
            three times slower on AVX2.

    Raises:
        CompilerError: The one asked for is missing, broken or too old; or there is none.
    """
    if name is not None:
        yield _probe(_command_of(name, "the option `compiler`"))
        return
    if chosen := os.environ.get(COMPILER_VARIABLE):
        yield _probe(_command_of(at_home(chosen), f"`{COMPILER_VARIABLE}`"))
        return
    others: list[Compiler] = []
    failures: list[CompilerError] = []
    num_found = 0
    for command in _candidates():
        try:
            compiler = _probe(command)
        except CompilerError as failure:
            failures.append(failure)
            continue
        num_found += 1
        if compiler.kind == "gcc":
            yield compiler
        else:
            others.append(compiler)
    yield from others
    if num_found:
        return
    if failures:
        raise failures[0]
    raise CompilerError(
        "No C compiler was found: looked for `cc`, `gcc` and `clang` on PATH and for the "
        f"Python package `ziglang`. {ADVICE}"
    )


def _candidates() -> list[tuple[str, ...]]:
    """Return what may be a compiler; one program under two names, as cc and gcc, stands once."""
    paths = {os.path.realpath(path): path for path in map(shutil.which, _NAMES[::-1]) if path}
    commands = [(os.path.abspath(path),) for path in reversed(paths.values())]
    zig = _zig_of_package()
    return [*commands, (zig, "cc")] if zig else [*commands]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended.

    Args:
        status: Its exit status; the negated number of the signal that killed it; None if it
            was stopped at the time limit.
        output: The beginning of what it printed.
    """

    status: int | None
    output: str

    def first_error(self) -> str:
        """Return the first line that tells an error, else the first line, else "".

        Control characters are dropped and long lines cut: it may be garbage.
        """
        lines = ["".join(c for c in line if c.isprintable()) for line in self.output.splitlines()]
        lines = [line.strip() for line in lines if line.strip()]
        errors = [line for line in lines if _ERROR.search(line)]
        first = (errors or lines or [""])[0].rstrip(".")
        return first if len(first) <= _LINE_CHARACTERS else first[:_LINE_CHARACTERS] + "..."


def run(
    command: Sequence[str],
    timeout_seconds: float,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a program with everything it starts, and end all of it at the time limit.

    Args:
        command: The program and its arguments.
        timeout_seconds: How long it may take.
        folder: Where it runs.
        environment: Variables set for it, beside those of this process.

    Raises:
        CompilerError: It cannot be started.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # gcc starts cc1, as and ld: one group, ended together
        )
    except OSError as error:
        reason = error.strerror or error
        raise CompilerError(
            f"The C compiler `{command[0]}` cannot be started: {reason}. {ADVICE}"
        ) from error
    assert process.stdout is not None
    kept = bytearray()
    reader = threading.Thread(target=_read_beginning, args=(process.stdout, kept), daemon=True)
    try:
        reader.start()
        status = process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        _end_group(process)
        status = None
    except BaseException:
        _end_group(process)
        raise
    reader.join(_LAST_WORDS_SECONDS)
    return Outcome(status, bytes(kept).decode(errors="replace"))


def describe_failure(outcome: Outcome, timeout_seconds: float) -> str:
    """Say how a program that failed has ended, as the rest of a sentence without full stop."""
    if outcome.status is None:
        return f"did not finish within {timeout_seconds:g} seconds and was stopped"
    said = outcome.first_error() or "it printed nothing"
    if outcome.status < 0:
        return f"was killed by {_signal_name(-outcome.status)}: {said}"
    return f"failed with exit status {outcome.status}: {said}"


@functools.cache
def _probe(command: tuple[str, ...]) -> Compiler:
    """Ask a compiler who it is; remembered, since every new network asks.

    Raises:
        CompilerError: It does not answer, is neither gcc nor clang nor zig, or is too old.
    """
    is_zig = command[-1] == "cc" and "zig" in Path(command[-2:][0]).name
    question = (*command[:-1], "version") if is_zig else (*command, "--version")
    shown = shlex.join(command)
    outcome = run(question, _PROBE_SECONDS)
    if outcome.status != 0:
        how = describe_failure(outcome, _PROBE_SECONDS)
        raise CompilerError(
            f"The C compiler `{shown}` does not tell its version: it {how}. {ADVICE}"
        )
    first = outcome.output.strip().partition("\n")[0].strip()
    if is_zig and re.match(r"\d+\.\d+", first):
        return Compiler(command, f"zig {first}", "zig")
    if "clang version" in outcome.output:
        return Compiler(command, first, "clang")
    if "Free Software Foundation" in outcome.output:
        release = re.search(r"\) (\d+)\.", first)
        if release and int(release[1]) < OLDEST_GCC:
            raise CompilerError(
                f"The C compiler `{shown}` is gcc {release[1]}, older than {OLDEST_GCC}. {ADVICE}"
            )
        return Compiler(command, first, "gcc")
    said = outcome.first_error() or "nothing"
    raise CompilerError(
        f"The C compiler `{shown}` is neither gcc, clang nor zig: asked for its version it "
        f"printed: {said}. {ADVICE}"
    )


def _command_of(text: str, origin: str) -> tuple[str, ...]:
    if text == "zig" and (zig := _zig_of_package()):
        return (zig, "cc")
    parts = [text]
    if not shutil.which(text):  # a path may hold spaces, so only now
        with contextlib.suppress(ValueError):
            parts = shlex.split(text) or parts
    path = shutil.which(parts[0])
    if path is None:
        raise CompilerError(
            f"No C compiler `{parts[0]}` was found; {origin} asks for it. Name one that is on "
            f"PATH, or its full path. {ADVICE}"
        )
    # Absolute, since the compiler runs in a folder of its own.
    arguments = parts[1:] or (["cc"] if Path(path).stem == "zig" else [])
    return (os.path.abspath(path), *arguments)


def _zig_of_package() -> str | None:
    """Return the program that `python -m ziglang` starts, without the start of a Python."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).with_name("zig")
    return str(program) if program.is_file() else None


def _read_beginning(stream: IO[bytes], kept: bytearray) -> None:
    """Read to the end, so that nobody waits on a full pipe, and keep the beginning."""
    with stream, contextlib.suppress(ValueError):
        while chunk := os.read(stream.fileno(), _OUTPUT_BYTES):
            kept.extend(chunk[: _OUTPUT_BYTES - len(kept)])


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a running program and everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

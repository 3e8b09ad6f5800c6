"""A compiler and lanes in, flags out: which optimizations are safe for training.

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

import sys
from collections.abc import Sequence

from smidgen.engines.native.processor import (
    LANES,
    lanes_of_host,
    missing_features,
    needed_features,
)
from smidgen.engines.native.toolchain import Compiler
from smidgen.errors import CompilerError

COMMON_FLAGS = (
    "-std=gnu11",
    "-w",  # what remains in the output are errors, whose first line is shown
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
)
SANITIZE_FLAGS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-g",
)
WASM_FLAGS = ("-target", "wasm32-wasi", "-mcpu=generic+simd128", "-mexec-model=reactor", "-s")
THREAD_FLAGS = () if sys.platform == "win32" else ("-pthread",)
LIBRARIES = () if sys.platform == "win32" else ("-lm",)


def library_flags(sanitize: bool) -> tuple[str, ...]:
    """Return the flags that make a shared library of this system's kind."""
    if sys.platform == "win32":
        return ("-shared",)
    if sys.platform == "darwin" or sanitize:
        return ("-shared", "-fPIC")
    # A function that is missing is an error now, not when the library is loaded.
    return ("-shared", "-fPIC", "-Wl,-z,defs")


def target_flags(compiler: Compiler, lanes: int | None) -> tuple[str, ...]:
    """Return the flags for code with so many images side by side.

    Args:
        compiler: Whose flags.
        lanes: 16, 8, 4 or 1; None for as many as this processor can.

    Raises:
        CompilerError: Another number, or more than this processor can run.
    """
    features = _checked_features(lanes_of_host() if lanes is None else lanes)
    if compiler.kind != "zig":
        return tuple(f"-m{name}" for name in features)
    # Left alone, zig takes what it finds in this processor, adds checks and keeps symbols.
    return ("-mcpu=" + "+".join(["baseline", *features]), "-fno-sanitize=undefined", "-s")


def _checked_features(lanes: int) -> Sequence[str]:
    if lanes not in LANES:
        raise CompilerError(f"`lanes` must be 16, 8, 4 or 1, not {lanes}.")
    if missing := missing_features(lanes):
        raise CompilerError(
            f"{lanes} lanes need {', '.join(f'`{name}`' for name in missing)}, which this "
            f"processor lacks. Use `lanes={lanes_of_host()}`."
        )
    return needed_features(lanes)

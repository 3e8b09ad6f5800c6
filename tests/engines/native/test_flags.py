import platform

import pytest

from smidgen.engines.native import toolchain as processor
from smidgen.engines.native.toolchain import COMMON_FLAGS, Compiler, target_flags
from smidgen.errors import CompilerError

GCC = Compiler(("/usr/bin/gcc",), "gcc 13", "gcc")
ZIG = Compiler(("/usr/bin/zig", "cc"), "zig 0.17.0", "zig")


@pytest.fixture(autouse=True)
def avx2_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An x86-64 processor with AVX2 and without AVX-512."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(processor, "processor_features", lambda: frozenset({"avx2", "fma"}))


@pytest.mark.parametrize(
    ("compiler", "lanes", "flags"),
    [
        (GCC, None, ("-mavx2", "-mfma")),
        (GCC, 8, ("-mavx2", "-mfma")),
        (GCC, 4, ()),
        (GCC, 1, ()),
        (ZIG, 8, ("-mcpu=baseline+avx2+fma", "-fno-sanitize=undefined", "-s")),
        (ZIG, 1, ("-mcpu=baseline", "-fno-sanitize=undefined", "-s")),
    ],
)
def test_lanes_choose_the_instructions(
    compiler: Compiler, lanes: int | None, flags: tuple[str, ...]
) -> None:
    """Each compiler is told exactly the features that so many lanes need."""
    assert target_flags(compiler, lanes) == flags


def test_lanes_that_the_processor_lacks_are_refused() -> None:
    """Code that would end the process with an illegal instruction is never made."""
    with pytest.raises(CompilerError) as error:
        target_flags(GCC, 16)

    assert str(error.value) == (
        "16 lanes need `avx512f`, `avx512bw`, `avx512dq`, `avx512vl`, which this processor "
        "lacks. Use `lanes=8`."
    )


def test_other_numbers_of_lanes_are_refused() -> None:
    """Only the four numbers that code is written for are taken."""
    with pytest.raises(CompilerError) as error:
        target_flags(GCC, 5)

    assert str(error.value) == "`lanes` must be 16, 8, 4 or 1, not 5."


def test_no_flag_hides_nan_or_reorders_sums() -> None:
    """Fast-math, and the parts of it that change values, are in no build."""
    harmful = {"-ffast-math", "-Ofast", "-ffinite-math-only", "-fassociative-math"}
    harmful |= {"-funsafe-math-optimizations", "-freciprocal-math", "-march=native"}

    assert harmful.isdisjoint(COMMON_FLAGS)

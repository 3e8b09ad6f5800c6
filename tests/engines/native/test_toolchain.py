"""Which compilers are found, what their flags are and how many lanes a processor has."""

import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.engines.native import toolchain
from smidgen.engines.native.toolchain import (
    COMMON_FLAGS,
    Compiler,
    Outcome,
    find_compiler,
    run,
    target_flags,
)
from smidgen.errors import CompilerError

FakeCompiler = Callable[..., Path]
Lifeline = tuple[Path, Callable[[], bool]]
ADVICE = "Use `--engine torch`, install gcc 12 or newer, or run `pip install ziglang`."
GCC_11 = "gcc (Ubuntu 11.4.0-1ubuntu1) 11.4.0\nCopyright (C) Free Software Foundation, Inc."

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")


@pytest.fixture
def only_fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but the stand-ins' folder and `cat`, and no zig."""
    folder = tmp_path / "bin"
    folder.mkdir()
    cat = shutil.which("cat")
    assert cat is not None
    (folder / "cat").symlink_to(cat)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("SMIDGEN_CC", raising=False)
    monkeypatch.setattr(toolchain, "_zig_of_package", lambda: None)
    return folder


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ("gcc (Debian 12.2.0-14) 12.2.0\nCopyright (C) Free Software Foundation, Inc.", "gcc"),
        ("gcc (GCC) 14.1.1 20240522 (Red Hat 14.1.1-4)\nFree Software Foundation", "gcc"),
        ("Debian clang version 14.0.6\nTarget: x86_64-pc-linux-gnu", "clang"),
        ("Apple clang version 15.0.0 (clang-1500.3.9.4)", "clang"),
    ],
)
def test_kind_is_read_from_the_version(fake_compiler: FakeCompiler, told: str, kind: str) -> None:
    """What a compiler says of itself decides whose flags it gets, not how it is called."""
    path = fake_compiler(version=told)

    compiler = find_compiler(str(path))

    assert compiler == Compiler((str(path),), told.splitlines()[0], kind)  # pyright: ignore


def test_first_compiler_that_answers_is_taken(
    only_fakes: Path, fake_compiler: FakeCompiler
) -> None:
    """A `cc` that is broken and a `gcc` that is too old are passed over for clang."""
    (only_fakes / "cc").write_text("#!/bin/sh\nexit 1\n")
    (only_fakes / "cc").chmod(0o755)
    fake_compiler(name="gcc", version=GCC_11)
    fake_compiler(name="clang", version="clang version 18.1.3")

    assert find_compiler().command == (str(only_fakes / "clang"),)


def test_order_is_cc_then_gcc_then_clang(only_fakes: Path, fake_compiler: FakeCompiler) -> None:
    """The system's own choice of a compiler comes before names."""
    taken = []
    for name in ("clang", "gcc", "cc"):
        fake_compiler(name=name)
        taken.append(Path(find_compiler().command[0]).name)

    assert taken == ["clang", "gcc", "cc"]


def test_variable_comes_before_path(
    only_fakes: Path, fake_compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SMIDGEN_CC` may be a command with arguments and beats what is on PATH."""
    fake_compiler(name="cc")
    wrapper = only_fakes / "wrapper"
    wrapper.write_text('#!/bin/sh\nexec "$@"\n')
    wrapper.chmod(0o755)
    fake_compiler(name="mycc")
    monkeypatch.setenv("SMIDGEN_CC", "wrapper mycc")

    compiler = find_compiler()

    assert compiler.command == (str(wrapper), "mycc")
    assert compiler.name == f"{wrapper} mycc"


def test_path_may_hold_spaces(tmp_path: Path, fake_compiler: FakeCompiler) -> None:
    """A compiler in a folder whose name has spaces is found whole."""
    folder = tmp_path / "my tools"
    folder.mkdir()
    path = fake_compiler().rename(folder / "cc")

    assert find_compiler(str(path)).command == (str(path),)


def test_relative_path_becomes_absolute(
    tmp_path: Path, fake_compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler named relative to this folder is found again when run in another."""
    path = fake_compiler()
    monkeypatch.chdir(tmp_path)

    assert find_compiler("bin/fakecc").command == (str(path),)


def test_zig_is_the_last_resort(
    only_fakes: Path, fake_compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where PATH has no compiler, the zig of the package is taken and asked as zig is."""
    zig = only_fakes / "zig"
    zig.write_text('#!/bin/sh\n[ "$1" = version ] && echo 0.17.0\n')
    zig.chmod(0o755)
    monkeypatch.setattr(toolchain, "_zig_of_package", lambda: str(zig))

    expected = Compiler((str(zig), "cc"), "zig 0.17.0", "zig")
    assert find_compiler() == expected
    assert find_compiler("zig") == expected
    assert find_compiler(str(zig)) == expected


def test_no_compiler_is_one_clear_line(only_fakes: Path) -> None:
    """A machine without any compiler is told what was looked for and three ways out."""
    with pytest.raises(CompilerError) as error:
        find_compiler()

    assert str(error.value) == (
        "No C compiler was found: looked for `cc`, `gcc` and `clang` on PATH and for the "
        f"Python package `ziglang`. {ADVICE}"
    )


@pytest.mark.parametrize(
    ("name", "variable", "origin"),
    [("nocc", None, "the option `compiler`"), (None, "nocc -O2", "`SMIDGEN_CC`")],
)
def test_missing_choice_is_not_replaced(
    only_fakes: Path,
    fake_compiler: FakeCompiler,
    monkeypatch: pytest.MonkeyPatch,
    name: str | None,
    variable: str | None,
    origin: str,
) -> None:
    """A compiler that was asked for and is missing is an error, though another is there."""
    fake_compiler(name="cc")
    if variable:
        monkeypatch.setenv("SMIDGEN_CC", variable)

    with pytest.raises(CompilerError) as error:
        find_compiler(name)

    assert str(error.value) == (
        f"No C compiler `nocc` was found; {origin} asks for it. Name one that is on PATH, or "
        f"its full path. {ADVICE}"
    )


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (f"cat <<END\n{GCC_11}\nEND", "is gcc 11, older than 12"),
        (
            "echo toycc 3.0",
            "is neither gcc, clang nor zig: asked for its version it printed: toycc 3.0",
        ),
        (
            "printf '\\000\\033[31m\\377junk\\n'",
            "is neither gcc, clang nor zig: asked for its version it printed: [31m\ufffdjunk",
        ),
        (
            "exit 0",
            "is neither gcc, clang nor zig: asked for its version it printed: nothing",
        ),
        (
            "echo 'xcrun: error: no tools'; exit 1",
            "does not tell its version: it failed with exit status 1: xcrun: error: no tools",
        ),
        (
            "kill -9 $$",
            "does not tell its version: it was killed by SIGKILL: it printed nothing",
        ),
    ],
)
def test_compiler_that_is_none_is_refused(
    fake_compiler: FakeCompiler, body: str, complaint: str
) -> None:
    """A program that does not answer as a usable compiler does is named with its answer."""
    path = fake_compiler()
    path.write_text(f"#!/bin/sh\n{body}\n")

    with pytest.raises(CompilerError) as error:
        find_compiler(str(path))

    assert str(error.value) == f"The C compiler `{path}` {complaint}. {ADVICE}"


def test_compiler_that_hangs_when_asked_is_refused(
    fake_compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that never tells its version is ended."""
    monkeypatch.setattr(toolchain, "_PROBE_SECONDS", 0.3)
    path = fake_compiler()
    path.write_text("#!/bin/sh\nexec sleep 60\n")

    with pytest.raises(CompilerError) as error:
        find_compiler(str(path))

    assert str(error.value) == (
        f"The C compiler `{path}` does not tell its version: it did not finish within 0.3 "
        f"seconds and was stopped. {ADVICE}"
    )


def test_file_that_is_no_program_cannot_be_started(tmp_path: Path) -> None:
    """A file the system cannot run gives the system's reason."""
    path = tmp_path / "cc"
    path.write_bytes(b"\x7fELF but no more")
    path.chmod(0o755)

    with pytest.raises(CompilerError) as error:
        find_compiler(str(path))

    assert str(error.value) == (
        f"The C compiler `{path}` cannot be started: Exec format error. {ADVICE}"
    )


def test_program_is_asked_once(fake_compiler: FakeCompiler, tmp_path: Path) -> None:
    """The second network of a process does not ask the compiler again."""
    path = fake_compiler()
    path.write_text(path.read_text().replace("cat <<", f"echo asked >> '{tmp_path}/asked'; cat <<"))

    find_compiler(str(path))
    find_compiler(str(path))

    assert (tmp_path / "asked").read_text() == "asked\n"


def test_time_limit_ends_the_whole_family(lifeline: Lifeline) -> None:
    """What a program has started is ended with it."""
    pipe, is_let_go = lifeline
    script = f"exec 9>'{pipe}'; sleep 60 & wait"

    outcome = run(["/bin/sh", "-c", script], timeout_seconds=0.3)

    assert outcome.status is None
    assert is_let_go()


def test_interrupt_ends_the_whole_family(
    lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C goes through, and the program that was waited for ends too."""
    pipe, is_let_go = lifeline
    wait = subprocess.Popen.wait
    interrupts = iter([KeyboardInterrupt])

    def interrupted(self: "subprocess.Popen[bytes]", timeout: float | None = None) -> int:
        for interrupt in interrupts:
            while not has_begun.exists():
                time.sleep(0.01)
            raise interrupt
        return wait(self, timeout)

    has_begun = pipe.with_name("begun")
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)

    with pytest.raises(KeyboardInterrupt):
        run(["/bin/sh", "-c", f"exec 9>'{pipe}'; : > '{has_begun}'; sleep 60 & wait"], 60)

    assert is_let_go()


def test_long_output_is_cut() -> None:
    """Of a program that prints megabytes, the beginning is kept and the end awaited."""
    outcome = run(["/bin/sh", "-c", "yes error: again | head -n 1000000; exit 3"], 60)

    assert outcome.status == 3
    assert len(outcome.output) == 65_536
    assert outcome.first_error() == "error: again"


def test_messages_are_asked_for_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    """The word `error` is what the first error line is found by."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")

    assert run(["/bin/sh", "-c", "echo $LC_ALL"], timeout_seconds=60).output == "C\n"


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("", ""),
        ("\n  \n", ""),
        ("In file included from a.c:1:\na.c:3:1: error: no type.\n", "a.c:3:1: error: no type"),
        ("note\ngcc: fatal error: Killed signal\n", "gcc: fatal error: Killed signal"),
        ("ld: in f\na.c: undefined reference to `g'\nerror: 1", "a.c: undefined reference to `g'"),
        ("something else\nmore\n", "something else"),
        ("error: " + "x" * 500, "error: " + "x" * 193 + "..."),
        ("\x1b[1merror:\x1b[0m\tbad\x00", "[1merror:[0mbad"),
    ],
)
def test_first_error_is_one_short_clean_line(output: str, line: str) -> None:
    """Of all that was printed, one printable line of at most 200 characters is shown."""
    assert Outcome(1, output).first_error() == line


AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"}


@pytest.mark.parametrize(
    ("machine", "features", "lanes"),
    [
        ("x86_64", AVX512, 16),
        ("AMD64", AVX512, 16),
        ("x86_64", AVX512 - {"avx512vl"}, 8),
        ("x86_64", {"avx2", "fma"}, 8),
        ("x86_64", {"avx2"}, 4),
        ("x86_64", set(), 4),
        ("aarch64", set(), 4),
        ("arm64", set(), 4),
        ("riscv64", set(), 1),
    ],
)
def test_lanes_follow_the_processor(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: set[str], lanes: int
) -> None:
    """The widest vectors are taken whose features the processor has, all of them."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(toolchain, "processor_features", lambda: frozenset(features))

    assert toolchain.lanes_of_host() == lanes


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 fma\n\nflags\t\t: other\n", {"fpu", "avx2", "fma"}),
        ("processor\t: 0\nFeatures\t: fp asimd\n", {"fp", "asimd"}),
        ("vmx flags\t: vnmi\n", set()),
        ("", set()),
    ],
)
def test_features_are_those_of_the_first_processor(text: str, features: set[str]) -> None:
    """The text of cpuinfo is read on x86 and ARM, and a text without them gives none."""
    assert toolchain.features_in_cpuinfo(text) == features


def test_missing_features_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What so many lanes need is told apart from what is there."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(toolchain, "processor_features", lambda: frozenset({"avx512f", "fma"}))

    assert toolchain.missing_features(16) == ("avx512bw", "avx512dq", "avx512vl")
    assert toolchain.missing_features(8) == ("avx2",)
    assert toolchain.missing_features(4) == ()


GCC = Compiler(("/usr/bin/gcc",), "gcc 13", "gcc")
ZIG = Compiler(("/usr/bin/zig", "cc"), "zig 0.17.0", "zig")


@pytest.fixture(autouse=True)
def avx2_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An x86-64 processor with AVX2 and without AVX-512."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(toolchain, "processor_features", lambda: frozenset({"avx2", "fma"}))


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

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.engines.native import build as module
from smidgen.engines.native.build import (
    CompileOptions,
    compile_executable,
    compile_library,
    compile_wasm,
    load_library,
)
from smidgen.engines.native.toolchain import find_compiler
from smidgen.errors import CompilerError
from smidgen.files import sha256_of

FakeCompiler = Callable[..., Path]
Lifeline = tuple[Path, Callable[[], bool]]
SOURCE = "int answer(void) { return 42; }\n"
ADVICE = "Use `--engine torch`, install gcc 12 or newer, or run `pip install ziglang`."

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")


@pytest.fixture(autouse=True)
def _own_folders(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, or hangs on what the headers are today."""
    headers = tmp_path / "headers"
    headers.mkdir()
    monkeypatch.setattr(module, "HEADER_FOLDER", headers)


def answer(library: Path) -> int:
    """Call the function of `SOURCE` in a copy: the system loads each path only once."""
    with tempfile.NamedTemporaryFile(suffix=library.suffix) as copy:
        copy.write(library.read_bytes())
        copy.flush()
        return load_library(Path(copy.name)).answer()


def num_compiles(count: Path) -> int:
    """Tell how often the counting compiler ran."""
    return len(count.read_text().splitlines()) if count.exists() else 0


def entries(cache: Path) -> list[str]:
    """List what stands in the cache, hidden files too."""
    return [path.name for path in (cache / "native").iterdir()]


def test_library_does_what_its_source_says(counting_compiler: tuple[Path, Path]) -> None:
    """C goes in and a library comes out whose functions can be called."""
    path, _ = counting_compiler

    library = compile_library(SOURCE, CompileOptions(compiler=str(path)))

    assert load_library(library).answer() == 42


def test_library_is_compiled_once(counting_compiler: tuple[Path, Path], cache: Path) -> None:
    """The second time, the library is found in the cache under its own SHA-256."""
    path, count = counting_compiler
    options = CompileOptions(compiler=str(path))

    first, second = compile_library(SOURCE, options), compile_library(SOURCE, options)

    assert first == second
    assert first.parent == cache / "native"
    assert first.name.split(".")[1] == sha256_of(first)
    assert num_compiles(count) == 1
    assert entries(cache) == [first.name]


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (SOURCE + "\n", CompileOptions()),
        (SOURCE, CompileOptions(optimize="-O1")),
        (SOURCE, CompileOptions(sanitize=True)),
    ],
    ids=["source", "optimization", "sanitizers"],
)
def test_anything_else_is_compiled_anew(
    counting_compiler: tuple[Path, Path], source: str, options: CompileOptions
) -> None:
    """Another source or another flag is another entry."""
    path, count = counting_compiler

    first = compile_library(SOURCE, CompileOptions(compiler=str(path)))
    second = compile_library(source, replace(options, compiler=str(path)))

    assert first != second
    assert num_compiles(count) == 2


def test_other_compiler_version_is_compiled_anew(counting_compiler: tuple[Path, Path]) -> None:
    """After an upgrade of the compiler nothing of the old one is used."""
    path, count = counting_compiler
    newer = path.with_name("newer")
    newer.write_text(path.read_text().replace("13.1.0", "13.2.0"))
    newer.chmod(0o755)

    compile_library(SOURCE, CompileOptions(compiler=str(path)))
    compile_library(SOURCE, CompileOptions(compiler=str(newer)))

    assert num_compiles(count) == 2


def test_other_processor_is_compiled_anew(
    counting_compiler: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines that share a home folder do not share code."""
    path, count = counting_compiler
    compile_library(SOURCE, CompileOptions(compiler=str(path), lanes=1))
    monkeypatch.setattr(module, "processor_features", lambda: frozenset({"other"}))

    compile_library(SOURCE, CompileOptions(compiler=str(path), lanes=1))

    assert num_compiles(count) == 2


def test_headers_are_found_and_part_of_the_key(
    counting_compiler: tuple[Path, Path],
) -> None:
    """A header that changes changes the library."""
    path, count = counting_compiler
    source = '#include "number.h"\nint answer(void) { return NUMBER; }\n'
    answers = []
    for number in (1, 2):
        (module.HEADER_FOLDER / "number.h").write_text(f"#define NUMBER {number}\n")
        answers.append(answer(compile_library(source, CompileOptions(compiler=str(path)))))

    assert answers == [1, 2]
    assert num_compiles(count) == 2


@pytest.mark.parametrize("keep", [0, 100, -1], ids=["emptied", "truncated", "bit flipped"])
def test_damaged_library_is_compiled_again(counting_compiler: tuple[Path, Path], keep: int) -> None:
    """A library that was damaged on disk is never loaded, and nobody hears of it."""
    path, count = counting_compiler
    options = CompileOptions(compiler=str(path))
    library = compile_library(SOURCE, options)
    content = library.read_bytes()
    library.unlink()
    library.write_bytes(content[:keep] if keep >= 0 else content[:-1] + bytes([content[-1] ^ 1]))

    again = compile_library(SOURCE, options)

    assert answer(again) == 42
    assert again.name.split(".")[1] == sha256_of(again)
    assert num_compiles(count) == 2


@pytest.mark.parametrize(
    ("body", "how"),
    [
        (
            "echo 'network.c: In function f:'; echo 'network.c:3:1: error: no type' >&2; exit 1",
            "failed with exit status 1: network.c:3:1: error: no type",
        ),
        (
            "echo 'gcc: internal compiler error: Segmentation fault signal terminated cc1'; exit 4",
            "failed with exit status 4: gcc: internal compiler error: Segmentation fault signal "
            "terminated cc1",
        ),
        ("exit 77", "failed with exit status 77: it printed nothing"),
        ("head -c 100000 /dev/zero; exit 2", "failed with exit status 2: it printed nothing"),
        ("printf '\\377\\376\\001\\n\\002'; exit 1", "failed with exit status 1: \ufffd\ufffd"),
        ("kill -KILL $$", "was killed by SIGKILL: it printed nothing"),
        ("echo 'out of memory'; kill -SEGV $$", "was killed by SIGSEGV: out of memory"),
        ("exit 0", "ended without an error but made no shared library"),
        (
            'while [ "$1" != -o ]; do shift; done; echo junk > "$2"; echo done',
            "ended without an error but made no shared library: done",
        ),
        (
            'while [ "$1" != -o ]; do shift; done; mkdir "$2"',
            "ended without an error but made no shared library",
        ),
    ],
)
def test_failing_compiler_is_one_clear_line(
    fake_compiler: FakeCompiler, cache: Path, body: str, how: str
) -> None:
    """However a compiler fails, its name, its end, its first error and the ways out are told."""
    path = fake_compiler(body)

    with pytest.raises(CompilerError) as error:
        compile_library(SOURCE, CompileOptions(compiler=str(path)))

    assert str(error.value) == f"The C compiler `{path}` {how}. {ADVICE}"
    assert entries(cache) == []


def test_real_compiler_names_the_first_error(cache: Path) -> None:
    """Of a source that is no C, the first error is shown with its line."""
    compiler = real_compiler()

    with pytest.raises(CompilerError) as error:
        compile_library("int f(void) {\n  return wrong;\n}\n", CompileOptions())

    text = str(error.value)
    assert text.startswith(
        f"The C compiler `{compiler.name}` failed with exit status 1: network.c:2:"
    )
    assert "wrong" in text
    assert text.endswith(ADVICE)


def test_missing_function_is_found_when_compiling() -> None:
    """A function that nobody defines stops the build and not the training."""
    if sys.platform != "linux":
        pytest.skip("the flag is for linkers of Linux")
    real_compiler()

    with pytest.raises(CompilerError, match=r"failed with exit status 1: .*nowhere"):
        compile_library("void nowhere(void);\nvoid f(void) { nowhere(); }\n")


def test_hanging_compiler_is_ended_at_the_limit(
    fake_compiler: FakeCompiler, cache: Path, lifeline: Lifeline
) -> None:
    """A compiler that never ends is ended with all it started."""
    pipe, is_let_go = lifeline
    path = fake_compiler(f"exec 9>'{pipe}'; sleep 60 & wait")

    with pytest.raises(CompilerError) as error:
        compile_library(SOURCE, CompileOptions(compiler=str(path), timeout_seconds=0.5))

    assert str(error.value) == (
        f"The C compiler `{path}` did not finish within 0.5 seconds and was stopped. {ADVICE}"
    )
    assert is_let_go()
    assert entries(cache) == []


def test_two_processes_compile_once(counting_compiler: tuple[Path, Path]) -> None:
    """Of two processes that want the same library at once, one compiles and one waits."""
    path, count = counting_compiler
    path.write_text(path.read_text().replace("exec", "sleep 0.5\nexec"))  # so that they meet

    children = [start_compiling(path) for _ in range(2)]
    outputs = [child.communicate(timeout=120) for child in children]

    assert [child.returncode for child in children] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert answer(Path(outputs[0][0].strip())) == 42
    assert num_compiles(count) == 1


def test_killed_process_does_not_stop_the_next(
    counting_compiler: tuple[Path, Path], cache: Path, tmp_path: Path
) -> None:
    """After kill -9 in the middle of compiling, the next process compiles and tidies up."""
    path, count = counting_compiler
    begun, proceed = tmp_path / "begun", tmp_path / "proceed"
    os.mkfifo(proceed)
    script = path.read_text()
    path.write_text(script.replace("exec", f"echo x > '{begun}'; read line < '{proceed}'\nexec"))
    child = start_compiling(path)
    while not begun.exists():
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)
    child.kill()
    child.communicate(timeout=60)
    proceed.write_text("x\n")  # lets the orphaned compiler end
    assert any(".build-" in name for name in entries(cache))
    path.write_text(script)

    library = compile_library(SOURCE, CompileOptions(compiler=str(path)))

    assert answer(library) == 42
    assert entries(cache) == [library.name]
    assert num_compiles(count) == 2


def test_full_disk_under_the_compiler_is_survived(
    counting_compiler: tuple[Path, Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A compiler that finds the cache's disk full runs again elsewhere."""
    path, _ = counting_compiler
    complaint = "network.c: fatal error: error writing to x.s: No space left on device"
    script = path.read_text().replace(
        "exec", f"case \"$TMPDIR\" in '{cache}'*) echo '{complaint}'; exit 1;; esac\nexec"
    )
    path.write_text(script)

    library = compile_library(SOURCE, CompileOptions(compiler=str(path)))

    assert answer(library) == 42
    assert not library.is_relative_to(cache)
    assert entries(cache) == []


def test_library_that_does_not_load_is_one_clear_line(tmp_path: Path) -> None:
    """What the system cannot load is told with its reason and what to set."""
    path = tmp_path / "broken.so"
    path.write_bytes(b"\x7fELF")

    with pytest.raises(CompilerError) as error:
        load_library(path)

    text = str(error.value)
    assert text.startswith("The compiled library `broken.so` cannot be loaded: ")
    assert text.endswith(
        "Set `SMIDGEN_CACHE` to a folder that programs may be run from, or name another "
        f"compiler with `SMIDGEN_CC`. {ADVICE}"
    )


def test_program_runs_with_its_main() -> None:
    """Two C files become one program that can be run, also when found in the cache."""
    real_compiler()
    main = "int answer(void);\nint main(void) { return answer(); }\n"
    program = compile_executable(SOURCE, main)
    program.chmod(0o600)

    assert compile_executable(SOURCE, main) == program
    assert subprocess.run([program], check=False).returncode == 42


def test_sanitizers_see_what_is_out_of_bounds() -> None:
    """A sanitized program reports a read behind the end and a signed overflow."""
    if real_compiler().kind == "zig":
        pytest.skip("zig brings no address sanitizer")
    source = "int at(int *p, int i) { return p[i]; }\nint next(int i) { return i + 1; }\n"
    main = (
        "int at(int *, int), next(int);\n"
        "int main(int n, char **v) { int a[2] = {0}; "
        "return n == 2 ? at(a, n) : n == 3 ? next(2147483647) : 0; }\n"
    )
    program = compile_executable(source, main, CompileOptions(sanitize=True, optimize="-O1"))

    runs = [
        subprocess.run([program, *["x"] * n], capture_output=True, text=True, check=False)
        for n in range(3)
    ]

    assert runs[0].returncode == 0
    assert "stack-buffer-overflow" in runs[1].stderr
    assert "signed integer overflow" in runs[2].stderr


def test_zig_builds_within_our_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zig makes a stripped library and keeps its own files below our cache."""
    pytest.importorskip("ziglang")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    library = compile_library(SOURCE, CompileOptions(compiler="zig"))

    assert load_library(library).answer() == 42
    assert b".symtab" not in library.read_bytes()
    assert (cache / "native" / "zig").is_dir()
    assert list(home.iterdir()) == []


@pytest.mark.slow
def test_web_assembly_computes(tmp_path: Path) -> None:
    """A module made by zig uses 128-bit vectors and gives node the right number."""
    pytest.importorskip("ziglang")
    source = (
        "#include <math.h>\n"
        "typedef float V __attribute__((vector_size(16)));\n"
        "float run(float x) { V v = {x, x, x, x}; v *= v; return v[0] + sqrtf(v[3]); }\n"
    )

    wasm = compile_wasm(source, ["run"])

    assert wasm.suffix == ".wasm"
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    script = (
        f"const module = new WebAssembly.Module(require('fs').readFileSync('{wasm}'));"
        "const { exports } = new WebAssembly.Instance(module);"
        "exports._initialize(); console.log(exports.run(3), exports.memory !== undefined);"
    )
    run = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True)
    assert run.stdout == "12 true\n"


def test_web_assembly_needs_zig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without zig, one line says what makes WebAssembly and how to get it."""
    monkeypatch.setattr("smidgen.engines.native.toolchain._zig_of_package", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CompilerError) as error:
        compile_wasm(SOURCE)

    assert str(error.value) == (
        "WebAssembly is made by the compiler zig, which was not found. Run `pip install ziglang`."
    )


def test_nothing_heavy_is_imported() -> None:
    """Compiling needs neither torch nor pydantic nor NumPy."""
    script = (
        "import sys, smidgen.engines.native.build\n"
        "print([m for m in ('torch', 'pydantic', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout == "[]\n"


def real_compiler() -> module.Compiler:
    """Return this machine's compiler, or skip."""
    try:
        return find_compiler()
    except CompilerError as error:
        pytest.skip(str(error))


def start_compiling(compiler: Path) -> subprocess.Popen[str]:
    """Compile `SOURCE` in a process of its own, which prints the library's path."""
    script = (
        "import pathlib\n"
        "from smidgen.engines.native import build\n"
        f"build.HEADER_FOLDER = pathlib.Path({str(module.HEADER_FOLDER)!r})\n"
        f"options = build.CompileOptions(compiler={str(compiler)!r})\n"
        f"print(build.compile_library({SOURCE!r}, options))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

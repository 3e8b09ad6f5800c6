"""Compiled code: made once, verified, kept, and never trusted from others' hands."""

import ctypes
import errno
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from smidgen import files
from smidgen.engines.native import build as module
from smidgen.engines.native.build import (
    CompileOptions,
    build_library,
    cached,
    carry_library,
    check_space,
    compile_library,
    load_library,
    place_library,
)
from smidgen.engines.native.toolchain import Compiler, find_compiler
from smidgen.errors import CompilerError, StorageError, StorageWarning
from smidgen.files import sha256_of

KEY = "ab" * 16
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for open files")
CONTENT = b"machine code"


class Builder:
    """Makes one file and counts how often."""

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def __call__(self, folder: Path) -> Path:
        """Make the file in the folder it is given."""
        self.folders.append(folder)
        made = folder / "made.so"
        made.write_bytes(CONTENT)
        return made


@pytest.fixture
def builder() -> Builder:
    """A builder that was not called yet."""
    return Builder()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's temporary folder, as far as this test goes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(module, "_warned", [])
    module._private_folder.cache_clear()
    yield folder
    module._private_folder.cache_clear()


def test_entry_is_built_once(cache: Path, builder: Builder) -> None:
    """The second call for a key finds what the first has built."""
    first = cached(KEY, ".so", builder)
    second = cached(KEY, ".so", builder)

    assert first == second
    assert first.read_bytes() == CONTENT
    assert len(builder.folders) == 1


def test_entry_is_named_after_its_content(cache: Path, builder: Builder) -> None:
    """Key and SHA-256 stand in the name, so that one rename sets both."""
    entry = cached(KEY, ".so", builder)

    assert entry == cache / "native" / f"{KEY}.{files.sha256_of(entry)}.so"


def test_nothing_else_stays(cache: Path, builder: Builder) -> None:
    """Beside the entry neither a lock nor the folder it was built in is left."""
    entry = cached(KEY, ".so", builder)

    assert list(entry.parent.iterdir()) == [entry]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[:5],
        lambda content: b"",
        lambda content: content + b"x",
    ],
    ids=["bit flipped", "truncated", "emptied", "lengthened"],
)
def test_damaged_entry_is_built_again(
    cache: Path, builder: Builder, damage: Callable[[bytes], bytes]
) -> None:
    """An entry that does not hash to its name is replaced without a word."""
    entry = cached(KEY, ".so", builder)
    entry.write_bytes(damage(CONTENT))

    again = cached(KEY, ".so", builder)

    assert again == entry
    assert again.read_bytes() == CONTENT
    assert len(builder.folders) == 2


def test_entry_with_a_foreign_name_is_not_believed(cache: Path, builder: Builder) -> None:
    """A file that bears the key and a wrong digest is removed."""
    entry = cached(KEY, ".so", builder)
    foreign = entry.rename(entry.with_name(f"{KEY}.{'0' * 64}.so"))

    assert cached(KEY, ".so", builder) == entry
    assert not foreign.exists()


def test_failed_build_leaves_nothing(cache: Path) -> None:
    """An error of the builder goes through, and its folder is removed."""

    def fail(folder: Path) -> Path:
        (folder / "half").write_bytes(b"half")
        raise CompilerError("no")

    with pytest.raises(CompilerError, match="no"):
        cached(KEY, ".so", fail)

    assert list((cache / "native").iterdir()) == []


def test_left_overs_of_killed_processes_are_swept(cache: Path, builder: Builder) -> None:
    """All of the same key go, others once they are an hour old; what may live stays."""
    folder = cache / "native"
    same, old, young = (folder / f".{key}.build-x" for key in (KEY, "cd" * 16, "ef" * 16))
    old_files = [folder / f".{'cd' * 16}{ending}" for ending in (".so.1-ab.partial", ".lock")]
    for path in (same, old, young):
        path.mkdir(parents=True)
        (path / "network.c").write_text("")
    for path in old_files:
        path.write_bytes(b"part")
    for path in (old, *old_files):
        os.utime(path, (0, 0))

    entry = cached(KEY, ".so", builder)

    assert set(folder.iterdir()) == {young, entry}


def fill_cache(folder: Path, age_seconds: float) -> list[Path]:
    """Write four entries of a megabyte, each used a second after the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [folder / f"{digit * 32}.{'0' * 64}.so" for digit in "4213"]
    for place, entry in enumerate(entries):
        entry.write_bytes(bytes(2**20))
        used = time.time() - age_seconds + place
        os.utime(entry, (used, used))
    return entries


def test_what_was_not_used_for_longest_goes(
    cache: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build removes the oldest entries until the rest fits, and leaves nothing else behind."""
    monkeypatch.setenv("SMIDGEN_CACHE_MEGABYTES", "2.5")
    entries = fill_cache(cache / "native", age_seconds=5000)

    built = cached(KEY, ".so", builder)

    assert set((cache / "native").iterdir()) == {built, *entries[2:]}


@pytest.mark.parametrize(("size", "age"), [("2.5", 300), ("100", 5000), ("a lot", 5000)])
def test_nothing_goes_without_need(
    cache: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch, size: str, age: float
) -> None:
    """What was used minutes ago may be about to be loaded; below the size all stays."""
    monkeypatch.setenv("SMIDGEN_CACHE_MEGABYTES", size)
    entries = fill_cache(cache / "native", age_seconds=age)

    built = cached(KEY, ".so", builder)

    assert set((cache / "native").iterdir()) == {built, *entries}


def test_using_an_entry_keeps_it(
    cache: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old entry that is found again is the last to go."""
    monkeypatch.setenv("SMIDGEN_CACHE_MEGABYTES", "0")
    first = cached(KEY, ".so", builder)
    entries = fill_cache(cache / "native", age_seconds=5000)
    os.utime(first, (0, 0))

    cached(KEY, ".so", builder)
    other = cached("cd" * 16, ".so", builder)

    assert set((cache / "native").iterdir()) == {first, other}
    assert not any(entry.exists() for entry in entries)


def test_an_entry_that_is_being_built_stays(
    cache: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds a key's lock its entry is left alone, and another one goes."""
    monkeypatch.setenv("SMIDGEN_CACHE_MEGABYTES", "3.5")
    oldest, second, *rest = fill_cache(cache / "native", age_seconds=5000)

    with files.locked(cache / "native" / f".{'4' * 32}.lock", remove=True):
        built = cached(KEY, ".so", builder)

    assert set((cache / "native").iterdir()) == {built, oldest, *rest}
    assert not second.exists()


def test_lock_of_a_dead_process_is_taken_and_kept_while_needed(cache: Path) -> None:
    """A lock file from long ago is not swept by the very process that holds it now."""
    lock = cache / "native" / f".{KEY}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (0, 0))
    held = []

    def build(folder: Path) -> Path:
        held.append(lock.exists())
        (folder / "made").write_bytes(CONTENT)
        return folder / "made"

    cached(KEY, ".so", build)

    assert held == [True]
    assert not lock.exists()


def test_file_in_place_of_the_cache_does_not_stop_anybody(
    cache: Path,
    temporary: Path,
    builder: Builder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A temporary folder serves instead, one line says so, and nothing is built twice."""
    cache.write_text("in the way")

    with caplog.at_level(logging.WARNING):
        first = cached(KEY, ".so", builder)
        second = cached(KEY, ".so", builder)
        other = cached("cd" * 16, ".so", builder)

    assert first == second
    assert first.parent == other.parent
    assert first.is_relative_to(temporary)
    assert first.read_bytes() == CONTENT
    assert len(builder.folders) == 2
    assert first.parent.stat().st_mode & 0o077 == 0
    assert caplog.messages == [
        f"Cannot write `{cache}/native`: a file stands where a folder should be. Move it or "
        "choose another folder. Compiled code is kept for this process only; name a writable "
        "folder with `SMIDGEN_CACHE`."
    ]


@needs_proc
def test_full_cache_does_not_stop_anybody(
    cache: Path,
    temporary: Path,
    builder: Builder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the cache's disk is full when the entry is written, a temporary folder serves."""
    fill_disk(monkeypatch, lambda path: path.startswith(str(cache)))

    entry = cached(KEY, ".so", builder)

    assert entry.is_relative_to(temporary)
    assert entry.read_bytes() == CONTENT
    assert "no space left on the device" in caplog.text
    assert list((cache / "native").iterdir()) == []


def test_full_disk_that_a_compiler_met_counts_as_one(
    cache: Path, temporary: Path, builder: Builder, caplog: pytest.LogCaptureFixture
) -> None:
    """The compiler's own complaint about space sends the build elsewhere too."""

    def build(folder: Path) -> Path:
        if folder.is_relative_to(cache):
            check_space("a.s: fatal error: No space left on device", folder)
        return builder(folder)

    assert cached(KEY, ".so", build).is_relative_to(temporary)
    assert "no space left on the device" in caplog.text


@needs_proc
def test_no_space_anywhere_is_one_clear_line(
    cache: Path, temporary: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both disks full there is an error that names the place."""
    fill_disk(monkeypatch, lambda path: True)

    with pytest.raises(StorageError) as error:
        cached(KEY, ".so", builder)

    (private,) = temporary.iterdir()
    assert str(error.value).startswith(f"Cannot write `{private}/{KEY}.")
    assert str(error.value).endswith(
        "no space left on the device. Free some space or choose another folder."
    )


@needs_proc
def test_file_system_without_locks_is_told(
    cache: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks, as on some network drives, two processes may build the same; no harm."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.warns(StorageWarning, match="has no locks"):
        assert cached(KEY, ".so", builder).is_relative_to(cache)


def fill_disk(monkeypatch: pytest.MonkeyPatch, is_full: Callable[[str], bool]) -> None:
    """Let fsync meet a full disk for some paths."""
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if is_full(os.readlink(f"/proc/self/fd/{descriptor}")):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)


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
    ],
    ids=["source", "optimization"],
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


def test_nothing_heavy_is_imported() -> None:
    """Compiling does not need torch."""
    script = (
        "import sys, smidgen.engines.native.build\n"
        "print([m for m in ('torch',) if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout == "[]\n"


SYMBOLS = ("answer",)
NO_HEADERS = "echo 'network.c:1:10: fatal error: stdint.h: No such file'; exit 1"


@pytest.fixture
def compilers(
    fake_compiler: FakeCompiler,
    counting_compiler: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., list[Compiler]]:
    """Make a list of compilers the ones there are; None stands for one that works."""
    monkeypatch.setattr(module, "_given_up", set())
    monkeypatch.setattr(module, "_warned", [])

    def make(*bodies: str | None) -> list[Compiler]:
        made = []
        for number, body in enumerate(bodies):
            path = counting_compiler[0] if body is None else fake_compiler(body, name=f"cc{number}")
            made.append(find_compiler(str(path)))
        monkeypatch.setattr(module, "find_compilers", lambda name: iter(made))
        return made

    return make


@pytest.mark.parametrize("broken", [NO_HEADERS, "exit 0", "kill -KILL $$"])
def test_next_compiler_takes_over_with_one_line(
    compilers: Callable[..., list[Compiler]], caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    """A compiler that cannot do its work is told once and not asked again."""
    first, second = compilers(broken, None)

    for source in (SOURCE, SOURCE + "\n"):
        assert build_library(source, SYMBOLS).answer() == 42

    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"The C compiler `{first.name}` ")
    assert caplog.messages[0].endswith(f"Going on with the C compiler `{second.name}`.")


def test_hanging_compiler_hands_over(
    compilers: Callable[..., list[Compiler]], caplog: pytest.LogCaptureFixture
) -> None:
    """A compiler that never ends is ended at its limit, and the next one does the work."""
    compilers("sleep 60", None)

    library = build_library(SOURCE, SYMBOLS, CompileOptions(timeout_seconds=5.0))

    assert library.answer() == 42
    assert "did not finish within 5 seconds" in caplog.text


def test_first_failure_is_told_where_all_fail(
    compilers: Callable[..., list[Compiler]],
) -> None:
    """Without any that works, the one to be preferred says why."""
    first, _ = compilers(NO_HEADERS, "exit 3")

    for _ in range(2):
        with pytest.raises(CompilerError) as error:
            build_library(SOURCE, SYMBOLS)

    assert "has failed before" in str(error.value)
    with pytest.raises(CompilerError, match=r"stdint\.h"):
        build_library(SOURCE, SYMBOLS, CompileOptions(compiler=first.name))


def test_full_quota_under_the_compiler_is_survived(
    compilers: Callable[..., list[Compiler]], cache: Path, counting_compiler: tuple[Path, Path]
) -> None:
    """A compiler that meets its user's quota runs again elsewhere."""
    path, _ = counting_compiler
    complaint = "as: network.o: error: Disk quota exceeded"
    path.write_text(
        path.read_text().replace(
            "exec", f"case \"$TMPDIR\" in '{cache}'*) echo '{complaint}'; exit 1;; esac\nexec"
        )
    )
    compilers(None)

    assert build_library(SOURCE, SYMBOLS).answer() == 42


def test_library_without_our_functions_is_built_again(
    compilers: Callable[..., list[Compiler]], cache: Path
) -> None:
    """What hashes to its name and is something else is thrown away."""
    compilers(None)
    options = CompileOptions()
    compiler = next(module.find_compilers(None))
    other = module._compiled("int other(void) { return 1; }\n", compiler, options)
    entry = module._compiled(SOURCE, compiler, options)
    key, digest = entry.name.split(".")[0], other.name.split(".")[1]
    entry.unlink()
    shutil.copyfile(other, entry.with_name(f"{key}.{digest}{entry.suffix}"))

    assert build_library(SOURCE, SYMBOLS).answer() == 42


def test_folder_that_forbids_running_is_left(
    compilers: Callable[..., list[Compiler]],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where nothing may be loaded from the cache, a copy elsewhere is, with one line."""
    compilers(None)
    load = ctypes.CDLL

    def refuse(name: str) -> ctypes.CDLL:
        if Path(name).is_relative_to(cache):
            raise OSError("failed to map segment from shared object")
        return load(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)

    assert build_library(SOURCE, SYMBOLS).answer() == 42
    assert len(caplog.messages) == 1
    assert "cannot be loaded from" in caplog.text


def test_code_of_another_user_is_not_loaded(
    counting_compiler: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that somebody else placed is replaced, whatever its digest says."""
    path, count = counting_compiler
    options = CompileOptions(compiler=str(path))
    planted = compile_library(SOURCE, options)
    lstat = Path.lstat

    def owned_by_another(self: Path) -> os.stat_result:
        values = list(lstat(self))
        if self == planted and count.read_text().count("\n") == 1:
            values[4] = os.geteuid() + 12345
        return os.stat_result(values)

    monkeypatch.setattr(Path, "lstat", owned_by_another)

    assert answer(compile_library(SOURCE, options)) == 42
    assert num_compiles(count) == 2


def test_folder_that_others_may_write_is_not_used(
    counting_compiler: tuple[Path, Path],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Code is kept elsewhere then, with one line; a group's right to write is taken away."""
    monkeypatch.setattr(module, "_warned", [])
    path, _ = counting_compiler
    options = CompileOptions(compiler=str(path))
    folder = compile_library(SOURCE, options).parent
    folder.chmod(0o775)
    assert compile_library(SOURCE, options).parent == folder
    assert folder.stat().st_mode & 0o777 == 0o755

    folder.chmod(0o1777)
    elsewhere = compile_library(SOURCE, options)

    assert not elsewhere.is_relative_to(cache)
    assert answer(elsewhere) == 42
    assert len(caplog.messages) == 1
    assert "Others may write to" in caplog.messages[0]


def test_library_travels_to_a_machine_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent is loaded before any compiler is asked; other programs still need one."""
    real_compiler()
    carried = carry_library(SOURCE, 1)
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(module, "find_compilers", lambda name: iter(()))
    options = CompileOptions(lanes=1)
    with pytest.raises(CompilerError):
        build_library(SOURCE, SYMBOLS, options)

    place_library(carried)
    library = build_library(SOURCE, SYMBOLS, options)

    assert library.answer() == 42
    assert getattr(library, module.BUILD) == {
        "compiler": carried.compiler,
        "sha256": carried.sha256,
    }
    with pytest.raises(CompilerError):
        build_library(SOURCE + "\n", SYMBOLS, options)


def test_library_that_arrives_damaged_is_refused(cache: Path) -> None:
    """Neither other bytes nor lanes that the processor lacks are placed."""
    real_compiler()
    carried = carry_library(SOURCE, 1)

    with pytest.raises(CompilerError, match="arrived damaged"):
        place_library(replace(carried, content=carried.content[:-1]))
    with pytest.raises(CompilerError, match="`lanes` must be"):
        place_library(replace(carried, lanes=3))


def real_compiler() -> Compiler:
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

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.main

from smidgen import __version__
from smidgen.cli import app, main
from smidgen.errors import SmidgenError

COMMANDS = [
    ["--help"],
    ["--version"],
    ["recipes"],
    ["show", "smidgen/quick"],
    ["show", "smidgen/quick", "--json"],
    ["schema"],
    ["runs"],
    ["train", "--help"],
    ["eval", "--help"],
    ["predict", "--help"],
    ["data", "--help"],
]

WITHOUT_TORCH = """
import sys
sys.argv = ["smidgen", *sys.argv[1:]]
from smidgen.cli import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_reading_commands_do_without_torch(arguments: list[str]) -> None:
    """Help, listings and tables answer without importing torch."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0
    assert done.stderr == "False\n"
    assert done.stdout


def test_the_installed_command_and_the_module_are_one() -> None:
    """`smidgen` and `python -m smidgen` both lead here."""
    for command in ([f"{sys.prefix}/bin/smidgen"], [sys.executable, "-m", "smidgen"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, f"smidgen {__version__}\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`smidgen schema | head -1` ends quietly, however much there was to say."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "smidgen", "schema"], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    os.close(reading)

    _, err = process.communicate(timeout=120)

    assert err == b""
    assert process.returncode == 1


def test_a_deliberate_error_is_one_line(
    shell: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deliberate error is printed as one line and ends with its own exit code."""

    class ThreeError(SmidgenError):
        exit_code = 3

    def failing() -> None:
        raise ThreeError("What is wrong. What to do.")

    monkeypatch.setattr(app, "app", failing)

    found = shell("anything")

    assert vars_of(found) == (3, "", "error: What is wrong. What to do.\n")


def test_a_bug_shows_its_traceback(
    shell: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody raised on purpose is not dressed up."""

    def failing() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app, "app", failing)

    with pytest.raises(ZeroDivisionError):
        shell("anything")


def vars_of(ended: object) -> tuple[int, str, str]:
    """Return exit code, output and errors."""
    return tuple(getattr(ended, name) for name in ("code", "out", "err"))  # type: ignore


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["shwo", "x"], "No such command 'shwo'. Did you mean 'show'?"),
        (["data", "fetsh"], "No such command 'fetsh'. Did you mean 'fetch'?"),
        (["show"], "Missing argument 'NAME'."),
        (
            ["train", "--protocl", "tune"],
            "No such option: --protocl (Possible options: --protocol)",
        ),
        (["train", "--engine", "tork"], "'tork' is not one of 'auto', 'native', 'torch'."),
        (["train", "--seed", "-1"], "greater than or equal to 0"),
        (["train", "--seed", "one"], "Invalid value for '--seed'"),
        (["train", "--threads", "0"], "greater than or equal to 1"),
        (["predict", "last"], "Missing argument 'IMAGE...'."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(shell: Callable[..., object], arguments: list[str], says: str) -> None:
    """What was typed wrongly is said, with what may have been meant, and ends with 2."""
    code, out, err = vars_of(shell(*arguments))

    assert code == 2
    assert out == ""
    assert says in err


def test_no_command_shows_the_help(shell: Callable[..., object]) -> None:
    """`smidgen` alone lists its commands."""
    code, out, _ = vars_of(shell())

    assert code == 2
    assert all(f" {name} " in out for name in ("recipes", "show", "train", "eval", "predict"))


@pytest.mark.parametrize(
    "command", ["recipes", "show", "schema", "train", "eval", "predict", "runs"]
)
def test_help_has_examples(shell: Callable[..., object], command: str) -> None:
    """Every command's help shows what to type."""
    code, out, _ = vars_of(shell(command, "--help"))

    assert code == 0
    assert "For example:" in out
    assert f"smidgen {command}" in out.split("For example:")[1]


def test_no_folder_called_tilde_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `~` behind `=`, which the shell leaves alone, is the home folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    asked: list[str] = []
    monkeypatch.setattr("smidgen.cli.app.app", lambda: asked.extend(sys.argv[1:]))
    words = ["train", "--runs-dir=~/runs", "~/a.json", "--set", "about=~", "--from", "~"]
    monkeypatch.setattr(sys, "argv", ["smidgen", *words])

    main()

    home = f"{tmp_path}/home"
    assert asked == [
        "train",
        f"--runs-dir={home}/runs",
        f"{home}/a.json",
        "--set",
        "about=~",
        "--from",
        home,
    ]


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("moment", "arguments"),
    [
        ("smidgen.cli.tables", ["prove", "smidgen/quick"]),
        ("typer", ["prove", "smidgen/quick"]),
        ("pydantic", ["prove", "smidgen/quick", "--set", "dataset=stripes"]),
        ("smidgen.network.network", ["search", "--max-params", "2000", "--study", "study"]),
        ("smidgen.network.network", ["ablate", "smidgen/quick", "--set", "dataset=stripes"]),
        ("smidgen.cli.app", ["grade", ".", "--prove", "1", "--max-params", "1000"]),
        ("smidgen.network.network", ["ladder", "era-s7", "--run"]),
    ],
)
def test_an_interrupt_is_one_line_from_the_first_import_on(
    moment: str, arguments: list[str], tmp_path: Path
) -> None:
    """Ctrl-C ends every command while it still imports, with one line and no traceback."""
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "smidgen", *arguments],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(line.split()[-1] == moment for line in lines)
        process.send_signal(signal.SIGINT)
        rest = [line for line in lines if not line.startswith("import time:")]

    assert (rest, process.returncode) == (["error: Interrupted.\n"], 130)


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("> /dev/full", 1, "error: Cannot write the output: No space left on device.\n"),
    ],
)
def test_closed_or_full_outputs_end_without_a_traceback(
    redirected: str, code: int, said: str
) -> None:
    """A service without standard output gets the right exit code; a full one says so in a line."""
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m smidgen schema {redirected}"],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("arguments", [["-h"], ["train", "-h"], ["runs", "show", "-h"]])
def test_short_help_is_help_without_rich(arguments: list[str]) -> None:
    """`-h` works everywhere, and help imports nothing that only draws."""
    code = WITHOUT_TORCH.replace('"torch" in sys.modules', '"rich" in sys.modules')
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )

    assert (done.returncode, done.stderr) == (0, "False\n")
    assert "-h, --help" in done.stdout


def test_help_lists_every_command_in_a_group() -> None:
    """What is for what is said in the list of commands."""
    from smidgen.cli.app import GROUPS

    grouped = [name for names in GROUPS.values() for name in names]
    commands = typer.main.get_command(app.app).commands  # type: ignore[attr-defined]

    assert len(grouped) == len(set(grouped))
    assert set(commands) <= set(grouped)

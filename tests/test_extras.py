import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

import smidgen
from smidgen.errors import MissingPackageError
from smidgen.extras import require

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
HIDE = """
import sys

for name in {hidden!r}:
    sys.modules[name] = None
"""
HIDDEN = ("torch", "matplotlib", "jinja2", "PIL", "optuna", "ziglang", "xlsxwriter", "h5py", "onnx")
TINY = ("--set", "dataset=stripes", "--set", "epochs=1")


def names_of(requirements: list[str]) -> set[str]:
    """Return the packages of a list of requirements."""
    return {re.split(r"[^A-Za-z0-9._-]", each)[0] for each in requirements}


@pytest.fixture
def core(tmp_path: Path) -> "Core":
    """A folder and an interpreter that knows the core dependencies alone."""
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "sitecustomize.py").write_text(HIDE.format(hidden=HIDDEN))
    return Core(tmp_path, hiding)


class Core:
    """Runs commands in an environment without any extra."""

    def __init__(self, folder: Path, hiding: Path) -> None:
        self.folder = folder
        self._variables = {"PYTHONPATH": str(hiding), "SMIDGEN_RUNS": str(folder / "runs")}

    def run(self, *words: str, **variables: str) -> tuple[int, str, str]:
        """Return a command's exit code and what it printed, all warnings being errors."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "smidgen", *words],
            env={**os.environ, **self._variables, **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout, done.stderr


def test_missing_packages_are_named_with_the_command_that_brings_them() -> None:
    """Only what is missing is asked for, by the names that pip knows."""
    require("This needs", "numpy", "pydantic")

    with pytest.raises(MissingPackageError) as caught:
        require("This needs", "no_such_a", "numpy", "no_such_b")

    assert str(caught.value) == (
        "This needs no_such_a and no_such_b. "
        "Install what is missing with `pip install no_such_a no_such_b`."
    )


def test_the_core_is_six_packages() -> None:
    """Nobody installs gigabytes to train a network of ours."""
    core = names_of(PROJECT["dependencies"])

    assert core == {"numpy", "safetensors", "pydantic", "typer", "rich", "filelock"}


def test_all_holds_every_extra_for_users() -> None:
    """The extra `all` names every other one but those for developers."""
    named = {re.sub(r"smidgen\[(.*)\]", r"\1", each) for each in EXTRAS["all"]}

    assert named == EXTRAS.keys() - {"all", "dev"}


def test_advice_to_install_names_packages_of_the_extras() -> None:
    """No text advises an extra of ours by name: smidgen is on no index."""
    known = set().union(*(names_of(EXTRAS[extra]) for extra in EXTRAS.keys() - {"all", "dev"}))
    advised: set[str] = set()
    for folder, kind in (("src", "*.py"), ("docs", "*.md")):
        for path in (ROOT / folder).rglob(kind):
            text = path.read_text(encoding="utf-8")
            for words in re.findall(r"pip install ([^`\n{]+)`", text):
                plain = [word.strip("'\"") for word in words.split()]
                advised |= names_of([word for word in plain if word[0] not in "-."])

    assert advised
    assert advised <= known


def closure(requirements: Iterable[str]) -> set[str]:
    """Return the packages that requirements bring, those that are installed followed further."""
    seen: set[str] = set()
    queue = [name.lower() for name in names_of([*requirements])]
    while queue:
        name = queue.pop()
        seen.add(name)
        try:
            wanted = requires(name) or []
        except PackageNotFoundError:
            continue
        plain = names_of([each for each in wanted if "extra ==" not in each])
        queue += [other.lower() for other in plain if other.lower() not in seen]
    return seen


@pytest.mark.parametrize("extra", sorted(EXTRAS.keys() - {"all", "dev", "torch"}))
def test_no_extra_touches_torch(extra: str) -> None:
    """Neither torch nor what would change its build comes with any extra but its own."""
    brought = closure([*PROJECT["dependencies"], *EXTRAS[extra]])

    assert {"numpy", *(name.lower() for name in names_of(EXTRAS[extra]))} <= brought
    assert not brought & {"torch", "torchvision", "triton"}


def test_names_that_need_torch_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tab shows the library, and what cannot be had here is one line."""
    monkeypatch.setattr("smidgen.extras.find_spec", lambda _: None)

    assert {"Network", "train", "to_torch", "__version__"} <= set(dir(smidgen))
    assert "Any" not in dir(smidgen)
    with pytest.raises(MissingPackageError, match=r"`smidgen\.to_torch` needs torch\. Install"):
        smidgen.to_torch  # noqa: B018


def test_the_core_trains_proves_and_tells(core: Core) -> None:
    """Without PyTorch and every extra a network is trained, proven, measured and written up."""
    for words in (
        ("train", *TINY),
        ("prove", "smidgen/quick", *TINY, "--seeds", "2", "--workers", "1"),
        ("eval", "last"),
        ("check", "last", "--max-params", "10000"),
        ("report", "last", "--md", "text.md"),
    ):
        code, out, err = core.run(*words)
        assert (code, "Traceback" in err) == (0, False), (words, err)
        assert out, words

    assert "Target" in (core.folder / "text.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("train", *TINY, "--engine", "torch"), "The torch engine needs torch. "),
        (("train", *TINY, "--report"), "Reports need matplotlib and jinja2. "),
        (("prove", "smidgen/quick", *TINY, "--open"), "Reports need matplotlib and jinja2. "),
        (("train", "net.py:Net", *TINY), "Reading `net.py:Net` needs torch. "),
        (("inspect", "net.py:Net"), "Reading `net.py:Net` needs torch. "),
        (("grade", ".", "--max-params", "100"), "Reading submissions needs torch. "),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_what_needs_more_says_so_before_it_begins(
    core: Core, words: tuple[str, ...], line: str
) -> None:
    """One line names the packages, and nothing was trained or left behind."""
    (core.folder / "net.py").write_text("import torch\nclass Net(torch.nn.Module):\n    pass\n")

    code, out, err = core.run(*words)

    packages = " ".join(re.sub(r".* needs? ", "", line).rstrip(". ").split(" and "))
    assert (code, out) == (1, "")
    assert err == f"error: {line}Install what is missing with `pip install {packages}`.\n"
    assert not (core.folder / "runs").exists()


def test_neither_compiler_nor_torch_is_one_line(core: Core) -> None:
    """Where nothing can train, both ways out are named."""
    empty = str(core.folder)  # with what was compiled before, a network trains on
    settings = {"PATH": empty, "SMIDGEN_CC": "", "SMIDGEN_CACHE": f"{empty}/cache"}
    code, out, err = core.run("train", *TINY, **settings)

    assert (code, out) == (1, "")
    assert err == (
        "error: Neither engine runs here. The native one: No C compiler was found: looked for "
        "`cc`, `gcc` and `clang` on PATH and for the Python package `ziglang`. Use `--engine "
        "torch`, install gcc 12 or newer, or run `pip install ziglang`. The torch one: PyTorch "
        "is not installed; `pip install torch` brings it.\n"
    )

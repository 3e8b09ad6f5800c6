import sys
from pathlib import Path

import pytest

from smidgen.errors import StorageError
from smidgen.places import at_home, cache_folder, folder_from, is_python_target, split_target


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a home folder who chose nothing."""
    for name in ("SMIDGEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, "/home/ada/.cache/smidgen"),
        ("linux", {"XDG_CACHE_HOME": "/scratch"}, "/scratch/smidgen"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/ada/.cache/smidgen"),
        ("darwin", {}, "/home/ada/Library/Caches/smidgen"),
        ("linux", {"SMIDGEN_CACHE": "/mine", "XDG_CACHE_HOME": "/scratch"}, "/mine"),
        ("darwin", {"SMIDGEN_CACHE": "/mine"}, "/mine"),
    ],
)
def test_cache_folder_follows_choice_then_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], folder: str
) -> None:
    """The user's own folder comes first, then the platform's place for caches."""
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert cache_folder() == Path(folder)


def test_no_home_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder is told which variable to set."""

    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)

    with pytest.raises(StorageError) as error:
        cache_folder()

    assert str(error.value) == (
        "This user has no home folder to keep a cache in. Set `SMIDGEN_CACHE` to a folder."
    )


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of .env files and notebooks keep their tilde, which never becomes a folder."""
    monkeypatch.setenv("HOME", "/home/ada")
    for name in ("SMIDGEN_CACHE", "SMIDGEN_RUNS", "SMIDGEN_DATA"):
        monkeypatch.setenv(name, "~/mine")
        assert folder_from(name) == Path("/home/ada/mine")
    monkeypatch.setenv("SMIDGEN_DATA", "")

    assert cache_folder() == Path("/home/ada/mine")
    assert folder_from("SMIDGEN_DATA") is None
    assert [at_home(text) for text in ("~", "a/~/b", "~no-such-user/x")] == [
        "/home/ada",
        "a/~/b",
        "~no-such-user/x",
    ]


def test_a_tilde_without_a_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no home folder, no folder called `~` is made in its place."""
    monkeypatch.setattr("os.path.expanduser", lambda text: text)

    with pytest.raises(StorageError, match="`~/runs`: this user has no home folder"):
        at_home("~/runs")


@pytest.mark.parametrize(
    ("text", "file", "asked"),
    [
        ("net.py", "net.py", ""),
        ("a/net.py:Net(8)", "a/net.py", "Net(8)"),
        ("S7.ipynb", "S7.ipynb", ""),
        ("S7.ipynb:Net@2", "S7.ipynb", "Net@2"),
        ("smidgen/quick", "smidgen/quick", ""),
        ("runs:a", "runs:a", ""),
    ],
)
def test_targets_are_split(text: str, file: str, asked: str) -> None:
    """A word is a file and what is asked of it, or stands for itself."""
    assert split_target(text) == (file, asked)
    assert is_python_target(text) == file.endswith((".py", ".ipynb"))

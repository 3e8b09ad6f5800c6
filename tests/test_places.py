import sys
from pathlib import Path

import pytest

from smidgen.errors import StorageError
from smidgen.places import cache_folder


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a home folder who chose nothing."""
    for name in ("SMIDGEN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, "/home/ada/.cache/smidgen"),
        ("linux", {"XDG_CACHE_HOME": "/scratch"}, "/scratch/smidgen"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/ada/.cache/smidgen"),
        ("darwin", {}, "/home/ada/Library/Caches/smidgen"),
        ("win32", {}, "/home/ada/AppData/Local/smidgen"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/smidgen"),
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

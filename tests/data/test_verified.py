import dataclasses
from pathlib import Path
from typing import Any

import pytest

from smidgen.data.specs import MNIST
from smidgen.data.verified import dataset_folder, verify
from smidgen.errors import DataError, StorageError
from smidgen.places import cache_folder


@pytest.mark.parametrize(
    ("platform", "variables", "below_home"),
    [
        ("linux", {}, ".cache/smidgen"),
        ("linux", {"XDG_CACHE_HOME": "{home}/xdg"}, "xdg/smidgen"),
        ("darwin", {}, "Library/Caches/smidgen"),
        ("linux", {"SMIDGEN_CACHE": "{home}/own"}, "own"),
    ],
)
def test_the_cache_is_where_the_platform_keeps_caches(
    platform: str,
    variables: dict[str, str],
    below_home: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each system has its place, and `SMIDGEN_CACHE` is taken as it stands."""
    for name in ("SMIDGEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)

    assert cache_folder() == tmp_path / below_home
    assert dataset_folder(MNIST) == tmp_path / below_home / "data" / "mnist"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that helps is named."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SMIDGEN_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", homeless)

    with pytest.raises(StorageError) as caught:
        cache_folder()

    assert str(caught.value) == (
        "This user has no home folder to keep a cache in. Set `SMIDGEN_CACHE` to a folder."
    )


def test_a_file_of_another_data_set_is_recognized(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fashion-MNIST's files are called like MNIST's, so the error says whose they are."""
    monkeypatch.setattr("smidgen.data.specs.SPECS", {"tiny": tiny.spec})
    file = tiny.spec.test_labels
    other = dataclasses.replace(file, sha256="0" * 64)

    with pytest.raises(DataError) as caught:
        verify(tiny.packed[file.name], other, f"/data/{file.name}")

    assert str(caught.value) == (
        f"`/data/{file.name}` has the wrong SHA-256 {file.sha256[:12]}..., not 000000000000.... "
        "It is a file of `tiny`. Fetch it again."
    )

import contextlib
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smidgen.data import fetch_dataset
from smidgen.data.archive import read_archive
from smidgen.errors import DataError, DataMissingError

FIRST = "t10k-labels-idx1-ubyte.gz"


def zip_of(path: Path, entries: dict[str, bytes]) -> Path:
    """Write a zip file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "rename",
    [str, "MNIST/raw/{}".format, "../../{}".format, "/etc/{}".format],
    ids=["flat", "nested", "climbing", "absolute"],
)
def test_known_names_are_read_from_any_folder_and_paths_never_used(
    rename: Callable[[str], str], tiny: Any, tmp_path: Path
) -> None:
    """Entries are known by their last name, and land in the cache under that name only."""
    entries = {rename(name): content for name, content in tiny.packed.items()}
    source = zip_of(tmp_path / "a.zip", {**entries, "readme.txt": b"hello"})

    folder = fetch_dataset(tiny.spec, source=source)

    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    assert found == tiny.packed
    outside = [p for p in tmp_path.rglob("*ubyte*") if p.parent != folder]
    assert outside == []


def test_unpacked_files_are_read_too(tiny: Any, tmp_path: Path) -> None:
    """A zip file of unpacked files serves as well."""
    source = zip_of(tmp_path / "a.zip", tiny.unpacked)

    assert read_archive(tiny.spec, tiny.spec.files, source) == tiny.unpacked


def test_the_data_sets_own_folder_wins_in_a_zip_of_several(tiny: Any, tmp_path: Path) -> None:
    """Of files with one name and size, the one below the data set's name is taken."""
    other = {f"other/{n}": bytes(len(c)) for n, c in tiny.packed.items()}
    own = {f"tiny/{n}": c for n, c in tiny.packed.items()}
    source = zip_of(tmp_path / "a.zip", {**other, **own})

    assert read_archive(tiny.spec, tiny.spec.files, source) == tiny.packed


def test_a_zip_bomb_under_a_known_name_is_refused_without_unpacking_it(
    tiny: Any, tmp_path: Path
) -> None:
    """At most one byte more than pinned is unpacked, so the claim alone decides."""
    source = zip_of(tmp_path / "a.zip", {**tiny.packed, FIRST: bytes(50_000_000)})
    size = tiny.spec.test_labels.size_bytes

    with pytest.raises(DataError) as caught:
        read_archive(tiny.spec, tiny.spec.files, source)

    assert str(caught.value) == (
        f"`{source}/{FIRST}` is too long: it has {size + 1:,} bytes, not {size:,}. Fetch it again."
    )


def test_a_missing_file_is_named(tiny: Any, tmp_path: Path) -> None:
    """A zip file without one of the files says which."""
    source = zip_of(tmp_path / "a.zip", {"readme.txt": b""})

    with pytest.raises(DataMissingError) as caught:
        fetch_dataset(tiny.spec, source=source)

    assert str(caught.value) == (
        f"`{source}` has no `{FIRST}`, so it does not hold `tiny`. "
        "Give a folder or zip file with all four files."
    )


def test_what_is_no_zip_file_is_said(tiny: Any, tmp_path: Path) -> None:
    """Any other file is refused by content."""
    source = tmp_path / "a.zip"
    source.write_bytes(b"PK but no more")

    with pytest.raises(DataError, match="is not a zip file that can be read"):
        fetch_dataset(tiny.spec, source=source)


def test_an_encrypted_entry_is_said(tiny: Any, tmp_path: Path) -> None:
    """A password is not asked for."""
    source = zip_of(tmp_path / "a.zip", {FIRST: tiny.packed[FIRST]})
    content = bytearray(source.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + offset
        content[at : at + 2] = struct.pack("<H", 1)
    source.write_bytes(content)

    with pytest.raises(DataError, match=r"is not a zip file that can be read .*encrypted"):
        fetch_dataset(tiny.spec, source=source)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_zip_files_raise_only_data_errors(data: Any, tiny: Any, tmp_path: Path) -> None:
    """Whatever bytes are changed, the result is right or a deliberate error."""
    source = zip_of(tmp_path / "a.zip", tiny.packed)
    content = bytearray(source.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    source.write_bytes(content[: data.draw(st.integers(0, len(content)))])

    with contextlib.suppress(DataError):
        assert read_archive(tiny.spec, tiny.spec.files, source) == tiny.packed

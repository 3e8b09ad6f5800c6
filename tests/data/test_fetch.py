import contextlib
import dataclasses
import errno
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smidgen.data import FetchLimits, fetch_dataset, load_dataset
from smidgen.data.fetch import checked_redirect, read_archive
from smidgen.errors import DataError, DataMissingError, DownloadError, StorageError

FIRST = "t10k-labels-idx1-ubyte.gz"
WAYS = (
    "Three ways to get it: download it with `smidgen data fetch tiny`; import it with "
    "`smidgen data fetch tiny --from FOLDER|ZIP|URL`; or name a folder that holds its files "
    "with `--data-dir` or `SMIDGEN_DATA`."
)

PATIENT = FetchLimits()
SILENCE = FetchLimits(read_seconds=0.4)
# The server drips 20 bytes a second; what an honest one answers at once lasts for 5 seconds.
SLOWNESS = FetchLimits(rate_window_seconds=0.5, min_bytes_per_second=40)

CHILD = """
import json, sys
from pathlib import Path
from smidgen.data import DatasetSpec, FileSpec, fetch_dataset
told = json.loads(sys.argv[2])
files = {k: FileSpec(**v) for k, v in told.items() if isinstance(v, dict)}
rest = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items() if k not in files}
print(fetch_dataset(DatasetSpec(**rest, **files), cache_dir=Path(sys.argv[1])))
"""


def start_child(spec: Any, cache: Path) -> subprocess.Popen[str]:
    """Fetch in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(cache), json.dumps(dataclasses.asdict(spec))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_complete(folder: Path, tiny: Any) -> None:
    """All four files are there, right, and nothing else but the lock."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    assert found == tiny.packed


def assert_nothing(cache: Path) -> None:
    """No file of the data set stands under its final name."""
    assert not [p for p in cache.rglob("*") if p.is_file() and p.name[0] != "."]


def test_fetch_brings_all_files_and_reports_progress(tiny: Any, bad_server: Any) -> None:
    """A good mirror fills the cache, and every file's progress ends at its size."""
    told: list[tuple[str, int, int]] = []
    spec = tiny.at(bad_server.at("good"))

    folder = fetch_dataset(spec, progress=lambda *what: told.append(what))

    assert_complete(folder, tiny)
    ends = {name: (done, total) for name, done, total in told}
    assert ends == {name: (len(c), len(c)) for name, c in tiny.packed.items()}
    assert load_dataset(spec).image_shape == (1, 28, 28)


def test_fetch_asks_nobody_when_the_cache_is_complete(tiny: Any, bad_server: Any) -> None:
    """A second fetch sends no request."""
    spec = tiny.at(bad_server.at("good"))
    fetch_dataset(spec)
    bad_server.requests.clear()

    fetch_dataset(spec)

    assert bad_server.requests == []


def test_load_downloads_what_is_not_there_and_replaces_what_is_damaged(
    tiny: Any, bad_server: Any
) -> None:
    """Loading fills an empty cache, and later fetches only the file that was damaged."""
    spec = tiny.at(bad_server.at("good"))
    first = load_dataset(spec)
    (fetch_dataset(spec) / FIRST).write_bytes(b"rotten")
    bad_server.requests.clear()

    second = load_dataset(spec)

    assert second.sha256 == first.sha256
    assert bad_server.asked("good") == [FIRST]


@pytest.mark.parametrize(
    ("behavior", "limits", "reason"),
    [
        ("missing", PATIENT, "answered 404"),
        ("truncated", PATIENT, "stopped after 22 of 44 bytes"),
        ("wrong", PATIENT, "sent wrong bytes (their SHA-256 is not the pinned one)"),
        ("longer", PATIENT, "offers 51 bytes, not 44"),
        ("portal", PATIENT, "offers 27 bytes, not 44"),
        (
            "redirecting",
            PATIENT,
            "redirects to an address that would be read over `http`, which is not safe; use https",
        ),
        ("circling", PATIENT, "redirects more than 5 times"),
        ("garbage", PATIENT, "does not speak proper HTTP (BadStatusLine)"),
        ("silent", SILENCE, "was silent for 0.4 s"),
        ("dripping_headers", SILENCE, "was silent for 0.4 s"),
        ("slow", SLOWNESS, "is slower than 40 bytes a second"),
        ("endless", PATIENT, "sent wrong bytes (their SHA-256 is not the pinned one)"),
        ("endless_redirect", PATIENT, "redirects more than 5 times"),
    ],
)
def test_a_bad_mirror_is_named_with_its_fault_and_leaves_nothing(
    behavior: str, limits: FetchLimits, reason: str, tiny: Any, bad_server: Any, cache: Path
) -> None:
    """Each way to misbehave ends in one line, and no file appears."""
    host = bad_server.address.removeprefix("http://")
    size = tiny.spec.test_labels.size_bytes
    spec = tiny.at(bad_server.at(behavior))

    with pytest.raises(DownloadError) as caught:
        fetch_dataset(spec, limits=limits)

    reason = reason.replace("22 of 44", f"{size // 2} of {size}").replace("not 44", f"not {size}")
    reason = reason.replace("offers 51", f"offers {size + 7}")
    assert str(caught.value) == (
        f"`{FIRST}` of `tiny` could not be downloaded: `{host}` {reason}. {WAYS}"
    )
    assert_nothing(cache)


@pytest.mark.parametrize(
    ("behavior", "limits"),
    [
        ("missing", PATIENT),
        ("truncated", PATIENT),
        ("wrong", PATIENT),
        ("garbage", PATIENT),
        ("endless", PATIENT),
        ("portal", PATIENT),
        ("silent", FetchLimits(read_seconds=2)),
        ("slow", SLOWNESS),
    ],
)
def test_a_good_mirror_after_a_bad_one_completes_the_fetch(
    behavior: str, limits: FetchLimits, tiny: Any, bad_server: Any
) -> None:
    """The next mirror takes over, and the bad one is not asked again for later files."""
    spec = tiny.at(bad_server.at(behavior), bad_server.at("good"))

    folder = fetch_dataset(spec, limits=limits)

    assert_complete(folder, tiny)
    assert bad_server.asked(behavior) == [FIRST]


def test_a_dead_mirror_is_named(tiny: Any, bad_server: Any) -> None:
    """A port that nobody listens on is passed over for the next mirror."""
    dead = "http://127.0.0.1:1"

    with pytest.raises(DownloadError, match=r"`127.0.0.1:1` cannot be reached \(Connection ref"):
        fetch_dataset(tiny.at(dead))
    assert_complete(fetch_dataset(tiny.at(dead, bad_server.at("good"))), tiny)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://example.invalid/x", "would be read over `http`, which is not safe; use https"),
        ("ftp://127.0.0.1/x", "would be read over `ftp`, which is not safe; use https"),
        ("file:///etc", "has an address without a host"),
        ("http://127.0.0.1:port/x", "has an address that makes no sense"),
    ],
)
def test_only_https_is_read_except_from_this_machine(address: str, reason: str, tiny: Any) -> None:
    """Addresses that are not safe are refused before anything is sent."""
    with pytest.raises(DownloadError) as caught:
        fetch_dataset(tiny.spec, source=address)

    assert reason in str(caught.value)


@pytest.mark.parametrize("behavior", ["moved", "unlabelled", "without_range"])
def test_unusual_but_honest_servers_work(behavior: str, tiny: Any, bad_server: Any) -> None:
    """A redirect on this machine, and an answer that does not say its length, are fine."""
    assert_complete(fetch_dataset(tiny.at(bad_server.at(behavior))), tiny)


def test_slow_mirror_over_its_total_time_is_given_up(tiny: Any, bad_server: Any) -> None:
    """The limit for the whole file holds even if the speed would be tolerated."""
    limits = FetchLimits(total_seconds=0.3, min_bytes_per_second=0)

    with pytest.raises(DownloadError, match=r"took longer than 0\.3 s"):
        fetch_dataset(tiny.at(bad_server.at("slow")), limits=limits)


@pytest.mark.parametrize(
    ("behavior", "ranges"),
    [
        ("good", ["bytes=9-"]),
        ("without_range", ["bytes=9-"]),
        ("refusing_range", ["bytes=9-", None]),
    ],
)
def test_a_partial_file_is_continued_whatever_the_server_says_to_ranges(
    behavior: str, ranges: list[str | None], tiny: Any, bad_server: Any, cache: Path
) -> None:
    """A range is asked for; one that is ignored or refused leads to the whole file."""
    partial = cache / "data" / "tiny" / f".{FIRST}.download"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(tiny.packed[FIRST][:9])

    folder = fetch_dataset(tiny.at(bad_server.at(behavior)))

    assert [r for path, r in bad_server.requests if path.endswith(FIRST)] == ranges
    assert_complete(folder, tiny)


def test_a_partial_file_of_wrong_bytes_is_begun_anew(
    tiny: Any, bad_server: Any, cache: Path
) -> None:
    """What an earlier mirror got wrong does not spoil a good one."""
    partial = cache / "data" / "tiny" / f".{FIRST}.download"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"\0" * 9)

    folder = fetch_dataset(tiny.at(bad_server.at("good")))

    assert bad_server.requests[0][1] == "bytes=9-"
    assert bad_server.requests[1][1] is None
    assert_complete(folder, tiny)


def test_a_range_that_was_not_asked_for_is_refused(tiny: Any, bad_server: Any) -> None:
    """A server that sends some other part is a bad mirror."""
    with pytest.raises(DownloadError, match="sent another part of the file than was asked for"):
        fetch_dataset(tiny.at(bad_server.at("wrong_range")))


def test_own_mirror_comes_first(
    tiny: Any, bad_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SMIDGEN_MIRROR` holds one folder per data set and is asked before the known mirrors."""
    monkeypatch.setenv("SMIDGEN_MIRROR", bad_server.at("good"))

    folder = fetch_dataset(tiny.at(bad_server.at("missing")))

    assert_complete(folder, tiny)
    assert bad_server.requests[0][0] == f"/good/tiny/{FIRST}"
    assert bad_server.asked("missing") == []


def test_source_address_is_the_only_one_asked(tiny: Any, bad_server: Any) -> None:
    """With `--from URL` the known mirrors are left alone."""
    folder = fetch_dataset(tiny.at("http://127.0.0.1:1"), source=bad_server.at("good") + "/")

    assert_complete(folder, tiny)


def test_eight_processes_download_once(tiny: Any, bad_server: Any, cache: Path) -> None:
    """Processes that fetch at once wait for each other, and all end well."""
    children = [start_child(tiny.at(bad_server.at("good")), cache) for _ in range(8)]

    results = [child.communicate(timeout=120) for child in children]

    assert [child.returncode for child in children] == [0] * 8, results
    assert sorted(bad_server.asked("good")) == sorted(tiny.packed)
    assert_complete(cache / "data" / "tiny", tiny)


def test_a_killed_download_continues(tiny: Any, bad_server: Any, cache: Path) -> None:
    """After SIGKILL in mid-file the next process asks only for the rest."""
    big = tiny.packed["train-images-idx3-ubyte.gz"]
    child = start_child(tiny.at(bad_server.at("stalling")), cache)
    partial = cache / "data" / "tiny" / f".{FIRST}.download"
    half = len(tiny.packed[FIRST]) // 2
    end = time.monotonic() + 120
    while time.monotonic() < end and not (partial.exists() and partial.stat().st_size == half):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    assert_nothing(cache)

    folder = fetch_dataset(tiny.at(bad_server.at("good")))

    assert ("/good/" + FIRST, f"bytes={half}-") in bad_server.requests
    assert (folder / "train-images-idx3-ubyte.gz").read_bytes() == big
    assert_complete(folder, tiny)


def test_full_disk_while_receiving_is_said_and_frees_its_space(
    tiny: Any, bad_server: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second mirror is tried when the fault is ours, and the partial file is gone."""

    class FullFile:
        def __init__(self, path: Path, _mode: str) -> None:
            path.touch()

        def __enter__(self) -> "FullFile":
            return self

        def __exit__(self, *_: object) -> None:
            """Close nothing."""

        def write(self, _: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("smidgen.data.fetch.open", FullFile, raising=False)

    with pytest.raises(StorageError, match="no space left on the device"):
        fetch_dataset(tiny.at(bad_server.at("good"), bad_server.at("moved")))

    assert {p.name for p in cache.rglob("*") if p.is_file()} <= {".lock"}
    assert len(bad_server.requests) == 1


def test_full_disk_at_the_end_loses_nothing_received(
    tiny: Any, bad_server: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the final write fails, the next fetch uses what was received."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spec = tiny.at(bad_server.at("good"))
    with monkeypatch.context() as patch:
        patch.setattr("smidgen.files.os.fsync", full)
        with pytest.raises(StorageError, match="no space left on the device"):
            fetch_dataset(spec)
    assert_nothing(cache)

    folder = fetch_dataset(spec)

    assert bad_server.asked("good").count(FIRST) == 1
    assert_complete(folder, tiny)


def test_a_file_where_the_cache_should_be_is_said(tiny: Any, cache: Path) -> None:
    """The cache cannot be made below a file."""
    cache.write_text("in the way")

    with pytest.raises(StorageError, match="a file stands where a folder should be"):
        fetch_dataset(tiny.spec)


@pytest.mark.parametrize("unpacked", [False, True])
def test_import_from_a_folder_copies_verified_files(
    unpacked: bool, tiny: Any, tmp_path: Path
) -> None:
    """Packed and unpacked files are taken as they are, without any network."""
    source = tiny.write(tmp_path / "mine", unpacked)

    folder = fetch_dataset(tiny.spec, source=source)

    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == set(tiny.unpacked if unpacked else tiny.packed)
    assert len(load_dataset(tiny.spec).train) == 120


def test_import_of_one_bad_file_writes_none(tiny: Any, tmp_path: Path, cache: Path) -> None:
    """All files are verified before the first is copied."""
    source = tiny.write(tmp_path / "mine")
    path = source / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(DataError, match="is cut short"):
        fetch_dataset(tiny.spec, source=source)

    assert_nothing(cache)


def test_import_from_nowhere_is_said(tiny: Any, tmp_path: Path) -> None:
    """A source that does not exist is named with what it should hold."""
    with pytest.raises(DataMissingError) as caught:
        fetch_dataset(tiny.spec, source=tmp_path / "no")

    assert str(caught.value) == (
        f"`{tmp_path}/no` does not exist. Give a folder or zip file that holds "
        "`train-images-idx3-ubyte.gz` and the other files of `tiny`."
    )


@pytest.mark.parametrize("name", ["stripes", "folder"])
def test_what_is_not_published_needs_no_fetching(name: str) -> None:
    """Drawn data and folders are no downloads."""
    with pytest.raises(DataError, match=f"`{name}` needs no fetching. Use it directly."):
        fetch_dataset(name)


@pytest.mark.parametrize(
    ("start", "target", "is_followed"),
    [
        ("https://a.example/x", "https://b.example/y", True),
        ("https://a.example/x", "http://127.0.0.1/y", False),
        ("https://a.example/x", "http://b.example/y", False),
        ("http://127.0.0.1/x", "http://localhost/y", True),
        ("http://127.0.0.1/x", "http://b.example/y", False),
    ],
)
def test_redirects_never_lead_away_from_https(start: str, target: str, is_followed: bool) -> None:
    """Plain http is left only for servers on this machine that were asked in plain http."""
    if is_followed:
        assert checked_redirect(start, target) == target
    else:
        with pytest.raises(Exception, match="which is not safe; use https"):
            checked_redirect(start, target)


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

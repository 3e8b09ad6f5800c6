import gzip
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.errors import RunError
from smidgen.runs.parcel import pack, unpack
from smidgen.runs.store import RunFolder, RunStore

MakeRun = Callable[..., RunFolder]


def tar_of(files: dict[str, bytes]) -> bytes:
    """Return a gzipped tar of files by name."""
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_parcel_gives_back_the_folder(make_run: MakeRun, tmp_path: Path) -> None:
    """A run comes out of its parcel byte for byte, and equal folders give equal parcels."""
    run = make_run()
    content = pack(run)
    (there,) = unpack(content, RunStore(tmp_path / "other"))

    assert content == pack(run)
    assert {p.name: p.read_bytes() for p in there.path.iterdir()} == {
        p.name: p.read_bytes() for p in run.path.iterdir()
    }
    left = [p for p in (tmp_path / "other").iterdir() if p.name != ".identities"]
    assert left == [there.path]
    assert RunStore(tmp_path / "other").finished(run.record().spec) == there


def test_only_what_is_kept_travels(make_run: MakeRun, tmp_path: Path) -> None:
    """With `record` nothing but the record travels, and still makes a run."""
    (there,) = unpack(pack(make_run(), "record"), RunStore(tmp_path / "other"))

    assert [p.name for p in there.path.iterdir()] == ["record.json"]
    assert there.record().result is not None


def test_finished_run_stays(make_run: MakeRun, tmp_path: Path) -> None:
    """A parcel does not touch a run that is finished in the store already."""
    run = make_run()
    content = pack(run)
    (run.path / "mark").write_text("mine")

    assert unpack(content, RunStore(tmp_path / "runs"))[0].path == run.path
    assert (run.path / "mark").read_text() == "mine"


def test_changed_file_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    """A file that is not the one the record names leaves the store as it was."""
    run = make_run()
    (run.path / "predictions.safetensors").write_bytes(b"other")

    with pytest.raises(RunError, match="not the one its record names"):
        unpack(pack(run), RunStore(tmp_path / "other"))
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../x/record.json", "/x/record.json", "x/../../y", "a/b/c/d", "record.json", "x/.y"]
)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    """No entry of a parcel is written outside its run."""
    with pytest.raises(RunError, match="no file of a run"):
        unpack(tar_of({name: b"{}"}), RunStore(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("content", [b"", b"no tar", gzip.compress(b"no tar", mtime=0)])
def test_other_bytes_are_refused(content: bytes, tmp_path: Path) -> None:
    """What is no parcel gets one line."""
    with pytest.raises(RunError, match="damaged"):
        unpack(content, RunStore(tmp_path / "runs"))


def test_unfinished_run_is_replaced_by_a_further_one(make_run: MakeRun, tmp_path: Path) -> None:
    """An unfinished run in the store gives way to one with more epochs, and to no other."""
    short = make_run(finish=False, errors_before=(9,))
    before = pack(short)
    shutil.rmtree(short.path)
    longer = make_run(finish=False, errors_before=(9, 8, 7))
    store = RunStore(tmp_path / "other")
    unpack(before, store)
    (there,) = unpack(pack(longer), store)
    assert len(there.record().epochs) == 4
    unpack(before, store)
    assert len(there.record().epochs) == 4

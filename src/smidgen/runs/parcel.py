"""A run folder as bytes and back: how a run travels between machines that share no disk.

A parcel is a gzipped tar of one folder's files, equal bytes for equal content. What comes out
of one is believed only after every file was held against the record's SHA-256, and stands in
the store by one rename: a store has the whole run or nothing of it.
"""

import gzip
import io
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from smidgen.choices import Keep
from smidgen.errors import RunError
from smidgen.files import make_folder, sha256_of, storage_errors, sync_folder, write_atomically
from smidgen.runs.record import RunRecord
from smidgen.runs.store import PARTIAL, SOURCE_FILE, RunFolder, RunStore

RECORD_FILE = "record.json"
MODEL_FILE = "model.safetensors"
MOST_BYTES = 1 << 30
"""No run folder comes near this; a parcel that unpacks to more is no run."""

_INCOMING = ".incoming-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def pack(folder: RunFolder, keep: Keep = "all") -> bytes:
    """Return a run's folder as a parcel.

    Args:
        folder: A finished run, or one that is under way.
        keep: What of a finished run travels; an unfinished one travels whole.

    Raises:
        RunError: The record is missing or damaged.
    """
    folder.record()
    paths = [path for path in sorted(folder.path.iterdir()) if path.is_file()]
    if folder.is_finished and keep != "all":
        kept = {RECORD_FILE, SOURCE_FILE} | ({MODEL_FILE} if keep == "model" else set())
        paths = [path for path in paths if path.name in kept]
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in paths:
            if _NAME.fullmatch(path.name):  # hidden and temporary files belong to a process
                entry = tarfile.TarInfo(f"{folder.path.name}/{path.name}")
                content = path.read_bytes()
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def unpack(content: bytes, store: RunStore) -> list[RunFolder]:
    """Put the runs of a parcel, one or many, into a store.

    A run that is finished there already stays as it is; an unfinished one is replaced if the
    parcel has got further. Each run is checked whole before its rename.

    Args:
        content: What `pack` gave, or a gzipped tar of several run folders.
        store: Where the runs shall stand.

    Returns:
        Where they stand now, by name.

    Raises:
        RunError: Not a parcel, or a file that is not what its record says.
        StorageError: The store cannot be written.
    """
    return [_unpack_run(name, files, store) for name, files in sorted(_read(content).items())]


def _unpack_run(name: str, files: dict[str, bytes], store: RunStore) -> RunFolder:
    incoming = store.root / f"{_INCOMING}{name}"
    with storage_errors(incoming):
        make_folder(store.root)
        shutil.rmtree(incoming, ignore_errors=True)
    try:
        for file_name, held in files.items():
            write_atomically(incoming / file_name, held)
        _check(RunFolder(incoming), finished=not name.endswith(PARTIAL))
        return _place(store, name, incoming)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _place(store: RunStore, name: str, incoming: Path) -> RunFolder:
    target = RunFolder(store.root / name)
    done = RunFolder(store.root / target.name)
    if (done.path / RECORD_FILE).is_file():
        return done
    ours, theirs = target.path / RECORD_FILE, incoming / RECORD_FILE
    if ours.is_file() and len(RunRecord.read(ours).epochs) >= len(RunRecord.read(theirs).epochs):
        return target
    if target.is_finished:
        placed = store.finish(RunFolder(incoming), name=name)
        # its unfinished form, from an earlier parcel, is over
        shutil.rmtree(store.partial(name).path, ignore_errors=True)
        return placed
    with storage_errors(target.path):
        if target.path.exists():
            shutil.rmtree(target.path)
        incoming.rename(target.path)
        sync_folder(store.root)
    return target


def _read(content: bytes) -> dict[str, dict[str, bytes]]:
    """Return each folder's files by name, nothing of which is on disk yet."""
    runs: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for run, name, held in _entries(tar):
                runs.setdefault(run, {})[name] = held
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise RunError(f"A parcel of runs is damaged: {error}. Send it again.") from error
    for run, files in runs.items():
        if RECORD_FILE not in files:
            raise RunError(f"A parcel holds `{run}` without its record. Send it again.")
    return runs


def _entries(tar: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    """Yield (run, file, content); refuse more than any run can hold."""
    left = MOST_BYTES
    for entry in tar:
        left -= entry.size
        if left < 0:
            raise RunError(f"A parcel of runs unpacks to over {MOST_BYTES:,} bytes.")
        if not entry.isdir():
            run, name = _names(entry)
            opened = tar.extractfile(entry)
            assert opened is not None
            yield run, name, opened.read()


def _names(entry: tarfile.TarInfo) -> tuple[str, str]:
    """Return the folder and the file that an entry names; refuse what leads elsewhere."""
    parts = PurePosixPath(entry.name).parts
    plain = entry.isfile() and 2 <= len(parts) <= 3 and all(map(_NAME.fullmatch, parts))
    if not plain or parts[:-2] not in ((), ("runs",)):
        raise RunError(f"A parcel of runs holds `{entry.name[:80]}`, which is no file of a run.")
    return parts[-2], parts[-1]


def _check(folder: RunFolder, finished: bool) -> None:
    record = RunRecord.read(folder.path / RECORD_FILE)
    if finished and record.result is None:
        raise RunError(f"A parcel calls `{folder.name}` finished; its record has no result.")
    for path in folder.path.iterdir():
        told = record.files.get(path.name)
        if path.name != RECORD_FILE and finished and told != sha256_of(path):
            raise RunError(
                f"A parcel holds a `{path.name}` that is not the one its record names. "
                "Send it again."
            )

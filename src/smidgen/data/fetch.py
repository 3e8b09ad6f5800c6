"""A data set's name in, its verified files in the user's cache out; from mirrors or by import.

Nothing is believed that does not have the pinned size and SHA-256, and nothing stands under
its final name before it has been verified.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from smidgen.data.archive import read_archive
from smidgen.data.dataset import Progress
from smidgen.data.download import download
from smidgen.data.places import (
    MIRROR_VARIABLE,
    dataset_folder,
    locate,
    locate_all,
    read_verified,
    verify,
    ways_to_get,
)
from smidgen.data.specs import DRAWN_NAME, FOLDER_NAME, DatasetSpec, FileSpec, find_spec
from smidgen.data.transport import FetchLimits, MirrorError
from smidgen.errors import DataError, DataMissingError, DownloadError
from smidgen.files import locked, write_atomically


def fetch_dataset(
    name: str | DatasetSpec,
    *,
    source: str | Path | None = None,
    cache_dir: Path | None = None,
    limits: FetchLimits | None = None,
    progress: Progress | None = None,
) -> Path:
    """Put a published data set's files into the cache unless they are there already.

    Processes that fetch the same data set wait for each other, and a download that was cut
    off continues where it stopped.

    Args:
        name: Name of a published data set, or a specification.
        source: Where to take it from: a folder, a zip file, or the address of a folder on a
            server. By default the mirrors: first `SMIDGEN_MIRROR` (an address below which
            each data set has a folder called by its name), then the known ones.
        cache_dir: Cache folder; by default `SMIDGEN_CACHE` or the user's.
        limits: How long mirrors may take.
        progress: Told (file name, bytes so far, bytes in all) while downloading.

    Returns:
        The folder in the cache that now holds the four files.

    Raises:
        UnknownNameError: No data set is called so.
        DownloadError: No mirror gave the right bytes; says what each did.
        DataMissingError: The folder or zip file lacks a file.
        DataError: A file in the folder or zip file holds other bytes.
        StorageError: The cache cannot be written.
    """
    if name in (DRAWN_NAME, FOLDER_NAME):
        raise DataError(f"`{name}` needs no fetching. Use it directly.")
    spec = find_spec(name)
    folder = dataset_folder(spec, cache_dir)
    with locked(folder / ".lock"):
        wanted = [file for file in spec.files if not _is_ready(spec, file, folder)]
        if not wanted:
            return folder
        if source is None or _is_address(source):
            mirrors = _mirrors(spec) if source is None else [str(source)]
            _download_all(spec, wanted, folder, mirrors, limits or FetchLimits(), progress)
        else:
            _import_all(spec, wanted, folder, Path(source))
    return folder


def _is_ready(spec: DatasetSpec, file: FileSpec, folder: Path) -> bool:
    path = locate(spec, file, folder)
    if path is None:
        return False
    try:
        read_verified(path, file)
    except DataError:
        return False
    return True


def _import_all(spec: DatasetSpec, wanted: Sequence[FileSpec], folder: Path, source: Path) -> None:
    if source.is_file():
        contents = read_archive(spec, wanted, source)
    elif source.exists():
        places = locate_all(spec, source)
        contents = {places[f].name: read_verified(places[f], f) for f in wanted}
    else:
        raise DataMissingError(
            f"`{source}` does not exist. Give a folder or zip file that holds "
            f"`{spec.train_images.name}` and the other files of `{spec.name}`."
        )
    for file_name, content in contents.items():  # all verified before the first is written
        write_atomically(folder / file_name, content)


def _download_all(
    spec: DatasetSpec,
    wanted: Sequence[FileSpec],
    folder: Path,
    mirrors: Sequence[str],
    limits: FetchLimits,
    progress: Progress | None,
) -> None:
    mirrors = list(mirrors)
    for file in wanted:
        failures: list[str] = []
        for mirror in tuple(mirrors):
            try:
                content = _download_verified(mirror, file, folder, limits, progress)
            except MirrorError as error:
                failures.append(f"`{urlsplit(mirror).netloc or mirror}` {error}")
                mirrors.append(mirrors.pop(0))  # the next file begins with one that works
                continue
            write_atomically(folder / file.name, content)
            _partial(folder, file).unlink(missing_ok=True)
            break
        else:
            raise DownloadError(
                f"`{file.name}` of `{spec.name}` could not be downloaded: {'; '.join(failures)}. "
                f"{ways_to_get(spec)}"
            )


def _download_verified(
    mirror: str, file: FileSpec, folder: Path, limits: FetchLimits, progress: Progress | None
) -> bytes:
    """Return the file's bytes, begun anew once if an earlier part turns out to be wrong."""
    partial = _partial(folder, file)

    def on_bytes(done: int) -> None:
        if progress:
            progress(file.name, done, file.size_bytes)

    while True:
        is_continued = partial.exists()
        try:
            if not is_continued or partial.stat().st_size < file.size_bytes:
                download(
                    f"{mirror.rstrip('/')}/{file.name}", partial, file.size_bytes, limits, on_bytes
                )
            return _verified(partial, file)
        except MirrorError:
            if not is_continued or partial.exists():
                raise


def _verified(partial: Path, file: FileSpec) -> bytes:
    content = partial.read_bytes() if partial.stat().st_size == file.size_bytes else b""
    try:
        verify(content, file, file.name)
    except DataError:
        partial.unlink(missing_ok=True)
        raise MirrorError("sent wrong bytes (their SHA-256 is not the pinned one)") from None
    return content


def _partial(folder: Path, file: FileSpec) -> Path:
    return folder / f".{file.name}.download"


def _mirrors(spec: DatasetSpec) -> list[str]:
    own = os.environ.get(MIRROR_VARIABLE)
    return [f"{own.rstrip('/')}/{spec.name}", *spec.mirrors] if own else list(spec.mirrors)


def _is_address(source: str | Path) -> bool:
    return isinstance(source, str) and "://" in source

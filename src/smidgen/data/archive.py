"""A zip file in, the verified files of a data set out; nothing else in it is ever read.

Only entries whose last name is a known one are opened, at most the pinned number of bytes is
unpacked, and an entry's path is never used as a path.
"""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from smidgen.data.places import verify
from smidgen.data.specs import DatasetSpec, FileSpec
from smidgen.errors import DataError, DataMissingError

_MAX_ZIP_BYTES = 1 << 30  # the list of entries is read whole, so a file of entries is bounded


def read_archive(spec: DatasetSpec, wanted: Sequence[FileSpec], path: Path) -> dict[str, bytes]:
    """Read and verify files of a data set from a zip file, in whatever folder inside it.

    Args:
        spec: The data set.
        wanted: Which of its files.
        path: The zip file, at most 1 GiB.

    Returns:
        Verified content for each wanted file, under the name by which it was found: with
        `.gz` if packed, without if not.

    Raises:
        DataMissingError: A wanted file is not in it.
        DataError: Not an intact zip file, too large, encrypted, or with other bytes.
    """
    if path.stat().st_size > _MAX_ZIP_BYTES:
        raise DataError(f"`{path}` is larger than 1 GiB. Unpack it and give the folder instead.")
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_read_one(archive, spec, file, path) for file in wanted)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # `zipfile` says RuntimeError for an encrypted entry.
        raise DataError(f"`{path}` is not a zip file that can be read ({error}).") from error
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"`{path}` cannot be read: {error.strerror or error}.") from error


def _read_one(
    archive: zipfile.ZipFile, spec: DatasetSpec, file: FileSpec, path: Path
) -> tuple[str, bytes]:
    for name in file.accepted_names:
        size = file.size_bytes if name == file.name else file.unpacked_size_bytes
        entries = [e for e in archive.infolist() if PurePosixPath(e.filename).name == name]
        entries.sort(key=lambda entry: _rank(entry, spec, size))
        if entries and not entries[0].is_dir():
            with archive.open(entries[0]) as stream:
                content = stream.read(size + 1)
            verify(content, file, f"{path}/{entries[0].filename}")
            return name, content
    raise DataMissingError(
        f"`{path}` has no `{file.name}`, so it does not hold `{spec.name}`. "
        "Give a folder or zip file with all four files."
    )


def _rank(entry: zipfile.ZipInfo, spec: DatasetSpec, size: int) -> tuple[bool, bool]:
    """Order entries of one name: of the right size first, then from the data set's folder."""
    return entry.file_size != size, spec.name not in PurePosixPath(entry.filename).parts

"""A data set's specification in, verified bytes out: which folders are looked in, and how."""

import hashlib
from pathlib import Path

from smidgen.data.specs import DatasetSpec, FileSpec, owner_of
from smidgen.errors import DataError, DataMissingError
from smidgen.places import DATA_VARIABLE, cache_folder, folder_from

MIRROR_VARIABLE = "SMIDGEN_MIRROR"


def dataset_folder(spec: DatasetSpec, cache_dir: Path | None = None) -> Path:
    """Return where fetched files of a data set stand in a cache: `data/NAME` below it."""
    return (cache_dir or cache_folder()) / "data" / spec.name


def chosen_folder(data_dir: Path | None) -> tuple[Path, str] | None:
    """Return the folder the user chose and how (`--data-dir` or `SMIDGEN_DATA`), if any."""
    if data_dir is not None:
        return Path(data_dir), "--data-dir"
    if from_environment := folder_from(DATA_VARIABLE):
        return from_environment, DATA_VARIABLE
    return None


def ways_to_get(spec: DatasetSpec) -> str:
    """Say the three ways to get a published data set, in one sentence."""
    command = f"smidgen data fetch {spec.name}"
    return (
        f"Three ways to get it: download it with `{command}`; import it with "
        f"`{command} --from FOLDER|ZIP|URL`; or name a folder that holds its files with "
        f"`--data-dir` or `{DATA_VARIABLE}`."
    )


def locate(spec: DatasetSpec, file: FileSpec, folder: Path) -> Path | None:
    """Return where a file of a data set stands, or None.

    Looked for in the folder's sub-folder called as the data set, then in the folder itself,
    packed before unpacked.
    """
    for place in (folder / spec.name, folder):
        for name in file.accepted_names:
            if (place / name).exists():
                return place / name
    return None


def locate_all(spec: DatasetSpec, folder: Path) -> dict[FileSpec, Path]:
    """Return where each file of a data set stands in a folder.

    Raises:
        DataMissingError: No such folder, not a folder, or a file is not in it.
    """
    if not folder.is_dir():
        state = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataMissingError(
            f"`{spec.name}` is not in `{folder}`, which {state}. {ways_to_get(spec)}"
        )
    found: dict[FileSpec, Path] = {}
    missing: list[str] = []
    for file in spec.files:
        path = locate(spec, file, folder)
        if path is None:
            missing.append(_missing_name(spec, file, folder))
        else:
            found[file] = path
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataMissingError(
            f"`{spec.name}` is not complete in `{folder}`: {missing[0]} is missing{more}. "
            f"{ways_to_get(spec)}"
        )
    return found


def read_verified(path: Path, file: FileSpec) -> bytes:
    """Read one file whole if size and SHA-256 are the pinned ones.

    Args:
        path: The file; packed if its name ends in `.gz`.
        file: What it must hold.

    Raises:
        DataError: Unreadable, another size, or another hash.
    """
    try:
        size = path.stat().st_size if path.is_file() else -1
        content = path.read_bytes() if size == _right_size(path, file) else b""
    except OSError as error:
        raise DataError(f"`{path}` cannot be read: {error.strerror or error}.") from error
    if size < 0:
        raise DataError(f"`{path}` is not a file. Remove it and fetch the data again.")
    verify(content, file, str(path), size)
    return content


def verify(content: bytes, file: FileSpec, where: str, size: int | None = None) -> None:
    """Refuse bytes that are not the pinned ones.

    Args:
        content: The bytes; packed if `where` ends in `.gz`.
        file: What they must be.
        where: What to call them in errors, such as a path.
        size: Their number if known without having read them.

    Raises:
        DataError: Another size or another hash; names what it is if it is a known file.
    """
    size = len(content) if size is None else size
    right = _right_size(Path(where), file)
    if size != right:
        state = "cut short" if size < right else "too long"
        raise DataError(
            f"`{where}` is {state}: it has {size:,} bytes, not {right:,}. Fetch it again."
        )
    found = hashlib.sha256(content).hexdigest()
    expected = file.sha256 if where.endswith(".gz") else file.unpacked_sha256
    if found != expected:
        owner = owner_of(found)
        what = f"It is a file of `{owner}`." if owner else "It is damaged or another file."
        raise DataError(
            f"`{where}` has the wrong SHA-256 {found[:12]}..., not {str(expected)[:12]}.... "
            f"{what} Fetch it again."
        )


def _right_size(path: Path, file: FileSpec) -> int:
    return file.size_bytes if path.name.endswith(".gz") else file.unpacked_size_bytes


def _missing_name(spec: DatasetSpec, file: FileSpec, folder: Path) -> str:
    unpacked = (folder / spec.name / file.unpacked_name, folder / file.unpacked_name)
    if file.unpacked_sha256 is None and any(path.exists() for path in unpacked):
        return f"`{file.name}` (unpacked it cannot be verified)"
    return f"`{file.name}`"

"""Named arrays in safetensors files that notice when a single bit has changed.

The file's own metadata carries a SHA-256 over everything else in it; safetensors alone
verifies nothing. All metadata stands under one key, as JSON: with several, safetensors writes
them in an order that changes from file to file, and equal runs would have unequal files.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from smidgen.errors import RunError
from smidgen.files import write_atomically

Tensors = dict[str, np.ndarray]
Metadata = dict[str, str]

_KEY, _DIGEST = "smidgen", "sha256"
_LONGEST_HEADER_BYTES = 4_000_000
"""Far above what a tiny model and its epoch log need; a hostile header stays cheap to refuse."""


def save_tensors(path: Path, tensors: Tensors, metadata: Metadata | None = None) -> None:
    """Write arrays atomically and durably.

    Raises:
        StorageError: The file cannot be written; what stood there before is untouched.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    noted = dict(metadata or {})
    noted[_DIGEST] = _digest(arrays, noted)
    write_atomically(path, save(arrays, {_KEY: json.dumps(noted, sort_keys=True)}))


def load_tensors(path: Path) -> tuple[Tensors, Metadata]:
    """Read arrays and metadata back.

    Raises:
        RunError: The file is missing, is no safetensors file, or has changed since it was
            written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"Cannot read `{path}`: {error.strerror}.") from error
    metadata = _metadata(path, content)
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"`{path}` is damaged: {error}. Restore it or train again.") from None
    if metadata.pop(_DIGEST, None) != _digest(tensors, metadata):
        raise RunError(
            f"`{path}` is damaged: its content does not match its SHA-256. "
            "Restore it or train again."
        )
    return tensors, metadata


def _metadata(path: Path, content: bytes) -> Metadata:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, _LONGEST_HEADER_BYTES):
        raise RunError(f"`{path}` is no complete safetensors file. Restore it or train again.")
    try:
        header = json.loads(content[8 : 8 + length])
        found = json.loads(header["__metadata__"][_KEY])
        return {str(key): str(text) for key, text in found.items()}
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        raise RunError(f"`{path}` is damaged: its header is not readable.") from None


def _digest(tensors: Tensors, metadata: Metadata) -> str:
    digest = hashlib.sha256()
    others = {key: text for key, text in metadata.items() if key != _DIGEST}
    digest.update(json.dumps(others, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.asarray(tensors[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

"""Whether an unfinished run was stopped, and can go on, or diverged, and would do so again."""

import json

from smidgen.files import storage_errors, write_atomically
from smidgen.runs.store import RunFolder

DIVERGED = "diverged.json"
"""In the folder of a run that met NaN or infinity: `{"epoch": N}`."""


def note_divergence(folder: RunFolder, epoch: int) -> None:
    """Write down in which epoch a run met NaN or infinity, atomically."""
    write_atomically(folder.path / DIVERGED, json.dumps({"epoch": epoch}).encode())


def forget_divergence(folder: RunFolder) -> None:
    """Remove what an earlier sitting wrote down; this one will see for itself."""
    with storage_errors(folder.path):
        (folder.path / DIVERGED).unlink(missing_ok=True)


def why_unfinished(folder: RunFolder) -> str:
    """Say why a run has no result and what to do about it."""
    try:
        epoch = json.loads((folder.path / DIVERGED).read_bytes())["epoch"]
    except (OSError, ValueError, LookupError, TypeError):
        return (
            f"`{folder.name}` is not finished. "
            f"Continue it with `smidgen train --resume {folder.name}`."
        )
    return (
        f"`{folder.name}` diverged in epoch {epoch} (numbers not finite) and would do so again if "
        "continued. Train with a lower `optimizer.lr`."
    )

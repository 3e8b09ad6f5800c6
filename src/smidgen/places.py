"""Environment variables and platform in, folders out: where smidgen keeps what on a machine."""

import os
import sys
from pathlib import Path

from smidgen.errors import StorageError

CACHE_VARIABLE = "SMIDGEN_CACHE"


def cache_folder() -> Path:
    """Return the user's cache folder for smidgen; it need not exist.

    `SMIDGEN_CACHE` as it stands, else `smidgen` below the platform's place for caches.

    Raises:
        StorageError: The system knows no home folder for this user.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    try:
        home = Path.home()
    except RuntimeError:
        raise StorageError(
            f"This user has no home folder to keep a cache in. Set `{CACHE_VARIABLE}` to a folder."
        ) from None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "smidgen"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "smidgen"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "smidgen"

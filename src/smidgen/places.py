"""Environment variables and platform in, folders out: where smidgen keeps what on a machine."""

import os
import re
import sys
from pathlib import Path

from smidgen.errors import StorageError

CACHE_VARIABLE = "SMIDGEN_CACHE"
DATA_VARIABLE = "SMIDGEN_DATA"
RUNS_VARIABLE = "SMIDGEN_RUNS"


def cache_folder() -> Path:
    """Return the user's cache folder for smidgen; it need not exist.

    `SMIDGEN_CACHE` if set, else `smidgen` below the platform's place for caches.

    Raises:
        StorageError: The system knows no home folder for this user.
    """
    if chosen := folder_from(CACHE_VARIABLE):
        return chosen
    try:
        home = Path.home()
    except RuntimeError:
        raise StorageError(
            f"This user has no home folder to keep a cache in. Set `{CACHE_VARIABLE}` to a folder."
        ) from None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "smidgen"
    return (folder_from("XDG_CACHE_HOME") or home / ".cache") / "smidgen"


def folder_from(variable: str) -> Path | None:
    """Return the folder that an environment variable names, `~` being the home; None if unset."""
    return Path(at_home(text)) if (text := os.environ.get(variable)) else None


def at_home(text: str) -> str:
    """Return a path with its leading `~` or `~user` as that home folder.

    A shell leaves it alone behind `=`, and so do `.env` files, ENV lines and notebooks' %env;
    a folder literally called `~` is a trap for whoever removes it.

    Raises:
        StorageError: There is no such home folder.
    """
    expanded = os.path.expanduser(text)
    if expanded == "~" or expanded.startswith("~/"):
        raise StorageError(f"`{text}`: this user has no home folder. Write the whole path.")
    return expanded


def is_python_target(text: str) -> bool:
    """Return whether a command's target means a Python file or a notebook."""
    return split_target(text)[0].endswith((".py", ".ipynb"))


def split_target(text: str) -> tuple[str, str]:
    """Return a target's file and what is asked of it: `("net.py", "Net(8)")`, or ("last", "")."""
    parts = re.match(r"(.*?\.(?:py|ipynb)):(.*)\Z", text, re.DOTALL)
    return (parts[1], parts[2]) if parts else (text, "")

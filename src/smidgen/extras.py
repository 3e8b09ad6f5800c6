"""Packages that only some tasks need: asked for by name before anything is done in vain."""

from importlib.util import find_spec

from smidgen.errors import MissingPackageError

_MODULES = {"pillow": "PIL", "XlsxWriter": "xlsxwriter"}
"""Packages whose module is not called as they are."""


def require(what: str, *packages: str) -> None:
    """Refuse to begin what a package that is not installed would end.

    The advice names packages and no extra of ours: it is right however smidgen was installed,
    from a wheel, a clone or an index.

    Args:
        what: What needs them, as `Reports need`.
        packages: As `pip install` calls them.

    Raises:
        MissingPackageError: Names those that are missing and the command that brings them.
    """
    missing = [name for name in packages if not is_installed(_MODULES.get(name, name))]
    if missing:
        raise MissingPackageError(
            f"{what} {' and '.join(missing)}. "
            f"Install what is missing with `pip install {' '.join(missing)}`."
        )


def is_installed(module: str) -> bool:
    """Return whether a module could be imported; it is not."""
    return find_spec(module) is not None

"""Every error smidgen raises on purpose, drawn as a tree.

SmidgenError
├── NetworkError            a network that cannot be built, read or run
├── RecipeError             a recipe, or a change to one, that makes no sense
├── UnknownNameError        a name that is in no table; carries the nearest one
├── DataError               images or labels that are broken or do not fit together
│   ├── DataMissingError    a data set that is not on this machine
│   └── DownloadError       a fetch that did not end in the expected bytes
├── MissingPackageError     a package of an extra that a task needs and that is not installed
├── StorageError            a file or folder that cannot be written (full disk, no folder)
│   └── InUseError          what another process holds the lock of
├── RunError                a run that is missing, broken or contradicts what was asked
├── ReportError             a page or a picture that cannot be made
├── ShipError               a network that cannot be exported as asked
├── SearchError             a search that finds nothing to try, or whose journal is not its own
├── ClusterError            other machines that cannot be used together
├── CloudError              a rented machine that cannot be had, found or believed
├── BudgetError             a limit that was promised and not kept
├── EngineError             an engine that cannot do what was asked
│   ├── CompilerError       no working C compiler, or one that failed
│   └── NonFiniteError      training that met NaN or infinity
└── InterruptedRunError     a run that was told to stop by a signal

The command line prints one of these as a single line and exits with its `exit_code`;
anything else is a bug and shows its traceback.
"""

import difflib
from collections.abc import Iterable


class SmidgenError(Exception):
    """Base of every deliberate error: what is wrong, what would be right, what to do."""

    exit_code = 1


class NetworkError(SmidgenError):
    """A network that cannot be built, read or run.

    It is no ValueError: pydantic would swallow one that is raised while a value is checked.
    """


class RecipeError(SmidgenError):
    """A recipe, or a change to one, that makes no sense; no ValueError, as NetworkError."""


class UnknownNameError(SmidgenError, LookupError):
    """A name that is in no table."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = list(known)
        near = nearest(name, known)
        listed = ", ".join(f"`{k}`" for k in known[:12]) + (", ..." if len(known) > 12 else "")
        advice = f"Did you mean `{near}`?" if near else f"Known: {listed or 'none'}."
        text = f"No {kind} is called `{name}`. {advice}"
        super().__init__(f"{text} {hint}" if hint else text)


class DataError(SmidgenError, ValueError):
    """Images or labels that are broken or do not fit together."""


class DataMissingError(DataError, FileNotFoundError):
    """A data set that is not on this machine."""


class DownloadError(DataError, OSError):
    """A fetch that did not end in the expected bytes."""


class MissingPackageError(SmidgenError, ImportError):
    """A package of an extra that a task needs and that is not installed."""


class StorageError(SmidgenError, OSError):
    """A file or folder that cannot be written."""


class InUseError(StorageError):
    """What another process is working on just now."""


class SmidgenWarning(UserWarning):
    """Something to know that stops nothing; the command line prints it as a note in one line."""


class StorageWarning(SmidgenWarning):
    """A folder that works less well than it should."""


class DataWarning(SmidgenWarning):
    """Images on which accuracy does not mean what it should."""


class RunError(SmidgenError):
    """A run that is missing, broken or contradicts what was asked; no ValueError."""


class ReportError(SmidgenError, ValueError):
    """A page or a picture that cannot be made."""


class ShipError(SmidgenError, ValueError):
    """An export that makes no sense, or that does not compute what it must."""


class SearchError(SmidgenError, ValueError):
    """A search that finds nothing to try, or whose journal is missing parts or not its own."""


class ClusterError(SmidgenError, RuntimeError):
    """Other machines that cannot be used together: none there, open to anybody, or unlike us."""


class CloudError(SmidgenError, RuntimeError):
    """A rented machine that cannot be had, found or believed, or a cap that makes no sense."""


class BudgetError(SmidgenError, ValueError):
    """A limit that was promised and not kept."""

    exit_code = 3


class EngineError(SmidgenError, RuntimeError):
    """An engine that cannot do what was asked."""


class CompilerError(EngineError):
    """No working C compiler, or one that failed."""


class NonFiniteError(EngineError, ArithmeticError):
    """Training that met NaN or infinity.

    Args:
        message: What happened, for people.
        step: Index within the epoch of the batch that went wrong; the engine's weights and
            statistics are those from before it.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class InterruptedRunError(SmidgenError):
    """A run that was told to stop by a signal; exits with 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `name`, or None if none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None

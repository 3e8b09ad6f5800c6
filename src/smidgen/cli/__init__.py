"""The command line: thin commands that parse, call the library once, and print.

Exit codes: 0 done; 1 a deliberate error, one line on standard error; 2 wrong usage; 3 a budget
not kept; 130 and 143 interrupted by SIGINT or SIGTERM. Anything else is a bug.
"""

import os
import sys
import warnings
from typing import Any

_PYTHONS_WARNING = warnings.showwarning


def main() -> None:
    """Run the command line."""
    from smidgen.cli.app import app
    from smidgen.errors import SmidgenError

    warnings.showwarning = _show_warning
    try:
        try:
            sys.argv[1:] = _at_home(sys.argv[1:])
            app()
        finally:
            sys.stdout.flush()
    except SmidgenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # the reader went away (`smidgen show NAME | head`); nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _at_home(words: list[str]) -> list[str]:
    """Return a command line's words with the `~` that a shell leaves alone behind `=` resolved."""
    from smidgen.places import at_home

    made = []
    for word in words:
        option, separator, path = word.partition("=")
        if separator and option.startswith("--") and path.startswith("~"):
            word = f"{option}={at_home(path)}"
        made.append(at_home(word) if word.startswith("~") else word)
    return made


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Print a warning of ours as a note in one line; others as Python does."""
    from smidgen.errors import StorageWarning

    if issubclass(category, StorageWarning):
        print(f"note: {message}", file=sys.stderr)
    else:
        _PYTHONS_WARNING(message, category, *place)

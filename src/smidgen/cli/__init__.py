"""The command line: thin commands that parse, call the library once, and print.

Exit codes: 0 done; 1 a deliberate error, one line on standard error; 2 wrong usage; 3 a budget
not kept; 130 and 143 interrupted by SIGINT or SIGTERM. Anything else is a bug.
"""

import errno
import io
import os
import signal
import sys
import threading
import warnings
from types import FrameType
from typing import Any

_PYTHONS_WARNING = warnings.showwarning
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Why a full or broken standard output takes nothing; other files' errors are `StorageError`s."""
_LAST_SECONDS = 1.0
"""A Ctrl-C that something swallowed, as imports may do, ends the command after so long."""


class _Interrupted(BaseException):
    """A Ctrl-C that nobody else waits for: nothing on the way up takes it for an error."""


def main() -> None:
    """Run the command line."""
    interrupt = _Interrupt()
    try:
        _run()
    except BaseException:
        if not interrupt.came:
            raise
    finally:
        interrupt.forget()
    if interrupt.came:  # whatever an import made of it
        interrupt.leave()


def _run() -> None:
    from smidgen.cli.app import app
    from smidgen.errors import SmidgenError

    warnings.showwarning = _show_warning
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of classes and files may be anything
            stream.reconfigure(errors="backslashreplace")
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
        _drop_output()
        sys.exit(1)
    except OSError as error:
        if error.errno not in _CANNOT_WRITE or error.filename is not None:
            raise
        _drop_output()
        print(f"error: Cannot write the output: {error.strerror}.", file=sys.stderr)
        sys.exit(1)


def _open_closed_streams() -> None:
    """Let what is written to a closed stream go nowhere: `print` would take standard output."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _drop_output() -> None:
    """Let what is still to be written go nowhere, so that leaving does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    from smidgen.errors import SmidgenWarning

    if issubclass(category, SmidgenWarning):
        print(f"note: {message}", file=sys.stderr)
    else:
        _PYTHONS_WARNING(message, category, *place)


class _Interrupt:
    """A Ctrl-C ends the command with one line, from the first import on.

    Commands that train catch it themselves, to stop in good order.
    """

    def __init__(self) -> None:
        self.came = False
        self._is_leaving = threading.Lock()
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is signal.default_int_handler:  # under `nohup` it is ignored
            signal.signal(signal.SIGINT, self._come)

    def _come(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the second one ends it at once
        sys.unraisablehook = lambda unraisable: None
        last = threading.Timer(_LAST_SECONDS, self.leave)
        last.daemon = True
        last.start()
        raise _Interrupted

    def forget(self) -> None:
        """Leave the signal as it was found, for whoever called us from Python."""
        if not self.came:
            signal.signal(signal.SIGINT, self._before)

    def leave(self) -> None:
        """End the process; what it was writing is whole or absent, as after a power failure."""
        self._is_leaving.acquire()  # never to be released
        os.write(2, b"error: Interrupted.\n")
        os._exit(128 + signal.SIGINT)

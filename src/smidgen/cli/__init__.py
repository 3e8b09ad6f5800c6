"""The command line: thin commands that parse, call the library once, and print.

Exit codes: 0 done; 1 a deliberate error, one line on standard error; 2 wrong usage; 3 a budget
not kept; 130 and 143 interrupted by SIGINT or SIGTERM. Anything else is a bug.
"""

import os
import sys


def main() -> None:
    """Run the command line."""
    from smidgen.cli.app import app
    from smidgen.errors import SmidgenError

    try:
        try:
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

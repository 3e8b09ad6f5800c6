"""`python -m smidgen` is the same as `smidgen`."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, whose `socket.py` is not Python's

    from smidgen.cli import main

    main()

"""Lets the tests of shipping share `shipped.py`, which is no test itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

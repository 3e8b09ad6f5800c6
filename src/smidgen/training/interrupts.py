"""SIGINT and SIGTERM: the first asks the run to stop in good order, the second ends it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers the signal that asked to stop, if any."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def __call__(self) -> bool:
        """Return whether to stop; engines poll this at every step."""
        return self.signal_number is not None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Catch the first SIGINT or SIGTERM while the body runs (in the main thread only)."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._remember) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

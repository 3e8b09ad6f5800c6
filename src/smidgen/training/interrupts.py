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
            if signal.getsignal(each) == self._remember:
                signal.signal(each, signal.SIG_DFL)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Catch the first SIGINT or SIGTERM while the body runs (in the main thread only).

    A signal that is ignored, as SIGINT is under `nohup`, stays ignored.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    caught = {n: handler for n, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in caught:
        signal.signal(number, request._remember)
    try:
        yield request
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)

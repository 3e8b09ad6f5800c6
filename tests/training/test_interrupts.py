import os
import signal
import threading

import pytest

from smidgen.training.interrupts import stop_on_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop(number: signal.Signals) -> None:
    """A signal inside the body is remembered and ends nothing by itself."""
    with stop_on_signal() as stop:
        assert not stop()
        os.kill(os.getpid(), number)

        assert stop()
        assert stop.signal_number == number


def test_the_next_signal_is_left_to_the_system() -> None:
    """After the first signal both have their default effect, which ends a process."""
    with stop_on_signal():
        os.kill(os.getpid(), signal.SIGTERM)

        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("interrupted", [False, True])
def test_handlers_come_back(interrupted: bool) -> None:
    """Afterwards every signal does what it did before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    with stop_on_signal():
        if interrupted:
            os.kill(os.getpid(), signal.SIGINT)

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_ignored_signal_stays_ignored() -> None:
    """Under `nohup` and in background jobs of a shell SIGINT does not stop a run."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop()
            os.kill(os.getpid(), signal.SIGTERM)

            assert stop.signal_number == signal.SIGTERM
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone() -> None:
    """Outside the main thread, where handlers cannot be set, the body runs without them."""
    before, found = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with stop_on_signal() as stop:
            found.append((stop(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert found == [(False, before)]

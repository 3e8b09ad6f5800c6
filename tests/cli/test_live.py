import io
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import rich.console

from smidgen.cli import live
from smidgen.cli.live import GETTING_READY, TrainBoard, shown
from smidgen.runs.store import RunFolder
from smidgen.training.events import Began, EpochDone, Note, Stepped

MakeRun = Callable[..., RunFolder]


class Screen(io.StringIO):
    """A terminal of 100 columns that keeps what is written on it."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Return a terminal; a test makes it standard error, for pytest's own capture comes later."""
    found = Screen()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(
        live,
        "console_on_screen",
        lambda: rich.console.Console(
            file=found, force_terminal=True, width=100, height=30, highlight=False
        ),
    )
    return found


@pytest.mark.parametrize("variable", ["", "FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"])
def test_plain_lines_without_a_terminal(
    make_run: MakeRun,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """Elsewhere one line per epoch and per note, none per step, and no code that moves a cursor."""
    if variable:
        monkeypatch.setenv(variable, "1")
    record = make_run(errors_before=(9, 8), wrong=(1,)).record()

    with shown(TrainBoard(3)) as hear:
        for event in (Note("A remark with [brackets]."), Began(record), Stepped(1, 4)):
            hear(event)
        hear(EpochDone(record.epochs[2]))

    found = capsys.readouterr()
    assert found.out == ""
    assert "\x1b" not in found.err
    lines = found.err.splitlines()
    assert lines[0] == "A remark with [brackets]."
    assert lines[1].startswith("tiny: 600 parameters, 9,000 MACs; torch engine, 1 thread; seed 1")
    assert lines[2].split()[0] == "epoch"
    assert [line.split()[0] for line in lines[3:]] == ["1", "2", "3", "3"]


def test_a_bar_in_a_terminal(
    make_run: MakeRun, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a terminal a bar moves with every step, and lines are shown as they are."""
    monkeypatch.setattr(sys, "stderr", screen)
    record = make_run().record()

    with shown(TrainBoard(3)) as hear:
        hear(Began(replace(record, epochs=(), result=None)))
        for step in range(4):
            hear(Stepped(step, 4))
        hear(EpochDone(record.epochs[0]))
        hear(Note("A remark with [red]brackets[/red], longer than the terminal is wide. " * 2))

    shown_text = screen.getvalue()
    assert "epoch 2/3" in shown_text
    assert "A remark with [red]brackets[/red], longer than the terminal is wide." in shown_text


def test_a_dumb_terminal_gets_plain_lines(
    make_run: MakeRun, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot move its cursor is a log."""
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "dumb")

    with shown(TrainBoard(3)) as hear:
        hear(Began(make_run().record()))

    assert "\x1b" not in screen.getvalue()
    assert "epoch  train loss" in screen.getvalue()


def test_the_bar_says_what_its_numbers_are(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Share, epoch, time left, pace, loss and rate are named; at first it says why one waits."""
    record = make_run().record()
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    board = TrainBoard(3)
    assert board.words() == GETTING_READY

    board.hear(Began(replace(record, epochs=(), result=None)))
    assert board.words() == "0 %, epoch 1/3"
    now[0] = 104.0
    board.hear(Stepped(2, 4, 0.05))

    assert board.words() == "17 %, epoch 1/3, about 20 s left, 15 images/s, lr 0.05"
    now[0] = 108.0
    board.hear(EpochDone(record.epochs[0]))
    assert board.words() == (
        "33 %, epoch 2/3, about 16 s left, 15 images/s, lr 0.05, last loss 0.5000"
    )


def test_a_resumed_run_counts_from_where_it_was(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time left comes from the epochs of this sitting alone."""
    record = make_run().record()
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    board = TrainBoard(3)
    board.hear(Began(replace(record, epochs=record.epochs[:2], result=None)))
    now[0] = 103.0
    board.hear(Stepped(1, 4))

    assert board.seconds_left() == pytest.approx(9.0)
    assert board.words().startswith("75 %, epoch 3/3, about 9 s left")

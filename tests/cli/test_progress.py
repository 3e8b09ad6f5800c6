import io
from collections.abc import Callable

import pytest
import rich.console

from smidgen.cli import progress
from smidgen.cli.progress import progress_listener
from smidgen.runs.store import RunFolder


def test_plain_lines_without_a_terminal(
    make_run: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere than in a terminal, one line per epoch and per note, and none per step."""
    record = make_run(errors_before=(9, 8), wrong=(1,)).record()

    with progress_listener(3) as listener:
        listener.on_note("A remark with [brackets].")
        listener.on_start(record)
        listener.on_step(1, 4)

    found = capsys.readouterr()
    assert found.out == ""
    lines = found.err.splitlines()
    assert lines[0] == "A remark with [brackets]."
    assert [line.split()[0] for line in lines[3:]] == ["1", "2", "3"]


def test_a_bar_in_a_terminal(
    make_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a terminal a bar moves with every step, and lines are shown as they are."""
    record = make_run().record()
    screen = io.StringIO()

    def console(stderr: bool, highlight: bool) -> rich.console.Console:
        assert stderr
        return rich.console.Console(file=screen, force_terminal=True, width=60, highlight=highlight)

    monkeypatch.setattr(progress, "Console", console)

    with progress_listener(3) as listener:
        listener.on_start(record)
        for step in range(4):
            listener.on_step(step, 4)
        listener.on_epoch(record.epochs[0])
        listener.on_note("A remark with [red]brackets[/red], longer than the terminal is wide.")

    shown = screen.getvalue()
    assert "training" in shown
    assert "A remark with [red]brackets[/red], longer than the terminal is wide." in shown

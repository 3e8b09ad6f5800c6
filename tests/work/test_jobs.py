from collections.abc import Callable
from dataclasses import replace

import pytest

from smidgen.files import locked
from smidgen.recipes.parts import Adam
from smidgen.training.events import Began, EpochDone, Note
from smidgen.training.run import Run
from smidgen.work.jobs import TRACEBACK, Busy, Job, Outcome, Shared, run_one

Make = Callable[..., Job]


def test_a_run_tells_how_it_goes(shared: Shared, job: Make) -> None:
    """Start, every epoch with its record, and the finished run."""
    events: list[object] = []

    outcome = run_one(job(3), shared, events.append)

    assert isinstance(outcome, Outcome)
    assert outcome.run is not None
    record = shared.store.find("last").record()
    assert outcome.run.record == record
    assert outcome.run.folder.name == shared.store.find("last").name
    assert record.identity == job(3).spec.identity
    assert isinstance(events[0], Began)
    assert events[0].record.epochs == ()
    assert events[1:] == [EpochDone(epoch) for epoch in record.epochs]


def made(job: Job, shared: Shared) -> Run:
    """Make a run of which nothing has to be told."""
    outcome = run_one(job, shared, lambda event: None)
    assert isinstance(outcome, Outcome)
    assert outcome.run is not None
    return outcome.run


def test_a_run_that_is_there_is_finished_at_once(shared: Shared, job: Make) -> None:
    """Nothing is trained again, so there is nothing to tell."""
    run = made(job(2), shared)
    events: list[object] = []

    outcome = run_one(job(2), shared, events.append)

    assert isinstance(outcome, Outcome)
    assert outcome.run == replace(run, was_there=True)
    assert events == []


def test_a_damaged_checkpoint_is_told(shared: Shared, job: Make) -> None:
    """Notes of the training reach the listener."""
    run = made(job(2), shared)
    partial = shared.store.partial(run.folder.name)
    run.folder.path.rename(partial.path)
    newest = partial.path / "checkpoint-0003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    events: list[object] = []

    run_one(job(2), shared, events.append)

    (note,) = [event for event in events if isinstance(event, Note)]
    assert "epoch 3" in note.text


def test_a_run_in_use_is_busy(shared: Shared, job: Make) -> None:
    """A lock that another process holds is no failure: the run's turn comes later."""
    name = made(job(1), shared).folder.name
    shared.store.remove(shared.store.find(name))

    with locked(shared.store.lock_path(name)):
        assert run_one(job(1), shared, lambda event: None) == Busy()


def test_a_deliberate_error_is_the_reason(shared: Shared, job: Make) -> None:
    """What smidgen says of a run that cannot be made is passed on as it is."""
    shared.store.root.write_text("a file in the way")

    outcome = run_one(job(1), shared, lambda event: None)

    assert isinstance(outcome, Outcome)
    assert (outcome.run, outcome.diverged, outcome.traceback) == (None, False, "")
    assert outcome.reason.startswith("Cannot write `")


def test_a_bug_is_named_with_its_place_and_kept_in_full(
    shared: Shared, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error costs its run alone; its traceback lies beside it until that is made."""

    def broken(*given: object, **named: object) -> None:
        raise ZeroDivisionError("by nothing")

    with monkeypatch.context() as patched:
        patched.setattr("smidgen.work.jobs.make", broken)
        outcome = run_one(job(1), shared, lambda event: None)

    assert isinstance(outcome, Outcome)
    (kept,) = shared.store.root.glob(f"*.partial/{TRACEBACK}")
    assert outcome.reason.startswith("ZeroDivisionError: by nothing (")
    assert "test_jobs.py, line " in outcome.reason
    assert outcome.reason.endswith(f"All of it is in `{kept}`.")
    assert kept.read_text() == outcome.traceback
    assert outcome.traceback.startswith("Traceback (most recent call last):")

    again = run_one(job(1), shared, lambda event: None)

    assert isinstance(again, Outcome)
    assert again.run is not None
    assert not (again.run.folder.path / TRACEBACK).exists()
    assert [path.name for path in shared.store.root.glob("*.partial")] == []


def test_training_that_diverges_says_so(shared: Shared, job: Make) -> None:
    """Numbers that are not finite are told apart from everything else that can go wrong."""
    outcome = run_one(job(1, optimizer=Adam(lr=1e30)), shared, lambda event: None)

    assert isinstance(outcome, Outcome)
    assert outcome.diverged
    assert outcome.reason.startswith("Training met a number that")

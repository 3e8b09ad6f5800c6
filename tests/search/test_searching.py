import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from smidgen.data import Dataset, Split, assemble
from smidgen.errors import InterruptedRunError, InUseError, SearchError
from smidgen.files import locked
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.recipe import Recipe
from smidgen.runs.first_form import first_fingerprint
from smidgen.runs.store import RunStore
from smidgen.search import SearchOptions, SearchResult, SearchStatus, search
from smidgen.training.events import Note
from smidgen.work.inline import Inline
from smidgen.work.jobs import Job, Outcome

from .conftest import Actor

Make = Callable[..., SearchOptions]
GUARD_SECONDS = 120


class PulledPlugError(BaseException):
    """Stands for a process that is gone: nothing may catch it."""


def found(result: SearchResult) -> list[dict[str, Any]]:
    """Return what a search came to, but for where it stands."""
    rows = result.to_plain()["front"]
    return [{key: row[key] for key in row if key not in ("file", "prove")} for row in rows]


def tried(study: Path) -> list[tuple[Any, Any]]:
    """Return every candidate that a journal holds, with its parameters in Optuna's sense."""
    lines = [json.loads(line) for line in (study / "journal.log").read_text().splitlines()]
    proposals = [line for line in lines if "user_attrs" in line]
    return [(line["user_attrs"]["recipe"], line.get("params")) for line in proposals]


def test_a_search_ends_with_recipes_that_can_be_trained(
    make_options: Make, stripes: Dataset
) -> None:
    """Each file holds a recipe within the budget, which says how many were seen and how chosen."""
    result = search(stripes, make_options())

    assert result.counts.seen == 6
    assert result.counts.runs == len(Actor.made)
    assert len(result.front) == len(result.files) > 0
    for row, file in zip(result.front, result.files, strict=True):
        recipe = Recipe.from_json(file.read_bytes())
        assert recipe.network == row.recipe.network
        assert recipe.epochs == 4
        assert recipe.fingerprint() == row.recipe.fingerprint()
        assert 300 <= row.num_params <= 600
        assert recipe.budget.max_params == 600
        assert recipe.about.notes[0].startswith(
            "One of 6 candidates that were looked at on `valid` (20 images);"
        )
    summary = json.loads((result.study / "summary.json").read_text())
    assert summary["num_seen"] == 6
    assert summary["front"] == result.to_plain()["front"]
    assert result.prove_commands[0] == f"smidgen prove {result.files[0]} --seeds 20"


def test_any_number_of_classes_can_be_searched_for(make_options: Make, stripes: Dataset) -> None:
    """The recipe that nobody named has ten classes; the networks have those of the images."""
    parts = [
        Split(part.images[part.labels < 3], part.labels[part.labels < 3])
        for part in (stripes.train, stripes.test)
    ]
    few = assemble("stripes", *parts, stripes.class_names[:3])

    result = search(few, make_options(num_candidates=2, epochs=1, num_seeds=1))

    assert {row.recipe.network.num_classes for row in result.front} == {3}


def test_halving_trains_the_better_half_longer(make_options: Make, stripes: Dataset) -> None:
    """All get a quarter of the epochs, the better half twice as many, and so on, then more seeds.

    Nobody waits: who is among the better half of those so far goes on, so it may be some more.
    """
    search(stripes, make_options(num_candidates=8))

    lengths = [(epochs, seed) for _, epochs, seed in Actor.made]
    counts = [lengths.count(run) for run in ((1, 1), (2, 1), (4, 1), (4, 2))]
    assert counts[0] == 8
    for before, after in pairwise(counts):
        assert before // 2 <= after < before


def test_no_run_is_made_twice_and_none_sees_the_test_images(
    make_options: Make, stripes: Dataset
) -> None:
    """The processes get a data set without test images and the protocol that never opens them."""
    search(stripes, make_options())

    assert len(set(Actor.made)) == len(Actor.made)
    for shared in Actor.stages:
        assert list(shared.datasets) == [stripes.sha256]
        assert len(shared.datasets[stripes.sha256].test) == 0
    for folder in Actor.stages[0].store.folders():
        assert folder.record().protocol == "tune"
        assert folder.record().data.num_test == 0
        assert {epoch.split for epoch in folder.record().epochs} == {"valid"}


@pytest.mark.parametrize("mutates", [False, True])
def test_a_search_killed_at_every_line_ends_the_same(
    make_options: Make,
    stripes: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mutates: bool,
) -> None:
    """Before, in the middle of and after every line: continued, it made the very same runs."""
    optuna = pytest.importorskip("optuna")
    calm = search(stripes, make_options(study=tmp_path / "calm", mutates=mutates))
    calm_runs, num_lines = sorted(Actor.made), len(tried(calm.study))
    Actor.made = []
    backend = optuna.storages.journal.JournalFileBackend
    append = backend.append_logs
    options = make_options(mutates=mutates)
    lines, when = 0, "before"

    def fatal(self: Any, logs: list[dict[str, Any]]) -> None:
        nonlocal lines
        lines += 1
        if when == "after":
            append(self, logs)
        if when == "middle":
            with open(options.study / "journal.log", "ab") as journal:
                journal.write(json.dumps(logs[0]).encode()[:40])
        raise PulledPlugError

    def once_more(self: Any, logs: list[dict[str, Any]]) -> None:
        append(self, logs)
        monkeypatch.setattr(backend, "append_logs", fatal)

    sittings, result = 0, None
    while result is None:
        sittings += 1
        when = ("before", "middle", "after")[sittings % 3]
        monkeypatch.setattr(backend, "append_logs", once_more)  # one line further each time
        try:
            result = search(stripes, options)
        except PulledPlugError:
            continue

    assert lines >= 2 * num_lines  # every candidate, every run, every promotion
    assert sorted(Actor.made) == calm_runs
    assert tried(options.study) == tried(calm.study)
    assert found(result) == found(calm)


def test_a_finished_search_is_not_repeated(make_options: Make, stripes: Dataset) -> None:
    """Asked again it says the same and makes nothing; with more candidates it goes on."""
    first = search(stripes, make_options())
    made = list(Actor.made)

    again = search(stripes, make_options(hours=0.5, workers=2))
    assert Actor.made == made
    assert found(again) == found(first)

    more = search(stripes, make_options(num_candidates=8))
    assert Actor.made[: len(made)] == made
    assert more.counts.candidates == 8


def test_a_search_of_the_first_form_goes_on(
    make_options: Make, stripes: Dataset, base: Recipe
) -> None:
    """A journal that names the base as earlier versions did is that of the same search."""
    first = search(stripes, make_options())
    journal, former = first.study / "journal.log", first_fingerprint(base)
    assert former is not None
    text = journal.read_text()
    assert base.fingerprint() in text
    journal.write_text(text.replace(base.fingerprint(), former))
    made = list(Actor.made)

    assert found(search(stripes, make_options())) == found(first)
    assert Actor.made == made


def test_runs_that_are_in_the_store_count(
    make_options: Make, stripes: Dataset, tmp_path: Path
) -> None:
    """A second search with the same seed and runs makes nothing anew, though its study is lost."""
    store = RunStore(tmp_path / "runs")
    first = search(stripes, make_options(), store=store)
    made = list(Actor.made)

    second = search(stripes, make_options(study=tmp_path / "other"), store=store)

    assert Actor.made == made
    assert found(second) == found(first)


def test_several_processes_lose_nothing(make_options: Make, stripes: Dataset) -> None:
    """With more workers the order is another, but each candidate is seen and no run made twice."""
    result = search(stripes, make_options(workers=2))

    assert result.counts.seen == 6
    assert len(set(Actor.made)) == len(Actor.made)


def test_training_that_diverges_is_remembered(make_options: Make, stripes: Dataset) -> None:
    """A candidate that diverged is told as failed, counted, and not tried again."""
    bad: list[str] = []

    def diverge(job: Job) -> Outcome | None:
        name = job.spec.recipe.name
        if len(bad) < 2 and name not in bad:
            bad.append(name)
        if name in bad:
            reason = "Training met a number that is not finite."
            return Outcome(job.spec, reason=reason, diverged=True)
        return None

    Actor.answer = diverge
    first = search(stripes, make_options())
    Actor.answer = lambda job: None
    again = search(stripes, make_options())

    assert bad == ["search/600-0", "search/600-1"]
    assert (first.counts.failed, first.counts.seen) == (2, 4)
    assert again.counts == first.counts
    journal = (first.study / "journal.log").read_text()
    assert journal.count('"state":3') == 2  # what Optuna calls failed


def test_other_failures_set_a_candidate_aside(make_options: Make, stripes: Dataset) -> None:
    """A killed process says nothing of a network: the next sitting tries it again."""
    notes: list[str] = []

    def killed(job: Job) -> Outcome | None:
        is_bad = job.spec.recipe.name.endswith("-2")
        return Outcome(job.spec, reason="it was killed.") if is_bad else None

    Actor.answer = killed

    def hear(event: object) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    first = search(stripes, make_options(), hear)
    Actor.answer = lambda job: None
    again = search(stripes, make_options())

    assert (first.counts.seen, first.counts.failed) == (5, 0)
    assert notes == ["Candidate 2 is set aside until the search is started again: it was killed."]
    assert again.counts.seen == 6


def test_failures_in_a_row_end_the_search(make_options: Make, stripes: Dataset) -> None:
    """A full disk fails every run: three are enough to say so."""
    Actor.answer = lambda job: Outcome(job.spec, reason="No space left.")

    with pytest.raises(SearchError) as caught:
        search(stripes, make_options())

    assert str(caught.value) == (
        "3 runs in a row failed, the last one so: No space left. What was finished is kept; the "
        "same command goes on from there."
    )


def test_time_is_respected_between_runs(
    make_options: Make, stripes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run begins after the hours; what was begun is finished; a new call has as long again."""
    clock = [0.0]
    monkeypatch.setattr("smidgen.search.searching.time.monotonic", lambda: clock[0])

    def slow(job: Job) -> Outcome | None:
        clock[0] += 1_000.0
        return None

    Actor.answer = slow
    with pytest.raises(SearchError) as caught:
        search(stripes, make_options(hours=0.5, num_candidates=None))
    assert len(Actor.made) == 2
    assert str(caught.value) == (
        "No candidate was trained for all 4 epochs: 2 were measured, 0 diverged, 0.5 hours were "
        "given. The same command goes on from there, with more `--hours` if time was short."
    )

    search(stripes, make_options(hours=4, num_candidates=None))
    assert len(Actor.made) == 2 + 15


def test_a_signal_stops_the_search_and_keeps_all(make_options: Make, stripes: Dataset) -> None:
    """SIGINT ends it between messages; the front so far is written and the rest goes on later."""
    statuses: list[SearchStatus] = []

    def interrupt(event: object) -> None:
        if not isinstance(event, SearchStatus):
            return
        statuses.append(event)
        if event.counts.runs == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRunError) as caught:
        search(stripes, make_options(), interrupt)
    made = list(Actor.made)
    result = search(stripes, make_options())

    assert caught.value.exit_code == 130
    assert str(caught.value).startswith("Stopped with 6 runs finished and ")
    assert (result.study / "summary.json").exists()
    assert Actor.made[: len(made)] == made
    assert len(set(Actor.made)) == len(Actor.made)
    assert result.counts.seen == 6


def test_two_searches_in_one_study_are_refused(make_options: Make, stripes: Dataset) -> None:
    """The second is told that the first is at it."""
    options = make_options()

    with (
        locked(options.study / ".lock"),
        pytest.raises(InUseError, match=r"^The search `.*study` is in use by another process"),
    ):
        search(stripes, options)


def test_a_search_really_trains(make_options: Make, stripes: Dataset) -> None:
    """Without an actor, losses come from trained networks."""
    result = search(stripes, make_options(epochs=2, num_candidates=2, num_seeds=1, place=Inline))

    record = RunStore(result.study / "runs").find(result.front[0].runs[0]).record()
    assert record.result is not None
    assert (record.protocol, record.result.split) == ("tune", "valid")
    assert result.front[0].loss == record.epochs[-1].eval_loss
    assert result.counts.train_seconds > 0.0


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_command_that_is_terminated_goes_on(base: Recipe, tmp_path: Path) -> None:
    """SIGTERM exits with 143 and one line; the same command then ends what was begun."""
    recipe = tmp_path / "base.json"
    recipe.write_text(base.to_json())
    arguments = ["--max-params", "600", "--start", str(recipe), "--epochs", "4", "--seeds", "1"]
    rest = ["--candidates", "4", "--engine", "torch", "--workers", "1", "--study", "study"]
    command = [sys.executable, "-m", "smidgen", "search", *arguments, *rest]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("1 candidates measured"):
            break
    process.send_signal(signal.SIGTERM)
    last = process.stderr.read().splitlines()[-1]
    process.stderr.close()

    again = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=GUARD_SECONDS, check=True
    )

    assert process.wait(GUARD_SECONDS) == 143
    assert last.startswith("error: Stopped with ")
    assert "4 candidates were measured on `valid`" in again.stdout


def test_missing_teachers_are_trained_before_the_search(
    make_options: Make, stripes: Dataset, base: Recipe, tiny_recipe: Recipe
) -> None:
    """All candidates learn from the same runs, which are made once and first."""
    teacher = tiny_recipe.replace(name="teacher", epochs=1)
    taught = base.replace(distillation=Distillation((Teacher(teacher, (3, 4)),)))
    options = make_options(base=taught, epochs=1, num_candidates=2, num_seeds=1)

    search(stripes, options)
    search(stripes, make_options(base=taught, epochs=1, num_candidates=3, num_seeds=1))

    assert [seed for _, _, seed in Actor.made] == [3, 4, 1, 1, 1]
    assert Actor.made[0][0] == Actor.made[1][0] == teacher.fingerprint()


def test_a_teacher_that_fails_ends_the_search(
    make_options: Make, stripes: Dataset, base: Recipe, tiny_recipe: Recipe
) -> None:
    """Nothing is proposed that could not be trained; the line says which teacher and why."""
    taught = base.replace(distillation=Distillation((Teacher(tiny_recipe, (3,)),)))
    Actor.answer = lambda job: Outcome(job.spec, reason="No space left.")

    with pytest.raises(SearchError) as caught:
        search(stripes, make_options(base=taught))

    assert str(caught.value) == "The teacher `tiny` with seed 3 gave no run: No space left."

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from smidgen.cli.app import app
from smidgen.cli.live import RunsBoard, clock
from smidgen.cli.options import share_of
from smidgen.cli.prove_command import page as proof_page
from smidgen.cli.prove_command import page_command
from smidgen.data import Dataset
from smidgen.evidence.proof import SeedFailure, proof_of
from smidgen.evidence.wording import failures_line
from smidgen.recipes.parts import Budget
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord, RunSpec
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.events import Began, EpochDone, Note
from smidgen.training.run import Run
from smidgen.work.jobs import Busy, Outcome, RunEvent
from smidgen.work.queue import Planned

Make = Callable[..., RunFolder]


def _run(*arguments: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, list(arguments), terminal_width=200)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout, found.stderr


def test_percentages_become_the_shares_that_people_mean() -> None:
    """A run with exactly as few errors as a target leaves reaches it, whatever the target."""
    for errors in range(9_800):
        assert share_of(round(100 - errors / 100, 2), "--target") == (10_000 - errors) / 10_000


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("0.994", "0.994 looks like a share; accuracies are written in percent, as 99.4."),
        ("1", "1 looks like a share; accuracies are written in percent, as 99.4."),
        ("101", "101 is no percentage; accuracies are above 1 and at most 100, as 99.4."),
        ("-3", "-3 is no percentage; accuracies are above 1 and at most 100, as 99.4."),
    ],
)
def test_a_target_is_a_percentage(given: str, text: str) -> None:
    """Shares and numbers beyond are wrong usage, and said to be so in one sentence."""
    code, _, errors = _run("prove", "smidgen/quick", f"--target={given}")

    assert code == 2
    assert text in " ".join(errors.replace("│", " ").split())


def test_a_proof_of_finished_runs_is_printed(
    train_tiny: Callable[..., object],
    tiny_recipe: Recipe,
    stripes: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is in the store is stated on standard output, as a page or as JSON."""
    monkeypatch.setattr("smidgen.data.load_dataset", lambda name, folder, **more: stripes)
    for seed in (1, 2):
        train_tiny(seed=seed)
    recipe = tmp_path / "tiny.json"
    recipe.write_text(tiny_recipe.to_json())
    arguments = ("prove", str(recipe), "--seeds", "2", "--target", "5", "--engine", "torch")

    code, page, errors = _run(*arguments)
    plain = json.loads(_run(*arguments, "--json")[1])

    assert code == 0
    assert errors == "2 of 2 seeds are there already\n"
    assert "2 seeds, protocol final, torch engine; accuracy on test after the last epoch" in page
    assert [each["seed"] for each in plain["seeds"]] == [1, 2]
    assert plain["target"]["target"] == 0.05


def test_a_target_meant_for_another_data_set_is_left_out(
    train_tiny: Callable[..., object],
    tiny_recipe: Recipe,
    stripes: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line says so, unless a target is named, which counts."""
    monkeypatch.setattr("smidgen.data.load_dataset", lambda name, folder, **more: stripes)
    train_tiny()
    recipe = tmp_path / "moved.json"
    budget = Budget(target_accuracy=0.994)
    recipe.write_text(tiny_recipe.replace(name="smidgen/quick", budget=budget).to_json())
    said = "Its target of 99.4 % is meant for mnist and left out."
    arguments = ("prove", str(recipe), "--seeds", "1", "--engine", "torch")

    _, left_out, errors = _run(*arguments)
    _, asked, silent = _run(*arguments, "--target", "5")

    assert (said in errors, said in silent) == (True, False)
    assert "or above" not in left_out
    assert "at 5 % or above" in asked


def test_the_page_of_a_proof(make_run: Make) -> None:
    """Every statement stands in its own line, with n, interval and test."""
    runs = [make_run(seed, wrong=range(1 + seed % 3), errors_before=(9, 1)) for seed in range(1, 7)]

    page = proof_page(proof_of(runs, target=0.95, stay_epochs=2))

    lines = page.splitlines()
    assert lines[0] == "tiny: 600 parameters, 9,000 MACs, 3 epochs of stripes"
    assert lines[2] == "No claim: that takes at least 20 seeds, protocol final."
    assert "   1   95.00 %       2         epoch 2    yes      4.5" in lines
    starts = {line.split("  ")[0]: line for line in lines}
    assert "95.00 %, 95 % interval 92.65 to 97.35 % (Student)" in starts["mean accuracy"]
    assert "2.236 points" in starts["standard deviation"]
    assert "92.50 %, 95.00 %, 97.50 %" in starts["min, median, max"]
    assert "4 of 6 seeds, 95 % interval 22.28 to 95.67 %" in starts["at 95 % or above"]
    assert "4 of 6 seeds" in starts["and stay, last 2 epochs"]
    assert "epoch 2 (median); never for 0 of 6" in starts["first at target"]
    assert "1 of 40 images (3 for any)" in starts["wrong for every seed"]
    assert "4.5 s (median 4.5) of training" in starts["seconds per run"]


def test_one_seed_of_one_epoch_is_no_plural(make_run: Make) -> None:
    """The heading counts in words that fit, and a seed is written as it is typed."""
    page = proof_page(replace(proof_of([make_run(1234)]), epochs=1))

    assert ", 1 epoch of stripes\n1 seed, protocol final" in page
    assert "\n1234  " in page


def test_only_a_claim_is_tested_against_its_target(make_run: Make) -> None:
    """The p value stands from 20 seeds on; below, it would read like a claim."""
    runs = [make_run(seed, wrong=range(1 + seed % 3)) for seed in range(1, 21)]

    assert "mean against target" not in proof_page(proof_of(runs[:19], target=0.95))
    assert "not shown to be above it, one-sided p = " in proof_page(proof_of(runs, target=0.95))


def test_fewer_epochs_than_stay_say_nothing_of_staying(make_run: Make) -> None:
    """Three epochs cannot be at the target for the last five: neither line nor column."""
    runs = [make_run(1), make_run(2)]

    page = proof_page(proof_of(runs, target=0.9))

    assert "stay" not in page
    assert "at target from" in page
    assert "BCa" not in page
    assert "and stay, last 3 epochs" in proof_page(proof_of(runs, target=0.9, stay_epochs=3))


def test_the_page_command_selects_what_was_proven(make_run: Make, tmp_path: Path) -> None:
    """Other settings under the same name are in the store, so the fingerprint is named."""
    make_run(3)
    proof = proof_of([make_run(seed, fingerprint="1a2b3c4d" + "0" * 56) for seed in (1, 2)])

    told = page_command(proof, RunStore(tmp_path / "runs"), None, None)

    assert told == "Its page: smidgen report tiny@torch@1a2b3c4d"


def test_the_page_marks_known_label_errors(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared errors whose label is known to be wrong carry a star."""
    monkeypatch.setattr("smidgen.evidence.answers._BY_DATA", {"5" * 64: frozenset({3, 20})})

    page = proof_page(proof_of([make_run(seed, wrong=[2, 3]) for seed in (1, 2)]))

    assert "2, 3*\n" in page
    assert "* 1 of the 2 images whose label is known to be wrong" in page


def test_a_proof_with_failures_is_an_error(
    make_run: Make, tmp_path: Path, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the other seeds say is printed, and the exit code tells that some are missing."""
    proof = proof_of([make_run(1)], failures=[SeedFailure(2, "out of luck.")])
    monkeypatch.setattr("smidgen.evidence.prove.prove", lambda *given: proof)
    recipe = tmp_path / "tiny.json"
    recipe.write_text(tiny_recipe.to_json())

    with pytest.raises(Exception, match=r"^1 of 2 seeds gave no run\. Seed 2: out of luck\.$"):
        _run("prove", str(recipe), "--seeds", "2")


def test_a_reason_is_said_once_with_the_seeds_that_have_it(tiny_recipe: Recipe) -> None:
    """Seeds that diverged do so in steps of their own; others are alike by their words."""
    failures = [
        SeedFailure(2, "not finite in step 7.", diverged=True),
        SeedFailure(3, "killed."),
        SeedFailure(5, "not finite in step 9.", diverged=True),
        SeedFailure(6, "killed."),
        SeedFailure(7, "no room."),
    ]
    board = RunsBoard(workers=1)

    remarks = [
        board.remark(Outcome(spec_of(tiny_recipe, each.seed), None, each.reason, each.diverged))
        for each in failures
    ]

    assert failures_line(failures) == (
        "Seeds 2, 5 diverged, seed 2 so: not finite in step 7. Seeds 3, 6: killed. Seed 7: no room."
    )
    assert remarks == [
        "seed 2 failed: not finite in step 7.",
        "seed 3 failed: killed.",
        "seed 5 failed: as seed 2 did",
        "seed 6 failed: as seed 3 did",
        "seed 7 failed: no room.",
    ]
    spec = spec_of(tiny_recipe, 1)
    assert board.remark(RunEvent(spec, Note("a note"))) == "seed 1: a note"
    assert board.remark(RunEvent(spec, Busy())) == ""


def test_a_comparison_is_printed(make_run: Make) -> None:
    """The page ends with the verdict, which JSON carries too."""
    for seed in range(1, 9):
        make_run(seed, wrong=range(1 + seed % 2), name="a")
        make_run(seed, wrong=range(8 + seed % 2), name="b")

    code, page, _ = _run("compare", "b", "a")
    plain = json.loads(_run("compare", "a", "b", "--json")[1])

    lines = page.splitlines()
    assert code == 0
    assert lines[0] == "8 seeds of stripes, protocol final, accuracy on test after the last epoch"
    assert lines[-1] == "a is better than b by 17.500 points."
    assert "sign-flip test: two-sided p = 0.0078" in page
    assert plain["difference"]["verdict"] == "a is better"


def test_what_cannot_be_told_is_not_called_better(make_run: Make) -> None:
    """Too few seeds: how many it would take."""
    for seed in range(1, 4):
        make_run(seed, wrong=range(seed), name="a")
        make_run(seed, wrong=range(seed + 5), name="b")

    lines = _run("compare", "a", "b")[1].splitlines()

    assert (
        lines[-1] == "Cannot tell, needs about 6 seeds if the true difference is as large as here."
    )
    assert "better" not in "\n".join(lines)
    assert "BCa" not in "\n".join(lines)
    assert "sign-flip test: two-sided p = 0.25" in "\n".join(lines)


def test_a_win_that_hangs_on_few_images_says_so(make_run: Make) -> None:
    """Where other images might say otherwise the verdict adds it."""
    for seed in range(1, 9):
        make_run(seed, wrong=[0], name="a")
        make_run(seed, wrong=[0, 1], name="b")

    line = _run("compare", "a", "b")[1].splitlines()[-1]

    assert line == (
        "a is better than b by 2.500 points. That holds for these images of test; on others it "
        "might not."
    )


def spec_of(recipe: Recipe, seed: int) -> RunSpec:
    """Return a run of a recipe."""
    return RunSpec(recipe, seed, protocol="final", engine="torch", threads=1, data_sha256="0" * 64)


def epoch_done(epoch: int, accuracy: float) -> EpochDone:
    """Return the news of an epoch of ten seconds."""
    return EpochDone(
        EpochRecord(epoch, 0.5, 0.5, "test", 0.5, accuracy, 20, 8.0, 2.0, 80.0, 0.1, 0.1)
    )


def began(make_run: Make, num_epochs: int) -> Began:
    """Return the news of a run that goes on after so many epochs."""
    record = make_run(90 + num_epochs, wrong=[0]).record()
    return Began(replace(record, epochs=record.epochs[:num_epochs], result=None))


def test_the_board_follows_the_events(make_run: Make, tiny_recipe: Recipe) -> None:
    """Every event moves its run; the time left comes from the pace of the epochs."""
    board, made = RunsBoard(workers=2), make_run(2, wrong=[0])
    one, two, three, four = (spec_of(tiny_recipe.replace(epochs=4), seed) for seed in (1, 2, 3, 4))
    board.hear(Planned(missing=(one, two, three, four)))
    for event in (
        RunEvent(one, began(make_run, 0)),
        RunEvent(one, epoch_done(1, 0.5)),
        RunEvent(two, began(make_run, 3)),
        RunEvent(two, epoch_done(4, 0.75)),
        Outcome(two, Run(made, made.record())),
        Outcome(three, None, "no"),
        RunEvent(four, Busy()),
        RunEvent(four, Note("a note")),
    ):
        board.hear(event)

    runs = list(board.runs.values())
    assert [run.state for run in runs] == ["running", "done", "failed", "elsewhere"]
    left = runs[0].seconds_left
    assert left is not None
    assert 20.0 <= left <= 30.0
    assert runs[1].seconds_left is None
    assert board.total_seconds_left() == pytest.approx(30.0)


def test_the_board_shows_teachers_and_students(tiny_recipe: Recipe) -> None:
    """Where runs of several recipes stand in one queue, each is called by its recipe, too."""
    board = RunsBoard(workers=2)
    teacher = spec_of(tiny_recipe.replace(name="teacher", epochs=2), 5)
    student = spec_of(tiny_recipe, 1)

    planned = Planned(missing=(teacher, student), teachers=(teacher,))
    board.hear(planned)

    assert board.remark(planned) == "First the teachers: `teacher` seed 5."
    assert [run.epochs for run in board.runs.values()] == [2, 3]
    assert (board.label(teacher), board.label(student)) == ("teacher, seed 5", "tiny, seed 1")


def test_the_board_is_drawn(make_run: Make, tiny_recipe: Recipe) -> None:
    """A line per run with state and accuracy; of many, those done or waiting are left out."""
    board, run = RunsBoard(workers=1), make_run(1, wrong=[0])
    specs = [spec_of(tiny_recipe, seed) for seed in range(1, 41)]
    there = Outcome(specs[0], Run(run, run.record(), was_there=True))
    board.hear(Planned((there,), tuple(specs[1:])))
    board.hear(RunEvent(specs[1], began(make_run, 1)))

    console = Console(width=60, file=io.StringIO())
    with console.capture() as captured:
        console.print(board)
    text = captured.get()

    assert "was there" not in text
    assert "1/3" in text
    assert "1 of 40 seeds finished" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (125, "2:05"), (3_725, "1:02:05"), (-3, "0 s")],
)
def test_durations_are_written_as_people_read_them(seconds: float, text: str) -> None:
    """Seconds, minutes and hours."""
    assert clock(seconds) == text


def test_comparing_trains_what_is_missing(
    shell: Callable[..., Any],
    make_run: Make,
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With --run both sides are trained first, in one queue, under the protocol final alone."""
    for name in ("one", "two"):
        recipe = tiny_recipe.replace(name=name)
        (tmp_path / f"{name}.json").write_text(recipe.to_json())
    asked: list[object] = []

    def train_seeds(wanted: list[tuple[Recipe, bytes]], *more: object) -> list[object]:
        asked.append([recipe.name for recipe, _ in wanted])
        return [make_run(seed, wrong=[0]) for seed in (1, 2)]

    monkeypatch.setattr("smidgen.cli.measuring.train_seeds", train_seeds)
    words = ("compare", str(tmp_path / "one.json"), str(tmp_path / "two.json"), "--run", "2")

    assert shell(*words, "--protocol", "tune").code == 2
    assert asked == []
    found = shell(*words, "--runs-dir", str(tmp_path / "runs"))

    assert asked == [["one", "two"]]
    assert found.code == 0
    assert found.out.startswith("2 seeds of stripes, protocol final")

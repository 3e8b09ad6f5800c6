import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from smidgen.cli.live import SearchBoard, shown
from smidgen.cli.search_command import page
from smidgen.evidence.statistics import Interval
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord, RunSpec
from smidgen.search import FrontRow, SearchOptions, SearchResult, SearchStatus
from smidgen.search.searching import Counts
from smidgen.training.events import EpochDone, Note
from smidgen.work.jobs import Outcome, RunEvent

from .conftest import Shell

COUNTS = Counts(candidates=143, seen=140, failed=3, refused=41, runs=280, train_seconds=7_100.4)


@pytest.fixture
def rows(tiny_recipe: Recipe) -> tuple[FrontRow, FrontRow]:
    """Return a front of two networks."""
    recipe = tiny_recipe.replace(name="search/1500-7")
    return (
        FrontRow(7, recipe, 994, 103_000, 1, 0.0251, None, 0.9921, None, ("a",)),
        FrontRow(
            12, recipe, 1_433, 148_000, 4, 0.0214, Interval(0.0201, 0.0227), 0.9932,
            Interval(0.9926, 0.9938), ("b", "c", "d", "e"),
        ),
    )  # fmt: skip


def spec_of(recipe: Recipe, seed: int) -> RunSpec:
    """Return a run of a search."""
    return RunSpec(recipe, seed, protocol="tune", engine="torch", threads=1, data_sha256="0" * 64)


def epoch_done(epoch: int, accuracy: float) -> EpochDone:
    """Return the news of an epoch."""
    return EpochDone(
        EpochRecord(epoch, 0.5, 0.5, "valid", 0.5, accuracy, 20, 8.0, 2.0, 80.0, 0.1, 0.1)
    )


def result_of(rows: tuple[FrontRow, ...]) -> SearchResult:
    """Return what a search of this front came to."""
    study = Path("search-1500")
    files = tuple(study / "front" / f"{row.num_params}-{row.candidate}.json" for row in rows)
    return SearchResult(study, rows, files, COUNTS, 5_000)


def test_the_page_of_a_search(rows: tuple[FrontRow, FrontRow]) -> None:
    """Candidates seen, the front with intervals, and the command that proves the best."""
    lines = page(result_of(rows)).splitlines()

    assert lines[0] == (
        "140 candidates were measured on `valid` (5,000 images) in 280 runs, 7,100 s of training; "
        "3 diverged. 41 were refused before training."
    )
    assert lines[5].split() == [
        "994", "103,000", "0.0251", "-", "99.21", "%", "-", "1", "front/994-7.json",
    ]  # fmt: skip
    assert "0.0214  0.0201 to 0.0227   99.32 %  99.26 to 99.38" in lines[6]
    assert lines[-2] == "smidgen prove search-1500/front/1433-12.json --seeds 20"
    assert lines[-1] == "search-1500/summary.json"


def test_the_live_table_shows_the_front_and_what_runs(
    rows: tuple[FrontRow, FrontRow], tiny_recipe: Recipe
) -> None:
    """One row per network, one line per running training, one about the whole."""
    board = SearchBoard(SearchOptions(Path("s"), 1_500))
    console = Console(file=io.StringIO(), width=120)
    mine = spec_of(tiny_recipe.replace(name="search/1500-9"), 1)
    other = spec_of(tiny_recipe.replace(name="search/1500-8"), 2)
    assert board.caption() == "looking at what is there"

    for event in (
        SearchStatus(COUNTS, list(rows), 125.0),
        RunEvent(mine, epoch_done(1, 0.9)),
        RunEvent(mine, epoch_done(2, 0.985)),
        RunEvent(other, epoch_done(1, 0.9)),
        Outcome(other, None, "killed."),
    ):
        board.hear(event)
    with console.capture() as captured:
        console.print(board)

    drawn = captured.get()
    assert "At most 1,500 parameters" in drawn
    assert "1,433" in drawn
    assert "0.0214" in drawn
    assert "search/1500-9, seed 1: epoch 2/3, 98.50 %" in drawn
    assert "search/1500-8" not in drawn
    assert "140 candidates measured in 280 runs, 3 diverged, 41 refused; no new run" in drawn
    assert "after 2:05" in drawn


def test_elsewhere_than_in_a_terminal_lines_are_printed(
    rows: tuple[FrontRow, FrontRow], tiny_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log tells of every run that ended and of the best so far."""
    spec = spec_of(tiny_recipe.replace(name="search/1500-9"), 1)

    with shown(SearchBoard(SearchOptions(Path("s"), 1_500))) as on_event:
        for event in (
            SearchStatus(COUNTS, list(rows), 8.0),
            RunEvent(spec, epoch_done(1, 0.9)),
            RunEvent(spec, epoch_done(3, 0.985)),
            RunEvent(spec, Note("a note")),
            Outcome(spec, None, "NaN.", diverged=True),
            Note("set aside"),
        ):
            on_event(event)

    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("; best so far 99.32 %, loss 0.0214 with 1,433 parameters")
    assert lines[1:] == [
        "search/1500-9, seed 1: 98.50 % after epoch 3, its last",
        "search/1500-9, seed 1: a note",
        "search/1500-9, seed 1 diverged: NaN.",
        "set aside",
    ]


def test_options_reach_the_search(
    shell: Shell,
    tiny_file: str,
    rows: tuple[FrontRow, FrontRow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is typed arrives; what is not has the defaults that the help names."""
    asked: list[tuple[SearchOptions, object]] = []

    def answer(dataset: object, options: SearchOptions, on_event: object, store: object) -> object:
        asked.append((options, store))
        return result_of(rows)

    monkeypatch.setattr("smidgen.search.search", answer)

    plain = shell("search", "--max-params", "1500", "--set", "dataset=stripes", "--json")
    shell(
        *("search", "--max-params=900", "--start", tiny_file, "--epochs=30", "--seeds=5"),
        *("--hours=0.5", "--max-macs=90000", "--candidates=7", "--study=night", "--runs-dir=r"),
    )

    first, second = asked[0][0], asked[1][0]
    assert json.loads(plain.out)["front"][1]["prove"].endswith("1433-12.json --seeds 20")
    assert (first.study, first.full_epochs, first.num_seeds) == (Path("search-1500"), 15, 4)
    assert (first.limits.min_params, first.hours, first.mutates) == (750, 2.0, False)
    assert asked[0][1] is None
    assert (second.study, second.full_epochs, second.num_seeds) == (Path("night"), 30, 5)
    assert (second.max_macs, second.num_candidates, second.hours) == (90_000, 7, 0.5)
    assert second.mutates
    assert second.base.name == "tiny"
    assert getattr(asked[1][1], "root", None) == Path("r")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 2, "Missing option '--max-params'"),
        (("--max-params", "0"), 2, "Invalid value for '--max-params'"),
        (("--max-params", "900", "--start", "smidgen/quik"), 1, "Did you mean `smidgen/quick`?"),
        (
            ("--max-params", "900", "--hours", "0"),
            2,
            "Invalid value for '--hours': it must be above 0, not 0.",
        ),
        (
            ("--max-params", "900", "--min-params", "901"),
            2,
            "it must be from 0 to --max-params, which is 900, not 901.",
        ),
    ],
)
def test_mistakes_get_one_line(
    shell: Shell, arguments: tuple[str, ...], code: int, text: str
) -> None:
    """Wrong usage exits with 2, what makes no sense with 1."""
    ended = shell("search", *arguments)

    assert ended.code == code
    assert text in " ".join(ended.err.replace("│", " ").split())


def test_a_missing_optuna_is_one_line(
    shell: Shell, tiny_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command says what to install and exits with 1."""
    monkeypatch.setitem(sys.modules, "optuna", None)

    ended = shell("search", "--max-params", "900", "--start", tiny_file, "--engine", "torch")

    assert ended.code == 1
    assert ended.err.splitlines()[-1] == (
        "error: A search needs Optuna. Install it with `pip install optuna`."
    )

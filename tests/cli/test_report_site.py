import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.runs.store import RunFolder

from .conftest import Shell

MakeRun = Callable[..., RunFolder]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, and make pages of runs and of the frontier without drawing."""
    monkeypatch.chdir(tmp_path)
    for name in ("run_page", "make_frontier_page"):
        monkeypatch.setattr(f"smidgen.report.site.{name}", lambda *_, **__: "a page")
    monkeypatch.setattr("smidgen.report.site.frontier_plots", lambda *_: [])


def test_site_says_what_it_made_and_kept(shell: Shell, make_run: MakeRun) -> None:
    """The second time only the index is made."""
    make_run()

    first, second = shell("report", "--site", "out"), shell("report", "--site", "out")

    index = Path("out") / "index.html"
    assert first.out == f"Wrote {index}: 3 pages made, 0 kept as they were\n"
    assert second.out == f"Wrote {index}: 1 page made, 2 kept as they were\n"
    assert (first.code, first.err) == (0, "")


def test_broken_runs_are_warned_of_and_stop_nothing(shell: Shell, make_run: MakeRun) -> None:
    """Exit code 0: the rest is there, and the index lists the reason."""
    make_run(seed=1)
    (make_run(seed=2).path / "record.json").write_text("{")

    found = shell("report", "--site", "out")

    assert found.code == 0
    assert "is damaged: it is not JSON. Restore it.\n" in found.err
    assert found.err.startswith("warning: ")
    assert len(list(Path("out").glob("run-*.html"))) == 1


def test_folder_of_somebody_else_is_refused_in_one_line(shell: Shell) -> None:
    """Exit code 1, and nothing is written."""
    Path("out").mkdir()
    Path("out/index.html").write_text("home")

    found = shell("report", "--site", "out")

    assert (found.code, found.err) == (
        1,
        "error: `out` holds an `index.html` that is not of a site made here. "
        "Name an empty folder.\n",
    )
    assert [path.name for path in Path("out").iterdir()] == ["index.html"]


def test_site_where_a_file_stands_is_one_line(shell: Shell) -> None:
    """No folder can be made there."""
    Path("out").write_text("a file")

    found = shell("report", "--site", "out")

    assert found.code == 1
    assert found.err.startswith("error: Cannot write `out")
    assert found.err.count("\n") == 1


def test_frontier_as_json_needs_no_runs(shell: Shell) -> None:
    """What the plot shows, for other plots."""
    found = shell("report", "frontier", "--json")

    data = json.loads(found.out)
    assert (found.code, data["dataset"]) == (0, "mnist")
    assert any(point["name"] == "anchors/697" for point in data["points"])


def test_json_is_for_the_frontier_alone(shell: Shell, make_run: MakeRun) -> None:
    """Wrong usage elsewhere, where other commands print it."""
    found = shell("report", make_run().name, "--json")

    assert found.code == 2
    assert "it is for `frontier`" in found.err

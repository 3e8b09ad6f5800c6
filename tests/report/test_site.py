import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smidgen import __version__
from smidgen.errors import ReportError
from smidgen.recipes.catalogue import RECIPES
from smidgen.report import site
from smidgen.report.site import MANIFEST, make_site, proof_file, proof_links
from smidgen.runs.listing import finished_rows
from smidgen.runs.store import RunFolder, RunStore

MakeRun = Callable[..., RunFolder]
ReadPage = Callable[[str], Any]
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Return where `make_run` puts runs."""
    return RunStore(tmp_path / "runs")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return where the site goes."""
    return tmp_path / "site"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages be made without drawing: for what is not about what stands on them."""
    for name in ("run_page", "make_proof_page", "make_ladder_page", "make_frontier_page"):
        monkeypatch.setattr(f"smidgen.report.site.{name}", lambda *_, **__: "a page")
    monkeypatch.setattr("smidgen.report.site.frontier_plots", lambda *_: [])


def _pages(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


def test_site_has_a_page_of_everything_and_links_that_hold(
    make_run: MakeRun, store: RunStore, out: Path, read_page: ReadPage
) -> None:
    """Every page asks nothing of anybody, hostile names stay text, and no link is dead."""
    runs = [make_run(seed=seed, name=HOSTILE, wrong=(seed, 3)) for seed in (1, 2)]
    told: list[tuple[int, int]] = []

    made = make_site(store, out, on_page=lambda done, total: told.append((done, total)))

    (proof,) = (name for name in _pages(out) if name.startswith("proof-"))
    assert _pages(out) == {
        *(f"run-{run.name}.html" for run in runs),
        *(proof, "frontier.html", "index.html", MANIFEST),
    }
    assert set(made.made) == _pages(out) - {MANIFEST}
    assert told == [(done, 4) for done in range(4)]
    for page in out.glob("*.html"):
        html = page.read_text()
        read_page(html)
        assert HOSTILE not in html
        assert all((out / link).exists() for link in _links(html))
        assert page.name == "index.html" or "index.html" in _links(html)
    assert set(_links((out / "index.html").read_text())) == set(made.made) - {"index.html"}


def _links(html: str) -> list[str]:
    return [part.split('"')[0] for part in html.split('href="')[1:] if not part.startswith("#")]


@pytest.mark.usefixtures("quick")
def test_unchanged_pages_are_left_alone(make_run: MakeRun, store: RunStore, out: Path) -> None:
    """A second time only the index is written; a new run makes its page and that of its proof."""
    make_run(seed=1)
    first = make_run(seed=2)
    make_site(store, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.html")}

    again = make_site(store, out)

    assert again.made == ("index.html",)
    assert again.kept == len(before) - 1
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.html")}
    assert {name for name in before if before[name] != after[name]} == {"index.html"}

    new = make_run(seed=3)
    (out / f"run-{first.name}.html").unlink()
    third = make_site(store, out)

    proof = next(name for name in before if name.startswith("proof-"))
    assert set(third.made) == {
        f"run-{new.name}.html",
        f"run-{first.name}.html",
        *(proof, "index.html"),
    }


@pytest.mark.usefixtures("quick")
def test_pages_of_runs_that_are_gone_are_removed_and_nothing_else(
    make_run: MakeRun, store: RunStore, out: Path
) -> None:
    """A file that somebody put there stays, whatever the manifest says."""
    gone = make_run(seed=1)
    make_site(store, out)
    (out / "mine.html").write_text("mine")
    manifest = json.loads((out / MANIFEST).read_bytes())
    manifest["pages"] |= {"mine.html": "0", "../runs": "0"}
    (out / MANIFEST).write_text(json.dumps(manifest))
    store.remove(gone)

    made = make_site(store, out)

    assert made.removed == (f"run-{gone.name}.html",)
    assert (out / "mine.html").read_text() == "mine"
    assert store.root.exists()
    assert f"run-{gone.name}" not in (out / "index.html").read_text()


@pytest.mark.usefixtures("quick")
def test_broken_run_is_listed_and_stops_nothing(
    make_run: MakeRun, store: RunStore, out: Path, read_page: ReadPage
) -> None:
    """With its reason, and without saying where on this machine the runs stand."""
    good, bad = make_run(seed=1), make_run(seed=2)
    (bad.path / "record.json").write_text("{")

    made = make_site(store, out)

    assert f"run-{good.name}.html" in made.made
    assert len(made.problems) == 1
    index = read_page((out / "index.html").read_text())
    assert f"{bad.name}/record.json is damaged: it is not JSON. Restore it." in index.text
    assert str(store.root) not in index.html


@pytest.mark.usefixtures("quick")
def test_page_that_cannot_be_made_is_listed(make_run: MakeRun, store: RunStore, out: Path) -> None:
    """Here a proof, for which the predictions of one of its runs are needed."""
    make_run(seed=1)
    bad = make_run(seed=2)
    (bad.path / "predictions.safetensors").write_bytes(b"0")

    made = make_site(store, out)

    assert [p for p in made.problems if "proof-tiny" in p and "could not be made" in p]
    assert not list(out.glob("proof-*"))
    assert "frontier.html" in made.made


def test_empty_store_makes_a_site(store: RunStore, out: Path, read_page: ReadPage) -> None:
    """With the published frontier, and what to do."""
    made = make_site(store, out)

    assert made.made == ("frontier.html", "index.html")
    assert (
        "Nothing yet. smidgen train makes a run" in read_page((out / "index.html").read_text()).text
    )


def test_somebody_elses_index_is_not_overwritten(store: RunStore, out: Path) -> None:
    """A folder with a page of another origin is refused in one line."""
    out.mkdir()
    (out / "index.html").write_text("home")

    with pytest.raises(ReportError, match=r"holds an `index.html` that is not of a site made here"):
        make_site(store, out)

    assert (out / "index.html").read_text() == "home"


@pytest.mark.usefixtures("quick")
def test_stopped_site_goes_on_where_it_was(make_run: MakeRun, store: RunStore, out: Path) -> None:
    """What was written before Ctrl-C is not made again."""
    for seed in (1, 2, 3):
        make_run(seed=seed)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_site(store, out, on_page=stop)
    made = make_site(store, out)

    assert made.kept == 2
    assert not (out / ".lock").exists()


@pytest.mark.usefixtures("quick")
def test_new_code_makes_every_page_anew(
    make_run: MakeRun, store: RunStore, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page looks as this version draws it."""
    make_run(seed=1)
    make_site(store, out)
    monkeypatch.setattr("smidgen.report.site._maker", lambda: "another")

    assert make_site(store, out).kept == 0


def test_commit_of_a_clone_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a clone pages are of a version and a commit; without git, of the version alone."""
    with_git = site._maker.__wrapped__()
    monkeypatch.setenv("PATH", "")
    without = site._maker.__wrapped__()

    assert without == __version__
    assert with_git in (without, f"{without} {with_git[-40:]}")


@pytest.mark.usefixtures("quick")
def test_ladder_with_runs_has_a_page(make_run: MakeRun, store: RunStore, out: Path) -> None:
    """Found by what its steps train, whatever the runs were called."""
    recipe = RECIPES["era-s7/7"]
    make_run(name="mine", recipe=recipe, fingerprint=recipe.fingerprint())

    made = make_site(store, out)

    assert "ladder-era-s7.html" in made.made


def test_proof_with_the_most_seeds_is_linked(make_run: MakeRun, store: RunStore) -> None:
    """Where a recipe was proved on both engines."""
    make_run(seed=1)
    for seed in (1, 2):
        make_run(seed=seed, engine="native")
    rows = finished_rows(store)[0]
    torch, native = ([row for row in rows if row.engine == e] for e in ("torch", "native"))

    assert proof_links([native, torch]) == {"tiny": proof_file(native)}
    assert proof_file(native) != proof_file(torch)
    assert proof_file(native).startswith("proof-tiny-final-native-")
    changed = [replace(native[0], fingerprint="0" * 64)]
    assert proof_file(changed) != proof_file(native)


@pytest.mark.usefixtures("quick")
def test_unfinished_runs_are_listed_without_a_page(
    make_run: MakeRun, store: RunStore, out: Path
) -> None:
    """They say that they are unfinished."""
    run = make_run(seed=1, finish=False, result=None)

    make_site(store, out)

    html = (out / "index.html").read_text()
    assert f"<th scope=row>{run.name}</th>" in html
    assert "unfinished" in html

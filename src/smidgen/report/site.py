"""A store of runs in, a folder of pages for any static host out; what is unchanged stays."""

import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import quote

from smidgen import __version__
from smidgen.data.specs import FOLDER_NAME
from smidgen.errors import ReportError, SmidgenError
from smidgen.evidence.proof import spread
from smidgen.evidence.select import kinds_of
from smidgen.evidence.wording import CLAIM_SEEDS, percent
from smidgen.extras import require
from smidgen.files import locked, storage_errors, write_atomically
from smidgen.recipes.catalogue import LADDERS
from smidgen.recipes.ladder import read_ladder
from smidgen.report.frontier_page import frontier_plots, make_frontier_page
from smidgen.report.frontier_points import FEWEST_SEEDS, Point, frontier_points
from smidgen.report.ladder_page import make_ladder_page, tell_ladder
from smidgen.report.page import (
    Cell,
    Column,
    Table,
    cells,
    interval_text,
    render,
    write_page,
)
from smidgen.report.pictures import ImageSource, pictures_of
from smidgen.report.proof_page import make_proof_page, tell_proof
from smidgen.report.run_page import run_page
from smidgen.report.run_view import view_run
from smidgen.runs.listing import ListedRun, finished_rows, list_runs
from smidgen.runs.rows import RunRow
from smidgen.runs.store import RunFolder, RunStore, slug
from smidgen.values import to_plain

INDEX, FRONTIER = "index.html", "frontier.html"
Kind = Sequence[RunRow]
"""Runs that differ in nothing but the seed."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page that a site shall have.

    Args:
        name: Its file.
        made_of: What it shows, as anything with an exact `repr`.
        make: Returns it as HTML.
    """

    name: str
    made_of: object
    make: Callable[[], str]

    @property
    def key(self) -> str:
        """What changes when the page would."""
        return hashlib.sha256(f"{_maker()} {self.made_of!r}".encode()).hexdigest()


def run_file(run: str) -> str:
    """Return the file of a run's page."""
    return f"run-{run}.html"


def proof_file(kind: Kind) -> str:
    """Return the file of a proof's page: the recipe, how it was run, and digits of what it is."""
    first = kind[0]
    digits = hashlib.sha256(repr(astuple(first.kind)).encode()).hexdigest()[:8]
    return f"proof-{slug(first.recipe)}-{first.protocol}-{first.engine}-{digits}.html"


def ladder_file(name: str) -> str:
    """Return the file of a ladder's page."""
    return f"ladder-{name}.html"


def proof_links(proofs: Sequence[Kind]) -> dict[str, str]:
    """Return where the proof of a recipe is, by its name: of several that with the most seeds."""
    links: dict[str, str] = {}
    for kind in sorted(proofs, key=lambda kind: (kind[0].protocol == "final", len(kind))):
        links[kind[0].recipe] = proof_file(kind)
    return links


def run_pages(store: RunStore, rows: Sequence[RunRow], source: ImageSource) -> Iterator[Page]:
    """Yield the page of every finished run."""
    for row in rows:
        folder = RunFolder(store.root / row.run)
        made_of = (row, _no_pictures(store, row, source))

        def make(folder: RunFolder = folder) -> str:
            return run_page(view_run(folder, source), home=INDEX)

        yield Page(run_file(row.run), made_of, make)


def proof_pages(store: RunStore, proofs: Sequence[Kind], source: ImageSource) -> Iterator[Page]:
    """Yield the page of everything that was run with several seeds."""
    for kind in proofs:
        made_of = (kind, _no_pictures(store, kind[0], source))

        def make(kind: Kind = kind) -> str:
            runs = [RunFolder(store.root / row.run) for row in kind]
            pictures = pictures_of(runs[0].record(), source)
            links = {row.run: run_file(row.run) for row in kind}
            return make_proof_page(tell_proof(runs), pictures, links, INDEX)

        yield Page(proof_file(kind), made_of, make)


def _no_pictures(store: RunStore, row: RunRow, source: ImageSource) -> str:
    is_folder = row.dataset == FOLDER_NAME  # other images are read in one way only
    reading = RunFolder(store.root / row.run).record().data.reading if is_folder else None
    found = source.find(row.dataset, row.data_sha256, reading)
    return found if isinstance(found, str) else ""


def ladder_pages(store: RunStore, rows: Sequence[RunRow], proofs: Sequence[Kind]) -> Iterator[Page]:
    """Yield the page of every ladder of the catalogue with runs here."""
    links = proof_links(proofs)
    for name in LADDERS:
        rungs = read_ladder(name)
        steps = {rung.recipe.fingerprint() for rung in rungs}
        used = [row for row in rows if row.fingerprint in steps]
        if not used:
            continue
        there = {recipe: link for recipe, link in links.items() if recipe in LADDERS[name]}
        texts = [to_plain(rung.recipe) for rung in rungs]

        def make(name: str = name, there: dict[str, str] = there) -> str:
            return make_ladder_page(name, tell_ladder(read_ladder(name), store), there, INDEX)

        yield Page(ladder_file(name), (used, there, json.dumps(texts)), make)


def frontier_page(points: Sequence[Point], proofs: Sequence[Kind]) -> Page:
    """Return the page of the frontier."""
    links = proof_links([kind for kind in proofs if kind[0].protocol == "final"])
    plain = json.dumps([to_plain(point) for point in points])
    made_of = (plain, sorted(links.items()))
    return Page(
        FRONTIER, made_of, lambda: make_frontier_page(points, proof_links=links, home=INDEX)
    )


@cache
def _maker() -> str:
    """Return which smidgen makes the pages: its version and, in a clone, its commit."""
    clone = Path(__file__).parents[3]
    if not (clone / ".git").exists():
        return __version__
    command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10.0, check=True)
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__} {found.stdout.strip()}"


@dataclass(frozen=True, slots=True)
class SiteContent:
    """What the first page of a site shows.

    Args:
        runs: Finished and unfinished.
        proofs: Groups of runs that differ in nothing but the seed, at least two in each.
        points: Of the frontier.
        pages: Files that there are to link to.
        problems: A line for each run or page that could not be shown.
    """

    runs: Sequence[ListedRun]
    proofs: Sequence[Kind]
    points: Sequence[Point]
    pages: frozenset[str]
    problems: tuple[str, ...]


def make_index_page(content: SiteContent) -> str:
    """Return the first page of a site; raises ReportError without the extra `report`."""
    ladders = [name for name in LADDERS if ladder_file(name) in content.pages]
    sections = [("proofs", "Proofs")] if content.proofs else []
    sections += [("frontier", "Frontier")]
    sections += [("ladders", "Ladders")] if ladders else []
    sections += [("runs", "Runs")]
    sections += [("problems", "Problems")] if content.problems else []
    plots = frontier_plots(content.points, "mnist")
    return render(
        "site.html",
        title="What was trained here",
        sections=sections,
        lede=_lede(content),
        proofs=_proof_table(content) if content.proofs else None,
        claim_seeds=CLAIM_SEEDS,
        frontier=FRONTIER if FRONTIER in content.pages else "",
        plot=plots[0] if plots else None,
        ladders=[(name, ladder_file(name)) for name in ladders],
        runs=_run_table(content) if content.runs else None,
        problems=content.problems,
    )


def _lede(content: SiteContent) -> str:
    if not content.runs:
        return "Nothing yet. `smidgen train` makes a run, and this page again shows it."
    recipes = len({run.recipe for run in content.runs})
    unfinished = sum(run.accuracy is None for run in content.runs)
    text = f"{_counted(len(content.runs), 'run')} of {_counted(recipes, 'recipe')}"
    text += f", {unfinished} of them unfinished" if unfinished else ""
    proven = sum(
        len(kind) >= CLAIM_SEEDS and kind[0].protocol == "final" for kind in content.proofs
    )
    return f"{text}; {_counted(proven, 'proof')} with the {CLAIM_SEEDS} seeds of a claim."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _proof_table(content: SiteContent) -> Table:
    columns = [
        Column("recipe", is_number=False),
        Column("engine", is_number=False),
        Column("protocol", is_number=False),
        Column("data", is_number=False),
        Column("parameters"),
        Column("n", note="Random seeds"),
        Column("mean accuracy"),
        Column("sd", note="Standard deviation over seeds, in points"),
        Column("95 % interval"),
        Column("seconds", note="Median training time of a run"),
    ]
    rows = [_proof_row(kind, content.pages) for kind in content.proofs]
    rows.sort(key=lambda row: row[4].order if isinstance(row[4].order, int) else 0)
    return Table("Means over random seeds", columns, rows, True, "proof-table", css="named")


def _proof_row(kind: Kind, pages: frozenset[str]) -> list[Cell]:
    first, seen = kind[0], spread([row.accuracy for row in kind])
    interval, sd = seen.interval, seen.sd
    assert interval is not None
    assert sd is not None
    seconds = spread([row.train_seconds for row in kind]).median
    note = "" if first.selection == "last epoch" else first.selection
    return cells(
        Cell(first.recipe, link=_link(proof_file(kind), pages)),
        first.engine,
        Cell(f"{first.protocol}*" if note else first.protocol, note=note),
        first.dataset,
        first.num_params,
        seen.n,
        Cell(f"{100 * seen.mean:.3f} %", order=seen.mean, css="strong"),
        Cell(f"{100 * sd:.3f}", order=sd),
        Cell(f"{interval_text(interval.low, interval.high)} %", order=interval.low),
        Cell(f"{seconds:.1f}", order=seconds),
    )


def _run_table(content: SiteContent) -> Table:
    columns = [
        Column("run", is_number=False),
        Column("recipe", is_number=False),
        Column("seed"),
        Column("protocol", is_number=False),
        Column("engine", is_number=False),
        Column("parameters"),
        Column("accuracy"),
        Column("errors"),
        Column("seconds", note="Of training"),
        Column("started (UTC)", is_number=False),
    ]
    rows = [_run_row(run, content.pages) for run in reversed(content.runs)]
    return Table("Every run, the latest first", columns, rows, True, "run-table", css="named")


def _run_row(run: ListedRun, pages: frozenset[str]) -> list[Cell]:
    accuracy, seconds = run.accuracy, run.train_seconds
    return cells(
        Cell(run.run, link=_link(run_file(run.run), pages)),
        run.recipe,
        run.seed,
        run.protocol,
        run.engine,
        run.num_params,
        Cell("unfinished", order=-1.0)
        if accuracy is None
        else Cell(percent(accuracy), order=accuracy, css="strong", note=f"on {run.split}"),
        run.num_errors,
        None if seconds is None else Cell(f"{seconds:.1f}", order=seconds),
        Cell(run.started[:16].replace("T", " "), order=run.started),
    )


def _link(name: str, pages: frozenset[str]) -> str:
    return quote(name) if name in pages else ""


MANIFEST = ".smidgen-site.json"
"""Which pages the folder holds and what each was made of."""


@dataclass(frozen=True, slots=True)
class Site:
    """What came of making a site.

    Args:
        made: Names of the pages that were written now, the index among them.
        kept: How many were left as they were.
        removed: Names of pages whose runs are gone.
        problems: A line for each run or page that could not be shown.
    """

    made: tuple[str, ...]
    kept: int
    removed: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(slots=True)
class _Written:
    """What was done so far."""

    keys: dict[str, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    kept: int = 0
    problems: list[str] = field(default_factory=list)


def make_site(
    store: RunStore,
    folder: Path,
    data_dir: Path | None = None,
    on_page: Callable[[int, int], None] = lambda done, total: None,
) -> Site:
    """Make, or bring up to date, a folder of pages over everything in a store.

    It has a page for each finished run, for each recipe with at least two seeds, for each ladder
    with runs, for the frontier, and an index with search. A page is written anew only if its runs
    or smidgen itself have changed; pages of runs that are gone are removed, other files are left
    alone. A run that cannot be shown is listed on the index with its reason.

    Args:
        store: The runs.
        folder: Where the pages go; made if missing.
        data_dir: Where images are; as for `ImageSource`.
        on_page: Told (done, total) before each page.

    Raises:
        ReportError: The folder holds an index that is not of such a site, or the extra `report`
            is not installed.
        InUseError: Another process makes this site just now.
        StorageError: Something cannot be written.
    """
    require("Reports need", "matplotlib", "jinja2")
    _check_free(folder)
    lock = locked(folder / ".lock", wait=False, owner=f"The site `{folder}`", remove=True)
    with lock:
        return _make(store, folder, ImageSource(data_dir), on_page)


def _make(
    store: RunStore,
    folder: Path,
    source: ImageSource,
    on_page: Callable[[int, int], None],
) -> Site:
    before = _read_manifest(folder)
    listed, problems = list_runs(store)
    rows = finished_rows(store)[0]
    proofs = [kind for kind in kinds_of(rows) if len({row.seed for row in kind}) >= FEWEST_SEEDS]
    points = frontier_points(store)
    pages = [*run_pages(store, rows, source), *proof_pages(store, proofs, source)]
    pages += [*ladder_pages(store, rows, proofs), frontier_page(points, proofs)]
    done = _Written(problems=problems)
    try:
        for place, page in enumerate(pages):
            on_page(place, len(pages))
            _write(folder, page, before, done)
    finally:  # whoever stops it keeps what is there
        _save_manifest(folder, {**before, **done.keys})
    # a site may be public, and where the runs stand on this machine is nobody's business
    shown = tuple(line.replace(f"{store.root}/", "") for line in done.problems)
    content = SiteContent(listed, proofs, points, frozenset(done.keys), shown)
    write_page(folder / INDEX, make_index_page(content))
    removed = sorted(before.keys() - done.keys.keys())
    with storage_errors(folder):
        for name in removed:
            (folder / name).unlink(missing_ok=True)
    _save_manifest(folder, done.keys)
    return Site((*done.made, INDEX), done.kept, tuple(removed), tuple(done.problems))


def _write(folder: Path, page: Page, before: dict[str, str], done: _Written) -> None:
    key = page.key
    if before.get(page.name) == key and (folder / page.name).is_file():
        done.keys[page.name] = key
        done.kept += 1
        return
    try:
        html = page.make()
    except SmidgenError as error:
        done.problems.append(f"`{page.name}` could not be made. {error}")
        return
    write_page(folder / page.name, html)
    done.keys[page.name] = key
    done.made.append(page.name)


def _check_free(folder: Path) -> None:
    if (folder / INDEX).exists() and not (folder / MANIFEST).exists():
        raise ReportError(
            f"`{folder}` holds an `{INDEX}` that is not of a site made here. Name an empty folder."
        )


def _read_manifest(folder: Path) -> dict[str, str]:
    """Return which pages are there and their keys; nothing if that cannot be read."""
    try:
        pages = json.loads((folder / MANIFEST).read_bytes())["pages"]
        return {str(name): str(key) for name, key in pages.items() if _is_ours(str(name))}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _is_ours(name: str) -> bool:
    """Whether a name can be a page of a site: what stands elsewhere is never removed."""
    return re.fullmatch(r"(run|proof|ladder)-[^/\\]+\.html|frontier\.html", name) is not None


def _save_manifest(folder: Path, keys: dict[str, str]) -> None:
    content = {"smidgen": __version__, "pages": keys}
    write_atomically(folder / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())

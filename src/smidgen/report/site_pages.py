"""Runs in, the pages that a site of them shall have out: what each is made of, and how."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from smidgen import __version__
from smidgen.data.specs import FOLDER_NAME
from smidgen.recipes.catalogue import LADDERS
from smidgen.recipes.ladder import read_ladder
from smidgen.report.frontier_page import make_frontier_page
from smidgen.report.frontier_points import Point
from smidgen.report.ladder_page import make_ladder_page, tell_ladder
from smidgen.report.pictures import pictures_of, why_no_pictures
from smidgen.report.proof_page import make_proof_page
from smidgen.report.proof_story import tell_proof
from smidgen.report.run_page import run_page
from smidgen.report.run_view import view_run
from smidgen.runs.index import IndexedRun
from smidgen.runs.store import RunFolder, RunStore
from smidgen.values import to_plain

FRONTIER = "frontier.html"
Kind = Sequence[IndexedRun]
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
        return hashlib.sha256(f"{_code_digest()} {self.made_of!r}".encode()).hexdigest()


def run_file(run: str) -> str:
    """Return the file of a run's page."""
    return f"run-{run}.html"


def proof_file(kind: Kind) -> str:
    """Return the file of a proof's page: the recipe, how it was run, and digits of what it is."""
    first = kind[0]
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", first.recipe).strip("-.")[:80] or "recipe"
    digits = hashlib.sha256(repr(first.kind).encode()).hexdigest()[:8]
    return f"proof-{slug}-{first.protocol}-{first.engine}-{digits}.html"


def ladder_file(name: str) -> str:
    """Return the file of a ladder's page."""
    return f"ladder-{name}.html"


def proof_links(proofs: Sequence[Kind]) -> dict[str, str]:
    """Return where the proof of a recipe is, by its name: of several that with the most seeds."""
    links: dict[str, str] = {}
    for kind in sorted(proofs, key=lambda kind: (kind[0].protocol == "final", len(kind))):
        links[kind[0].recipe] = proof_file(kind)
    return links


def run_pages(store: RunStore, rows: Sequence[IndexedRun], data_dir: Path | None) -> Iterator[Page]:
    """Yield the page of every finished run."""
    for row in rows:
        folder = RunFolder(store.root / row.run)
        made_of = (row, _no_pictures(store, row, data_dir))

        def make(folder: RunFolder = folder) -> str:
            return run_page(view_run(folder, data_dir))

        yield Page(run_file(row.run), made_of, make)


def proof_pages(store: RunStore, proofs: Sequence[Kind], data_dir: Path | None) -> Iterator[Page]:
    """Yield the page of everything that was run with several seeds."""
    for kind in proofs:
        made_of = (kind, _no_pictures(store, kind[0], data_dir))

        def make(kind: Kind = kind) -> str:
            runs = [RunFolder(store.root / row.run) for row in kind]
            pictures = pictures_of(runs[0].record(), data_dir)
            links = {row.run: run_file(row.run) for row in kind}
            return make_proof_page(tell_proof(runs), pictures, links)

        yield Page(proof_file(kind), made_of, make)


def _no_pictures(store: RunStore, row: IndexedRun, data_dir: Path | None) -> str:
    is_folder = row.dataset == FOLDER_NAME  # other images are read in one way only
    reading = RunFolder(store.root / row.run).record().data.reading if is_folder else None
    return why_no_pictures(row.dataset, row.data_sha256, data_dir, reading)


def ladder_pages(
    store: RunStore, rows: Sequence[IndexedRun], proofs: Sequence[Kind]
) -> Iterator[Page]:
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
            return make_ladder_page(name, tell_ladder(read_ladder(name), store), there)

        yield Page(ladder_file(name), (used, there, json.dumps(texts)), make)


def frontier_page(points: Sequence[Point], proofs: Sequence[Kind]) -> Page:
    """Return the page of the frontier."""
    links = proof_links([kind for kind in proofs if kind[0].protocol == "final"])
    plain = json.dumps([to_plain(point) for point in points])
    made_of = (plain, sorted(links.items()))
    return Page(FRONTIER, made_of, lambda: make_frontier_page(points, proof_links=links))


@cache
def _code_digest() -> str:
    """Return a digest of everything of ours that decides how a page looks."""
    digest = hashlib.sha256(__version__.encode())
    for folder in ("evidence", "network", "recipes", "report", "report/templates", "training"):
        part = files("smidgen").joinpath(folder)
        for file in sorted(_plain_files(part), key=lambda entry: entry.name):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _plain_files(folder: Traversable) -> list[Traversable]:
    return [entry for entry in folder.iterdir() if entry.is_file()]

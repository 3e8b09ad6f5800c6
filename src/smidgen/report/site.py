"""A store of runs in, a folder of pages for any static host out; what is unchanged stays."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from smidgen import __version__
from smidgen.errors import ReportError, SmidgenError
from smidgen.evidence.select import kinds_of
from smidgen.files import locked, storage_errors, write_atomically
from smidgen.report.extra import require_extra
from smidgen.report.frontier_points import FEWEST_SEEDS, frontier_points
from smidgen.report.page import with_home, write_page
from smidgen.report.pictures import images_kept
from smidgen.report.site_index import SiteContent, make_index_page
from smidgen.report.site_pages import (
    Page,
    frontier_page,
    ladder_pages,
    proof_pages,
    run_pages,
)
from smidgen.runs.listing import list_runs
from smidgen.runs.store import RunStore

MANIFEST = ".smidgen-site.json"
"""Which pages the folder holds and what each was made of."""
_INDEX = "index.html"


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
        data_dir: Where images are; as for `pictures_of`.
        on_page: Told (done, total) before each page.

    Raises:
        ReportError: The folder holds an index that is not of such a site, or the extra `report`
            is not installed.
        InUseError: Another process makes this site just now.
        StorageError: Something cannot be written.
    """
    require_extra()
    _check_free(folder)
    lock = locked(folder / ".lock", wait=False, owner=f"The site `{folder}`", remove=True)
    with lock, images_kept():
        return _make(store, folder, data_dir, on_page)


def _make(
    store: RunStore,
    folder: Path,
    data_dir: Path | None,
    on_page: Callable[[int, int], None],
) -> Site:
    before = _read_manifest(folder)
    listed, problems = list_runs(store)
    rows = store.index.runs()[0]
    proofs = [kind for kind in kinds_of(rows) if len({row.seed for row in kind}) >= FEWEST_SEEDS]
    points = frontier_points(store)
    pages = [*run_pages(store, rows, data_dir), *proof_pages(store, proofs, data_dir)]
    pages += [*ladder_pages(store, rows, proofs), frontier_page(points, proofs)]
    done = _Written(problems=problems)
    try:
        for place, page in enumerate(pages):
            on_page(place, len(pages))
            with with_home(_INDEX):
                _write(folder, page, before, done)
    finally:  # whoever stops it keeps what is there
        _save_manifest(folder, {**before, **done.keys})
    # a site may be public, and where the runs stand on this machine is nobody's business
    shown = tuple(line.replace(f"{store.root}/", "") for line in done.problems)
    content = SiteContent(listed, proofs, points, frozenset(done.keys), shown)
    write_page(folder / _INDEX, make_index_page(content))
    removed = sorted(before.keys() - done.keys.keys())
    with storage_errors(folder):
        for name in removed:
            (folder / name).unlink(missing_ok=True)
    _save_manifest(folder, done.keys)
    return Site((*done.made, _INDEX), done.kept, tuple(removed), tuple(done.problems))


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
    if (folder / _INDEX).exists() and not (folder / MANIFEST).exists():
        raise ReportError(
            f"`{folder}` holds an `{_INDEX}` that is not of a site made here. Name an empty folder."
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

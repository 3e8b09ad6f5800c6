"""`smidgen report`: records as pages, pictures and write-ups."""

import json
import sys
import webbrowser
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smidgen.cli.options import DataDir, RunsDir, store_at
from smidgen.cli.reported import (
    FRONTIER,
    Reported,
    Wanted,
    check_targets,
    find_reported,
    proof_reported,
    run_reported,
)
from smidgen.extras import require

if TYPE_CHECKING:
    from smidgen.evidence.proof import Proof
    from smidgen.runs.store import RunFolder, RunStore


def report(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET",
            help="A run, a recipe with runs, a ladder, `frontier`; or two recipes to compare.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The page (else ./report-NAME.html)."),
    ] = None,
    image: Annotated[
        int | None,
        typer.Option(min=0, help="Follow this image of a run's split through its network."),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", help="Accuracy to reach, of a run, a recipe, `frontier`."),
    ] = None,
    protocol: Annotated[
        Literal["final", "tune", "origin"],
        typer.Option(help="Of which runs to take for a recipe's name."),
    ] = "final",
    png: Annotated[
        tuple[str, Path] | None,
        typer.Option(metavar="FIGURE FILE", help="Write one plot, such as `accuracy`, as PNG."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--md", metavar="FILE", help="Write a run up as Markdown, to hand in."),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Make pages of everything in the store, and an index."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what the frontier shows as one JSON object.")
    ] = False,
    opens: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
) -> None:
    """Make a page of a run, a ladder, a recipe's runs or two recipes: one file, works offline.

    With --png or --md only those are written, unless -o asks for the page as well.

    For example:

        smidgen report last --open

        smidgen report last --image 947 -o page.html

        smidgen report smidgen/quick --target 99.4

        smidgen report era-s7

        smidgen report smidgen/quick eva4-s5/5

        smidgen report frontier

        smidgen report --site public

        smidgen report last --md writeup.md --png accuracy accuracy.png
    """
    from smidgen.cli.prove import share_of

    store = store_at(runs_dir)
    if site is not None:
        _only_site(targets, output, image, target, png, text)
        _make_site(store, site, data_dir, opens)
        return
    check_targets(targets or [])
    if as_json:
        _print_json(targets or [], target, store)
        return
    if output is not None or (png is None and text is None):
        require_for_pages()
    elif png is not None:
        require("Plots need", "matplotlib")
    if image is not None:
        require("An image's way through a network needs", "torch")
    share = None if target is None else share_of(target, "--target")
    found = find_reported(targets or [], store, Wanted(data_dir, protocol, image, share))
    if png is not None:
        _write_png(found, *png)
    if text is not None:
        _write_text(found, text)
    if output is not None or (png is None and text is None):
        _write_page(found, output, opens)


def require_for_pages() -> None:
    """Raise MissingPackageError unless pages can be made here; asked before hours of training."""
    require("Reports need", "matplotlib", "jinja2")


def write_run_page(folder: "RunFolder", opens: bool, data_dir: Path | None = None) -> None:
    """Write the page of a run into the current folder and say where it is."""
    require_for_pages()
    _write_page(run_reported(folder, Wanted(data_dir)), None, opens)


def write_proof_page(proof: "Proof", store: "RunStore", wanted: Wanted) -> None:
    """Write the page of a proof into the current folder, say where it is, and open it."""
    from smidgen.runs.store import RunFolder

    require_for_pages()
    runs = [RunFolder(store.root / seed.run) for seed in proof.seeds]
    _write_page(proof_reported(proof.recipe, runs, wanted), None, opens=True)


def _write_page(found: Reported, output: Path | None, opens: bool) -> None:
    from smidgen.report.page import write_page

    path = output or found.file
    html = found.page()
    _refuse_folder(path)
    write_page(path, html)
    print(f"Wrote {path} ({len(html.encode()) / 1000:,.0f} kB)")
    if opens:
        _open(path)


def _write_png(found: Reported, figure: str, path: Path) -> None:
    from smidgen.errors import UnknownNameError
    from smidgen.files import write_atomically

    plots = {plot.name: plot for plot in found.plots()}
    if figure not in plots:
        raise UnknownNameError("figure", figure, plots)
    _refuse_folder(path)
    write_atomically(path, plots[figure].png())
    print(f"Wrote {path}")


def _write_text(found: Reported, path: Path) -> None:
    from smidgen.errors import ReportError
    from smidgen.files import write_atomically

    if found.text is None:
        raise ReportError(
            f"`--md` writes up a run, and `{found.name}` is none. Name a run; a ladder's text is "
            "printed by `smidgen ladder NAME --md`."
        )
    _refuse_folder(path)
    write_atomically(path, found.text().encode("utf-8", "backslashreplace"))
    print(f"Wrote {path}")


def _refuse_folder(path: Path) -> None:
    from smidgen.errors import ReportError

    if path.is_dir():
        raise ReportError(f"`{path}` is a folder. Name a file in it.")


def _open(path: Path) -> None:
    if not webbrowser.open(path.resolve().as_uri()):
        print(f"No browser was found; open {path} in one.", file=sys.stderr)


def _print_json(targets: list[str], target: float | None, store: "RunStore") -> None:
    from smidgen.report.frontier_points import frontier_points, to_data

    if targets != [FRONTIER]:
        raise typer.BadParameter(
            "it is for `frontier`; `prove`, `compare`, `ladder` and `runs show` have their own.",
            param_hint="'--json'",
        )
    if target is not None:
        raise typer.BadParameter(
            "it says nothing of the points, which are the same for any target; leave it out.",
            param_hint="'--target'",
        )
    print(json.dumps(to_data(frontier_points(store), "mnist")))


def _only_site(*given: object) -> None:
    if any(option is not None for option in given if option != []):
        raise typer.BadParameter(
            "it makes pages of everything; leave targets and other outputs out.",
            param_hint="'--site'",
        )


def _make_site(store: "RunStore", folder: Path, data_dir: Path | None, opens: bool) -> None:
    from smidgen.cli.data import data_progress
    from smidgen.report.site import make_site

    with data_progress("images") as progress:
        made = make_site(store, folder, data_dir, partial(progress, "pages"))
    for problem in made.problems:
        print(f"warning: {problem}", file=sys.stderr)
    index = folder / "index.html"
    pages = f"{len(made.made)} page{'' if len(made.made) == 1 else 's'}"
    print(f"Wrote {index}: {pages} made, {made.kept} kept as they were")
    if opens:
        _open(index)

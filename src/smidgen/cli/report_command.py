"""`smidgen report`: records as pages, pictures and write-ups."""

import json
import sys
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import DataDir, RunsDir, RunsProtocol, store_at
from smidgen.extras import require

if TYPE_CHECKING:
    from smidgen.evidence.proof import Proof
    from smidgen.report.figures import Plot
    from smidgen.runs.record import Protocol
    from smidgen.runs.store import RunFolder, RunStore


FRONTIER = "frontier"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shapes a report beside its target.

    Args:
        data_dir: Where the images are, if it was said.
        protocol: Of which runs to take for a recipe's name.
        image: The image of a run to follow through its network, if one was named.
        target: An accuracy to reach, a share, if one was named.
        stay: How many last epochs must be there, if it was said.
    """

    data_dir: Path | None = None
    protocol: "Protocol" = "final"
    image: int | None = None
    target: float | None = None
    stay: int | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """Something that has a page.

    Args:
        name: What its file is called.
        page: Makes the page.
        plots: Makes the plots on it.
        text: Makes the write-up, of a run.
    """

    name: str
    page: Callable[[], str]
    plots: "Callable[[], list[Plot]]"
    text: Callable[[], str] | None = None

    @property
    def file(self) -> Path:
        """Where the page goes if nobody says: the current folder."""
        from smidgen.runs.store import slug

        return Path(f"report-{slug(self.name, 120)}.html")


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
    stay: Annotated[
        int | None,
        typer.Option(min=1, help="Of a recipe: so many last epochs at the target mean it stays."),
    ] = None,
    protocol: RunsProtocol = "final",
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
    from smidgen.cli.options import share_of

    store = store_at(runs_dir)
    if site is not None:
        _only_site(targets, output, image, target, stay, png, text)
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
    found = find_reported(targets or [], store, Wanted(data_dir, protocol, image, share, stay))
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
    from smidgen.cli.live import data_progress
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


def find_reported(targets: Sequence[str], store: "RunStore", wanted: Wanted) -> Reported:
    """Return what targets stand for: a run, a ladder, the runs of a recipe, two of those.

    Raises:
        UnknownNameError: They stand for nothing.
        RunError: A run that is damaged, unfinished or of another kind than the others.
        typer.BadParameter: An option that says nothing of what they stand for.
    """
    from smidgen.cli.targets import find_run, find_runs, holds_ladder
    from smidgen.recipes.catalogue import LADDERS

    if len(targets) == 2:
        _refuse("two recipes", target=wanted.target, image=wanted.image, stay=wanted.stay)
        a, b = targets
        sides = (
            find_runs(a, store, wanted.protocol),
            find_runs(b, store, wanted.protocol),
        )
        return _comparison((a, b), sides, wanted)
    (target,) = targets
    if target == FRONTIER:
        _refuse("the frontier", image=wanted.image, stay=wanted.stay)
        return _frontier(store, wanted)
    if target in LADDERS or holds_ladder(target):
        _refuse("a ladder", target=wanted.target, image=wanted.image, stay=wanted.stay)
        return _ladder(target, store)
    folder = find_run(target, store, (FRONTIER,))
    if folder is not None:
        _refuse("one run", stay=wanted.stay)
        return run_reported(folder, wanted)
    _refuse("several runs", image=wanted.image)
    return proof_reported(target, find_runs(target, store, wanted.protocol), wanted)


def _refuse(shown: str, **given: float | None) -> None:
    """Refuse options that would change nothing on a page."""
    for option, value in given.items():
        if value is not None:
            raise typer.BadParameter(
                f"it says nothing of {shown}; leave it out.", param_hint=f"'--{option}'"
            )


def run_reported(folder: "RunFolder", wanted: Wanted) -> Reported:
    """Return what can be shown of a run; raises RunError if its record is damaged."""
    from smidgen.report.pictures import ImageSource
    from smidgen.report.probe import probe
    from smidgen.report.run_page import run_page
    from smidgen.report.run_plots import run_plots
    from smidgen.report.run_text import run_text
    from smidgen.report.run_view import view_run

    view = view_run(folder, ImageSource(wanted.data_dir), wanted.target)
    image = wanted.image
    return Reported(
        folder.name,
        lambda: run_page(view, None if image is None else probe(view, image)),
        lambda: run_plots(view),
        lambda: run_text(view),
    )


def proof_reported(name: str, runs: "list[RunFolder]", wanted: Wanted) -> Reported:
    """Return what can be shown of runs that differ only in the seed; raises as `proof_of`."""
    from smidgen.evidence.proof import STAY_EPOCHS
    from smidgen.report.pictures import ImageSource, pictures_of
    from smidgen.report.proof_page import make_proof_page, proof_plots, tell_proof

    story = tell_proof(runs, wanted.target, wanted.stay or STAY_EPOCHS)
    return Reported(
        name,
        lambda: make_proof_page(story, pictures_of(runs[0].record(), ImageSource(wanted.data_dir))),
        lambda: proof_plots(story),
    )


def _comparison(
    asked: tuple[str, str], sides: "tuple[list[RunFolder], list[RunFolder]]", wanted: Wanted
) -> Reported:
    from smidgen.report.comparison_page import (
        comparison_plots,
        make_comparison_page,
        tell_comparison,
    )
    from smidgen.report.pictures import ImageSource, pictures_of

    story = tell_comparison(*sides)
    return Reported(
        "-or-".join(asked),
        lambda: make_comparison_page(
            story, pictures_of(sides[0][0].record(), ImageSource(wanted.data_dir)), asked
        ),
        lambda: comparison_plots(story),
    )


def _ladder(target: str, store: "RunStore") -> Reported:
    from smidgen.recipes.ladder import read_ladder
    from smidgen.report.ladder_page import ladder_plots, make_ladder_page, tell_ladder

    steps = tell_ladder(read_ladder(target), store)
    name = Path(target).stem if target.endswith(".json") else target
    return Reported(name, lambda: make_ladder_page(target, steps), lambda: ladder_plots(steps))


def _frontier(store: "RunStore", wanted: Wanted) -> Reported:
    from smidgen.report.frontier_page import frontier_plots, make_frontier_page
    from smidgen.report.frontier_points import frontier_points

    points, dataset = frontier_points(store), "mnist"
    return Reported(
        FRONTIER,
        lambda: make_frontier_page(points, dataset, target=wanted.target),
        lambda: frontier_plots(points, dataset, wanted.target),
    )


def check_targets(targets: Sequence[str]) -> None:
    """Refuse a number of targets that means nothing."""
    if not 1 <= len(targets) <= 2:
        raise typer.BadParameter(
            "give a run, a recipe, a ladder or `frontier`; or two to compare; or `--site DIR`.",
            param_hint="'TARGET'",
        )

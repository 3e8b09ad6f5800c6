"""What `smidgen report` is asked for: from targets to what can be shown of them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
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
    """

    data_dir: Path | None = None
    protocol: "Protocol" = "final"
    image: int | None = None
    target: float | None = None


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
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.")[:120]
        return Path(f"report-{slug}.html")


def find_reported(targets: Sequence[str], store: "RunStore", wanted: Wanted) -> Reported:
    """Return what targets stand for: a run, a ladder, the runs of a recipe, two of those.

    Raises:
        UnknownNameError: They stand for nothing.
        RunError: A run that is damaged, unfinished or of another kind than the others.
        typer.BadParameter: An option that says nothing of what they stand for.
    """
    from smidgen.evidence.select import select_runs
    from smidgen.recipes.catalogue import LADDERS

    if len(targets) == 2:
        _refuse("two recipes", target=wanted.target, image=wanted.image)
        a, b = targets
        sides = (
            select_runs(store, a, wanted.protocol),
            select_runs(store, b, wanted.protocol),
        )
        return _comparison((a, b), sides, wanted)
    (target,) = targets
    if target == FRONTIER:
        _refuse("the frontier", image=wanted.image)
        return _frontier(store, wanted)
    if target in LADDERS or target.endswith(".json"):
        _refuse("a ladder", target=wanted.target, image=wanted.image)
        return _ladder(target, store)
    folder = _run(target, store)
    if folder is not None:
        return run_reported(folder, wanted)
    _refuse("several runs", image=wanted.image)
    return proof_reported(target, select_runs(store, target, wanted.protocol), wanted)


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


def _run(target: str, store: "RunStore") -> "RunFolder | None":
    """Return the run of this name, if it is not a recipe's name or a list of runs."""
    from smidgen.errors import UnknownNameError
    from smidgen.evidence.select import split_selector
    from smidgen.recipes.catalogue import LADDERS, RECIPES
    from smidgen.runs.listing import finished_rows

    with_runs = [row.recipe for row in reversed(finished_rows(store)[0])]  # newest first
    names = dict.fromkeys([*with_runs, *RECIPES])
    if split_selector(target, names)[0] in names or "," in target:
        return None
    try:
        return store.find(target)
    except UnknownNameError as error:
        folders = [folder.name for folder in reversed(store.folders())]
        known = dict.fromkeys([*with_runs, *folders, FRONTIER, *LADDERS, *names])
        hint = f"Runs are looked for in `{store.root}`."
        raise UnknownNameError("run, recipe or ladder", target, known, hint) from error


def proof_reported(name: str, runs: "list[RunFolder]", wanted: Wanted) -> Reported:
    """Return what can be shown of runs that differ only in the seed; raises as `proof_of`."""
    from smidgen.report.pictures import ImageSource, pictures_of
    from smidgen.report.proof_page import make_proof_page, proof_plots, tell_proof

    story = tell_proof(runs, wanted.target)
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

"""A ladder and a store of runs in, the page that tells its steps out."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smidgen.evidence.select import runs_of
from smidgen.evidence.told import Reached, ToldStep, tell
from smidgen.evidence.wording import claimed_line, percent, reached_line
from smidgen.recipes.ladder import Rung
from smidgen.report.ladder_figures import ladder_plots
from smidgen.report.page import render
from smidgen.report.tables import Cell, Column, Table, cells
from smidgen.runs.store import RunStore


@dataclass(frozen=True, slots=True)
class ShownStep:
    """A step with its curves.

    Args:
        told: What it aims at, claims, came to and shows.
        curves: Accuracy after each epoch of every seed that was analyzed, shares, by seed.
    """

    told: ToldStep
    curves: tuple[tuple[float, ...], ...]

    @property
    def claimed(self) -> float | None:
        """The headline accuracy that the source claims, a share; None if it claims none."""
        claim = self.told.recipe.about.claim
        if claim is None or claim.best_accuracy is None:
            return None
        return claim.best_accuracy / 100.0

    @property
    def mean_curve(self) -> tuple[float, ...]:
        """Mean over seeds after each epoch; empty without runs."""
        if not self.curves:
            return ()
        return tuple(float(mean) for mean in np.mean(self.curves, axis=0))


def tell_ladder(rungs: Sequence[Rung], store: RunStore) -> tuple[ShownStep, ...]:
    """Gather what the page of a ladder shows, step by step.

    Raises:
        RunError: A damaged run.
    """
    rows = store.index.runs()[0]
    shown = []
    for told in tell(rungs, store):
        runs = runs_of(store, told.recipe, told.protocol, rows) if told.protocol else []
        records = sorted((run.record() for run in runs), key=lambda record: record.seed)
        shown.append(
            ShownStep(
                told=told,
                curves=tuple(
                    tuple(epoch.eval_accuracy for epoch in record.epochs) for record in records
                ),
            )
        )
    return tuple(shown)


def make_ladder_page(
    name: str, steps: Sequence[ShownStep], proof_links: Mapping[str, str] | None = None
) -> str:
    """Return the page of a ladder.

    Args:
        name: What it is called.
        steps: What it shows; at least one.
        proof_links: Where the proof of a recipe is, by the recipe's name; others are not linked.

    Raises:
        ReportError: The extra `report` is not installed.
    """
    links = proof_links or {}
    stories = [_story(place, step, links) for place, step in enumerate(steps, 1)]
    sections = [("overview", "Overview")]
    sections += [(f"step-{story['number']}", f"Step {story['number']}") for story in stories]
    return render(
        "ladder.html",
        title=f"The ladder {name}",
        sections=sections,
        name=name,
        lede=_lede(steps),
        sources=list(dict.fromkeys(filter(None, (s.told.recipe.about.source for s in steps)))),
        overview=_overview(steps, links),
        plots=ladder_plots(steps),
        stories=stories,
        command=f"smidgen ladder {shlex.quote(name)} --run --seeds 20",
    )


def _lede(steps: Sequence[ShownStep]) -> str:
    sizes = [step.told.num_params for step in steps]
    text = f"{len(steps)} steps between {min(sizes):,} and {max(sizes):,} parameters."
    if len(steps) == 1:
        text = f"One step of {sizes[0]:,} parameters."
    claims = [step.claimed for step in steps if step.claimed is not None]
    if claims:
        text += f" The highest claim is {percent(max(claims))}."
    trained = [step for step in steps if step.curves]
    if not trained:
        return f"{text} Nothing of it was trained here yet."
    best = max(trained, key=lambda step: step.mean_curve[-1])
    n = len(best.curves)
    seeds = f"the mean of {n} seeds" if n > 1 else "one seed"
    text += (
        f" Here `{best.told.recipe.name}` ends highest: {percent(best.mean_curve[-1])}, {seeds}."
    )
    missing = len(steps) - len(trained)
    return f"{text} Steps without runs here: {missing}." if missing else text


def _overview(steps: Sequence[ShownStep], links: Mapping[str, str]) -> Table:
    columns = [
        Column("step"),
        Column("recipe", is_number=False),
        Column("parameters"),
        Column("epochs"),
        Column("claimed", note="The source's headline"),
        Column("ours", note="Mean over seeds of the last epoch"),
        Column("sd", note="Standard deviation over seeds, in points"),
        Column("n", note="Seeds"),
        Column("protocol", is_number=False),
    ]
    rows = []
    for place, step in enumerate(steps, 1):
        recipe = step.told.recipe
        head = [
            Cell(str(place), order=place, link=f"#step-{place}"),
            Cell(recipe.name, link=links.get(recipe.name, "")),
            step.told.num_params,
            recipe.epochs,
            None if step.claimed is None else Cell(percent(step.claimed), order=step.claimed),
        ]
        reached = step.told.reached or (None,)
        rows += [cells(*head, *_reached_cells(each)) for each in reached]
    return Table("Every step, claimed and ours", columns, rows, is_sortable=True, name="steps")


def _reached_cells(reached: Reached | None) -> list[Cell | int | str | None]:
    if reached is None:
        return [None, None, None, None]
    sd = None if reached.sd is None else Cell(f"{100 * reached.sd:.3f}", order=reached.sd)
    mean = Cell(percent(reached.mean), order=reached.mean, css="strong")
    return [mean, sd, reached.n, reached.protocol]


def _story(place: int, step: ShownStep, links: Mapping[str, str]) -> dict[str, Any]:
    """Return the texts of a step, under the three titles by which ladders are told."""
    told, about = step.told, step.told.recipe.about
    results = [claimed_line(told)] if step.claimed is not None else []
    results += [f"noted: {told.result}"] if told.result else []
    results += [f"ours: {reached_line(each)}" for each in told.reached]
    if not told.reached:
        results.append("ours: no runs here yet")
    return {
        "number": place,
        "name": told.recipe.name,
        "link": links.get(told.recipe.name, ""),
        "summary": about.summary,
        "facts": f"{told.num_params:,} parameters, {told.recipe.epochs} epochs",
        "target": about.target,
        "results": results,
        "told": about.analysis,
        "analysis": told.analysis,
        "notes": about.notes,
    }

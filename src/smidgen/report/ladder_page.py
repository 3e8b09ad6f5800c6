"""A ladder and a store of runs in, the page that tells its steps out."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smidgen.evidence.ladders import Reached, ToldStep, tell
from smidgen.evidence.select import runs_of
from smidgen.evidence.statistics import t_interval
from smidgen.evidence.wording import claimed_line, percent, reached_line
from smidgen.recipes.ladder import Rung
from smidgen.report.figures import (
    HALF,
    Plot,
    accuracy_axis,
    drawable,
    epoch_axis,
    figure_of,
    size_axis,
    tip,
)
from smidgen.report.page import Cell, Column, Table, cells, render
from smidgen.report.style import BLUE, GRAY, INK, ORANGE, SERIES
from smidgen.runs.listing import finished_rows
from smidgen.runs.store import RunStore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
    rows = finished_rows(store)[0]
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
    name: str,
    steps: Sequence[ShownStep],
    proof_links: Mapping[str, str] | None = None,
    home: str = "",
) -> str:
    """Return the page of a ladder.

    Args:
        name: What it is called.
        steps: What it shows; at least one.
        proof_links: Where the proof of a recipe is, by the recipe's name; others are not linked.
        home: As for `run_page`.

    Raises:
        ReportError: The extra `report` is not installed.
    """
    links = proof_links or {}
    stories = [_story(place, step, links) for place, step in enumerate(steps, 1)]
    sections = [("overview", "Overview")]
    sections += [(f"step-{story['number']}", f"Step {story['number']}") for story in stories]
    return render(
        "ladder.html",
        home=home,
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


_DASHES = ((1, 0), (5, 2))
_SHOWN_FROM = 3
"""Epochs before this one are left out of the range: where training begins says little."""


def ladder_plots(steps: "Sequence[ShownStep]") -> list[Plot]:
    """Return the plots of a ladder for which there is something to show."""
    plots = [curves_plot(steps)] if any(step.curves for step in steps) else []
    if any(step.curves or step.claimed is not None for step in steps):
        plots += [claims_plot(steps), sizes_plot(steps)]
    return plots


def curves_plot(steps: "Sequence[ShownStep]") -> Plot:
    """Return our accuracy by epoch, a curve per step; the mean where there are several seeds."""
    trained = [(place, step) for place, step in enumerate(steps, 1) if step.curves]
    best_place, best = max(trained, key=lambda each: each[1].mean_curve[-1])
    listed = "; ".join(
        f"step {place} ends at {percent(step.mean_curve[-1])}" for place, step in trained
    )

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for place, step in trained:
            color = SERIES[(place - 1) % len(SERIES)]
            dashes = _DASHES[(place - 1) // 4 % len(_DASHES)]
            for curve in step.curves if len(step.curves) > 1 else ():
                epochs = range(1, len(curve) + 1)
                axes.plot(epochs, drawable(curve), color=color, alpha=0.18, lw=0.9)
            mean = step.mean_curve
            (line,) = axes.plot(range(1, len(mean) + 1), drawable(mean), color=color, dashes=dashes)
            tip(line, f"step {place}, {step.told.recipe.name}: {percent(mean[-1])} at the end")
        _set_range(axes, [step.mean_curve for _, step in trained])
        _label_ends(axes, [(f"{place}", step.mean_curve, place) for place, step in trained])
        epoch_axis(axes)

    return Plot(
        name="curves",
        title=f"Step {best_place} ends highest here, at {percent(best.mean_curve[-1])}",
        caption=(
            "Our accuracy after each epoch; the number at the end of a curve is its step. Strong "
            "is the mean, faint the seeds. The scale stretches the top."
        ),
        description=f"{listed}.",
        draw=draw,
        height=400,
        narrow_height=360,
    )


def _set_range(axes: "Axes", curves: Sequence[Sequence[float]]) -> None:
    settled = [share for curve in curves for share in curve[_SHOWN_FROM - 1 :] or curve]
    every = [share for curve in curves for share in curve]
    accuracy_axis(axes, max(min(every), min(settled) - 0.02), max(every))


def _label_ends(axes: "Axes", ends: Sequence[tuple[str, Sequence[float], int]]) -> None:
    """Write a label behind the end of each curve, pushed apart where they would overlap."""
    height = figure_of(axes).get_figheight() * 72
    least = 13.0 / height  # as a share of the figure: one line of text
    to_axes = axes.transScale + axes.transLimits
    spots = sorted(
        (
            float(to_axes.transform((len(curve), drawable(curve[-1:])[0]))[1]),
            len(curve),
            text,
            place,
        )
        for text, curve, place in ends
    )
    lowest = -1.0
    for height_there, epoch, text, place in spots:
        lowest = max(height_there, lowest + least)
        axes.annotate(
            text,
            (epoch, lowest),
            xycoords=("data", "axes fraction"),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=SERIES[(place - 1) % len(SERIES)],
            fontweight="bold",
        )


def claims_plot(steps: "Sequence[ShownStep]") -> Plot:
    """Return what each step's source claims beside what our runs came to, a row per step."""
    both = [step for step in steps if step.curves and step.claimed is not None]
    below = sum(step.mean_curve[-1] < (step.claimed or 0.0) for step in both)
    words = f"Our last epoch is below the claim in {below} of {len(both)} steps"
    if not both:
        words = (
            "Claims" if not any(step.curves for step in steps) else "Our runs; nothing is claimed"
        )

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for place, step in enumerate(steps, 1):
            ours = step.mean_curve[-1] if step.curves else None
            if ours is not None and step.claimed is not None:
                axes.plot([100 * ours, 100 * step.claimed], [place, place], color=GRAY, lw=1.2)
            _draw_claim(axes, step, (100 * (step.claimed or 0.0), place))
            if ours is not None:
                _draw_ours(axes, step, (100 * ours, place))
        axes.set_yticks(
            range(1, len(steps) + 1), [str(place) for place in range(1, len(steps) + 1)]
        )
        axes.set_ylim(len(steps) + 0.6, 0.4)
        axes.set_ylabel("step")
        axes.set_xlabel("accuracy (%)")
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.grid(False, axis="y")

    return Plot(
        name="claims",
        title=words,
        caption=(
            "Triangle: claimed by the source, mostly a best epoch on the test set. Dot: ours after "
            "the last epoch, with the 95 % interval of the mean where there are several seeds."
        ),
        description=_claims_in_words(steps),
        draw=draw,
        width=HALF,
        height=max(240, 60 + 34 * len(steps)),
        narrow_height=max(240, 60 + 34 * len(steps)),
    )


def _claims_in_words(steps: "Sequence[ShownStep]") -> str:
    said = []
    for place, step in enumerate(steps, 1):
        claimed = "nothing claimed" if step.claimed is None else f"claimed {percent(step.claimed)}"
        ours = f"ours {percent(step.mean_curve[-1])}" if step.curves else "no runs here"
        said.append(f"Step {place}: {claimed}, {ours}.")
    return " ".join(said)


def _draw_claim(axes: "Axes", step: "ShownStep", at: tuple[float, float]) -> None:
    if step.claimed is not None:
        (mark,) = axes.plot([at[0]], [at[1]], "^", mfc="none", mec=ORANGE, mew=1.8, ms=9)
        tip(mark, f"{step.told.recipe.name}: claimed {percent(step.claimed)}")


def _draw_ours(axes: "Axes", step: "ShownStep", at: tuple[float, float]) -> None:
    ends = [curve[-1] for curve in step.curves]
    if len(ends) > 1:
        interval = t_interval(ends)
        low, high = 100 * interval.low, 100 * interval.high
        axes.plot([low, high], [at[1], at[1]], color=BLUE, lw=3, alpha=0.55)
    (mark,) = axes.plot([at[0]], [at[1]], "o", color=BLUE, ms=8)
    tip(mark, f"{step.told.recipe.name}: ours {at[0]:.2f} %, n = {len(ends)}")


def sizes_plot(steps: "Sequence[ShownStep]") -> Plot:
    """Return parameters against accuracy, claimed and ours."""
    shown = [
        (place, step.told.num_params, [s for s in (_ours(step), step.claimed) if s is not None])
        for place, step in enumerate(steps, 1)
    ]
    best = max(share for _, _, shares in shown for share in shares)
    near = [
        (size, place) for place, size, shares in shown if shares and max(shares) >= best - 0.002
    ]
    size, step = min(near)
    said = [
        f"Step {place}: {size:,} parameters, {' and '.join(percent(share) for share in shares)}."
        for place, size, shares in shown
        if shares
    ]

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        every = drawable(share for _, _, shares in shown for share in shares)
        accuracy_axis(axes, every.min(), every.max())
        for place, each in enumerate(steps, 1):
            _draw_size(axes, place, each)
        size_axis(axes, [size for _, size, _ in shown])

    return Plot(
        name="sizes",
        title=f"Step {step} is the smallest within 0.2 points of the highest: {size:,} parameters",
        caption="Dot: ours after the last epoch; triangle: the claim. The number is the step.",
        description=" ".join(said),
        draw=draw,
        width=HALF,
        height=max(240, 60 + 34 * len(steps)),
        narrow_height=300,
    )


def _ours(step: "ShownStep") -> float | None:
    return step.mean_curve[-1] if step.curves else None


def _draw_size(axes: "Axes", place: int, step: "ShownStep") -> None:
    name, size, ours = step.told.recipe.name, step.told.num_params, _ours(step)
    heights = drawable(share for share in (ours, step.claimed) if share is not None)
    if len(heights) == 2:
        axes.plot([size, size], heights, color=GRAY, lw=1, zorder=1)
    if step.claimed is not None:
        (mark,) = axes.plot([size], heights[-1:], "^", mfc="none", mec=ORANGE, mew=1.8, ms=9)
        tip(mark, f"{place}, {name}: {size:,} parameters, claimed {percent(step.claimed)}")
    if ours is not None:
        (mark,) = axes.plot([size], heights[:1], "o", color=BLUE, ms=8)
        tip(mark, f"{place}, {name}: {size:,} parameters, ours {percent(ours)}")
    if len(heights):
        side = 1 if place % 2 else -1  # neighbors of one size would cover each other's numbers
        text = {"xytext": (9 * side, -4), "textcoords": "offset points", "color": INK}
        axes.annotate(str(place), (size, heights[0]), ha="left" if side > 0 else "right", **text)

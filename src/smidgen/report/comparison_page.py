"""Finished runs of two recipes in, the page that shows which is better, if any, out."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smidgen.evidence.changes import changes
from smidgen.evidence.compare import Comparison, compare
from smidgen.evidence.proof import finished_result, last_epoch, wrong_images
from smidgen.evidence.wording import difference_rows, percent, side_names, verdict_line
from smidgen.report.figures import (
    HALF,
    Plot,
    accuracy_axis,
    accuracy_below,
    dots,
    drawable,
    epoch_axis,
    tip,
)
from smidgen.report.page import Cell, Column, Table, cells, render
from smidgen.report.pictures import Pictures
from smidgen.report.style import BLUE, GRAY, INK, ORANGE
from smidgen.runs.record import ON_TEST, RunRecord
from smidgen.runs.store import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from smidgen.evidence.compare import Side

A_COLOR, B_COLOR = BLUE, ORANGE


MOST_PICTURES = 24


@dataclass(frozen=True, slots=True)
class SeedPair:
    """What both recipes came to with one seed, shares after the last epoch."""

    seed: int
    a: float
    b: float

    @property
    def difference(self) -> float:
        """A - B."""
        return self.a - self.b


@dataclass(frozen=True, slots=True)
class TellingImage:
    """An image that one of the two gets right more often.

    Args:
        position: In the split, from 0.
        label: Name of the class it is labelled with.
        wrong_a: Share of A's seeds that get it wrong.
        wrong_b: Share of B's seeds that get it wrong.
    """

    position: int
    label: str
    wrong_a: float
    wrong_b: float


@dataclass(frozen=True, slots=True)
class ComparisonStory:
    """What the page of a comparison shows.

    Args:
        comparison: The statements.
        pairs: One per seed that both have, by seed.
        curve_a: Mean over these seeds of A's accuracy after each epoch.
        curve_b: The same of B.
        changed: What B changes of A, one phrase each.
        telling: The images on which they differ most, A's advantages first; none where an epoch
            was selected on the test set.
    """

    comparison: Comparison
    pairs: tuple[SeedPair, ...]
    curve_a: tuple[float, ...]
    curve_b: tuple[float, ...]
    changed: tuple[str, ...]
    telling: tuple[TellingImage, ...]


def tell_comparison(a: Sequence[RunFolder], b: Sequence[RunFolder]) -> ComparisonStory:
    """Gather what the page of a comparison shows.

    Raises:
        RunError: As `compare`.
    """
    comparison = compare(a, b)
    ours, theirs = (_of_seeds(runs, comparison.seeds) for runs in (a, b))
    records_a, records_b = ([record for record, _ in side] for side in (ours, theirs))
    first, other = records_a[0], records_b[0]
    return ComparisonStory(
        comparison=comparison,
        pairs=tuple(
            SeedPair(one.seed, last_epoch(one)[0], last_epoch(two)[0])
            for one, two in zip(records_a, records_b, strict=True)
        ),
        curve_a=_mean_curve(records_a),
        curve_b=_mean_curve(records_b),
        changed=changes(first.recipe, other.recipe),
        telling=_telling([run for _, run in ours], [run for _, run in theirs], (first, other)),
    )


def _of_seeds(runs: Sequence[RunFolder], seeds: Sequence[int]) -> list[tuple[RunRecord, RunFolder]]:
    by_seed = {record.seed: (record, run) for record, run in ((run.record(), run) for run in runs)}
    return [by_seed[seed] for seed in seeds]


def _mean_curve(records: Sequence[RunRecord]) -> tuple[float, ...]:
    rows = [[epoch.eval_accuracy for epoch in record.epochs] for record in records]
    return tuple(float(mean) for mean in np.mean(rows, axis=0))


def _telling(
    a: Sequence[RunFolder], b: Sequence[RunFolder], records: tuple[RunRecord, RunRecord]
) -> tuple[TellingImage, ...]:
    """Choose as many images for either side, those with the largest difference in error rate."""
    if ON_TEST in [finished_result(record).selection for record in records]:
        return ()
    wrong_a, wrong_b = (wrong_images(runs).mean(axis=0) for runs in (a, b))
    labels, names = a[0].predictions()["labels"], records[0].data.class_names
    gain = wrong_b - wrong_a
    order = np.argsort(-gain, kind="stable")
    half = MOST_PICTURES // 2
    chosen = [int(i) for i in order[:half] if gain[i] > 0]
    chosen += [int(i) for i in order[::-1][:half] if gain[i] < 0]
    return tuple(
        TellingImage(i, names[int(labels[i])], float(wrong_a[i]), float(wrong_b[i])) for i in chosen
    )


def make_comparison_page(story: ComparisonStory, pictures: Pictures, asked: tuple[str, str]) -> str:
    """Return the page of a comparison.

    Args:
        story: What it shows.
        pictures: The images of the split, or why there are none.
        asked: The two sides, as `smidgen compare` takes them.

    Raises:
        ReportError: The extra `report` is not installed.
    """
    found = story.comparison
    name_a, name_b = side_names(found)
    sections = [
        ("seeds", "Seed by seed"),
        ("statements", "Statements"),
        ("changed", "What differs"),
    ]
    if story.telling:
        sections.append(("images", "Images"))
    sections.append(("repeat", "Repeat"))
    return render(
        "comparison.html",
        title=f"{name_a} or {name_b}?",
        sections=sections,
        story=story,
        found=found,
        verdict=verdict_line(found),
        plots=comparison_plots(story),
        sides=_sides_table(found),
        statements=difference_rows(found),
        seeds=_seeds_table(story),
        pictures=pictures,
        uris={image.position: pictures.uri(image.position) for image in story.telling},
        command=f"smidgen compare {shlex.join(asked)}",
    )


def _sides_table(found: Comparison) -> Table:
    titles = ("recipe", "engine", "parameters", "mean accuracy", "sd (points)", "seconds per run")
    columns = [Column("side", is_number=False)]
    columns += [Column(title, is_number=title not in ("recipe", "engine")) for title in titles]
    rows = []
    for letter, side in (("A", found.a), ("B", found.b)):
        seen = side.accuracy
        sd = None if seen.sd is None else f"{100 * seen.sd:.3f}"
        mean, seconds = f"{100 * seen.mean:.3f} %", f"{side.train_seconds.mean:.1f}"
        rows.append(cells(letter, side.recipe, side.engine, side.num_params, mean, sd, seconds))
    return Table("The two sides", columns, rows)


def _seeds_table(story: ComparisonStory) -> Table:
    columns = [Column("seed"), Column("A"), Column("B"), Column("A - B (points)")]
    rows = [
        cells(
            pair.seed,
            Cell(percent(pair.a), order=pair.a),
            Cell(percent(pair.b), order=pair.b),
            Cell(f"{100 * pair.difference:+.2f}", order=pair.difference),
        )
        for pair in story.pairs
    ]
    return Table("Both sides seed by seed", columns, rows, is_sortable=True, name="pairs")


def comparison_plots(story: "ComparisonStory") -> list[Plot]:
    """Return the plots of a comparison, in the order they are shown."""
    return [differences_plot(story), both_ends_plot(story), both_curves_plot(story)]


def differences_plot(story: "ComparisonStory") -> Plot:
    """Return A - B for every seed, their mean and its interval."""
    found = story.comparison.difference
    wins = sum(pair.difference > 0 for pair in story.pairs)
    losses = sum(pair.difference < 0 for pair in story.pairs)
    name_a, name_b = side_names(story.comparison)
    listed = ", ".join(f"{pair.seed}: {100 * pair.difference:+.2f}" for pair in story.pairs)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        if found.interval is not None:
            low, high = 100 * found.interval.low, 100 * found.interval.high
            band = axes.axhspan(low, high, color=GRAY, alpha=0.2, lw=0)
            tip(band, f"95 % interval of the mean: {low:+.3f} to {high:+.3f} points (Student)")
        axes.axhline(100 * found.mean, color=INK, lw=1.2, dashes=(5, 3))
        axes.axhline(0.0, color=GRAY, lw=1)
        for place, pair in enumerate(story.pairs):
            points = 100 * pair.difference
            color = GRAY if points == 0 else A_COLOR if points > 0 else B_COLOR
            axes.plot([place, place], [0.0, points], color=color, lw=2)
            (dot,) = axes.plot([place], [points], "o" if points >= 0 else "s", color=color, ms=7)
            text = (
                f"seed {pair.seed}: {points:+.2f} points\nA {percent(pair.a)}, B {percent(pair.b)}"
            )
            tip(dot, text)
        step = max(1, len(story.pairs) // 10)
        places = range(0, len(story.pairs), step)
        axes.set_xticks(list(places), [str(story.pairs[place].seed) for place in places])
        axes.grid(False, axis="x")
        axes.set_xlabel("seed")
        axes.set_ylabel("A - B (points)")

    equal = len(story.pairs) - wins - losses
    return Plot(
        name="differences",
        title=f"A is ahead with {wins} of {len(story.pairs)} seeds, B with {losses}"
        + (f", {equal} are equal" if equal else ""),
        caption=(
            f"A is {name_a}, B {name_b}. Above zero A is better with that seed, below zero B. "
            "Dashed: the mean difference; the band is its 95 % interval."
        ),
        description=f"A - B in points by seed: {listed}.",
        draw=draw,
    )


def both_ends_plot(story: "ComparisonStory") -> Plot:
    """Return where the seeds of both end, one row of dots each."""
    a, b = story.comparison.a, story.comparison.b
    ahead = "A" if a.accuracy.mean > b.accuracy.mean else "B"
    words = f"{ahead}'s mean is higher by {abs(100 * story.comparison.difference.mean):.3f} points"
    if a.accuracy.mean == b.accuracy.mean:
        words = "Both means are equal"

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        ends_b = [(pair.b, f"B, seed {pair.seed}: {percent(pair.b)}") for pair in story.pairs]
        ends_a = [(pair.a, f"A, seed {pair.seed}: {percent(pair.a)}") for pair in story.pairs]
        top = dots(axes, ends_b, 0.0, B_COLOR, "s")
        _mean_bar(axes, b, -1.3)
        base = max(top + 4.0, 6.0)
        top = dots(axes, ends_a, base, A_COLOR, "o")
        _mean_bar(axes, a, base - 1.3)
        axes.set_ylim(-2.8, top + 1.5)
        accuracy_below(axes)
        axes.set_yticks([0.0, base], ["B", "A"])

    return Plot(
        name="ends",
        title=words,
        caption="Each mark is a seed after its last epoch; the bars are the means' 95 % intervals.",
        description=f"Mean of A {100 * a.accuracy.mean:.3f} %, of B {100 * b.accuracy.mean:.3f} %.",
        draw=draw,
        width=HALF,
        height=320,
        narrow_height=300,
    )


def _mean_bar(axes: "Axes", side: "Side", height: float) -> None:
    seen = side.accuracy
    if seen.interval is not None:
        ends = [100 * seen.interval.low, 100 * seen.interval.high]
        axes.plot(ends, [height, height], color=INK, lw=3)
    (mark,) = axes.plot([100 * seen.mean], [height], "D", color=INK, ms=6)
    tip(mark, f"mean of {side.recipe} on {side.engine}: {100 * seen.mean:.3f} %")


def both_curves_plot(story: "ComparisonStory") -> Plot:
    """Return the mean accuracy of both by epoch."""
    curves = ((story.curve_a, A_COLOR, "A", "o"), (story.curve_b, B_COLOR, "B", "s"))
    words = (
        f"A ends at {percent(story.curve_a[-1])} after {len(story.curve_a)} epochs, "
        f"B at {percent(story.curve_b[-1])} after {len(story.curve_b)}"
    )

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for curve, color, name, marker in curves:
            epochs = range(1, len(curve) + 1)
            axes.plot(epochs, drawable(curve), color=color, marker=marker, ms=4, label=name)
        every = [*story.curve_a, *story.curve_b]
        accuracy_axis(axes, min(every), max(every))
        axes.legend(loc="lower right")
        epoch_axis(axes)

    return Plot(
        name="curves",
        title=words,
        caption=f"Mean accuracy on {story.comparison.split} over the {len(story.pairs)} seeds.",
        description=f"{_listed('A', story.curve_a)} {_listed('B', story.curve_b)}",
        draw=draw,
        width=HALF,
        height=320,
        narrow_height=300,
    )


def _listed(name: str, curve: tuple[float, ...]) -> str:
    return f"{name} by epoch: {', '.join(percent(share) for share in curve)}."

"""The plots of a comparison: the difference seed by seed, where both end, how both learn."""

from typing import TYPE_CHECKING

from smidgen.evidence.wording import percent, side_names
from smidgen.report.accuracy_scale import accuracy_axis, drawable
from smidgen.report.figures import HALF, Plot, tip
from smidgen.report.proof_figures import accuracy_below, dots, epoch_axis
from smidgen.report.style import BLUE, GRAY, INK, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from smidgen.evidence.compare import Side
    from smidgen.report.comparison_page import ComparisonStory

A_COLOR, B_COLOR = BLUE, ORANGE


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

"""The plots of a proof: every seed's curve, where the seeds end, and who stays at the target."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smidgen.evidence.wording import between, percent
from smidgen.report.accuracy_scale import accuracy_axis, drawable, percent_tick
from smidgen.report.figures import HALF, Plot, figure_of, is_narrow, tip
from smidgen.report.style import BLUE, GRAY, GREEN, INK, MUTED, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from smidgen.evidence.proof import SeedResult
    from smidgen.report.proof_story import ProofStory

_LEAST_POINTS = 0.1
"""No axis of accuracies is narrower: equal seeds are equal, not spread over the page."""


def proof_plots(story: "ProofStory") -> list[Plot]:
    """Return the plots of a proof, in the order they are shown."""
    plots = [curves_plot(story)]
    if story.proof.accuracy.n > 1:
        plots.append(ends_plot(story))
    return [*plots, staying_plot(story)] if story.proof.target else plots


def curves_plot(story: "ProofStory") -> Plot:
    """Return accuracy by epoch: every seed faint, their mean strong."""
    seen, target = story.proof.accuracy, story.proof.target
    words = f"{seen.n} seeds end between {percent(seen.minimum)} and {percent(seen.maximum)}"
    if seen.n == 1:
        words = f"One seed ends at {percent(seen.mean)}"
    means = ", ".join(percent(share) for share in story.mean_curve)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        epochs = range(1, len(story.mean_curve) + 1)
        for curve in story.curves:
            (line,) = axes.plot(epochs, drawable(curve.accuracies), color=BLUE, alpha=0.28, lw=1.1)
            tip(line, f"seed {curve.seed}: {percent(curve.accuracies[-1])} at the end")
        (line,) = axes.plot(
            epochs, drawable(story.mean_curve), color=BLUE, lw=2.6, marker="o", ms=4
        )
        tip(line, f"mean of {seen.n}: {100 * seen.mean:.3f} % at the end")
        every = [share for curve in story.curves for share in curve.accuracies]
        shown = [*every, target.target] if target else every
        accuracy_axis(axes, min(shown), max(shown))
        if target:
            target_line(axes, target.target)
        epoch_axis(axes)

    return Plot(
        name="seeds",
        title=words,
        caption=(
            f"Accuracy on {story.proof.split} after each epoch. Thin: each seed; strong: the mean. "
            "The scale stretches the top, where errors become few."
        ),
        description=f"Mean accuracy after each epoch: {means}.",
        draw=draw,
        height=360,
        narrow_height=320,
    )


def epoch_axis(axes: "Axes") -> None:
    """Make the horizontal axis one of epochs."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.grid(False, axis="x")


def target_line(axes: "Axes", target: float) -> None:
    """Draw a target across the plot, with its number at the left end."""
    axes.axhline(target, color=ORANGE, lw=1.3, dashes=(5, 3))
    axes.annotate(
        f"target {percent_tick(target)} %",
        (0.0, target),
        xycoords=("axes fraction", "data"),
        xytext=(4, 4),
        textcoords="offset points",
        color=ORANGE,
    )


def ends_plot(story: "ProofStory") -> Plot:
    """Return where the seeds end: a dot each, stacked where equal, the mean with its interval."""
    seen, target = story.proof.accuracy, story.proof.target
    words = f"The mean is {100 * seen.mean:.3f} %"
    if target is not None and seen.interval is not None:
        side = "above" if seen.interval.low > target.target else "below"
        if target.target in seen.interval:
            words += f", too close to {percent_tick(target.target)} % to call"
        else:
            words += f", {side} the target of {percent_tick(target.target)} %"
    listed = ", ".join(f"{each.seed}: {percent(each.accuracy)}" for each in story.proof.seeds)
    ends = [(each.accuracy, _end(each)) for each in story.proof.seeds]

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        tallest = dots(axes, ends, 0.0)
        if seen.interval is not None:
            low, high = 100 * seen.interval.low, 100 * seen.interval.high
            (bar,) = axes.plot([low, high], [-1.1, -1.1], color=INK, lw=3)
            tip(bar, f"{between(seen.interval)} of the mean (Student)")
        (mark,) = axes.plot([100 * seen.mean], [-1.1], "D", color=INK, ms=6)
        tip(mark, f"mean {100 * seen.mean:.3f} %")
        below = {"xytext": (0, -16), "textcoords": "offset points", "ha": "center"}
        axes.annotate("mean", (100 * seen.mean, -1.1), color=MUTED, **below)
        if target is not None:
            axes.axvline(100 * target.target, color=ORANGE, lw=1.3, dashes=(5, 3))
            axes.annotate(
                "target",
                (100 * target.target, 0.96),
                xycoords=("data", "axes fraction"),
                xytext=(5, 0),
                textcoords="offset points",
                color=ORANGE,
            )
        axes.set_ylim(-2.6, max(tallest + 2.0, 7.0))
        accuracy_below(axes)

    return Plot(
        name="ends",
        title=words,
        caption="Each dot is a seed after its last epoch; the bar is the mean's 95 % interval.",
        description=f"Accuracy by seed: {listed}.",
        draw=draw,
        width=HALF,
        height=300,
    )


def _end(result: "SeedResult") -> str:
    return f"seed {result.seed}: {percent(result.accuracy)}, {result.num_errors:,} errors"


def dots(
    axes: "Axes",
    ends: Sequence[tuple[float, str]],
    base: float,
    color: str = BLUE,
    marker: str = "o",
) -> float:
    """Draw a mark per accuracy with its text, equal ones on top of each other; return the top."""
    taken: Counter[float] = Counter()
    for accuracy, text in sorted(ends):
        place = round(accuracy, 7)
        height = base + taken[place]
        (dot,) = axes.plot([100 * accuracy], [height], marker, color=color, ms=7, alpha=0.85, mew=0)
        tip(dot, text)
        taken[place] += 1
    return base + max(taken.values()) - 1


def accuracy_below(axes: "Axes") -> None:
    """Make the horizontal axis one of accuracies in percent, and hide the other."""
    from matplotlib.ticker import MaxNLocator

    axes.set_yticks([])
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(4 if is_narrow(figure_of(axes)) else 6))
    axes.ticklabel_format(axis="x", useOffset=False)
    low, high = axes.get_xlim()
    room = max(0.0, _LEAST_POINTS - (high - low)) / 2.0
    axes.set_xlim(low - room, min(high + room, 100.0 + (high - low + 2.0 * room) / 20.0))
    axes.set_xlabel("accuracy after the last epoch (%)")


def staying_plot(story: "ProofStory") -> Plot:
    """Return the share of seeds at the target, and of those that stay there, by epoch."""
    target = story.proof.target
    assert target is not None
    goal, n = percent_tick(target.target), len(story.curves)
    last, stayed = story.staying[-1], target.stayed
    words = f"{last.count} of {n} seeds end at {goal} % or above"
    if target.stay_epochs <= len(story.staying):
        words += f", {stayed.count} have stayed there for {target.stay_epochs} epochs"
    counts = ", ".join(str(each.count) for each in story.staying)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        epochs = list(range(1, len(story.staying) + 1))
        low, high = ([100 * getattr(each.interval, end) for each in story.staying]
                     for end in ("low", "high"))  # fmt: skip
        axes.fill_between(epochs, low, high, color=GREEN, alpha=0.13, lw=0)
        at = [100 * each.share for each in story.at_target]
        axes.plot(epochs, at, color=GRAY, lw=1.5, dashes=(2, 2), label="at the target after it")
        stay = [100 * each.share for each in story.staying]
        axes.plot(epochs, stay, color=GREEN, label="at the target from there on")
        for epoch, share, each in zip(epochs, stay, story.staying, strict=True):
            (dot,) = axes.plot([epoch], [share], "o", color=GREEN, ms=5)
            tip(
                dot,
                f"from epoch {epoch} on: {each.count} of {each.total}, {between(each.interval)}",
            )
        axes.set_ylim(-3, 103)
        axes.set_ylabel("seeds (%)")
        axes.legend(loc="upper left")
        epoch_axis(axes)

    return Plot(
        name="staying",
        title=words,
        caption=(
            f"Seeds at {goal} % after an epoch, and those that never fall below it again. "
            "The band is the 95 % interval (Clopper-Pearson)."
        ),
        description=f"Seeds that stay from each epoch on: {counts} of {n}.",
        draw=draw,
        width=HALF,
        height=300,
    )

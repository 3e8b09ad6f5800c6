"""The plots of a run's answers: whether its confidence can be believed, and its hardest classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smidgen.evidence.answers import Answers, Calibration, calibration
from smidgen.evidence.statistics import wilson
from smidgen.evidence.wording import percent
from smidgen.report.figures import HALF, Plot, tip
from smidgen.report.style import BLUE, GRAY, LINE, MUTED, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_CLASSES = 24


def answer_plots(answers: Answers, class_names: Sequence[str]) -> list[Plot]:
    """Return the plots of what a run said of each image of its split."""
    return [_reliability(calibration(answers)), _classes(answers, class_names)]


def plain_log_ticks(axes: "Axes") -> None:
    """Write 0.05 and 200 on a logarithmic axis, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _reliability(found: Calibration) -> Plot:
    def draw(figure: "Figure") -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        top.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle=(0, (5, 3)))
        for each in found.bins:
            span = wilson(each.num_right, each.count)
            x = 100 * each.confidence
            top.plot([x, x], [100 * span.low, 100 * span.high], color=BLUE, alpha=0.45)
            (dot,) = top.plot([x], [100 * each.accuracy], "o", color=BLUE)
            text = f"{each.count:,} images, {percent(each.confidence)} sure on average"
            tip(dot, f"{text}\n{each.num_right:,} right: {percent(each.accuracy)}")
            width = 100 * (each.high - each.low)
            (bar,) = bottom.bar(
                100 * each.low, each.count, width * 0.9, align="edge", color=GRAY, alpha=0.7
            )
            tip(bar, text)
        bottom.set_yscale("log")
        plain_log_ticks(bottom)
        bottom.set_yticks(_powers(max(each.count for each in found.bins)))
        top.set_ylim(-2, 104)
        bottom.set_xlim(0, 102)
        top.set_ylabel("right (%)")
        bottom.set_ylabel("images")
        bottom.set_xlabel("confidence (%)")
        figure.align_ylabels()

    return Plot(
        name="calibration",
        title=f"Confidence is off by {100 * found.ece:.2f} points on average",
        caption=f"{percent(found.confidence)} sure and {percent(found.accuracy)} right on average. "
        "On the dashed line confidence is worth what it says; lines are 95 % intervals.",
        description="; ".join(
            f"{each.count} images at {100 * each.confidence:.1f} percent confidence are right in "
            f"{100 * each.accuracy:.1f} percent"
            for each in found.bins
        ),
        draw=draw,
        width=HALF,
        height=340,
        narrow_height=320,
    )


def _powers(largest: int) -> list[int]:
    return [10**power for power in range(0, len(str(largest)), 2)]


def _classes(answers: Answers, names: Sequence[str]) -> Plot:
    table = answers.confusion()
    totals, right = table.sum(axis=1), table.diagonal()
    seen = [int(place) for place in np.flatnonzero(totals)]
    shares = {place: right[place] / totals[place] for place in seen}
    chosen = sorted(sorted(seen, key=lambda place: shares[place])[:_MOST_CLASSES])
    worst = min(seen, key=lambda place: shares[place])

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for row, place in enumerate(chosen):
            span = wilson(int(right[place]), int(totals[place]))
            axes.plot([100 * span.low, 100 * span.high], [row, row], color=BLUE, alpha=0.45)
            color = ORANGE if place == worst else BLUE
            (dot,) = axes.plot([100 * shares[place]], [row], "o", color=color)
            wrong = int(totals[place] - right[place])
            tip(
                dot,
                f"{names[place]}: {wrong} of {totals[place]:,} wrong\n"
                f"{percent(shares[place])}, 95 % interval {percent(span.low)} to "
                f"{percent(span.high)}",
            )
        axes.axvline(100 * right.sum() / totals.sum(), color=LINE, linewidth=1.5)
        axes.set_yticks(range(len(chosen)), [_short(names[place]) for place in chosen])
        axes.set_ylim(len(chosen) - 0.4, -0.6)
        axes.set_xlabel("right (%)")
        axes.set_ylabel("class")

    few = f" The {len(chosen)} worst of {len(seen)} classes." if len(chosen) < len(seen) else ""
    return Plot(
        name="classes",
        title=f"“{_short(names[worst])}” is the hardest class: {percent(shares[worst])} right",
        caption=f"Lines are 95 % intervals; the upright one is the whole.{few}",
        description="; ".join(f"{names[p]}: {100 * shares[p]:.2f} percent" for p in chosen),
        draw=draw,
        width=HALF,
        height=340,
        narrow_height=320,
    )


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"

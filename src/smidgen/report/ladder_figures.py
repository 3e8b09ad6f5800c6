"""The plots of a ladder: how its steps learn, ours against the claims, size against accuracy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smidgen.evidence.statistics import t_interval
from smidgen.evidence.wording import percent
from smidgen.report.accuracy_scale import accuracy_axis, drawable
from smidgen.report.figures import HALF, Plot, figure_of, is_narrow, tip
from smidgen.report.proof_figures import epoch_axis
from smidgen.report.style import BLUE, GRAY, INK, MUTED, ORANGE, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from smidgen.report.ladder_page import ShownStep

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


def size_axis(axes: "Axes", sizes: Sequence[float], label: str = "parameters") -> None:
    """Make the horizontal axis logarithmic with round numbers as people write them."""
    low, high = min(sizes) / 1.25, max(sizes) * 1.35
    axes.set_xlim(low, high)
    steps = (1, 2, 5) if high / low < 60 else (1, 3) if high / low < 2_000 else (1,)
    if is_narrow(figure_of(axes)):
        steps = steps[: max(1, len(steps) - 1)]
    ticks = [step * 10.0**power for power in range(-3, 12) for step in steps]
    inside = [tick for tick in ticks if low <= tick <= high] or [float(size) for size in sizes[:1]]
    axes.set_xticks(inside, [short_number(tick) for tick in inside], color=MUTED)
    axes.minorticks_off()
    axes.set_xlabel(f"{label} (logarithmic)")


def short_number(number: float) -> str:
    """Return a round number in few signs: 500, 2k, 50k, 3M."""
    for size, sign in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{sign}"
    return f"{number:g}"

"""The plots of one run: its curves and rates, and what its answers are worth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smidgen.evidence.answers import Answers, Calibration, calibration
from smidgen.evidence.statistics import wilson
from smidgen.evidence.wording import percent
from smidgen.recipes.parts import SGD
from smidgen.recipes.recipe import Recipe
from smidgen.report.figures import (
    HALF,
    Plot,
    accuracy_axis,
    drawable,
    is_narrow,
    plain_log_ticks,
    tip,
)
from smidgen.report.run_view import RunView
from smidgen.report.style import BLUE, GRAY, GREEN, INK, LINE, MUTED, ORANGE, PINK
from smidgen.runs.record import EpochRecord
from smidgen.training.plan import history_of, rates, steps_per_epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_STEPS = 2_000_000
_POINTS = 400


def run_plots(view: RunView) -> list[Plot]:
    """Return the plots that a run has, in the order of its page; fewer for an unfinished one."""
    epochs = view.record.epochs
    plots = [_accuracy(view), _loss(view)] if epochs else []
    plots += _rates(view)
    if view.answers is not None:
        plots += answer_plots(view.answers, view.record.data.class_names)
    return plots


def _accuracy(view: RunView) -> Plot:
    epochs, target = view.record.epochs, view.target
    claim = view.about.claim
    told = [p / 100 for p in claim.test_log] if claim else []
    shown = [epoch.eval_accuracy for epoch in epochs]
    best = max(range(len(shown)), key=lambda place: shown[place])
    split = epochs[-1].split
    level = [] if target is None else [target]

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        x = [epoch.epoch for epoch in epochs]
        train = [epoch.train_accuracy for epoch in epochs]
        everything = [*shown, *train, *told, *level]
        if told:
            axes.plot(
                range(1, len(told) + 1), drawable(told), "--", color=GRAY, label="its source's log"
            )
        line = {"color": ORANGE, "linewidth": 1.5, "label": "training, while it learns"}
        axes.plot(x, drawable(train), **line)
        axes.plot(x, drawable(shown), color=BLUE, label=f"{split}, after the epoch")
        for epoch in epochs:
            _dot(axes, epoch.epoch, epoch.eval_accuracy, _epoch_tip(epoch))
        accuracy_axis(axes, min(everything), max(everything))
        if target is not None:
            axes.axhline(target, color=INK, linewidth=1, linestyle=(0, (5, 3)))
            _note(axes, min(x), target, f"target {100 * target:g} %", INK, (0, 4), "left")
        _marks(axes, shown, best)
        _epoch_axis(axes, [1, len(told), *x] if told else x, is_narrow(figure))
        axes.legend(loc="lower right")

    return Plot(
        name="accuracy",
        title=_accuracy_title(view, split),
        caption="The scale stretches towards 100 %: each tenfold cut in errors is as high as any "
        "other. Training accuracy is a running one, with dropout and augmentation on.",
        description=f"{split} accuracy after each epoch: "
        + ", ".join(f"{100 * share:.2f}" for share in shown)
        + " percent.",
        draw=draw,
        height=340,
        narrow_height=320,
    )


def _accuracy_title(view: RunView, split: str) -> str:
    last = view.record.epochs[-1]
    word = "ends" if view.record.result is not None else "stands"
    text = f"Accuracy on {split} {word} at {percent(last.eval_accuracy)}"
    if view.target is None:
        return text
    points = 100 * (last.eval_accuracy - view.target)
    where = "above" if points >= 0 else "below"
    return f"{text}, {abs(points):.2f} points {where} the target"


def _marks(axes: "Axes", shown: Sequence[float], best: int) -> None:
    last = len(shown) - 1
    top = drawable(shown)
    axes.plot([last + 1], [top[last]], "o", color=BLUE, markersize=8)
    if best == last:
        _note(axes, last + 1, top[last], f"last and best {percent(shown[last])}", BLUE, (-10, 7))
        return
    axes.plot([best + 1], [top[best]], "o", color=BLUE, markersize=11, fillstyle="none")
    _note(axes, best + 1, top[best], f"best {percent(shown[best])}", BLUE, (-2, 9))
    _note(axes, last + 1, top[last], f"last {percent(shown[last])}", BLUE, (2, -16))


def _note(
    axes: "Axes",
    x: float,
    y: float,
    text: str,
    color: str,
    offset: tuple[float, float],
    align: str = "right",
) -> None:
    axes.annotate(text, (x, y), xytext=offset, textcoords="offset points", color=color, ha=align)


def _dot(axes: "Axes", x: float, y: float, text: str) -> None:
    (dot,) = axes.plot([x], drawable([y]), "o", color=BLUE, markersize=4)
    tip(dot, text)


def _epoch_tip(epoch: EpochRecord) -> str:
    return (
        f"epoch {epoch.epoch}: {percent(epoch.eval_accuracy)} on {epoch.split}, "
        f"{epoch.eval_num_errors:,} errors\ntraining {percent(epoch.train_accuracy)}, "
        f"learning rate {epoch.lr_last:.3g}"
    )


def _epoch_axis(axes: "Axes", x: Sequence[float], narrow: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    most = 7 if narrow else 20
    axes.xaxis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))
    axes.set_xlim(min(x) - 0.3, max(x) + 0.3)
    axes.set_xlabel("epoch")


def _loss(view: RunView) -> Plot:
    epochs = view.record.epochs
    last, smoothing = epochs[-1], view.record.recipe.loss.label_smoothing
    floor = f" Label smoothing of {smoothing:g} keeps the training loss up." if smoothing else ""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        x = [epoch.epoch for epoch in epochs]
        for values, color, label in (
            ([epoch.train_loss for epoch in epochs], ORANGE, "training, while it learns"),
            ([epoch.eval_loss for epoch in epochs], BLUE, f"{last.split}, after the epoch"),
        ):
            axes.plot(x, np.maximum(values, 1e-6), color=color, label=label)
            for number, value in zip(x, values, strict=True):
                (dot,) = axes.plot([number], [max(value, 1e-6)], "o", color=color, markersize=3.5)
                tip(dot, f"epoch {number}: {label.split(',')[0]} loss {value:.4f}")
        axes.set_yscale("log")
        plain_log_ticks(axes)
        _epoch_axis(axes, x, is_narrow(figure))
        axes.set_ylabel("cross-entropy (nats)")
        axes.legend(loc="upper right")

    return Plot(
        name="loss",
        title=f"Loss on {last.split} comes to {last.eval_loss:.4f}",
        caption=f"Mean cross-entropy on a logarithmic scale.{floor}",
        description=f"Training loss falls from {epochs[0].train_loss:.4f} to "
        f"{last.train_loss:.4f}, {last.split} loss from {epochs[0].eval_loss:.4f} to "
        f"{last.eval_loss:.4f}.",
        draw=draw,
        width=HALF,
    )


def _rates(view: RunView) -> list[Plot]:
    record = view.record
    recipe = record.recipe
    num_steps = steps_per_epoch(recipe, record.data.num_train)
    if not 0 < num_steps * recipe.epochs <= _MOST_STEPS:
        return []
    lr, momentum = _scheduled(recipe, record.epochs, num_steps)
    x = np.arange(len(lr)) / num_steps
    step = max(1, len(lr) // _POINTS)
    keep = np.unique([*range(0, len(lr), step), int(lr.argmax()), len(lr) - 1])
    name = "momentum" if isinstance(recipe.optimizer, SGD) else "beta1"

    def draw(figure: "Figure") -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        top.plot(x[keep], lr[keep], color=GREEN)
        bottom.plot(x[keep], momentum[keep], color=PINK)
        top.set_ylabel("learning rate")
        bottom.set_ylabel(name)
        top.set_ylim(0, float(lr.max()) * 1.08)
        room = max(0.02, 0.15 * float(np.ptp(momentum)))
        bottom.set_ylim(float(momentum.min()) - room, float(momentum.max()) + room)
        bottom.set_xlabel("epochs done")
        figure.align_ylabels()

    peak = int(lr.argmax())
    title = f"The learning rate peaks at {lr[peak]:.3g} in epoch {peak // num_steps + 1}"
    if peak == 0:
        title = f"The learning rate falls from {lr[0]:.3g} to {lr[-1]:.2g}"
    if np.ptp(lr) == 0:
        title = f"The learning rate stays at {lr[0]:.3g}"
    return [
        Plot(
            name="rates",
            title=title,
            caption=f"Of every one of the {len(lr):,} steps, as the engine got them; it ends at "
            f"{lr[-1]:.2g}.",
            description=f"It begins at {lr[0]:.3g} and ends at {lr[-1]:.3g}; {name} runs from "
            f"{momentum.min():.3g} to {momentum.max():.3g}.",
            draw=draw,
            width=HALF,
        )
    ]


def _scheduled(
    recipe: Recipe, epochs: Sequence[EpochRecord], num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return learning rate and momentum of every step; the plateau rule reads what training did."""
    history = history_of(epochs)
    parts = [rates(recipe, epoch, num_steps, history) for epoch in range(1, recipe.epochs + 1)]
    return np.concatenate([p.lr for p in parts]), np.concatenate([p.momentum for p in parts])


_MOST_CLASSES = 24


def answer_plots(answers: Answers, class_names: Sequence[str]) -> list[Plot]:
    """Return the plots of what a run said of each image of its split."""
    return [_reliability(calibration(answers)), _classes(answers, class_names)]


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

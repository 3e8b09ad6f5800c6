"""What a proof shows in, its page out."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smidgen.evidence.changes import is_of_catalogue
from smidgen.evidence.limits import promised_target, void_target
from smidgen.evidence.proof import STAY_EPOCHS, Proof, errors_allowed, proof_of
from smidgen.evidence.statistics import Proportion, paired_power, pairs_needed, proportion
from smidgen.evidence.wording import between, can_stay, percent, proof_heading, proof_rows
from smidgen.recipes.recipe import Recipe
from smidgen.report.figures import (
    HALF,
    Plot,
    accuracy_axis,
    accuracy_below,
    dots,
    drawable,
    epoch_axis,
    percent_tick,
    target_line,
    tip,
)
from smidgen.report.page import Cell, Column, Table, cells, render
from smidgen.report.pictures import Pictures
from smidgen.report.style import BLUE, GRAY, GREEN, INK, MUTED, ORANGE
from smidgen.runs.record import RunRecord
from smidgen.runs.store import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from smidgen.evidence.proof import SeedResult

DIFFERENCES_POINTS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""From what nobody can see with a bearable number of seeds to what nobody can miss."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy after each epoch, a share, for one seed."""

    seed: int
    accuracies: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class HardImage:
    """An image that every seed gets wrong.

    Args:
        position: In the split, from 0.
        label: Name of the class it is labelled with.
        given: Name of the class that most seeds see in it.
        share: Of the seeds that see that, in [0, 1].
        is_label_error: Whether its label is known to be wrong.
    """

    position: int
    label: str
    given: str
    share: float
    is_label_error: bool


@dataclass(frozen=True, slots=True)
class PowerRow:
    """What it takes to see that two recipes differ.

    Args:
        points: The true difference of their mean accuracies, in percentage points.
        pairs: Seeds of each that see it four times in five; None beyond a million.
        seen: How often as many seeds as there are here would see it, in [0, 1].
    """

    points: float
    pairs: int | None
    seen: float


@dataclass(frozen=True, slots=True)
class ProofStory:
    """What the page of a proof shows.

    Args:
        proof: The statements.
        recipe: What was proved.
        curves: One per seed, by seed.
        at_target: After each epoch, the seeds at the target; empty without a target.
        staying: After each epoch, the seeds that are at the target from there to the last.
        hard: Images wrong for every seed, the surest error first.
        power: Empty for one seed, or if all seeds came to the same.
        notes: What is left out, and why, one sentence each.
    """

    proof: Proof
    recipe: Recipe
    curves: tuple[Curve, ...]
    at_target: tuple[Proportion, ...]
    staying: tuple[Proportion, ...]
    hard: tuple[HardImage, ...]
    power: tuple[PowerRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def mean_curve(self) -> tuple[float, ...]:
        """Mean over seeds of the accuracy after each epoch."""
        rows = [curve.accuracies for curve in self.curves]
        return tuple(float(mean) for mean in np.mean(rows, axis=0))


def tell_proof(
    runs: Sequence[RunFolder], target: float | None = None, stay_epochs: int = STAY_EPOCHS
) -> ProofStory:
    """Gather what the page of a proof shows.

    Args:
        runs: As for `proof_of`.
        target: A share in (0, 1]; None for what the recipe promises of this data set, if anything.
        stay_epochs: How many last epochs must be at the target to stay there.

    Raises:
        RunError: As `proof_of`.
    """
    pairs = sorted(((run.record(), run) for run in runs), key=lambda pair: pair[0].seed)
    records = [record for record, _ in pairs]
    void = void_target(records[0].recipe) if target is None and records else ""
    if target is None and records:
        target = promised_target(records[0].recipe)
    proof = proof_of([run for _, run in pairs], target, stay_epochs)
    at_target = _at_target(records, target)
    # from the end backwards: at the target here, and in every epoch after
    staying = np.logical_and.accumulate(at_target[:, ::-1], axis=1)[:, ::-1]
    return ProofStory(
        proof=proof,
        recipe=records[0].recipe,
        curves=tuple(_curve(record) for record in records),
        at_target=_counted(at_target),
        staying=_counted(staying),
        hard=_hard_images([run for _, run in pairs], proof, records[0]),
        power=power_rows(proof),
        notes=(void,) if void else (),
    )


def _curve(record: RunRecord) -> Curve:
    return Curve(record.seed, tuple(epoch.eval_accuracy for epoch in record.epochs))


def _at_target(records: Sequence[RunRecord], target: float | None) -> np.ndarray:
    """Return which seed is at the target after which epoch, bool (seeds, epochs)."""
    if target is None:
        return np.zeros((len(records), 0), bool)
    data = records[0].data
    num_images = data.num_test if records[0].epochs[0].split == "test" else data.num_valid
    errors = np.array([[epoch.eval_num_errors for epoch in record.epochs] for record in records])
    return errors <= errors_allowed(target, num_images)


def _counted(table: np.ndarray) -> tuple[Proportion, ...]:
    return tuple(proportion(int(count), len(table)) for count in table.sum(axis=0))


def _hard_images(
    runs: Sequence[RunFolder], proof: Proof, record: RunRecord
) -> tuple[HardImage, ...]:
    if proof.images is None or not proof.images.shared:
        return ()
    shared = np.array(proof.images.shared)
    names = record.data.class_names
    predictions = [run.predictions() for run in runs]
    labels = predictions[0]["labels"][shared]
    given = np.stack([each["logits"][shared].argmax(axis=1) for each in predictions])
    found = []
    for place, position in enumerate(proof.images.shared):
        votes = np.bincount(given[:, place], minlength=len(names))
        most = int(votes.argmax())
        found.append(
            HardImage(
                position=position,
                label=names[int(labels[place])],
                given=names[most],
                share=float(votes[most]) / len(runs),
                is_label_error=position in proof.images.label_errors,
            )
        )
    return tuple(sorted(found, key=lambda image: (-image.share, image.position)))


def power_rows(proof: Proof) -> tuple[PowerRow, ...]:
    """Return how many seeds see which difference, if the other recipe scatters as this one.

    Seeds of two recipes share nothing that makes them alike, so their difference scatters by
    the square root of two as much as one of them.
    """
    n, sd = proof.accuracy.n, proof.accuracy.sd
    if not sd:
        return ()
    spread = math.sqrt(2.0) * sd
    return tuple(
        PowerRow(
            points=points,
            pairs=pairs_needed(points / 100.0, spread),
            seen=paired_power(n, points / 100.0, spread),
        )
        for points in DIFFERENCES_POINTS
    )


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


def make_proof_page(
    story: ProofStory,
    pictures: Pictures,
    run_links: Mapping[str, str] | None = None,
    home: str = "",
) -> str:
    """Return the page of a proof.

    Args:
        story: What it shows.
        pictures: The images of the split, or why there are none.
        run_links: Where the page of a run is, by the run's name; others are not linked.
        home: As for `run_page`.

    Raises:
        ReportError: The extra `report` is not installed.
    """
    proof = story.proof
    sections = [("seeds", "Seeds"), ("statements", "Statements"), ("every-seed", "Every seed")]
    if proof.images is not None:
        sections.append(("hard", "Shared errors"))
    sections += [("power", "More seeds"), ("repeat", "Repeat")]
    return render(
        "proof.html",
        home=home,
        title=f"{proof.recipe}: {proof.accuracy.n} seeds",
        sections=sections,
        story=story,
        proof=proof,
        lede=lede(proof),
        notices=[*proof_heading(proof)[2:], *story.notes],
        can_stay=can_stay(proof),
        plots=proof_plots(story),
        statements=statements(proof),
        seeds=_seeds_table(proof, run_links or {}),
        pictures=pictures,
        uris={image.position: pictures.uri(image.position) for image in story.hard},
        power=_power_table(story),
        command=_command(story),
        recipe_json="" if is_of_catalogue(story.recipe) else story.recipe.to_json(),
        between=between,
        percent=percent,
    )


def lede(proof: Proof) -> str:
    """Say in a sentence or two what was proved."""
    seen = proof.accuracy
    text = (
        f"Over {seen.n} random seeds, {100 * seen.mean:.2f} % of the {proof.split} images are "
        f"right on average after the last of {proof.epochs} epochs"
    )
    text += "." if seen.interval is None else f": {between(seen.interval)}."
    if seen.n == 1:
        text = (
            f"One random seed gives {percent(seen.mean)} on {proof.split} after {proof.epochs} "
            "epochs. How far another seed would be from it, one cannot know from one."
        )
    if proof.selected is not None:
        best = percent(proof.selected.best)
        text += f" At the best epoch, *selected on the test set*, it is {best}."
    return text


def statements(proof: Proof) -> list[tuple[str, list[str]]]:
    """Return what `prove` prints, the lines of each title together."""
    found: list[tuple[str, list[str]]] = []
    for title, text in proof_rows(proof):
        if title:
            found.append((title, []))
        found[-1][1].append(text.strip())
    return found


def _seeds_table(proof: Proof, run_links: Mapping[str, str]) -> Table:
    columns = [Column("seed"), Column("accuracy"), Column("errors")]
    if proof.target is not None:
        columns.append(Column("at target from", note="First epoch at or above the target"))
    if proof.target is not None and can_stay(proof):
        note = f"Its last {proof.target.stay_epochs} epochs"
        columns.append(Column("stays", is_number=False, note=note))
    columns += [Column("seconds", note="Of training, on one core"), Column("run", is_number=False)]
    rows = []
    for each in proof.seeds:
        row = [each.seed, Cell(percent(each.accuracy), order=each.accuracy), each.num_errors]
        if proof.target is not None:
            first = each.first_epoch
            row += [Cell("never" if first is None else f"epoch {first}", order=first or 1e9)]
        if can_stay(proof):
            row += ["yes" if each.stays else "no"]
        row += [Cell(f"{each.train_seconds:.1f}", order=each.train_seconds)]
        rows.append(cells(*row, Cell(each.run, link=run_links.get(each.run, ""))))
    return Table(
        "Every seed after its last epoch", columns, rows, is_sortable=True, name="seeds-table"
    )


def _power_table(story: ProofStory) -> Table | None:
    if not story.power:
        return None
    n = story.proof.accuracy.n
    rows = [
        cells(
            f"{row.points:g} points",
            "more than a million" if row.pairs is None else row.pairs,
            Cell(_times_in_100(row.seen), order=row.seen),
        )
        for row in story.power
    ]
    columns = [
        Column("true difference"),
        Column("seeds of each needed"),
        Column(f"{n} seeds see it"),
    ]
    return Table("Seeds it takes to see a difference four times in five", columns, rows)


def _times_in_100(share: float) -> str:
    if share > 0.995:
        return "more than 99 times in 100"
    return f"{100 * share:.0f} times in 100"


def _command(story: ProofStory) -> str:
    proof = story.proof
    name = proof.recipe if is_of_catalogue(story.recipe) else "recipe.json"
    parts = ["smidgen prove", shlex.quote(name), f"--seeds {proof.seeds[-1].seed}"]
    if proof.target is not None:
        parts.append(f"--target {100 * proof.target.target:g}")
    if proof.protocol != "final":
        parts.append(f"--protocol {proof.protocol}")
    return " ".join([*parts, f"--engine {proof.engine}"])

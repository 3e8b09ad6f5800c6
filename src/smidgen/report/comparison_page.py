"""Finished runs of two recipes in, the page that shows which is better, if any, out."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smidgen.evidence.changes import changes
from smidgen.evidence.compare import Comparison, compare
from smidgen.evidence.statements import finished_result, last_epoch, wrong_images
from smidgen.evidence.wording import difference_rows, percent, side_names, verdict_line
from smidgen.report.comparison_figures import comparison_plots
from smidgen.report.page import render
from smidgen.report.pictures import Pictures
from smidgen.report.tables import Cell, Column, Table, cells
from smidgen.runs.record import ON_TEST, RunRecord
from smidgen.runs.store import RunFolder

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

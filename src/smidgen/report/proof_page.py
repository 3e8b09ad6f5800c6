"""What a proof shows in, its page out."""

import shlex
from collections.abc import Mapping

from smidgen.evidence.changes import is_of_catalogue
from smidgen.evidence.proof import Proof
from smidgen.evidence.wording import between, can_stay, percent, proof_heading, proof_rows
from smidgen.report.page import render
from smidgen.report.pictures import Pictures
from smidgen.report.proof_figures import proof_plots
from smidgen.report.proof_story import ProofStory
from smidgen.report.tables import Cell, Column, Table, cells


def make_proof_page(
    story: ProofStory, pictures: Pictures, run_links: Mapping[str, str] | None = None
) -> str:
    """Return the page of a proof.

    Args:
        story: What it shows.
        pictures: The images of the split, or why there are none.
        run_links: Where the page of a run is, by the run's name; others are not linked.

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

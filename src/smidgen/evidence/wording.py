"""Proofs, comparisons and steps in, the words in which they are told out: the same everywhere."""

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smidgen.evidence.compare import Comparison, PairedDifference
    from smidgen.evidence.ladders import Reached, ToldStep
    from smidgen.evidence.proof import AtTarget, ImageErrors, Proof, SeedFailure, Spread
    from smidgen.evidence.statistics import Interval, Proportion

CLAIM_SEEDS = 20
"""A claim is a mean over at least so many seeds."""


def percent(share: float) -> str:
    """Return a share in [0, 1] as people read it: 99.47 %."""
    return f"{100 * share:.2f} %"


def span_text(span: tuple[float, float], joint: str = "-") -> str:
    """Return a range as people read it, lowest first: 5 where both ends are equal, else 5-9."""
    low, high = (f"{end:g}" for end in sorted(span))
    return low if low == high else f"{low}{joint}{high}"


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[object]], left: Container[int], none: str = "-"
) -> str:
    """Return a table in Markdown.

    Args:
        header: Column titles.
        rows: Cells; whole numbers are written with thousands separators.
        left: The columns that are aligned to the left, counted from 0; others to the right.
        none: What stands for None.
    """
    rule = ["---" if place in left else "--:" for place in range(len(header))]
    body = [[_markdown_cell(cell, none) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(header), rule, *body])


def markdown_line(text: str) -> str:
    """Return text on one line in which neither HTML nor a cell of a table can begin."""
    return " ".join(text.split()).replace("<", "\\<").replace("|", "\\|")


def _markdown_cell(cell: object, none: str) -> str:
    if cell is None:
        return none
    return f"{cell:,}" if isinstance(cell, int) else markdown_line(str(cell))


def between(interval: "Interval") -> str:
    """Return an interval of shares as people read it, in percent and within 0 and 100."""
    low, high = max(interval.low, 0.0), min(interval.high, 1.0)
    return f"{100 * interval.confidence:g} % interval {100 * low:.2f} to {100 * high:.2f} %"


def proof_heading(proof: "Proof") -> tuple[str, ...]:
    """Say what was proved, how, and whether that is enough for a claim; two lines or three."""
    lines = (
        f"{proof.recipe}: {proof.num_params:,} parameters, {proof.num_macs:,} MACs, "
        f"{_plural(proof.epochs, 'epoch')} of {proof.dataset}",
        f"{_plural(len(proof.seeds), 'seed')}, protocol {proof.protocol}, {proof.engine} engine; "
        f"accuracy on {proof.split} after the last epoch",
    )
    if is_claim(proof):
        return lines
    return (*lines, f"No claim: that takes at least {CLAIM_SEEDS} seeds, protocol final.")


def _plural(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def is_claim(proof: "Proof") -> bool:
    """Return whether there are seeds enough, run under the protocol of claims."""
    return len(proof.seeds) >= CLAIM_SEEDS and proof.protocol == "final"


def can_stay(proof: "Proof") -> bool:
    """Return whether there is a target, and epochs enough to stay at it."""
    return proof.target is not None and proof.epochs >= proof.target.stay_epochs


def proof_rows(proof: "Proof") -> list[tuple[str, str]]:
    """Return what a proof states, each with its title; "" goes on with the title before."""
    rows = _accuracy(proof)
    if proof.target is not None:
        rows += _target(proof, proof.target)
    if proof.images is not None:
        rows += _images(proof.images)
    return [
        *rows,
        ("seconds per run", f"{_seconds(proof.train_seconds)} of training, one core"),
        ("", f"{_seconds(proof.wall_seconds)} in all, processes side by side"),
        ("machine", "; ".join(proof.processors)),
        ("software", "; ".join(proof.versions)),
    ]


def _accuracy(proof: "Proof") -> list[tuple[str, str]]:
    seen = proof.accuracy
    rows = [("mean accuracy", percent(seen.mean))]
    if seen.interval is not None:
        rows = [("mean accuracy", f"{percent(seen.mean)}, {between(seen.interval)} (Student)")]
    if seen.bootstrap is not None:
        indent = " " * len(percent(seen.mean))
        rows.append(("", f"{indent}  {between(seen.bootstrap)} (BCa bootstrap)"))
    if seen.sd is not None:
        rows.append(("standard deviation", f"{100 * seen.sd:.3f} points"))
    rows.append(
        (
            "min, median, max",
            f"{percent(seen.minimum)}, {percent(seen.median)}, {percent(seen.maximum)}",
        )
    )
    if proof.selected is not None:
        rows += [
            ("mean of last five", percent(proof.selected.mean_of_last_five)),
            ("best epoch", f"{percent(proof.selected.best)}, *selected on the test set*"),
        ]
    return rows


def _target(proof: "Proof", at: "AtTarget") -> list[tuple[str, str]]:
    rows = [(f"at {100 * at.target:g} % or above", _count(at.reached))]
    if can_stay(proof):
        rows.append((f"and stay, last {at.stay_epochs} epochs", _count(at.stayed)))
    if at.p_value is not None and is_claim(proof):
        yes = "above it" if at.p_value <= 0.05 else "not shown to be above it"
        rows.append(("mean against target", f"{yes}, one-sided p = {at.p_value:.2g}"))
    first = at.median_first_epoch
    text = "never, for half of the seeds" if first is None else f"epoch {first:g} (median)"
    rows.append(("first at target", f"{text}; never for {at.never.count} of {at.never.total}"))
    return rows


def _images(images: "ImageErrors") -> list[tuple[str, str]]:
    text = f"{len(images.shared)} of {images.num_images:,} images ({images.ever} for any)"
    rows = [
        ("on other images", f"{between(images.interval)} (bootstrap over images)"),
        ("wrong for every seed", text),
    ]
    if images.shared:
        marked = [f"{i}*" if i in images.label_errors else str(i) for i in images.shared[:30]]
        more = f", ... ({len(images.shared) - 30} more)" if len(images.shared) > 30 else ""
        rows.append(("", ", ".join(marked) + more))
    if images.known_label_errors:
        rows.append(
            (
                "",
                f"* {len(images.label_errors)} of the {images.known_label_errors} images whose "
                "label is known to be wrong",
            )
        )
    return rows


def _count(found: "Proportion") -> str:
    return f"{found.count} of {found.total} seeds, {between(found.interval)} (Clopper-Pearson)"


def failures_line(failures: "Sequence[SeedFailure]") -> str:
    """Say why seeds gave no run: each reason once, with the seeds that have it.

    Those that diverged did so in steps of their own; the first of them tells for all.
    """
    alike: dict[str, list[SeedFailure]] = {}
    for failure in failures:
        alike.setdefault("" if failure.diverged else failure.reason, []).append(failure)
    return " ".join(_failed(group) for group in alike.values())


def _failed(alike: "Sequence[SeedFailure]") -> str:
    first, seeds = alike[0], ", ".join(str(failure.seed) for failure in alike)
    if len(alike) == 1:
        return f"Seed {seeds}: {first.reason}"
    told = f" diverged, seed {first.seed} so" if first.diverged else ""
    return f"Seeds {seeds}{told}: {first.reason}"


def _seconds(seen: "Spread") -> str:
    return f"{seen.mean:.1f} s (median {seen.median:.1f})"


def verdict_line(found: "Comparison") -> str:
    """Say who is better, or what it would take to tell."""
    difference = found.difference
    if difference.verdict == "cannot tell":
        return _cannot_tell(difference)
    names = side_names(found)
    better, other = names if difference.verdict == "a is better" else names[::-1]
    text = f"{better} is better than {other} by {abs(100 * difference.mean):.3f} points."
    if found.images is not None and 0.0 in found.images:
        text += f" That holds for these images of {found.split}; on others it might not."
    return text


def _cannot_tell(difference: "PairedDifference") -> str:
    if difference.n == 1:
        return "Cannot tell from one seed: run more with `smidgen prove`."
    if difference.pairs_needed is None:
        return "Cannot tell, and no number of seeds would: there is no difference to be seen."
    return (
        f"Cannot tell, needs about {difference.pairs_needed:,} seeds if the true difference is "
        f"as large as here."
    )


def side_names(found: "Comparison") -> tuple[str, str]:
    """Return by what to call the two sides: what tells them apart."""
    a, b = found.a, found.b
    if a.recipe != b.recipe:
        return a.recipe, b.recipe
    if a.engine != b.engine:
        return f"{a.recipe} on {a.engine}", f"{b.recipe} on {b.engine}"
    return f"A ({a.recipe})", f"B ({b.recipe})"


def difference_rows(found: "Comparison") -> list[tuple[str, str]]:
    """Return what a comparison states, each with its title, as `proof_rows` does."""
    difference = found.difference
    rows = [("A - B", f"{100 * difference.mean:+.3f} points")]
    if difference.interval is not None:
        rows.append(("over seeds", f"{_points(difference.interval)} (Student)"))
    if difference.bootstrap is not None:
        rows.append(("", f"{_points(difference.bootstrap)} (BCa bootstrap)"))
    if difference.p_value is not None:
        rows.append(("", f"sign-flip test: two-sided p = {difference.p_value:.2g}"))
    if found.images is not None:
        rows.append(("over images", f"{_points(found.images)} (bootstrap, seeds averaged)"))
    if found.left_out:
        listed = ", ".join(str(seed) for seed in found.left_out)
        rows.append(("left out", f"seeds that only one has: {listed}"))
    return rows


def _points(interval: "Interval") -> str:
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * interval.confidence:g} % interval {low:+.3f} to {high:+.3f} points"


def claimed_line(step: "ToldStep") -> str:
    """Say what the source of a step claims, which must claim an accuracy."""
    claim = step.recipe.about.claim
    assert claim is not None
    text = f"claimed: {claim.best_accuracy:.2f} %"
    if claim.best_epoch is not None:
        text += f" at epoch {claim.best_epoch}"
    if step.recipe.origin.selection == "best_on_test":
        text += ", the best epoch, *selected on the test set*"
    if claim.num_params is not None and claim.num_params != step.num_params:
        text += f"; {claim.num_params:,} parameters claimed, {step.num_params:,} counted"
    return text


def reached_line(reached: "Reached") -> str:
    """Say what the runs of a step came to."""
    text = f"{percent(reached.mean)} on {reached.split} after the last epoch, n = {reached.n}"
    if reached.sd is not None:
        text += f", sd {100 * reached.sd:.3f} points"
    if reached.best is not None:
        text += f"; best epoch {percent(reached.best)}, *selected on the test set*"
    return f"{text} (protocol {reached.protocol}, {reached.engine} engine)"

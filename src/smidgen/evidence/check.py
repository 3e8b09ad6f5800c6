"""`check`: a model and its limits in, which of them are kept and by how much out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.errors import RunError
from smidgen.evidence.limits import Limits, layer_word
from smidgen.evidence.proof import Proof
from smidgen.evidence.subject import Subject


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit and how a model stands to it.

    Args:
        name: `max_params`, `max_macs`, `max_flash`, `max_ram`, `max_epochs`,
            `min_accuracy`, `stay`, `require` or
            `forbid`.
        value: What the model has: a number, a share in [0, 1], or how many such layers run.
        limit: What it may have at most, must have at least, or the kind of layer.
        kept: Whether it is kept.
        text: All of it in one line, with by how much.
    """

    name: str
    value: int | float | None
    limit: int | float | str
    kept: bool
    text: str

    def to_plain(self) -> dict[str, Any]:
        """Return the machine-readable form."""
        return {
            "name": self.name,
            "value": self.value,
            "limit": self.limit,
            "kept": self.kept,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """A model and all its limits.

    Args:
        subject: The model.
        limits: In the order of `Limits`.
        num_seeds: Over how many runs accuracies are means; None without runs.
    """

    subject: Subject
    limits: tuple[Limit, ...]
    num_seeds: int | None = None

    @property
    def kept(self) -> bool:
        """Whether every limit is kept."""
        return all(limit.kept for limit in self.limits)

    @property
    def broken(self) -> tuple[Limit, ...]:
        """The limits that are not kept."""
        return tuple(limit for limit in self.limits if not limit.kept)

    def to_plain(self) -> dict[str, Any]:
        """Return the stable machine-readable form, described in docs/grading.md."""
        return {
            "target": self.subject.name,
            "kept": self.kept,
            "limits": [limit.to_plain() for limit in self.limits],
            "num_params": self.subject.num_params,
            "num_registered": self.subject.num_registered,
            "num_macs": self.subject.num_macs,
            "num_seeds": self.num_seeds,
            "notes": list(self.subject.notes),
        }


def check(subject: Subject, limits: Limits, proof: Proof | None = None) -> Checked:
    """Hold a model against limits.

    Args:
        subject: The model.
        limits: What it must keep.
        proof: What its runs say; accuracy limits need it, the others do not.

    Raises:
        RunError: An accuracy limit and no runs, or a limit on epochs that nothing tells of.
    """
    found = [*_sizes(subject, limits), *_layers(subject, limits)]
    if limits.target_accuracy is not None:
        if proof is None:
            raise RunError(
                f"`{subject.name}` has no finished runs to measure. `--prove 20` makes some."
            )
        found += _accuracy(limits.target_accuracy, limits.stay_epochs, proof)
    return Checked(subject, tuple(found), proof.accuracy.n if proof else None)


def _sizes(subject: Subject, limits: Limits) -> Iterator[Limit]:
    if limits.max_params is not None:
        text = ""
        if subject.num_registered != subject.num_params:
            text = f" ({subject.num_registered:,} registered)"
        yield _at_most("max_params", subject.num_params, limits.max_params, f"parameters{text}")
    if limits.max_macs is not None:
        yield _at_most("max_macs", subject.num_macs, limits.max_macs, "multiply-accumulates")
    yield from _board(subject, limits)
    if limits.max_epochs is not None:
        if subject.epochs is None:
            raise RunError(
                f"Nothing says how many epochs `{subject.name}` is trained. `--like RECIPE` does."
            )
        yield _at_most("max_epochs", subject.epochs, limits.max_epochs, "epochs")


def _board(subject: Subject, limits: Limits) -> Iterator[Limit]:
    for name, given, limit, what in (
        ("max_flash", subject.flash_bytes, limits.max_flash, "flash"),
        ("max_ram", subject.ram_bytes, limits.max_ram, "RAM"),
    ):
        if limit is None:
            continue
        if given is None:
            raise RunError(
                f"Nothing says how much {what} `{subject.name}` takes: only networks that can be "
                "exported are measured."
            )
        yield _at_most(name, given, limit, f"bytes of {what} on a Cortex-M0")


def _at_most(name: str, given: int, limit: int, what: str) -> Limit:
    left = limit - given
    verdict = f"{left:,} to spare" if left >= 0 else f"{-left:,} too many"
    return Limit(name, given, limit, left >= 0, f"{given:,} {what}, limit {limit:,}: {verdict}")


def _layers(subject: Subject, limits: Limits) -> Iterator[Limit]:
    for word in limits.require:
        count = subject.count(layer_word(word))
        text = f"{_layers_said(word, count)}, at least 1 required"
        yield Limit("require", count, layer_word(word), count > 0, text)
    for word in limits.forbid:
        count = subject.count(layer_word(word))
        yield Limit(
            "forbid",
            count,
            layer_word(word),
            count == 0,
            f"{_layers_said(word, count)}, none allowed",
        )


def _layers_said(word: str, count: int) -> str:
    return f"{count or 'no'} {layer_word(word)} layer{'' if count == 1 else 's'}"


def _accuracy(target: float, stay_epochs: int | None, proof: Proof) -> Iterator[Limit]:
    n, mean = proof.accuracy.n, proof.accuracy.mean
    what = "after the last epoch" if n == 1 else "mean of the last epochs"
    over = f"n = {n}"
    if proof.accuracy.sd is not None:
        over += f", sd {100 * proof.accuracy.sd:.3f} points"
    # equal up to rounding is kept: 1 - 60 / 10000 is below 0.994 in doubles
    kept = mean >= target - 1e-9
    points = 100 * abs(mean - target)
    verdict = f"{points:.3f} points {'to spare' if kept else 'short'}"
    yield Limit(
        "min_accuracy",
        mean,
        target,
        kept,
        f"{100 * mean:.3f} % {what} on {proof.split} ({over}), limit {100 * target:g} %: {verdict}",
    )
    if stay_epochs is None or proof.target is None:
        return
    stayed = proof.target.stayed.count
    yield Limit(
        "stay",
        stayed / n,
        1.0,
        stayed == n,
        f"{stayed} of {n} seeds are at {100 * target:g} % or above in each of their last "
        f"{stay_epochs} epochs, limit all: {_missing(n - stayed)}",
    )


def _missing(count: int) -> str:
    return "none missing" if count == 0 else f"{count} missing"


def lines_of(checked: Checked) -> Sequence[str]:
    """Return a line per limit, the broken ones first."""
    ordered = sorted(checked.limits, key=lambda limit: limit.kept)
    return [f"{'kept  ' if one.kept else 'broken'}  {one.name}: {one.text}" for one in ordered]

"""A record in, a row of a table out, by plain JSON: ten times as fast as the whole record."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from smidgen.errors import RunError
from smidgen.recipes.recipe import Recipe
from smidgen.runs.first_form import first_fingerprint
from smidgen.runs.record import (
    EngineName,
    NonNegative,
    Positive,
    Protocol,
    RunKind,
    RunRecord,
    RunSpec,
    Seconds,
    Share,
    form_of,
    read_plain,
)
from smidgen.values import from_plain, value


@value(RunError)
class RunRow:
    """What a list of runs shows of one finished run, and what tells runs apart.

    Args:
        run: Name of the run's folder.
        recipe: Name of its recipe.
        fingerprint: The recipe's.
        seed: The random seed.
        protocol: `tune`, `final` or `origin`.
        engine: `torch` or `native`.
        device: A torch device.
        threads: Cores it used.
        dataset: Name of the data set.
        data_sha256: Its hash.
        num_params: By the counting rule.
        num_macs: For one image.
        epochs: Passes over the training images.
        split: Where accuracy was measured.
        accuracy: A share in [0, 1].
        num_errors: Images wrong.
        selection: `last epoch`, or `selected on the test set`.
        train_seconds: Sum over epochs of the training part.
        wall_seconds: In all.
        started: UTC, ISO 8601.
        identity: 64 hexadecimal digits.
        results_version: Of the numbers.
        lanes: Images side by side in the native engine; None where not known, and for torch.
    """

    run: str
    recipe: str
    fingerprint: str
    seed: NonNegative
    protocol: Protocol
    engine: EngineName
    device: str
    threads: Positive
    dataset: str
    data_sha256: str
    num_params: NonNegative
    num_macs: NonNegative
    epochs: Positive
    split: Literal["valid", "test"]
    accuracy: Share
    num_errors: NonNegative
    selection: Literal["last epoch", "selected on the test set"]
    train_seconds: Seconds
    wall_seconds: Seconds
    started: str
    identity: str
    results_version: Positive
    lanes: Positive | None = None

    @property
    def kind(self) -> RunKind:
        """What it has in common with runs of other seeds."""
        return RunKind(fingerprint=self.fingerprint, **_choices(self))


def read_row(folder: Path) -> RunRow:
    """Read the row of the finished run in a folder.

    Raises:
        RunError: The record is missing, damaged, says what cannot be, or has no result.
    """
    path = folder / "record.json"
    plain = read_plain(path)
    try:
        return _row(folder.name, plain)
    except (LookupError, TypeError, RunError):
        if RunRecord.read(path).result is None:  # says better what is wrong, if it is
            raise RunError(
                f"`{folder.name}` is called as a finished run, but its record has no result."
            ) from None
        raise


def _row(name: str, plain: dict[str, Any]) -> RunRow:
    used, data, result = plain["environment"], plain["data"], plain["result"]
    row = RunRow(
        run=name,
        recipe=plain["recipe"]["name"],
        fingerprint=plain["fingerprint"],
        seed=plain["seed"],
        protocol=plain["protocol"],
        engine=used["engine"],
        device=used["device"],
        threads=used["threads"],
        dataset=data["name"],
        data_sha256=data["sha256"],
        num_params=plain["num_params"],
        num_macs=plain["num_macs"],
        epochs=len(plain["epochs"]),
        split=result["split"],
        accuracy=result["accuracy"],
        num_errors=result["num_errors"],
        selection=result["selection"],
        train_seconds=plain["train_seconds"],
        wall_seconds=plain["wall_seconds"],
        started=plain["started"],
        identity=plain["identity"],
        results_version=plain["results_version"],
        lanes=used.get("lanes"),
    )
    if form_of(plain) > 1:
        return row
    recipe = _known_then(row.fingerprint, plain["recipe"])
    if recipe is None:
        return row
    spec = RunSpec(recipe, row.seed, **_choices(row))
    return replace(row, fingerprint=recipe.fingerprint(), identity=spec.identity)


_RECIPES: dict[str, Recipe | None] = {}


def _known_then(fingerprint: str, plain: dict[str, Any]) -> Recipe | None:
    """Return the recipe that had this fingerprint in the first form; None if that is not so."""
    if fingerprint not in _RECIPES:
        recipe = from_plain(Recipe, plain, RunError)
        is_it = first_fingerprint(recipe) == fingerprint
        _RECIPES[fingerprint] = recipe if is_it else None
    return _RECIPES[fingerprint]


def _choices(row: RunRow) -> dict[str, Any]:
    is_torch = row.engine == "torch"
    return {
        "protocol": row.protocol,
        "engine": row.engine,
        "data_sha256": row.data_sha256,
        "device": row.device,
        "threads": row.threads if is_torch else None,
        "lanes": None if is_torch else row.lanes,
        "results_version": row.results_version,
    }

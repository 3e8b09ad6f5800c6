"""A front in, files out: a recipe for each network of it, and a summary of the whole search.

STUDY/front/PARAMETERS-CANDIDATE.json   a recipe, ready to be proved
STUDY/summary.json                      what was asked, seen and found
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.files import storage_errors, write_atomically
from smidgen.recipes.parts import Budget
from smidgen.recipes.recipe import About, Recipe
from smidgen.search.front import FrontRow

PROOF_SEEDS = 20
_FORMAT = 1
_RANKED_BY = "mean cross-entropy on `valid` after the last epoch"


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a search has done.

    Args:
        candidates: Proposed, and not refused.
        seen: Those of which at least one run was measured on `valid`.
        failed: Those whose training diverged.
        refused: Draws that were too large, no network, or known; nothing of them was trained.
        runs: Finished.
        train_seconds: Of all runs.
    """

    candidates: int
    seen: int
    failed: int
    refused: int
    runs: int
    train_seconds: float

    def to_plain(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        names = ("candidates", "seen", "failed", "refused", "runs")
        return {f"num_{name}": getattr(self, name) for name in names} | {
            "train_seconds": self.train_seconds
        }


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search came to.

    Args:
        study: Its folder.
        front: The best networks of their size, smallest first.
        files: The recipe of each, in the same order.
        counts: How much was done.
        num_valid: Images in `valid`.
    """

    study: Path
    front: tuple[FrontRow, ...]
    files: tuple[Path, ...]
    counts: Counts
    num_valid: int

    @property
    def prove_commands(self) -> tuple[str, ...]:
        """What proves each network of the front on the test set, in the same order."""
        return tuple(
            f"smidgen prove {shlex.quote(str(file))} --seeds {PROOF_SEEDS}" for file in self.files
        )

    def to_plain(self) -> dict[str, Any]:
        """Return the stable machine-readable form, which is also `summary.json`."""
        rows = zip(self.front, self.files, self.prove_commands, strict=True)
        return {
            "format": _FORMAT,
            "study": str(self.study),
            "ranked_by": _RANKED_BY,
            "num_valid": self.num_valid,
            **self.counts.to_plain(),
            "front": [
                {**row.to_plain(), "file": str(file), "prove": command}
                for row, file, command in rows
            ],
        }


def write_result(
    study: Path,
    front: Sequence[FrontRow],
    counts: Counts,
    num_valid: int,
    asked: dict[str, Any],
) -> SearchResult:
    """Write the recipes of a front and the summary; recipes of an earlier front go.

    Raises:
        StorageError: They cannot be written.
    """
    folder = study / "front"
    files = tuple(folder / f"{row.num_params}-{row.candidate}.json" for row in front)
    for row, file in zip(front, files, strict=True):
        recipe = _told(row, counts, num_valid, asked)
        write_atomically(file, recipe.to_json().encode())
    with storage_errors(folder):
        for earlier in set(folder.glob("*-*.json")) - set(files):
            earlier.unlink(missing_ok=True)
    result = SearchResult(study, tuple(front), files, counts, num_valid)
    summary = json.dumps(result.to_plain() | {"asked": asked}, indent=2)
    write_atomically(study / "summary.json", summary.encode())
    return result


def _told(row: FrontRow, counts: Counts, num_valid: int, asked: dict[str, Any]) -> Recipe:
    """Return the recipe of a network of the front, which says how it was chosen."""
    seeds = "1 random seed" if row.seeds == 1 else f"{row.seeds} random seeds"
    macs = "" if asked["max_macs"] is None else f" and {asked['max_macs']:,} MACs"
    notes = (
        f"One of {counts.seen:,} candidates that were looked at on `valid` ({num_valid:,} images); "
        f"{counts.refused:,} more were refused by counting and never trained.",
        f"Chosen by the mean validation loss of {seeds}: {row.loss:.4f}, with an accuracy of "
        f"{100 * row.accuracy:.2f} % there. The choice flatters both; the test set was not opened.",
    )
    return row.recipe.replace(
        name=f"search/{row.num_params}-{row.candidate}",
        budget=Budget(max_params=asked["max_params"], max_epochs=asked["epochs"]),
        about=About(
            summary=f"{row.num_params:,} parameters, {asked['epochs']} epochs; found by a search.",
            source=f"smidgen search, at most {asked['max_params']:,} parameters{macs}",
            notes=notes,
        ),
    )

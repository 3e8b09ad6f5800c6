"""What a person chooses about a search, checked; and which of it a continued search must repeat."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.engines.choose import EngineChoice
from smidgen.errors import RunError
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import RESULTS_VERSION
from smidgen.search.edits import SizeLimits
from smidgen.search.settings import BASE
from smidgen.work.jobs import Place
from smidgen.work.local import Local

DEFAULT_HOURS = 2.0
DEFAULT_SEEDS = 4
_LEAST_SHARE = 2
"""Without a lower limit, networks have at least 1 / this of the parameters they may have."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What is chosen about a search.

    Args:
        study: The folder of its journal and of what it finds.
        max_params: Parameters at most.
        min_params: Parameters at least; None for half as many.
        max_macs: Multiply-accumulates for one image at most; they then count for the front, too.
        epochs: Of a full training; None for those of `base`.
        num_seeds: Random seeds of the last step: 4 means seeds 1 to 4.
        base: Whose settings are varied, and whose network is mutated if `mutates`.
        mutates: Whether networks come from mutating the one of `base` alone.
        hours: After so long no further run begins; each call of `search` has so long.
        num_candidates: No more candidates than so many; None for as many as time allows.
        engine: What does the arithmetic: `auto`, `native` or `torch`.
        workers: Runs at once, one thread each; None for as many as there are cores.
        seed: Decides what is proposed.
        place: Where the runs are made.
        lanes: As in `TrainOptions`.

    Raises:
        RunError: A number that makes no sense.
    """

    study: Path
    max_params: int
    min_params: int | None = None
    max_macs: int | None = None
    epochs: int | None = None
    num_seeds: int = DEFAULT_SEEDS
    base: Recipe = BASE
    mutates: bool = False
    hours: float = DEFAULT_HOURS
    num_candidates: int | None = None
    engine: EngineChoice = "auto"
    workers: int | None = None
    seed: int = 1
    place: Place = Local
    lanes: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_params", "max_macs", "epochs", "num_seeds", "num_candidates", "workers"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise RunError(f"`{name}` must be at least 1, not {number}.")
        if self.hours <= 0.0:
            raise RunError(f"`hours` must be above 0, not {self.hours:g}.")
        if self.min_params is not None and not 0 <= self.min_params <= self.max_params:
            raise RunError(
                f"`min_params` must be from 0 to `max_params`, which is {self.max_params:,}, "
                f"not {self.min_params:,}."
            )

    @property
    def limits(self) -> SizeLimits:
        """How large a candidate may be."""
        least = self.min_params
        if least is None:
            least = -(-self.max_params // _LEAST_SHARE)
        return SizeLimits(least, self.max_params, self.max_macs)

    @property
    def full_epochs(self) -> int:
        """Epochs of a full training."""
        return self.epochs or self.base.epochs

    def decisive(self, engine: str, data_sha256: str) -> dict[str, Any]:
        """Return, as plain data, what must be the same where a search is continued.

        Time, workers and the number of candidates may change.
        """
        limits = self.limits
        return {
            "max_params": limits.max_params,
            "min_params": limits.min_params,
            "max_macs": limits.max_macs,
            "epochs": self.full_epochs,
            "num_seeds": self.num_seeds,
            "base": self.base.fingerprint(),
            "mutates": self.mutates,
            "seed": self.seed,
            "engine": engine,
            "data_sha256": data_sha256,
            "results_version": RESULTS_VERSION,
        }

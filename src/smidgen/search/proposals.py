"""What to try next: from everything known so far, one candidate that was not tried yet.

A proposal is a function of the search's seed, its number and what is known, so a search that is
continued proposes what it would have proposed. Optuna's sampler works on a copy in memory; the
journal gets a candidate whole, in one line, or not at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from smidgen.engines.choose import EngineName, choose_engine
from smidgen.errors import EngineError, NetworkError, SearchError
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.randomness import generator, key32
from smidgen.recipes.parts import Budget, OriginProtocol
from smidgen.recipes.recipe import About, Recipe
from smidgen.search.edits import fit, mutate
from smidgen.search.family import FIRST_DESIGN, Design, sized, suggest_design
from smidgen.search.journal import import_optuna
from smidgen.search.ledger import Candidate, Ledger
from smidgen.search.settings import Suggests, shortened, suggest_settings
from smidgen.search.study import SearchOptions

if TYPE_CHECKING:
    import optuna

_STARTUP = 20
"""The first candidates are drawn evenly; Optuna's model would know nothing yet."""
_MODEL_RESULTS = 16
"""The model is made from the furthest step that so many candidates finished: the longer the
training the nearer to what counts (Falkner et al., BOHB, 2018, section 3)."""
_MOST_DRAWS = 200
_MUTATED_SHARE = 0.5
_FEWEST_PARENTS = 4
_MOST_CHANGES = 3


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate that was not written down yet.

    Args:
        recipe: What to train, with all epochs.
        num_params: By the counting rule.
        num_macs: For one image.
        params: What Optuna suggested, by name.
        distributions: From which distributions.
        parent: Whose network was mutated; None for one of the family, or the first.
        num_refused: Draws that were too large, no network, or known already.
    """

    recipe: Recipe
    num_params: int
    num_macs: int
    params: dict[str, Any]
    distributions: "dict[str, optuna.distributions.BaseDistribution]"
    parent: int | None = None
    num_refused: int = 0


@dataclass(frozen=True, slots=True)
class _Draw:
    """One network with its settings, whatever its size."""

    network: Network
    settings: Recipe
    parent: int | None


class Proposer:
    """Makes proposals.

    Args:
        options: What is searched for.
        input_shape: (channels, height, width) of the images.
        num_classes: How many labels.
        engine: What will train; what it cannot run is refused.
    """

    def __init__(
        self,
        options: SearchOptions,
        input_shape: tuple[int, int, int],
        num_classes: int,
        engine: EngineName,
    ) -> None:
        self._options = options
        self._engine: EngineName = engine
        self._input_shape, self._num_classes = input_shape, num_classes
        self._optuna = import_optuna()

    def propose(self, ledger: Ledger, trials: "Sequence[optuna.trial.FrozenTrial]") -> Proposal:
        """Return the next candidate.

        Raises:
            SearchError: Nothing that may be tried was found.
        """
        number = len(ledger.candidates)
        known = {candidate.recipe.fingerprint() for candidate in ledger.candidates}
        memory = self._memory(ledger, trials, number)
        nearest: Network | None = None
        for num_refused in range(_MOST_DRAWS):
            trial = memory.ask()
            rng_number = number * _MOST_DRAWS + num_refused
            try:
                draw = self._draw(cast(Suggests, trial), ledger, rng_number)
                recipe = self._recipe(draw, number)
            except NetworkError:
                memory.tell(trial, self._terrible)
                continue
            if self._may_be_tried(recipe, known):
                totals = trace(recipe.network).totals
                return Proposal(
                    recipe,
                    totals.num_params,
                    totals.num_macs,
                    dict(trial.params),
                    dict(trial.distributions),
                    draw.parent,
                    num_refused,
                )
            memory.tell(trial, self._terrible)
            nearest = self._nearer(nearest, recipe.network)
        raise self._nothing(nearest)

    @cached_property
    def _terrible(self) -> list[float]:
        """What the sampler is told of a refused draw, in logarithms as all it is told.

        A loss of e, worse than guessing among ten classes (ln 10), for twice what is allowed. If it
        were told nothing it would take what was never tried for promising, and draw it again.
        """
        limits = self._options.limits
        sizes = [size for size in (limits.max_params, limits.max_macs) if size is not None]
        return [1.0, *(math.log(2 * size) for size in sizes)]

    def _memory(
        self, ledger: Ledger, trials: "Sequence[optuna.trial.FrozenTrial]", number: int
    ) -> "optuna.Study":
        """Return a study in memory that knows how the candidates did."""
        optuna = self._optuna
        seed = key32(self._options.seed, "search sampler", number)
        sampler = optuna.samplers.RandomSampler(seed=seed)
        if len(ledger.ranked(0)) >= _STARTUP:
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0)
        directions = ["minimize"] * len(self._terrible)
        memory = optuna.create_study(directions=directions, sampler=sampler)
        rung = ledger.highest(_MODEL_RESULTS) or 0
        for candidate, trial in zip(ledger.candidates, trials, strict=True):
            loss = candidate.loss(ledger.rungs[rung])
            if loss is not None and trial.params:  # nothing was chosen of the first candidate
                values = [loss, *map(float, candidate.costs(ledger.with_macs))]
                memory.add_trial(
                    optuna.trial.create_trial(
                        params=trial.params,
                        distributions=trial.distributions,
                        # a gain of a tenth is as much for a small loss or size as for a large one
                        values=[math.log(max(value, 1e-9)) for value in values],
                    )
                )
        return memory

    def _draw(self, trial: Suggests, ledger: Ledger, number: int) -> _Draw:
        options, limits = self._options, self._options.limits
        rng = generator(options.seed, "search mutation", number)
        if number == 0:  # what is known to be good, as it is
            first = self._start if options.mutates else self._sized(FIRST_DESIGN)
            return _Draw(first, shortened(options.base, options.full_epochs), None)
        settings = suggest_settings(trial, options.base, options.full_epochs)
        parents = self._parents(ledger)
        is_mutant = len(parents) >= _FEWEST_PARENTS and rng.random() < _MUTATED_SHARE
        if not options.mutates and not is_mutant:
            design = suggest_design(trial, options.max_params, min(self._input_shape[1:]))
            return _Draw(self._sized(design), settings, None)
        parent = parents[rng.integers(len(parents))] if parents else None
        network = parent.recipe.network if parent else self._start
        for _ in range(int(rng.integers(_MOST_CHANGES)) + 1):
            network = mutate(network, rng, limits)
        return _Draw(network, settings, parent.number if parent else None)

    def _sized(self, design: Design) -> Network:
        return sized(design, self._options.limits, self._input_shape, self._num_classes)

    @cached_property
    def _start(self) -> Network:
        """The network that others are mutated from, brought within the limits."""
        rng = generator(self._options.seed, "search start")
        try:
            return fit(self._options.base.network, rng, self._options.limits)
        except NetworkError as error:
            raise SearchError(str(error)) from error

    def _parents(self, ledger: Ledger) -> list[Candidate]:
        """Return the better half of those that came furthest: of each step, from the last on."""
        found: dict[int, Candidate] = {}
        for number in range(len(ledger.rungs) - 1, -1, -1):
            ranked = ledger.ranked(number)
            found |= {each.number: each for each in ranked[: max(1, len(ranked) // 2)]}
            if len(found) >= 2 * _FEWEST_PARENTS:
                break
        return list(found.values())

    def _recipe(self, draw: _Draw, number: int) -> Recipe:
        name = f"search/{self._options.max_params}-{number}"
        return draw.settings.for_network(name, draw.network).replace(
            budget=Budget(max_params=self._options.max_params),
            origin=OriginProtocol(),
            about=About(),
        )

    def _may_be_tried(self, recipe: Recipe, known: set[str]) -> bool:
        if recipe.network not in self._options.limits or recipe.fingerprint() in known:
            return False
        try:
            choose_engine(recipe, self._engine, "cpu")
        except EngineError:
            return False
        return True

    def _nearer(self, nearest: Network | None, other: Network) -> Network:
        limits = self._options.limits
        if nearest is None or limits.distance(other) < limits.distance(nearest):
            return other
        return nearest

    def _nothing(self, nearest: Network | None) -> SearchError:
        limits = self._options.limits
        macs = "" if limits.max_macs is None else f" and at most {limits.max_macs:,} MACs"
        what = "mutations" if self._options.mutates else "networks of the family"
        near = ""
        if nearest is not None:
            totals = trace(nearest).totals
            near = f" The nearest has {totals.num_params:,} parameters, {totals.num_macs:,} MACs."
        return SearchError(
            f"None of {_MOST_DRAWS} {what} is new and has {limits.min_params:,} to "
            f"{limits.max_params:,} parameters{macs}.{near} Raise `--max-params` or another limit."
        )

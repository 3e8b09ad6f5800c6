"""Everything that training changes, as flat arrays for C and as named tensors for Python."""

import numpy as np

from smidgen.engines.contract import State
from smidgen.engines.native.job import aligned
from smidgen.engines.native.layout import Layout
from smidgen.errors import EngineError
from smidgen.network.network import Network
from smidgen.network.weights import Tensors, initial_weights
from smidgen.recipes.recipe import Recipe

_MOMENTS = {
    "sgd": ("momentum",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
}


class ModelState:
    """One model's weights, running statistics, moments and moving average.

    Args:
        network: The model.
        recipe: Decides which moments there are and whether there is an average.
        layout: Where each tensor stands in the flat arrays.
        seed: Decides the initial weights.
    """

    def __init__(self, network: Network, recipe: Recipe, layout: Layout, seed: int) -> None:
        self._specs = network.graph.tensors
        self._layout = layout
        self._has_average = recipe.averaging is not None
        self.weights = aligned(layout.num_weights, np.float32)
        self.statistics = aligned(layout.num_statistics, np.float32)
        self.gradient = aligned(layout.num_weights, np.float32)
        self.moments = {
            name: aligned(layout.num_weights, np.float32)
            for name in _MOMENTS[recipe.optimizer.kind]
        }
        for name, array in initial_weights(network, seed).items():
            self.tensors[name][...] = array
        self.average_weights = self.weights.copy()
        self.average_statistics = self.statistics.copy()
        self.step = 0

    @property
    def tensors(self) -> Tensors:
        """Views of weights and running statistics by name."""
        return self._views(self.weights, self.statistics)

    @property
    def average(self) -> Tensors:
        """Views of the moving average by name."""
        return self._views(self.average_weights, self.average_statistics)

    def trained(self, flat: np.ndarray) -> Tensors:
        """Return views by name of an array in the order of the weights."""
        views = self._views(flat, self.statistics)
        return {name: views[name] for name in self._layout.weights}

    def state(self) -> State:
        """Return a copy of everything, named as the engines' contract says."""
        state = {name: view.copy() for name, view in self._named().items()}
        state["step"] = np.array(self.step, dtype=np.int64)
        return state

    def load_state(self, state: State) -> None:
        """Take over a state.

        Raises:
            EngineError: Names or shapes do not fit; nothing has changed then.
        """
        views = self._named()
        expected = {name: view.shape for name, view in views.items()} | {"step": ()}
        given = {name: array.shape for name, array in state.items()}
        if expected != given:
            odd = sorted(set(expected.items()) ^ set(given.items()))[0][0]
            raise EngineError(
                f"The state does not belong to this network and recipe: `{odd}` differs."
            )
        for name, view in views.items():
            view[...] = state[name]
        self.step = int(state["step"])

    def _named(self) -> Tensors:
        named = dict(self.tensors)
        for moment, flat in self.moments.items():
            named |= {f"{moment}/{name}": view for name, view in self.trained(flat).items()}
        if self._has_average:
            named |= {f"ema/{name}": view for name, view in self.average.items()}
        return named

    def _views(self, weights: np.ndarray, statistics: np.ndarray) -> Tensors:
        views = {}
        for name, spec in self._specs.items():
            flat = weights if spec.trainable else statistics
            places = self._layout.weights if spec.trainable else self._layout.statistics
            views[name] = flat[places[name] : places[name] + spec.size].reshape(spec.shape)
        return views

"""smidgen: image classifiers with just a smidgen of parameters.

Recipe -> plan -> engine -> record -> evidence -> report -> shipped model. The names below load
when they are first used, so that importing smidgen costs nothing.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_HOMES = {
    "Network": "network.network",
    "trace": "network.trace",
    "to_torch": "network.torch_module",
    "Recipe": "recipes.recipe",
    "RECIPES": "recipes.catalogue",
    "get_recipe": "recipes.catalogue",
    "load_dataset": "data",
    "EpochPlan": "engines.plan",
    "plan": "training.planning",
    "RunRecord": "runs.record",
    "RunStore": "runs.store",
    "TrainOptions": "training.loop",
    "train": "training.loop",
    "SmidgenError": "errors",
}

__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604

try:
    __version__ = version("smidgen")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'smidgen' has no attribute {name!r}")
    return getattr(import_module(f"smidgen.{_HOMES[name]}"), name)

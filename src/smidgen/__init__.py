"""smidgen: image classifiers with just a smidgen of parameters.

Recipe -> plan -> engine -> record -> evidence -> report -> shipped model. The names below load
when they are first used, so that importing smidgen costs nothing.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from smidgen.data import load_dataset
    from smidgen.engines.contract import EpochPlan
    from smidgen.errors import SmidgenError
    from smidgen.evidence.ablation import AblateOptions, Variant, ablate
    from smidgen.evidence.compare import compare
    from smidgen.evidence.prove import ProveOptions, prove
    from smidgen.network.network import Network
    from smidgen.network.review import review
    from smidgen.network.torch_module import to_torch
    from smidgen.network.trace import trace
    from smidgen.reading.from_torch import from_torch
    from smidgen.recipes.catalogue import RECIPES, get_recipe
    from smidgen.recipes.recipe import Recipe
    from smidgen.runs.record import RunRecord
    from smidgen.runs.store import RunStore
    from smidgen.ship.artifacts import export
    from smidgen.training.plan import plan
    from smidgen.training.run import TrainOptions, train

_HOMES = {
    "Network": "network.network",
    "trace": "network.trace",
    "to_torch": "network.torch_module",
    "from_torch": "reading.from_torch",
    "review": "network.review",
    "Recipe": "recipes.recipe",
    "RECIPES": "recipes.catalogue",
    "get_recipe": "recipes.catalogue",
    "load_dataset": "data",
    "EpochPlan": "engines.contract",
    "plan": "training.plan",
    "RunRecord": "runs.record",
    "RunStore": "runs.store",
    "TrainOptions": "training.run",
    "train": "training.run",
    "ProveOptions": "evidence.prove",
    "prove": "evidence.prove",
    "compare": "evidence.compare",
    "Variant": "evidence.ablation",
    "AblateOptions": "evidence.ablation",
    "ablate": "evidence.ablation",
    "export": "ship.artifacts",
    "SmidgenError": "errors",
}

__all__ = [  # noqa: RUF022 - in the order of the pipeline
    "Network",
    "trace",
    "to_torch",
    "from_torch",
    "review",
    "Recipe",
    "RECIPES",
    "get_recipe",
    "load_dataset",
    "EpochPlan",
    "plan",
    "RunRecord",
    "RunStore",
    "TrainOptions",
    "train",
    "ProveOptions",
    "prove",
    "compare",
    "Variant",
    "AblateOptions",
    "ablate",
    "export",
    "SmidgenError",
    "__version__",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'smidgen' has no attribute {name!r}")
    if name in ("to_torch", "from_torch"):
        from smidgen.extras import require

        require(f"`smidgen.{name}` needs", "torch")
    return getattr(import_module(f"smidgen.{_HOMES[name]}"), name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("smidgen")
    except PackageNotFoundError:  # a source tree that was never installed
        return "unknown"


if "IPython" in sys.modules:  # values then show as drawings and tables in notebooks
    _shell = sys.modules["IPython"].get_ipython()
    if _shell is not None:
        import_module("smidgen.report.jupyter").register(_shell)

"""Stand-ins for packages that course files import at their top and no model is made of.

A file that begins with `from torchvision import datasets` holds a model all the same. Where
such a package is missing, a stand-in takes its place, and whoever calls something of it hears
what is missing.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGES = (
    "albumentations",
    "cv2",
    "matplotlib",
    "pandas",
    "PIL",
    "seaborn",
    "sklearn",
    "tensorboard",
    "torchinfo",
    "torchsummary",
    "torchvision",
    "torchviz",
    "tqdm",
    "wandb",
)


class StandIn(ModuleType):
    """Anything of a missing package: it has every attribute and can do nothing."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> "StandIn":
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self.__name__}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse."""
        package = self.__name__.split(".")[0]
        raise ImportError(f"`{self.__name__}` is used, and `{package}` is not installed here")

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return self()


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.split(".")[0] in PACKAGES:
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: there is nothing in it."""


def install() -> None:
    """Let missing packages of the list be imported in this process."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        sys.meta_path.append(_Finder())  # asked last, so what is installed is found first

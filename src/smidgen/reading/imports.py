"""What the imports of somebody's file find: packages that are here, its own, and stand-ins.

A file that begins with `from torchvision import datasets` holds a model all the same. Where a
package is missing, a stand-in takes its place; whoever needs something of it hears what is missing.
"""

import importlib.machinery
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

_MOST_LEVELS = 3
"""So many folders above the file's own may hold the package that it imports from."""


class StandIn(ModuleType):
    """Anything of a missing package: it has every attribute and can do nothing.

    While a whole file runs its calls give stand-ins, too, so that `transforms.Compose([...])` at
    the top does not end it; a model that needs one hears what is missing.
    """

    gives_more = False

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> "StandIn":
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self.__name__}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse, or give another stand-in."""
        if StandIn.gives_more:
            return StandIn(f"{self.__name__}()")
        package = self.__name__.split(".")[0]
        raise ImportError(f"`{self.__name__}` is used, and `{package}` is not installed here")

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        package = self.__name__.split(".")[0]
        raise ImportError(f"`{self.__name__}` is a base, and `{package}` is not installed here")


class _Finder(MetaPathFinder, Loader):
    """Finds what nobody else found, for the submission's own files only."""

    def __init__(
        self, folder: Path, root: Path | None, guarded: frozenset[tuple[str, int]]
    ) -> None:
        self.own, self.guarded = [folder], guarded
        self.above = list(_folders_above(folder, root))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        frame = _importing_frame()
        if frame is None or not self.is_own(Path(frame.f_code.co_filename)):
            return None
        for folder in self.above if path is None else ():
            spec = importlib.machinery.PathFinder.find_spec(fullname, [str(folder)])
            if spec is not None and (spec.origin or _holds_python(folder / fullname)):
                sys.path.append(str(folder))
                self.own.append(folder)
                return spec
        if (frame.f_code.co_filename, frame.f_lineno) in self.guarded:
            return None
        parent = sys.modules.get(fullname.rpartition(".")[0])
        if path is not None and not isinstance(parent, StandIn):
            return None  # a package that is here lacks this part
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: there is nothing in it."""

    def is_own(self, file: Path) -> bool:
        return "site-packages" not in file.parts and any(map(file.is_relative_to, self.own))


def install_imports(
    folder: Path, root: Path | None = None, guarded: frozenset[tuple[str, int]] = frozenset()
) -> None:
    """Let the files below a folder import from above it, up to a root, and what is missing.

    Args:
        folder: Where the file stands.
        root: The highest folder to look in; without one three levels, not the home or beyond.
        guarded: Files and lines of imports that the file itself handles where they fail.
    """
    sys.meta_path.append(
        _Finder(folder, root, guarded)
    )  # asked last, so what is installed is found first


def _folders_above(folder: Path, root: Path | None) -> Iterator[Path]:
    if root is not None:
        yield from (above for above in folder.parents if above.is_relative_to(root))
        return
    outside = {Path.home(), *Path.home().parents, Path(tempfile.gettempdir())}
    for above in folder.parents[:_MOST_LEVELS]:
        if above in outside or (folder / ".git").exists():
            return
        yield above
        if (above / ".git").exists():
            return


def _holds_python(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob("*.py"), None) is not None


def _importing_frame() -> FrameType | None:
    """Return the frame whose import statement is being answered."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file != __file__ and not file.startswith("<frozen importlib"):
            return frame
        frame = frame.f_back
    return None

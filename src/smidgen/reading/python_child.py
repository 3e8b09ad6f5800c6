"""The child process that runs somebody's file: limits first, then the file, then the reading.

It writes `result.json` and `weights.safetensors` into the folder of the request and leaves at
once, whatever threads or exit handlers the file has started. A file that begins with
`from torchvision import datasets` holds a model all the same: where such a package is missing, a
stand-in takes its place, and whoever calls something of it hears what is missing.
"""

import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from smidgen.errors import NetworkError, nearest
from smidgen.reading.python_file import Target, parse_target

if TYPE_CHECKING:
    from torch import nn

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


def install_stand_ins() -> None:
    """Let missing packages of the list be imported in this process."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        sys.meta_path.append(_Finder())  # asked last, so what is installed is found first


_MODULE_NAME = "model_file"


def main() -> None:
    """Answer the request that is the only argument."""
    request = json.loads(sys.argv[1])
    folder = Path(request["folder"])
    _limit(request["seconds"], request["memory_bytes"])
    target = parse_target(request["target"])
    result: dict[str, Any] = {"error": "", "name": "", "network": None, "watched": None}
    result["notes"] = []
    try:
        _read(target, request, folder, result)
    except BaseException as problem:
        result["error"] = _explained(problem, target, request)
    temporary = folder / "result.partial"
    temporary.write_text(json.dumps(result))
    os.replace(temporary, folder / "result.json")
    os._exit(0)


def _read(target: Target, request: dict[str, Any], folder: Path, result: dict[str, Any]) -> None:
    # all that torch needs comes before the file, beside which another `random.py` may stand
    from safetensors.numpy import save_file

    from smidgen.reading.from_torch import from_torch
    from smidgen.reading.watching import watch

    module, result["name"] = make_module(target)
    shape = tuple(request["input_shape"])
    try:
        imported = from_torch(module, shape)
    except NetworkError as obstacle:
        result["watched"] = watch(module, shape, str(obstacle)).to_plain()
        return
    result["network"] = imported.network.to_json(indent=None)
    result["notes"] = list(imported.notes)
    save_file(imported.weights, folder / "weights.safetensors")


def make_module(target: Target) -> "tuple[nn.Module, str]":
    """Run the file and build the model; also return the name it was found under.

    Raises:
        NetworkError: The file fails, has no such name, or what it gives is no module.
    """
    file = _run_file(target)
    import torch
    from torch import nn

    name = target.name or _only_class(file, target)
    if not hasattr(file, name):
        known = _classes(file) or [key for key in vars(file) if not key.startswith("_")]
        near = nearest(name, known)
        advice = f"Did you mean `{near}`?" if near else f"It has {_listed(known)}."
        raise NetworkError(f"`{target.path.name}` has no `{name}`. {advice}")
    made = getattr(file, name)
    if callable(made) and not isinstance(made, nn.Module):
        torch.manual_seed(1)  # the same file gives the same weights
        try:
            made = made(*target.args, **target.kwargs)
        except Exception as problem:
            advice = f" Give arguments as `{target.path.name}:{name}(8)`."
            raise NetworkError(
                f"`{name}({_arguments(target)})` fails: {_said(problem, target)}."
                f"{advice if isinstance(problem, TypeError) else ''}"
            ) from problem
    if not isinstance(made, nn.Module):
        raise NetworkError(f"`{name}` gives a `{type(made).__name__}`, not a `torch.nn.Module`.")
    return made, name


def _run_file(target: Target) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_MODULE_NAME, target.path.absolute())
    assert spec is not None
    assert spec.loader is not None
    file = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE_NAME] = file
    sys.path.insert(0, str(target.path.absolute().parent))
    sys.argv = [str(target.path)]
    install_stand_ins()
    try:
        spec.loader.exec_module(file)
    except SyntaxError as problem:
        line = f" (line {problem.lineno})" if problem.lineno else ""  # none for a null byte
        raise NetworkError(
            f"`{target.path.name}` is no valid Python: {problem.msg}{line}."
        ) from problem
    except Exception as problem:
        raise NetworkError(
            f"`{target.path.name}` fails when it is run: {_said(problem, target)}."
        ) from problem
    return file


def _only_class(file: ModuleType, target: Target) -> str:
    classes = _classes(file)
    if len(classes) == 1:
        return classes[0]
    what = f"{len(classes)} models: {_listed(classes)}" if classes else "no model class"
    advice = f" Say which: `{target.path.name}:{classes[-1]}`." if classes else ""
    raise NetworkError(f"`{target.path.name}` defines {what}.{advice}")


def _classes(file: ModuleType) -> list[str]:
    from torch import nn

    return [
        name
        for name, thing in vars(file).items()
        if inspect.isclass(thing)
        and issubclass(thing, nn.Module)
        and thing.__module__ == file.__name__
    ]


def _limit(seconds: float, memory_bytes: int) -> None:
    if os.name != "posix":
        return
    import resource

    wanted = {
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_CPU: int(seconds) + 1,
        resource.RLIMIT_FSIZE: 2**30,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in wanted.items():
        _, hard = resource.getrlimit(kind)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


def _explained(problem: BaseException, target: Target, request: dict[str, Any]) -> str:
    cause = problem.__cause__ or problem
    if isinstance(cause, MemoryError) or "can't allocate memory" in str(cause):
        return (
            f"`{target.shown}` needs more than {request['memory_bytes'] / 2**30:g} GiB of memory. "
            "Raise `--memory-limit` if that is meant."
        )
    if isinstance(problem, NetworkError):
        return str(problem)
    if isinstance(problem, SystemExit):
        return (
            f"`{target.shown}` ends Python itself (`sys.exit`){_line(problem, target)}. "
            'Put what trains or measures below `if __name__ == "__main__":`.'
        )
    return f"`{target.shown}` fails: {_said(problem, target)}."


def _said(problem: BaseException, target: Target) -> str:
    text = (str(problem).strip().splitlines() or [""])[0].rstrip(".")
    said = f"{type(problem).__name__}: {text}" if text else type(problem).__name__
    return said + _line(problem, target)


def _line(problem: BaseException, target: Target) -> str:
    """Return the innermost line of the file itself that led to an error, as ` (line 12)`."""
    frames = traceback.extract_tb(problem.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == target.path.absolute()]
    return f" (line {lines[-1]})" if lines else ""


def _arguments(target: Target) -> str:
    given = [repr(item) for item in target.args]
    return ", ".join([*given, *(f"{name}={item!r}" for name, item in target.kwargs.items())])


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:8])
    return f"{shown}, ..." if len(names) > 8 else shown or "nothing"


if __name__ == "__main__":
    main()

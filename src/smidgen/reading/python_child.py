"""The child process that reads somebody's file: limits first, then definitions, then the reading.

It writes `result.json` and `weights.safetensors` into the folder of the request and leaves at
once, whatever threads or exit handlers the file has started. The model is made from the file's
definitions alone; the whole file runs only where these lack something, and the answer says so.
"""

import ast
import inspect
import json
import os
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from smidgen.errors import NetworkError, nearest
from smidgen.reading.definitions import Definitions, PrintedTotal, Program, read_program
from smidgen.reading.imports import StandIn, install_imports
from smidgen.reading.python_file import Target, parse_target

if TYPE_CHECKING:
    from torch import nn

_MODULE_NAME = "model_file"
_LACKING = (NameError, ImportError, AttributeError, KeyError)
"""What definitions alone may fail with where the whole file would not."""


def main() -> None:
    """Answer the request that is the only argument."""
    request = json.loads(sys.argv[1])
    folder = Path(request["folder"])
    _limit(request["seconds"], request["memory_bytes"])
    target = parse_target(request["target"])
    result: dict[str, Any] = {"error": "", "name": "", "network": None, "watched": None}
    result |= {"notes": [], "printed": []}
    try:
        _answer(target, request, folder, result)
    except BaseException as problem:
        result["error"] = _explained(problem, target, request)
    temporary = folder / "result.partial"
    temporary.write_text(json.dumps(result))
    os.replace(temporary, folder / "result.json")
    os._exit(0)


def _answer(target: Target, request: dict[str, Any], folder: Path, result: dict[str, Any]) -> None:
    # all that torch needs comes before the file, beside which another `random.py` may stand
    import safetensors.numpy  # noqa: F401

    import smidgen.reading.from_torch
    import smidgen.reading.watching  # noqa: F401

    program = read_program(target.path)
    root = request.get("root")
    prepare_imports(program, None if root is None else Path(root))
    try:
        _read(target, make_module(target, program), request, folder, result)
        return
    except NetworkError as problem:
        lacking = problem.__cause__
        if not isinstance(lacking, _LACKING) or not program.drops_something:
            raise
        first = problem
    try:
        _read(target, make_module(target, program, whole=True), request, folder, result)
    except (NetworkError, SystemExit) as problem:
        again = _explained(problem, target, request)
        told = str(first) if again == str(first) else f"{first} The whole file fails, too: {again}"
        raise NetworkError(told) from problem
    result["notes"].append(
        f"The whole file was run: its definitions alone fail with {_said(lacking, target)}."
    )


def _read(
    target: Target, made: "Made", request: dict[str, Any], folder: Path, result: dict[str, Any]
) -> None:
    from safetensors.numpy import save_file

    from smidgen.reading.from_torch import from_torch
    from smidgen.reading.watching import watch

    result["name"], result["notes"] = made.name, _notes_on(made, target)
    result["printed"] = [asdict(total) for total in made.printed]
    shape = tuple(request["input_shape"])
    try:
        imported = from_torch(made.module, shape)
    except NetworkError as obstacle:
        result["watched"] = watch(made.module, shape, str(obstacle)).to_plain()
        return
    result["network"] = imported.network.to_json(indent=None)
    result["notes"] += imported.notes
    save_file(imported.weights, folder / "weights.safetensors")


@dataclass(frozen=True, slots=True)
class Made:
    """A module, the name it was found under, and which of so many definitions of that name it is.

    `printed` are the totals that a notebook printed while that definition was the current one.
    """

    module: "nn.Module"
    name: str
    number: int
    of: int
    printed: tuple[PrintedTotal, ...] = ()


def make_module(target: Target, program: Program | None = None, whole: bool = False) -> Made:
    """Build the model from a file's definitions, or by running the whole file.

    Without a program the file is read, and its imports find what stands around it.

    Raises:
        NetworkError: The file fails, has no such name, or what it gives is no module.
    """
    import torch
    from torch import nn

    if program is None:
        program = read_program(target.path)
        prepare_imports(program)
    complete = program
    if target.number:
        program = program.up_to(target.name, target.number)
    torch.manual_seed(1)  # the same file gives the same weights
    file = _run_whole(program, target) if whole else _defined(program)
    name = target.name or _only_class(file, program, target)
    made = _found(file, name, target)
    if callable(made) and not isinstance(made, nn.Module):
        torch.manual_seed(1)
        made = _called(made, name, target)
    if not isinstance(made, nn.Module):
        raise NetworkError(f"`{name}` gives a `{type(made).__name__}`, not a `torch.nn.Module`.")
    number = program.num_definitions(name)
    printed = complete.totals_of(name, number)
    return Made(made, name, number, complete.num_definitions(name), printed)


def _notes_on(made: Made, target: Target) -> list[str]:
    if made.of < 2:
        return []
    which = "the last" if made.number == made.of else f"number {made.number}"
    first = f"{target.path.name}:{made.name}@1"
    return [f"`{made.name}` is defined {made.of} times; this is {which} (`{first}` is the first)."]


def prepare_imports(program: Program, root: Path | None = None) -> None:
    """Let a file's imports find what stands beside and above it, and stand-ins for the missing."""
    folder = program.path.absolute().parent
    climbs = (getattr(statement.node, "level", 0) for statement in program.statements)
    package = folder
    for _ in range(max(climbs, default=0)):
        package = package.parent
    sys.path[:0] = list(dict.fromkeys([str(folder), str(package)]))
    sys.argv = [str(program.path)]
    install_imports(folder, root, program.guarded_imports())


def _package(program: Program) -> str:
    """Return the package that a file is in, as far as its relative imports climb; else ""."""
    climbs = max((getattr(s.node, "level", 0) for s in program.statements), default=0)
    parts = program.path.absolute().parent.parts
    return ".".join(parts[len(parts) - climbs :]) if climbs else ""


def _defined(program: Program) -> ModuleType:
    """Run a file's definitions; what else they need is made when the module is asked for it."""
    made = Definitions(program, _MODULE_NAME, _package(program))

    def missing(name: str) -> Any:
        try:
            return made[name]
        except KeyError:
            raise AttributeError(name) from None

    file = ModuleType(_MODULE_NAME)
    file.__getattr__ = missing
    sys.modules[_MODULE_NAME] = file
    StandIn.gives_more = False
    made.run()
    vars(file).update(made)
    return file


def _run_whole(program: Program, target: Target) -> ModuleType:
    file = ModuleType(_MODULE_NAME)
    file.__file__ = str(program.path.absolute())
    file.__package__ = _package(program) or None
    sys.modules[_MODULE_NAME] = file
    StandIn.gives_more = True
    try:
        for statement in program.statements:
            tree = ast.Module([statement.node], [])
            exec(compile(tree, program.chunks[statement.chunk].file, "exec"), vars(file))
    except Exception as problem:
        raise NetworkError(
            f"`{target.path.name}` fails when it is run: {_said(problem, target)}."
        ) from problem
    finally:
        StandIn.gives_more = False
    return file


def _found(file: ModuleType, name: str, target: Target) -> Any:
    try:
        return getattr(file, name)
    except AttributeError as problem:
        if problem.args != (name,) and name in _names(file):
            raise NetworkError(f"`{name}` fails: {_said(problem, target)}.") from problem
    except Exception as problem:
        raise NetworkError(f"`{name}` fails: {_said(problem, target)}.") from problem
    known = _classes(file) or _names(file)
    near = nearest(name, known)
    advice = f"Did you mean `{near}`?" if near else f"It has {_listed(known)}."
    raise NetworkError(f"`{target.path.name}` has no `{name}`. {advice}")


def _called(made: Any, name: str, target: Target) -> Any:
    try:
        return made(*target.args, **target.kwargs)
    except Exception as problem:
        said = f"`{name}({_arguments(target)})` fails: {_said(problem, target)}."
        wanted = _wanted(made, name, target) if isinstance(problem, TypeError) else ""
        raise NetworkError(wanted or said) from problem


def _wanted(made: Any, name: str, target: Target) -> str:
    """Say what arguments a class or function wants that it was not given; "" where it has all."""
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(*target.args, **target.kwargs)
        return ""
    except TypeError as problem:
        reason = str(problem)
    lacking = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in target.kwargs
    ][len(target.args) :]
    if not reason.startswith("missing") or not lacking:
        return f"`{name}({_arguments(target)})` fails: {reason}. It takes `{signature}`."
    examples = {parameter.name: _example(made, parameter) for parameter in lacking}
    words = [f"`{each}` ({kind})" for each, (kind, _) in examples.items()]
    call = ", ".join(
        [_arguments(target)] * bool(target.args or target.kwargs)
        + [f"{each}={value!r}" for each, (_, value) in examples.items()]
    )
    return (
        f"`{name}({_arguments(target)})` lacks {' and '.join(words)}. "
        f"Give them as `{target.path.name}:{name}({call})`."
    )


def _example(made: Any, parameter: inspect.Parameter) -> tuple[str, Any]:
    """Return what kind of thing a parameter is and one that fits, as far as the code tells."""
    kinds = {int: ("a number", 8), float: ("a number", 0.1), bool: ("True or False", True)}
    if parameter.annotation in kinds:
        return kinds[parameter.annotation]
    if (text := _compared(made, parameter.name)) is not None:
        return "a text", text
    name = parameter.name.lower()
    if parameter.annotation is str:
        return "a text", "bn" if "norm" in name else "relu"
    if name.startswith(("use_", "is_", "with_", "has_")):
        return "True or False", True
    if "norm" in name:
        return "a text", "bn"
    if any(word in name for word in ("drop", "rate", "prob")):
        return "a number", 0.1
    usual = {"num_classes": 10, "n_classes": 10, "in_channels": 1, "input_channels": 1}
    return "a number", usual.get(name, 8)


def _compared(made: Any, name: str) -> str | None:
    """Return a text that the code compares a parameter with, if any."""
    program = read_program(Path(sys.argv[0]))
    own = getattr(made, "__name__", "")
    for statement in program.statements:
        if getattr(statement.node, "name", None) != own:
            continue
        for node in ast.walk(statement.node):
            if isinstance(node, ast.Compare) and ast.unparse(node.left).split(".")[-1] == name:
                texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
                return next((text for text in texts if isinstance(text, str)), None)
    return None


def _only_class(file: ModuleType, program: Program, target: Target) -> str:
    classes = _classes(file)
    if len(classes) == 1:
        return classes[0]
    if not classes and _imports_keras(program):
        raise NetworkError(
            f"`{target.path.name}` holds a Keras model; smidgen reads PyTorch modules from files."
        )
    what = f"{len(classes)} models: {_listed(classes)}" if classes else "no model class"
    advice = f" Say which: `{target.path.name}:{classes[-1]}`." if classes else ""
    raise NetworkError(f"`{target.path.name}` defines {what}.{advice}")


def _imports_keras(program: Program) -> bool:
    names = {
        name.split(".")[0]
        for statement in program.statements
        for node in ast.walk(statement.node)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    return bool(names & {"keras", "tensorflow"})


def _classes(file: ModuleType) -> list[str]:
    from torch import nn

    return [
        name
        for name, thing in vars(file).items()
        if inspect.isclass(thing)
        and issubclass(thing, nn.Module)
        and thing.__module__ == file.__name__
    ]


def _names(file: ModuleType) -> list[str]:
    return [key for key in vars(file) if not key.startswith("_")]


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
    own = str(target.path.absolute())
    frames = traceback.extract_tb(problem.__traceback__)
    places = [(f.filename.partition("#cell"), f.lineno) for f in frames]
    found = [(cell, line) for (file, _, cell), line in places if file == own]
    if not found:
        return ""
    cell, line = found[-1]
    return f" (cell {cell}, line {line})" if cell else f" (line {line})"


def _arguments(target: Target) -> str:
    given = [repr(item) for item in target.args]
    return ", ".join([*given, *(f"{name}={item!r}" for name, item in target.kwargs.items())])


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:8])
    return f"{shown}, ..." if len(names) > 8 else shown or "nothing"


if __name__ == "__main__":
    main()

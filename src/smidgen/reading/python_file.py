"""Models in other people's Python files and notebooks, read in a child process with limits.

Reading a model means running its definitions, and the whole file where these lack something. The
child has a time limit and a memory limit, and gives back JSON and plain arrays; whatever the file
does, from `sys.exit()` to a crash, becomes one line. It is no sandbox: the code runs with the
rights of whoever starts it.
"""

import ast
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.errors import NetworkError
from smidgen.extras import require
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.places import split_target
from smidgen.reading.definitions import PrintedTotal
from smidgen.reading.watched import Watched

LARGEST_RESULT_BYTES = 256 * 2**20
_HINT = 'Put what trains or measures below `if __name__ == "__main__":`.'


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may use, torch's own needs included (about 3 s and 0.3 GiB)."""

    seconds: float = 60.0
    memory_bytes: int = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Target:
    """`path/to/file.py:Name@2(1, width=8)` taken apart; `name` is "" where none is given.

    `number` says which of several definitions of the name is meant, from 1; 0 is the last.
    """

    path: Path
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    number: int = 0

    @property
    def shown(self) -> str:
        """The file and the name, as in messages."""
        which = f"@{self.number}" if self.number else ""
        return f"{self.path.name}:{self.name}{which}" if self.name else self.path.name


@dataclass(frozen=True, slots=True)
class FileModel:
    """A model from a file.

    Args:
        name: The class or function that made it.
        network: The value, or None where the module cannot be turned into one.
        weights: Its numbers by the network's names; empty without a network.
        weights_sha256: Over names, shapes and bytes of the weights; "" without a network.
        watched: What watching it run says, where there is no network.
        notes: What a person should know about the reading.
        source: The file's bytes.
        source_sha256: Over the file's bytes.
        printed: Totals that a notebook itself printed of this model, by its own word.
    """

    name: str
    network: Network | None
    weights: dict[str, np.ndarray]
    weights_sha256: str
    watched: Watched | None
    notes: tuple[str, ...]
    source: bytes
    source_sha256: str
    printed: tuple[PrintedTotal, ...] = ()


def parse_target(text: str) -> Target:
    """Take a target apart.

    Raises:
        NetworkError: It is not `file.py`, `file.py:Name` or `file.py:Name(literals)`.
    """
    file, call = split_target(text)
    path = Path(file)
    if file == text:
        return Target(path, "", (), {})
    which = re.match(r"\s*([A-Za-z_]\w*)@([1-9]\d*)(.*)\Z", call, re.DOTALL)
    number = int(which[2]) if which else 0
    try:
        expression = ast.parse(which[1] + which[3] if which else call, mode="eval").body
        if isinstance(expression, ast.Name):
            return Target(path, expression.id, (), {}, number)
        if not isinstance(expression, ast.Call) or not isinstance(expression.func, ast.Name):
            raise ValueError
        if any(keyword.arg is None for keyword in expression.keywords):  # **{...}
            raise ValueError
        args = tuple(ast.literal_eval(item) for item in expression.args)
        kwargs = {str(k.arg): ast.literal_eval(k.value) for k in expression.keywords}
    except (SyntaxError, ValueError, TypeError):
        raise NetworkError(
            f"`{call}` is not a class name with literal arguments, as `Net` or `Net(8, rate=0.1)`."
        ) from None
    return Target(path, expression.func.id, args, kwargs, number)


def read_python_file(
    text: str,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    limits: Limits | None = None,
    root: Path | None = None,
) -> FileModel:
    """Run a file in a child process and read a model out of it.

    Args:
        text: `path/to/file.py:ClassName[(literal arguments)]`; a function that returns a module
            and a module at the top of the file will do, and the name may be left out where
            there is one class only.
        input_shape: (channels, height, width) of the images.
        limits: What the file may use.
        root: The highest folder in which its imports look for the submission's own packages; by
            default three above the file's.

    Raises:
        NetworkError: The file cannot be read, run, or does not give a working module.
        MissingPackageError: PyTorch is not installed.
    """
    limits = limits or Limits()
    target = parse_target(text)
    try:
        content = target.path.read_bytes()
    except OSError as problem:
        raise NetworkError(f"Cannot read `{target.path}`: {problem.strerror}.") from problem
    require(f"Reading `{target.shown}` needs", "torch")
    with tempfile.TemporaryDirectory(prefix="smidgen-") as folder:
        request = {
            "target": text,
            "input_shape": list(input_shape),
            "seconds": limits.seconds,
            "memory_bytes": limits.memory_bytes,
            "folder": folder,
            "root": None if root is None else str(root.absolute()),
        }
        code = _run_child(request, target, limits)
        try:
            return _model(Path(folder), target, limits, code, content)
        except NetworkError:
            raise
        except Exception as problem:  # the file can write into the answer, or in its place
            raise NetworkError(
                f"What was read of `{target.shown}` cannot be used ({type(problem).__name__}). "
                "Does the file tamper with the process that reads it?"
            ) from problem


def weights_sha256(weights: Mapping[str, np.ndarray]) -> str:
    """Return 64 hexadecimal digits over the names, shapes and little-endian bytes, in order."""
    digest = hashlib.sha256()
    for name, array in weights.items():
        digest.update(f"{name}:{array.shape}:".encode())
        digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()


def _run_child(request: dict[str, Any], target: Target, limits: Limits) -> int:
    # without -P whatever lies in the current folder would go before Python's own modules
    child_module = ("-P", "-m", "smidgen.reading.python_child")
    command = [sys.executable, *child_module, json.dumps(request)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        return child.wait(timeout=limits.seconds)
    except subprocess.TimeoutExpired:
        raise NetworkError(
            f"`{target.shown}` did not end within {limits.seconds:g} s. {_HINT}"
        ) from None
    finally:
        _kill(child)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started; its session has the child's number."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()


def _model(folder: Path, target: Target, limits: Limits, code: int, content: bytes) -> FileModel:
    result, weights = _result(folder, target, limits, code)
    network = None
    if result["network"] is not None:
        network = Network.from_json(result["network"])
        weights = _in_order(weights, network, target)
    watched = result["watched"]
    account = None if watched is None else Watched.from_plain(watched)
    printed = tuple(PrintedTotal(**plain) for plain in result["printed"])
    return FileModel(
        name=result["name"],
        network=network,
        weights=weights,
        weights_sha256=weights_sha256(weights) if network is not None else "",
        watched=account,
        notes=(*result["notes"], *_compared(printed, network, account)),
        source=content,
        source_sha256=hashlib.sha256(content).hexdigest(),
        printed=printed,
    )


def _compared(
    printed: tuple[PrintedTotal, ...], network: Network | None, watched: Watched | None
) -> Iterator[str]:
    """Say whether the last total that a notebook printed is what we count."""
    if not printed:
        return
    if network is not None:
        totals = trace(network).totals
        counted, registered = totals.num_params, totals.num_registered
    elif watched is not None:
        counted, registered = watched.num_params, watched.num_params + watched.num_dead
    else:
        return
    last = printed[-1]
    says = f"The notebook printed a total of {last.num_params:,} ({last.tool}, cell {last.cell})"
    if last.num_params == counted:
        yield f"{says}: the same."
    elif last.num_params == registered:
        yield f"{says}, which includes what is never reached: {counted:,} are."
    else:
        yield f"{says}, which is not what is counted: {counted:,}."


def _result(
    folder: Path, target: Target, limits: Limits, code: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    file = folder / "result.json"
    if not file.is_file():
        raise NetworkError(_ending(code, target, limits))
    if file.stat().st_size > LARGEST_RESULT_BYTES:
        raise NetworkError(f"`{target.shown}` gives more than a model: {file.stat().st_size:,} B.")
    result = json.loads(file.read_bytes())
    if result["error"]:
        raise NetworkError(result["error"])
    if result["network"] is None:
        return result, {}
    from safetensors.numpy import load_file

    return result, load_file(folder / "weights.safetensors")


def _ending(code: int, target: Target, limits: Limits) -> str:
    """Say how a child ended that gave no result."""
    if code >= 0:
        return (
            f"`{target.shown}` ended Python with exit code {code} before it gave a model. {_HINT}"
        )
    name = signal.Signals(-code).name
    if name == "SIGXCPU":
        return f"`{target.shown}` did not end within {limits.seconds:g} s. {_HINT}"
    killed = ", perhaps for want of memory" if name == "SIGKILL" else ""
    return f"`{target.shown}` crashed Python ({name}{killed})."


def _in_order(
    weights: dict[str, np.ndarray], network: Network, target: Target
) -> dict[str, np.ndarray]:
    wanted = {name: spec.shape for name, spec in network.graph.tensors.items()}
    if {name: array.shape for name, array in weights.items()} != wanted:
        raise NetworkError(f"The weights of `{target.shown}` do not fit the network read from it.")
    return {name: weights[name] for name in wanted}

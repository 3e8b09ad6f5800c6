import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from smidgen.errors import NetworkError
from smidgen.network.trace import trace
from smidgen.places import is_python_target
from smidgen.reading import python_file
from smidgen.reading.python_child import make_module
from smidgen.reading.python_file import (
    Limits,
    parse_target,
    read_python_file,
    weights_sha256,
)
from smidgen.recipes.catalogue import RECIPES

_MAIN = 'Put what trains or measures below `if __name__ == "__main__":`.'
_MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4, *, rate=0.1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 28), nn.ReLU(), nn.Dropout(rate), nn.Flatten(), nn.Linear(width, 10)
        )

    def forward(self, x):
        return self.body(x)
"""


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give back what a child process changes for itself."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))


def _file(folder: Path, text: str, name: str = "net.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "name", "args", "kwargs"),
    [
        ("a/net.py", "", (), {}),
        ("net.py:Net", "Net", (), {}),
        ("net.py:Net()", "Net", (), {}),
        (
            "net.py:Net(8, -1.5, 'x', (1, 2), rate=None)",
            "Net",
            (8, -1.5, "x", (1, 2)),
            {"rate": None},
        ),
    ],
)
def test_targets_are_taken_apart(text: str, name: str, args: tuple[object], kwargs: object):
    """A target is a file, a name and literal arguments."""
    target = parse_target(text)

    assert (target.name, target.args, target.kwargs) == (name, args, kwargs)
    assert target.path.name == "net.py"
    assert is_python_target(text)


@pytest.mark.parametrize(
    "call",
    [
        "Net(",
        "Net(x)",
        "Net(open('f'))",
        "a.Net",
        "1",
        "Net(*[1])",
        "Net(**{'width': 8})",
        "Net({[]: 1})",
        "",
    ],
)
def test_other_targets_are_refused(call: str):
    """Only literals are arguments: nothing on the command line is run."""
    with pytest.raises(NetworkError) as caught:
        parse_target(f"net.py:{call} ")

    assert str(caught.value) == (
        f"`{call} ` is not a class name with literal arguments, as `Net` or `Net(8, rate=0.1)`."
    )


@pytest.mark.parametrize("text", ["smidgen/quick", "net.json", "last", "runs/a"])
def test_names_are_no_python_targets(text: str):
    """Recipes, runs and JSON files are not taken for Python files."""
    assert not is_python_target(text)


def test_reads_a_model_with_its_weights(alone: None, tmp_path: Path):
    """A class in a file becomes a network with named weights and hashes, twice the same."""
    path = _file(
        tmp_path, _MODEL + "\nprint('garbage' * 9999)\nimport sys; sys.stderr.write('x')\n"
    )

    model = read_python_file(f"{path}:Net(6, rate=0.2)")

    assert model.network is not None
    assert "Dropout(0.2)" in str(model.network.layers)
    assert trace(model.network).totals.num_params == 28 * 28 * 6 + 6 + 70
    assert list(model.weights) == list(model.network.graph.tensors)
    assert model.weights["conv1.weight"].shape == (6, 1, 28, 28)
    assert model.watched is None
    assert model.source == path.read_bytes()
    assert len(model.source_sha256) == len(model.weights_sha256) == 64
    assert model.weights_sha256 == weights_sha256(model.weights)
    torch.manual_seed(1)
    made = make_module(parse_target(f"{path}:Net(6, rate=0.2)"))
    weight = next(made.module.parameters()).detach().numpy()
    np.testing.assert_array_equal(model.weights["conv1.weight"], weight)
    assert made.name == "Net"


def test_what_is_no_network_is_watched(tmp_path: Path):
    """A module with an operation we lack comes back counted, with what stopped it."""
    path = _file(tmp_path, _MODEL.replace("nn.ReLU()", "nn.Tanh()"))

    model = read_python_file(f"{path}")

    assert (model.name, model.network, model.weights, model.weights_sha256) == ("Net", None, {}, "")
    assert model.watched is not None
    assert model.watched.num_params == 28 * 28 * 4 + 4 + 50
    assert model.watched.obstacle == (
        "`body.1` (Tanh) has no counterpart among the layers of a network."
    )


DEADLY = {
    "segfault": (
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "crashed Python (SIGSEGV).",
    ),
    "abort": ("import os; os.abort()", "crashed Python (SIGABRT)."),
    "killed": (
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "crashed Python (SIGKILL, perhaps for want of memory).",
    ),
    "hard exit": (
        "import os; os._exit(3)",
        f"ended Python with exit code 3 before it gave a model. {_MAIN}",
    ),
    "exit": (
        "import sys; sys.exit('done')",
        f"ends Python itself (`sys.exit`) (line 3). {_MAIN}",
    ),
    "interrupt": ("raise KeyboardInterrupt", "fails: KeyboardInterrupt (line 3)."),
    "memory": (
        "hoard = [bytearray(2**26) for _ in range(99)]",
        "needs more than 0.25 GiB of memory. Raise `--memory-limit` if that is meant.",
    ),
}


@pytest.mark.parametrize("case", DEADLY)
def test_whatever_a_model_does_is_one_line(case: str, tmp_path: Path):
    """Crashes, exits and hoarding end in one clear line, and the parent lives."""
    code, message = DEADLY[case]
    path = _file(tmp_path, f"class Net:\n    def __init__(self):\n        {code}\n")

    with pytest.raises(NetworkError) as caught:
        read_python_file(f"{path}:Net", limits=Limits(memory_bytes=2**28))

    assert str(caught.value) == f"`net.py:Net` {message}"


WRONG = {
    "syntax": ("class Net:\n  x = = 3", "`net.py` is no valid Python: invalid syntax (line 2)."),
    "null byte": (
        "x = 1\0",
        "`net.py` is no valid Python: source code string cannot contain null bytes.",
    ),
    "error": (
        "def f():\n    1 / 0\ndef Net():\n    f()",
        "`Net()` fails: ZeroDivisionError: division by zero (line 2).",
    ),
    "import": (
        "from json import nothing\ndef Net():\n    return nothing()",
        "`Net()` fails: ImportError: cannot import name 'nothing' from 'json' "
        f"({json.__file__}) (line 1).",
    ),
    "stand-in": (
        "from torchvision import models\ndef Net():\n    return models.resnet18()",
        "`Net()` fails: ImportError: `torchvision.models.resnet18` is used, and `torchvision` is "
        "not installed here (line 3).",
    ),
    "base": (
        "from lightning import Module\nclass Net(Module):\n    pass",
        "`Net` fails: ImportError: `lightning.Module` is a base, and `lightning` is not installed "
        "here (line 2).",
    ),
    "keras": (
        "from tensorflow.keras import models\nmodel = models.Sequential([])",
        "`net.py` holds a Keras model; smidgen reads PyTorch modules from files.",
    ),
    "numbered": (
        "class Net:\n    pass\n" * 2,
        "There is no `Net@3`: `net.py` defines `Net` 2 times.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_stops_a_model_is_said(case: str, alone: None, tmp_path: Path):
    """Whatever is wrong with the file or its model is one line with its place."""
    text, message = WRONG[case]
    name = {"keras": "", "numbered": ":Net@3"}.get(case, ":Net")

    with pytest.raises(NetworkError) as caught:
        make_module(parse_target(f"{_file(tmp_path, text)}{name}"))

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("garbage", "JSONDecodeError"),
        ("[1]", "TypeError"),
        ('{"error": ""}', "KeyError"),
        ('{"error": "", "network": "{}"}', "FileNotFoundError"),
    ],
)
def test_a_forged_answer_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, problem: str
):
    """A file may write what it likes where the child answers; it gets an error, no traceback."""

    def forge(request: dict[str, str], *more: object) -> int:
        (Path(request["folder"]) / "result.json").write_text(answer)
        return 0

    monkeypatch.setattr(python_file, "_run_child", forge)
    with pytest.raises(NetworkError) as caught:
        read_python_file(str(_file(tmp_path, _MODEL)))

    assert str(caught.value) == (
        f"What was read of `net.py` cannot be used ({problem}). Does the file tamper with the "
        "process that reads it?"
    )


def test_endless_files_are_ended(tmp_path: Path):
    """A file that never ends, and the processes it starts, end with the time limit."""
    text = """
import os, time
def Net():
    os.fork()
    while True:
        with open(__file__ + ".beat", "a") as file:
            file.write("x")
        time.sleep(0.01)
"""
    path = _file(tmp_path, text)
    beat = tmp_path / "net.py.beat"

    with pytest.raises(NetworkError) as caught:
        read_python_file(f"{path}:Net", limits=Limits(seconds=2.0))

    assert str(caught.value) == f"`net.py:Net` did not end within 2 s. {_MAIN}"
    size = beat.stat().st_size if beat.exists() else 0
    time.sleep(0.2)
    assert (beat.stat().st_size if beat.exists() else 0) == size


def test_threads_and_exit_handlers_do_not_hold_the_answer(tmp_path: Path):
    """A model is read though the file leaves a thread and a sleeping exit handler behind."""
    first = "        super().__init__()\n"
    extra = (
        "        import atexit, threading, time\n"
        "        threading.Thread(target=time.sleep, args=(999,)).start()\n"
        "        atexit.register(time.sleep, 999)\n"
    )
    path = _file(tmp_path, _MODEL.replace(first, first + extra))

    assert read_python_file(f"{path}").network is not None


def test_missing_file_is_said_without_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What cannot be read is never run."""
    monkeypatch.setattr(python_file, "_run_child", None)

    with pytest.raises(NetworkError) as caught:
        read_python_file(f"{tmp_path / 'none.py'}:Net")

    assert str(caught.value) == f"Cannot read `{tmp_path / 'none.py'}`: No such file or directory."


MADE = {
    "missing": ("net.py:Nett", "`net.py` has no `Nett`. Did you mean `Net`?"),
    "unlike": ("net.py:Model", "`net.py` has no `Model`. It has `Net`."),
    "too many": (
        "net.py:Net(1, 2, 3)",
        "`Net(1, 2, 3)` fails: too many positional arguments. It takes `(width=4, *, rate=0.1)`.",
    ),
    "unknown": (
        "net.py:Net(zoom=3)",
        "`Net(zoom=3)` fails: got an unexpected keyword argument 'zoom'. It takes "
        "`(width=4, *, rate=0.1)`.",
    ),
    "wrong value": (
        "net.py:Net(-1)",
        "`Net(-1)` fails: RuntimeError: Trying to create tensor with negative dimension -1: "
        "[-1, 1, 28, 28] (line 9).",
    ),
    "no module": ("net.py:torch", "`torch` gives a `module`, not a `torch.nn.Module`."),
}


@pytest.mark.parametrize("case", MADE)
def test_constructors_that_fail_say_why(
    case: str, alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A missing class, wrong arguments and things that are no model are named."""
    target, message = MADE[case]
    _file(tmp_path, _MODEL)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(NetworkError) as caught:
        make_module(parse_target(target))

    assert str(caught.value) == message


def test_files_with_several_or_no_models_say_what_they_have(alone: None, tmp_path: Path):
    """Without a name there must be one class, and imported ones do not count."""
    two = _file(tmp_path, _MODEL + "\nclass Other(Net):\n    pass\n")
    none = _file(tmp_path, "from torch.nn import Linear\n", "none.py")

    with pytest.raises(NetworkError) as several:
        make_module(parse_target(str(two)))
    with pytest.raises(NetworkError) as nothing:
        make_module(parse_target(str(none)))

    assert str(several.value) == (
        "`net.py` defines 2 models: `Net`, `Other`. Say which: `net.py:Other`."
    )
    assert str(nothing.value) == "`none.py` defines no model class."


def test_functions_instances_and_neighbors_work(alone: None, tmp_path: Path):
    """A function that returns a model, a ready model, and a file beside it are all usable."""
    _file(tmp_path, _MODEL, "beside_this_file.py")
    text = "from beside_this_file import Net\ndef build(n): return Net(n)\nready = Net(2)\n"
    path = _file(tmp_path, text, "models.py")

    assert make_module(parse_target(f"{path}:build(3)")).module.body[0].out_channels == 3
    assert make_module(parse_target(f"{path}:ready")).module.body[0].out_channels == 2
    sys.modules.pop("beside_this_file")


@pytest.mark.parametrize("here", [True, False])
def test_files_called_as_pythons_own_modules_stay_aside(
    here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of fifty submissions in a folder one called `random.py` must not break the others."""
    path = _file(tmp_path, _MODEL)
    for name in ("json", "random", "timeit", "uuid", "pdb"):
        _file(tmp_path, "raise SystemExit(3)", f"{name}.py")
    if here:
        monkeypatch.chdir(tmp_path)

    assert read_python_file(f"{path}:Net").name == "Net"


def test_child_answers_in_json_alone(tmp_path: Path):
    """The answer is JSON and arrays without pickle, and the request is one argument."""
    path = _file(tmp_path, _MODEL)
    request = {
        "target": f"{path}:Net",
        "input_shape": [1, 28, 28],
        "seconds": 300,
        "memory_bytes": 2**31,
        "folder": str(tmp_path),
    }

    subprocess.run(
        [sys.executable, "-m", "smidgen.reading.python_child", json.dumps(request)], check=True
    )

    result = json.loads((tmp_path / "result.json").read_text())
    assert result["error"] == ""
    assert json.loads(result["network"])["num_classes"] == 10
    assert (tmp_path / "weights.safetensors").read_bytes()[8:9] == b"{"


def test_forged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An answer whose arrays do not fit its network is no model."""
    path = _file(tmp_path, _MODEL)
    network = RECIPES["smidgen/quick"].network
    forged = {
        "error": "",
        "name": "Net",
        "network": network.to_json(),
        "watched": None,
        "notes": [],
        "printed": [],
    }
    monkeypatch.setattr(python_file, "_run_child", lambda *args: 0)
    monkeypatch.setattr(python_file, "_result", lambda *args: (forged, {"a": np.zeros(3)}))

    with pytest.raises(NetworkError) as caught:
        read_python_file(f"{path}:Net")

    assert str(caught.value) == "The weights of `net.py:Net` do not fit the network read from it."

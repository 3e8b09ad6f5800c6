import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from smidgen.errors import NetworkError
from smidgen.reading.definitions import PrintedTotal, read_program, without_magics
from smidgen.reading.python_child import make_module
from smidgen.reading.python_file import FileModel, parse_target, read_python_file

NET = """
class Net(nn.Sequential):
    def __init__(self, width=4):
        super().__init__(nn.Conv2d(1, width, 28), nn.Flatten(), nn.Linear(width, 10))
"""
HEAD = "from torch import nn\n"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give back what a child process changes for itself."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))


def _file(folder: Path, text: str, name: str = "net.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _notebook(folder: Path, *cells: str, printed: dict[int, str] | None = None) -> Path:
    """Write a notebook; `printed` says what a cell, counted from 1, has printed."""
    code = [
        {
            "cell_type": "code",
            "metadata": {},
            "execution_count": place,
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": text.splitlines(True)}
                for text in [(printed or {}).get(place, "")]
                if text
            ],
            "source": cell.splitlines(True),
        }
        for place, cell in enumerate(cells, 1)
    ]
    text = {"cell_type": "markdown", "metadata": {}, "source": ["# Net = 3"]}
    book = {"cells": [text, *code], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return _file(folder, json.dumps(book), "S7.ipynb")


def _width(target: str) -> int:
    module = make_module(parse_target(target)).module
    return next(m for m in module.modules() if isinstance(m, nn.Conv2d)).out_channels


SCRIPTS = {
    "trains": HEAD + NET + "for epoch in range(10**12):\n    pass\n",
    "exits": HEAD + NET + "import sys\nsys.exit(3)\n",
    "transforms": (
        "from torchvision import datasets, transforms\n"
        + HEAD
        + "steps = transforms.Compose([transforms.ToTensor()])\n"
        + NET
        + "data = datasets.MNIST('data', download=True)\n"
    ),
    "shell lines": "!pip install torchsummary\n%matplotlib inline\n" + HEAD + NET,
    "shell line in a block": HEAD + "if True:\n    !nvidia-smi\n" + NET,
    "question": HEAD + "nn.Conv2d?\n" + NET,
    "missing package": "from skimage import io\nimport idx2numpy as idx\n" + HEAD + NET,
    "missing base elsewhere": (
        "from lightning import LightningDataModule\n"
        + HEAD
        + NET
        + "class Data(LightningDataModule):\n    pass\n"
    ),
    "device": (
        "import torch\n"
        + HEAD
        + "device = torch.device('cpu')\n"
        + NET.replace("width, 28)", "width, 28).to(device)")
    ),
    "constant by constants": HEAD + "A = 2\nB = A * 2\n" + NET.replace("width=4", "width=B"),
    "constant in a class": HEAD + "W = 4\n" + NET.replace("    def", "    usual = W\n    def"),
    "conditional definition": HEAD + "if 1 < 2:\n    W = 4\n" + NET.replace("width=4", "width=W"),
    "fallback import": (
        "try:\n    from apex import amp\nexcept ImportError:\n    amp = None\n" + HEAD + NET
    ),
    "fallback value": (
        "try:\n    import apex\n    W = 9\nexcept ImportError:\n    W = 4\n"
        + HEAD
        + NET.replace("width=4", "width=W")
    ),
    "main": HEAD + NET + "if __name__ == '__main__':\n    raise SystemExit(1)\n",
    "constant that work changes": (
        HEAD
        + "W = 99\nW = int('4')\n"
        + NET.replace("width=4", "width=None").replace("super()", "width = W\n        super()", 1)
    ),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_definitions_are_enough(case: str, tmp_path: Path):
    """A class is made from its file's definitions, whatever else the file would do."""
    assert _width(f"{_file(tmp_path, SCRIPTS[case])}:Net") == 4


def test_only_what_is_asked_for_runs(tmp_path: Path):
    """Of the work in a file only the statement that makes a wanted name runs, and once."""
    text = (
        HEAD
        + "def note(x):\n    with open(__file__ + '.log', 'a') as file:\n        file.write(x)\n"
        + "    return 4\n"
        + "a = note('a')\nb = note('b')\nnote('c')\n"
        + NET.replace("width=4", "").replace("super()", "width = b + b - b\n        super()")
    )
    path = _file(tmp_path, text)

    assert _width(f"{path}:Net") == 4
    assert (tmp_path / "net.py.log").read_text() == "b"


def test_the_whole_file_runs_where_definitions_lack_something(tmp_path: Path):
    """A name that only running the file makes is found by running it, and that is said."""
    path = _file(
        tmp_path,
        "from torchvision import transforms\nsteps = transforms.Compose([])\n"
        + HEAD
        + "globals()['W'] = 4\n"
        + NET.replace("(1, width", "(1, W"),
    )

    model = read_python_file(f"{path}:Net(4)")

    assert model.network is not None
    assert model.notes == (
        "The whole file was run: its definitions alone fail with NameError: name 'W' is not "
        "defined (line 8).",
    )


def test_both_failures_are_told(tmp_path: Path):
    """Where the whole file fails as well, the reason why it was run comes first."""
    path = _file(
        tmp_path, HEAD + NET.replace("(1, width", "(1, W") + "raise ValueError('no data')\n"
    )

    with pytest.raises(NetworkError) as caught:
        read_python_file(f"{path}:Net")

    assert str(caught.value) == (
        "`Net()` fails: NameError: name 'W' is not defined (line 5). The whole file fails, too: "
        "`net.py` fails when it is run: ValueError: no data (line 6)."
    )


def test_a_notebook_is_read(tmp_path: Path):
    """Cells are one file; the total that a summary printed stands beside the count."""
    path = _notebook(
        tmp_path,
        "!pip install torchsummary\n%matplotlib inline\nfrom google.colab import drive",
        "%%bash\nls nowhere",
        HEAD + "from torchvision import datasets",
        NET,
        "broken = = 1",
        "train = datasets.MNIST('data', download=True)\nmodel = Net().to('cuda')",
        printed={6: "Total params: 3,190\nForward/backward pass size (MB): 0.0\n"},
    )

    model = read_python_file(str(path))

    assert model.network is not None
    assert model.printed == (PrintedTotal(3190, "torchsummary", 6),)
    assert model.notes == (
        "The notebook printed a total of 3,190 (torchsummary, cell 6): the same.",
    )


def test_a_notebook_with_several_definitions(tmp_path: Path):
    """`Net@2` is the second one, with the constants and the printed total of its time."""
    other = NET.replace("width=4", "width=W")
    path = _notebook(
        tmp_path,
        HEAD + "W = 2",
        other,
        "Net()",
        "W = 3",
        other,
        "Net()",
        "W = 5",
        other,
        printed={3: "Total params: 1,600\n", 6: "Total params: 9\n"},
    )

    assert [m.target for m in read_program(path).models()] == ["Net@1", "Net@2", "Net@3"]
    assert [_width(f"{path}:Net{which}") for which in ("@1", "@2", "@3", "")] == [2, 3, 5, 5]
    second = make_module(parse_target(f"{path}:Net@2"))
    assert second.printed == (PrintedTotal(9, "a summary", 6),)
    assert make_module(parse_target(f"{path}:Net")).printed == ()
    model = _read(f"{path}:Net@2")
    assert model.notes == (
        "`Net` is defined 3 times; this is number 2 (`S7.ipynb:Net@1` is the first).",
        "The notebook printed a total of 9 (a summary, cell 6), which is not what is counted: "
        "2,395.",
    )


def _read(target: str) -> FileModel:
    return read_python_file(target)


def test_errors_name_the_cell(tmp_path: Path):
    """A line of a notebook is told with its cell."""
    path = _notebook(
        tmp_path, HEAD, "\nclass Net(nn.Module):\n    def __init__(self):\n        1 / 0"
    )

    with pytest.raises(NetworkError) as caught:
        make_module(parse_target(f"{path}:Net"))

    assert str(caught.value) == (
        "`Net()` fails: ZeroDivisionError: division by zero (cell 2, line 4)."
    )


def test_what_is_no_notebook_is_said(tmp_path: Path):
    """A file that is called like a notebook and is none gets an answer."""
    for text in ("{}", "nothing", "[1]", '{"cells": [{}]}'):
        with pytest.raises(NetworkError, match="is no notebook in the form of version 4"):
            read_program(_file(tmp_path, text, "a.ipynb"))


ROOTS = {
    "sibling": ("models/net.py", "from layers.blocks import block\n", "layers/blocks.py"),
    "two up": ("src/models/net.py", "from layers.blocks import block\n", "layers/blocks.py"),
    "module above": ("models/net.py", "from blocks import block\n", "blocks.py"),
    "beside": ("models/net.py", "from blocks import block\n", "models/blocks.py"),
    "relative": ("models/net.py", "from .blocks import block\n", "models/blocks.py"),
    "relative above": ("a/models/net.py", "from ..blocks import block\n", "a/blocks.py"),
}


@pytest.mark.parametrize("case", ROOTS)
def test_imports_from_the_submission_itself(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A file finds what stands beside it, above it and in packages around it."""
    file, line, other = ROOTS[case]
    text = "from torch import nn\n\ndef block(width):\n    return nn.Conv2d(1, width, 28)\n"
    _file(tmp_path, text, other)
    use = NET.replace("nn.Conv2d(1, width, 28)", "block(width)")
    path = _file(tmp_path, HEAD + line + use, file)
    before = set(sys.modules)
    try:
        assert _width(f"{path}:Net") == 4
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]


def test_a_root_keeps_neighbors_out_of_sight(tmp_path: Path):
    """Where submissions lie side by side, one's import does not find another's package."""
    _file(tmp_path, "def block(width): ...\n", "other_package.py")
    path = _file(tmp_path, HEAD + "from other_package import block\n" + NET, "ann/net.py")
    use = path.read_text().replace("nn.Conv2d(1, width, 28)", "block(width)")
    path.write_text(use)

    with pytest.raises(NetworkError, match="`other_package` is not installed here"):
        read_python_file(f"{path}:Net", root=tmp_path / "ann")


ARGUMENTS = {
    "norm": (
        "def __init__(self, norm):\n        assert norm == 'layer'",
        "`Net()` lacks `norm` (a text). Give them as `net.py:Net(norm='layer')`.",
    ),
    "kinds": (
        "def __init__(self, width: int, rate: float, use_bias, num_classes): pass",
        "`Net()` lacks `width` (a number) and `rate` (a number) and `use_bias` (True or False) "
        "and `num_classes` (a number). Give them as "
        "`net.py:Net(width=8, rate=0.1, use_bias=True, num_classes=10)`.",
    ),
    "given some": (
        "def __init__(self, width, drop): pass",
        "`Net(3)` lacks `drop` (a number). Give them as `net.py:Net(3, drop=0.1)`.",
    ),
    "super": (
        "def __init__(self):\n        super(str, self).__init__()",
        "`Net()` fails: TypeError: super(type, obj): obj must be an instance or subtype of type "
        "(line 5).",
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_that_are_lacking_are_named(case: str, tmp_path: Path):
    """The message names parameter, kind and an example that fits, only where some are lacking."""
    text, message = ARGUMENTS[case]
    path = _file(tmp_path, HEAD + f"\nclass Net(nn.Module):\n    {text}\n")
    given = "(3)" if case == "given some" else ""

    with pytest.raises(NetworkError) as caught:
        make_module(parse_target(f"{path}:Net{given}"))

    assert str(caught.value) == message


def test_models_are_found_without_running(tmp_path: Path):
    """Classes with a forward, or a base that is a module, are models; others are not."""
    text = """
import torch.nn as nn
raise SystemExit
class Data: pass
class Block(nn.Module): pass
class Net(Block): pass
class Odd(Base):
    def forward(self, x): return x
"""
    assert [m.name for m in read_program(_file(tmp_path, text)).models()] == ["Block", "Net", "Odd"]


def test_magics_keep_the_numbers_of_lines():
    """What is passed over leaves its line."""
    text = "!pip\nx = 1\n    %time y\n"

    assert without_magics(text) == "\nx = 1\n    pass\n"
    assert without_magics("%%html\n<b>") == ""
    assert without_magics("%%time\nx = 1") == "\nx = 1"


def test_a_module_is_what_the_file_defined(tmp_path: Path):
    """Classes know the module they were defined in, as copies and messages need."""
    made = make_module(parse_target(f"{_file(tmp_path, HEAD + NET)}:Net"))

    assert isinstance(sys.modules[type(made.module).__module__], ModuleType)

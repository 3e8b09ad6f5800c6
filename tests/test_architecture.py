import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def script() -> ModuleType:
    """Return scripts/architecture.py as a module."""
    path = ROOT / "scripts" / "architecture.py"
    spec = importlib.util.spec_from_file_location("architecture", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tree_is_that_of_the_files() -> None:
    """Every module stands in it once with its first sentence, in the order of imports."""
    module = script()

    assert module.written() == module.tree(), "Run `python scripts/architecture.py --write`."


def test_the_drawing_has_every_package() -> None:
    """The flow of data leads through all packages, and through none that is gone."""
    drawing = PAGE.split("## How data flow")[1].split("```")[1]
    packages = {path.parent.name for path in (ROOT / "src" / "smidgen").glob("*/__init__.py")}

    assert set(re.findall(r"([a-z]+)/", drawing)) == packages


def test_no_remark_is_missing() -> None:
    """Each line of the tree says something of its file."""
    assert [line for line in script().tree().splitlines()[1:] if len(line.split()) < 2] == []

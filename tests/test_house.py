"""Rules of the house that a machine can keep."""

import ast
import importlib
import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "src" / "smidgen").rglob("*.py"))
LONGEST_FUNCTION, DEEPEST = 50, 3
BLOCKS = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.Match)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT / "src" / "smidgen"))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_module_says_what_it_is(path: Path) -> None:
    """Every module opens with a full sentence."""
    text = path.read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(text)) or ""

    assert re.match(r"[A-Z`a-z].*[.!?:]", doc.split("\n\n")[0].replace("\n", " "))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_functions_stay_small(path: Path) -> None:
    """No function has over 50 lines beside its docstring or 3 levels of blocks."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        body = function.body
        has_doc = ast.get_docstring(function) is not None
        first = body[min(1, len(body) - 1)] if has_doc else body[0]
        assert (function.end_lineno or 0) - first.lineno < LONGEST_FUNCTION, function.name
        assert _depth(function) <= DEEPEST, function.name


def test_public_names_exist() -> None:
    """Every name that the package promises can be imported."""
    smidgen = importlib.import_module("smidgen")

    for name in smidgen.__all__:
        assert getattr(smidgen, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        smidgen.trian  # noqa: B018


def test_nothing_pulls_torchvision() -> None:
    """No dependency, direct or not, of any extra asks for torchvision."""
    seen: set[str] = set()
    queue = ["smidgen"]
    while queue:
        name = queue.pop()
        try:
            wanted = requires(name) or []
        except PackageNotFoundError:
            continue
        for requirement in wanted:
            other = re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower()
            if other in seen or (name != "smidgen" and "extra ==" in requirement):
                continue
            seen.add(other)
            queue.append(other)

    assert "numpy" in seen
    assert "torchvision" not in seen


def test_project_speaks_of_the_project_alone() -> None:
    """No text file names a machine's folders or a package registry's host."""
    forbidden = re.compile(
        "|".join((r"(?<![\w.])/wo" + "rk/", "/ro" + "ot/", "py" + "pi\\.org", "pythonho" + "sted"))
    )
    suffixes = {".py", ".md", ".toml", ".h", ".txt", ".json", ".html", ".js"}
    skipped = {"node_modules", ".egg-info"}  # made by tools, not by us
    for folder in ("src", "tests", "docs", "benchmarks", "scripts"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in suffixes and not skipped & {*path.parts, path.parent.suffix}:
                found = forbidden.search(path.read_text(encoding="utf-8", errors="replace"))
                assert found is None, f"{path}: {found}"


def test_no_file_name_stands_twice() -> None:
    """A module is found by its name alone."""
    names = [path.name for path in MODULES if not path.name.startswith("__")]

    assert sorted(names) == sorted(set(names))


def test_links_lead_somewhere() -> None:
    """Every relative link of a page names a file that is there."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(pages) > 20
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:", "mailto:")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def _depth(node: ast.AST) -> int:
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        own = 1 if isinstance(child, BLOCKS) and not is_elif else 0
        deepest = max(deepest, own + _depth(child))
    return deepest

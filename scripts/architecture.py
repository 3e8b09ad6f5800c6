"""Print the annotated tree of the modules, or write it into docs/architecture.md.

    python scripts/architecture.py          print it
    python scripts/architecture.py --write  put it between the page's markers

Packages stand as imports point, from what people see down to what needs nothing. Each remark is
the first sentence of the file's own docstring, so the tree cannot drift from the code; a test
compares the two.
"""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "smidgen"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- made by scripts/architecture.py -->\n```text\n", "```\n<!-- end of tree -->"
OTHERS = {
    "tests/": "mirrors the modules; `make test` runs the fast ones, `make slow` the rest",
    "benchmarks/": "every figure in the docs comes from a command here",
    "docs/": "pages for users, decisions, findings; `docs/results/` holds the evidence",
    "scripts/": "`check`: format, lint, import order, types; `architecture.py`: this tree; "
    "`screenshots.py`: docs/img",
}
WIDTH = 118


def tree() -> str:
    """Return the tree as text, one line per module."""
    lines = ["src/smidgen/"]
    for folder in _packages():
        depth = len(folder.relative_to(PACKAGE).parts)
        if depth:
            lines.append(_line("  " * depth + f"{folder.name}/", _remark(folder / "__init__.py")))
        for path in sorted([*folder.glob("*.py"), *folder.glob("*.h")]):
            if path.name not in ("__init__.py", "__main__.py"):
                lines.append(_line("  " * (depth + 1) + path.name, _remark(path)))
    lines += [_line(name, remark) for name, remark in OTHERS.items()]
    return "\n".join(lines) + "\n"


def _packages() -> list[Path]:
    """Return every package as imports point, a package's own parts behind it, the root last."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = contracts["tool"]["importlinter"]["contracts"][0]["layers"]
    order = [name for layer in layers for name in re.split(r" *[|:] *", layer)]
    found = [path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE]
    found.sort(key=lambda folder: (order.index(folder.relative_to(PACKAGE).parts[0]), str(folder)))
    return [*found, PACKAGE]


def written() -> str:
    """Return the tree that stands in the page."""
    return PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def _line(name: str, remark: str) -> str:
    line = f"{name:<30} {remark}"
    return line if len(line) <= WIDTH else line[: WIDTH - 3].rsplit(" ", 1)[0] + " ..."


def _remark(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".h":
        comment = re.search(r"/\*+\s*(.+?)\*/", text, re.DOTALL)
        doc = comment[1] if comment else ""
        doc = re.sub(r"\n\s*\*\s?", "\n", doc)
    else:
        doc = ast.get_docstring(ast.parse(text)) or ""
    first = " ".join(doc.split("\n\n")[0].split())
    return re.split(r"(?<=[.;])\s", first)[0].rstrip(".;:")


def main() -> None:
    """Print the tree, or write it into the page."""
    if sys.argv[1:] != ["--write"]:
        print(tree(), end="")
        return
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(before + BEGIN + tree() + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()

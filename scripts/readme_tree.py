"""Print the annotated tree of the README, or write it there.

    python scripts/readme_tree.py          print it
    python scripts/readme_tree.py --write  put it between README's markers

Each remark is the first sentence of the file's own docstring, so the tree cannot drift from
the code; a test compares the two.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- tree: made by scripts/readme_tree.py -->\n```text\n", "```\n<!-- end of tree -->"
OTHERS = {
    "tests/": "mirrors the modules; `make test` runs the fast ones, `make slow` the rest",
    "benchmarks/": "every figure in the docs comes from a command here",
    "docs/": "pages for users, decisions, findings; `docs/results/` holds the evidence",
    "scripts/": "`check`: format, lint, import order, types; `readme_tree.py`: this tree; "
    "`screenshots.py`: docs/img",
}
WIDTH = 118


def tree() -> str:
    """Return the tree as text, one line per module."""
    package = ROOT / "src" / "smidgen"
    lines = ["src/smidgen/"]
    folders = [package, *sorted(p for p in package.rglob("*") if (p / "__init__.py").exists())]
    for folder in folders:
        depth = len(folder.relative_to(package).parts)
        if depth:
            lines.append(_line("  " * depth + f"{folder.name}/", _remark(folder / "__init__.py")))
        for path in sorted([*folder.glob("*.py"), *folder.glob("*.h")]):
            if path.name not in ("__init__.py", "__main__.py"):
                lines.append(_line("  " * (depth + 1) + path.name, _remark(path)))
    lines += [_line(name, remark) for name, remark in OTHERS.items()]
    return "\n".join(lines) + "\n"


def in_readme() -> str:
    """Return the tree that stands in the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split(BEGIN)[1].split(END)[0]


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
    """Print the tree, or write it into the README."""
    if sys.argv[1:] != ["--write"]:
        print(tree(), end="")
        return
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(before + BEGIN + tree() + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()

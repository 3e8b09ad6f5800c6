"""The definitions of somebody's file or notebook: what can be taken from it without running it.

Imports, literal constants, functions and classes are taken out of the syntax tree; lines that
begin with `!` or `%` are no Python anywhere and are passed over. What a taken definition turns out
to need from the rest, such as `device = ...`, runs when its name is asked for, and nothing else.
"""

import ast
import builtins
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smidgen.errors import NetworkError

_BLANKED_CELLS = ("%%time", "%%capture", "%%timeit", "%%prun")
"""Magics of whole cells whose cell is Python all the same."""
_NEEDS_NOTHING = (
    *(ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    ast.Try,
)
_TOTAL = re.compile(r"(?im)^\W*total params:?\s*([\d,_]+)")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A file's text, or a code cell's of a notebook, with what the cell printed."""

    file: str
    text: str
    printed: str = ""


@dataclass(frozen=True, slots=True)
class PrintedTotal:
    """A number of parameters that a notebook printed, whose summary did, and in which cell."""

    num_params: int
    tool: str
    cell: int


@dataclass(frozen=True, slots=True)
class DefinedModel:
    """A class that looks like a model: `number` is its place among those of its name, from 1."""

    name: str
    number: int
    of: int
    chunk: int

    @property
    def target(self) -> str:
        """Return the words behind the file's name that stand for it."""
        return self.name if self.of == 1 else f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement at the top of a chunk, and the names it binds."""

    node: ast.stmt
    chunk: int
    names: frozenset[str]
    is_taken: bool


@dataclass(frozen=True, slots=True)
class Program:
    """A file's or a notebook's statements, in order."""

    path: Path
    chunks: tuple[Chunk, ...]
    statements: tuple[Statement, ...]

    def up_to(self, name: str, number: int) -> "Program":
        """Return what was there while the definition of this number was the current one.

        Raises:
            NetworkError: There are fewer definitions of this name.
        """
        places = [i for i, s in enumerate(self.statements) if _defines(s.node, name)]
        if not 1 <= number <= len(places):
            times = {0: "never", 1: "once"}.get(len(places), f"{len(places)} times")
            raise NetworkError(
                f"There is no `{name}@{number}`: `{self.path.name}` defines `{name}` {times}."
            )
        stop = places[number] if number < len(places) else len(self.statements)
        return Program(self.path, self.chunks, self.statements[:stop])

    def num_definitions(self, name: str) -> int:
        """Return how often a function or class of this name is defined."""
        return sum(_defines(s.node, name) for s in self.statements)

    @property
    def drops_something(self) -> bool:
        """Whether running the whole file would run more than its definitions."""
        return any(not s.is_taken and not _is_text(s.node) for s in self.statements)

    def guarded_imports(self) -> frozenset[tuple[str, int]]:
        """Return the files and lines of imports in a `try` that handles their failing."""
        tries = (
            (self.chunks[statement.chunk].file, node)
            for statement in self.statements
            for node in ast.walk(statement.node)
            if isinstance(node, ast.Try) and node.handlers
        )
        return frozenset(
            (file, inner.lineno)
            for file, node in tries
            for tried in node.body
            for inner in ast.walk(tried)
            if isinstance(inner, ast.Import | ast.ImportFrom)
        )

    def models(self) -> tuple[DefinedModel, ...]:
        """Return the classes that look like models, in order, without running anything.

        They have a `forward`, or a base that is called like a module, or is one of them.
        """
        known: set[str] = set()
        found: list[tuple[str, int]] = []
        for statement in self.statements:
            node = statement.node
            if isinstance(node, ast.ClassDef) and _looks_like_a_model(node, known):
                known.add(node.name)
                found.append((node.name, statement.chunk))
        names = [name for name, _ in found]
        return tuple(
            DefinedModel(name, names[: place + 1].count(name), names.count(name), chunk)
            for place, (name, chunk) in enumerate(found)
        )

    def printed_totals(self) -> tuple[PrintedTotal, ...]:
        """Return the totals that summaries printed into a notebook, in order."""
        return tuple(
            PrintedTotal(int(re.sub(r"[,_]", "", number)), _tool(chunk.printed), place + 1)
            for place, chunk in enumerate(self.chunks)
            for number in _TOTAL.findall(chunk.printed)
        )

    def totals_of(self, name: str, number: int) -> tuple[PrintedTotal, ...]:
        """Return the totals that were printed while a definition was the current one."""
        own = [m for m in self.models() if m.name == name]
        totals = self.printed_totals()
        if len(own) < 2:
            return totals
        first = own[number - 1].chunk
        after = own[number].chunk if number < len(own) else len(self.chunks)
        return tuple(total for total in totals if first < total.cell <= after)


def read_program(path: Path) -> Program:
    """Read a Python file or a notebook, and parse it.

    Raises:
        NetworkError: It cannot be read, is no notebook, or is no valid Python.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise NetworkError(f"Cannot read `{path}`: {problem.strerror}.") from problem
    chunks = _cells(path, content) if path.suffix == ".ipynb" else (_file(path, content),)
    statements: list[Statement] = []
    for place, chunk in enumerate(chunks):
        statements += _statements(path, chunk, place)
    return Program(path, chunks, tuple(_taken(statements)))


def without_magics(text: str) -> str:
    """Return Python with the lines of shells and notebooks passed over, numbered as before."""
    first = text.lstrip().split("\n", 1)[0]
    if first.startswith("%%") and not first.startswith(_BLANKED_CELLS):
        return ""
    lines = []
    for line in text.split("\n"):
        stripped = line.lstrip()
        is_magic = stripped.startswith(("!", "%")) or stripped.rstrip().endswith("?")
        blank = line[: len(line) - len(stripped)] + "pass" if line != stripped else ""
        lines.append(blank if is_magic else line)
    return "\n".join(lines)


def _file(path: Path, content: bytes) -> Chunk:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise NetworkError(f"`{path.name}` is no valid Python: it is no UTF-8 text.") from problem
    return Chunk(str(path.absolute()), text)


def _cells(path: Path, content: bytes) -> tuple[Chunk, ...]:
    try:
        cells = json.loads(content)["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        return tuple(
            Chunk(f"{path.absolute()}#cell{place}", _joined(cell["source"]), _printed(cell))
            for place, cell in enumerate(code, 1)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise NetworkError(
            f"`{path.name}` is no notebook in the form of version 4; open and save it with Jupyter."
        ) from problem


def _printed(cell: Mapping[str, Any]) -> str:
    texts = []
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":
            texts.append(_joined(output["text"]))
        elif "data" in output and "text/plain" in output["data"]:
            texts.append(_joined(output["data"]["text/plain"]))
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(texts))


def _joined(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)


def _tool(printed: str) -> str:
    if "Total mult-adds" in printed:
        return "torchinfo"
    return "torchsummary" if "Forward/backward pass size" in printed else "a summary"


def _statements(path: Path, chunk: Chunk, place: int) -> Iterator[Statement]:
    is_cell = "#cell" in chunk.file
    try:
        tree = ast.parse(chunk.text)
    except (SyntaxError, ValueError):
        try:
            tree = ast.parse(without_magics(chunk.text))
        except (SyntaxError, ValueError) as problem:
            if is_cell:  # one cell that never ran does not spoil the others
                return
            line = getattr(problem, "lineno", None)
            told = f"{getattr(problem, 'msg', problem)}{f' (line {line})' if line else ''}"
            raise NetworkError(f"`{path.name}` is no valid Python: {told}.") from problem
    for node in tree.body:
        yield Statement(node, place, frozenset(_bound(node)), _is_definition(node))


def _taken(statements: list[Statement]) -> Iterator[Statement]:
    """Yield the statements with only those taken that need nothing but what is taken."""
    by_work = {name for s in statements if not s.is_taken for name in s.names}
    known = set(dir(builtins))
    for statement in statements:
        taken = statement.is_taken
        if taken and not isinstance(statement.node, _NEEDS_NOTHING):
            # a name that work binds, too, is left to the order in which its statements stand
            taken = _read(statement.node) <= known and not statement.names & by_work
        known |= statement.names if taken else set()
        yield replace(statement, is_taken=taken)


def _read(node: ast.stmt) -> set[str]:
    inside = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return {n.id for n in inside if isinstance(n.ctx, ast.Load)} - set(_bound(node))


def _is_definition(node: ast.stmt) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return True
        case ast.ClassDef():
            return True
        case ast.Assign(targets=targets, value=value):
            return all(map(_is_name, targets)) and _is_literal(value)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            return _is_name(target) and _is_literal(value)
        case ast.If() if not _asks_for_main(node):
            return all(_is_definition(inner) for inner in (*node.body, *node.orelse))
        case ast.Try():
            handled = [inner for handler in node.handlers for inner in handler.body]
            inside = (*node.body, *handled, *node.orelse, *node.finalbody)
            return all(_is_definition(inner) or isinstance(inner, ast.Pass) for inner in inside)
    return False


def _is_name(target: ast.expr) -> bool:
    """Whether an assignment makes names only, and changes nothing that is there."""
    inside = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    return all(isinstance(each, ast.Name) for each in inside)


def _is_literal(value: ast.expr) -> bool:
    """Whether an expression only puts together what is there: no call, nothing that takes time."""
    allowed = (
        *(ast.Constant, ast.Name, ast.Attribute, ast.Tuple, ast.List, ast.Dict, ast.Set),
        *(ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Lambda, ast.arguments),
        *(ast.JoinedStr, ast.FormattedValue, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
        *(ast.arg, ast.expr_context),
    )
    return all(
        isinstance(inner, allowed) for inner in ast.walk(value) if not _within_lambda(value, inner)
    )


def _within_lambda(value: ast.expr, inner: ast.AST) -> bool:
    lambdas = [node for node in ast.walk(value) if isinstance(node, ast.Lambda)]
    return any(inner in list(ast.walk(function.body)) for function in lambdas)


def _asks_for_main(node: ast.If) -> bool:
    return any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement at the top binds, but for what only a script would."""
    if isinstance(node, ast.If) and _asks_for_main(node):
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, ast.FunctionDef | ast.ClassDef):
            yield inner.name
        elif isinstance(inner, ast.alias):
            yield inner.asname or inner.name.split(".")[0]


def _defines(node: ast.stmt, name: str) -> bool:
    is_definition = isinstance(node, ast.FunctionDef | ast.ClassDef)
    return is_definition and node.name == name


def _looks_like_a_model(node: ast.ClassDef, known: set[str]) -> bool:
    bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
    has_forward = any(isinstance(n, ast.FunctionDef) and n.name == "forward" for n in node.body)
    return has_forward or bool(bases & ({"Module", "Sequential", "LightningModule"} | known))


@dataclass(slots=True)
class _Pending:
    """Statements that were not taken, by the names they bind, and why taken ones failed."""

    work: dict[str, list[Statement]] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)


class Definitions(dict[str, Any]):
    """The globals of a program of which only the definitions ran.

    A name that work binds is made when it is asked for, by functions and modules alike: the
    statements that bind it then run, in order. If a definition itself failed, asking for its name
    raises why.
    """

    def __init__(self, program: Program, name: str, package: str = "") -> None:
        super().__init__(__name__=name, __file__=str(program.path.absolute()))
        if package:
            self["__package__"] = package
        self._program, self._pending = program, _Pending()

    def run(self) -> None:
        """Run the definitions, each as far as it goes."""
        for statement in self._program.statements:
            if not statement.is_taken:
                for name in statement.names:
                    self._pending.work.setdefault(name, []).append(statement)
                continue
            try:
                self._execute(statement)
            except Exception as problem:
                self._pending.failed |= dict.fromkeys(statement.names, problem)

    def __missing__(self, name: str) -> Any:
        if name in self._pending.failed:
            raise self._pending.failed[name]
        for statement in self._pending.work.pop(name, []):
            if id(statement) not in self._pending.running:
                self._pending.running.add(id(statement))
                self._execute(statement)
        if name not in self:
            raise KeyError(name)
        return self[name]

    def _execute(self, statement: Statement) -> None:
        tree = ast.Module([statement.node], [])
        code = compile(tree, self._program.chunks[statement.chunk].file, "exec")
        try:
            exec(code, self, self)
        except SystemExit as problem:
            raise NameError(f"what makes it ends Python itself ({ast.unparse(tree)})") from problem

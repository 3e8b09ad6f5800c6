"""Templates and values in, one HTML file out that asks nothing of anybody.

Everything that is put into a template is escaped; only our own SVG comes as `Markup`. The page's
Content-Security-Policy allows its one style sheet and its one script by their hashes, pictures
that are inside the file, and nothing else: even text that escaped escaping could not run or call.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import __version__
from smidgen.extras import require
from smidgen.files import write_atomically
from smidgen.report.style import css_variables

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_CODE = re.compile(r"`([^`]+)`")
_STRESSED = re.compile(r"(?<![\w*])\*(\w[^*]*\w)\*(?![\w*])")


def render(template: str, **context: Any) -> str:
    """Return a page.

    Args:
        template: A file in `templates/` that extends `base.html`.
        context: What it shows; every template needs `title`, the page's name, and may have `home`,
            the file of a page beside it to lead to.

    Raises:
        ReportError: The extra `report` is not installed.
    """
    return _environment().get_template(template).render(**{"home": "", **context})


def write_page(path: Path, html: str) -> None:
    """Write a page whole or not at all; raises StorageError as `write_atomically`."""
    write_atomically(path, html.encode("utf-8", "backslashreplace"))


def image_uri(png: bytes) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def marked(text: str) -> "Markup":
    """Return one of our sentences, escaped, with its `code` and *stressed words* as elements."""
    from markupsafe import Markup, escape

    html = _CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(_STRESSED.sub(r"<em>\1</em>", html))


@cache
def _environment() -> "Environment":
    require("Reports need", "jinja2")
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("smidgen.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = css_variables() + _text("page.css"), _text("page.js")
    environment.filters["marked"] = marked
    environment.globals.update(
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        version=__version__,
    )
    return environment


def _text(name: str) -> str:
    return files("smidgen.report").joinpath("templates", name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, whether it holds numbers, and what the title means."""

    title: str
    is_number: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell.

    Args:
        text: What is shown.
        order: What it is sorted by, where the text does not say it.
        link: Where it leads; only to files beside the page and to places on it.
        css: Class of the cell, such as `heat-3` or `strong`.
        note: Said when the pointer is on it.
    """

    text: str
    order: float | str | None = None
    link: str = ""
    css: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row is its heading.

    Args:
        caption: What it holds, in one line; names it for screen readers.
        columns: From left to right.
        rows: Cells, as many in each row as there are columns.
        is_sortable: Whether a reader may sort it.
        name: Its id on the page, which search fields refer to.
        shows_caption: Whether the caption is seen, too.
        css: Further classes of the table.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    is_sortable: bool = False
    name: str = ""
    shows_caption: bool = False
    css: str = ""


def cells(*values: object) -> list[Cell]:
    """Return plain cells: numbers with thousands separators, None as a dash, text as it is."""
    return [value if isinstance(value, Cell) else _plain_cell(value) for value in values]


def interval_text(low: float, high: float) -> str:
    """Return an interval of shares in percent, within 0 and 100: `99.377 to 99.448`."""
    return f"{100 * max(low, 0.0):.3f} to {100 * min(high, 1.0):.3f}"


def _plain_cell(value: object) -> Cell:
    if value is None:
        return Cell("–", order=float("-inf"))
    if isinstance(value, int):
        return Cell(f"{value:,}", order=value)
    return Cell(str(value))

"""Templates and values in, one HTML file out that asks nothing of anybody.

Everything that is put into a template is escaped; only our own SVG comes as `Markup`. The page's
Content-Security-Policy allows its one style sheet and its one script by their hashes, pictures
that are inside the file, and nothing else: even text that escaped escaping could not run or call.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import __version__
from smidgen.files import write_atomically
from smidgen.report.extra import require_extra
from smidgen.report.style import css_variables

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_home: ContextVar[str] = ContextVar("home", default="")
_CODE = re.compile(r"`([^`]+)`")
_STRESSED = re.compile(r"(?<![\w*])\*(\w[^*]*\w)\*(?![\w*])")


def render(template: str, **context: Any) -> str:
    """Return a page.

    Args:
        template: A file in `templates/` that extends `base.html`.
        context: What it shows; every template needs `title`, the page's name.

    Raises:
        ReportError: The extra `report` is not installed.
    """
    return _environment().get_template(template).render(**{"home": _home.get(), **context})


@contextmanager
def with_home(file: str) -> Iterator[None]:
    """Let the pages that are made while the body runs lead to a page beside them."""
    token = _home.set(file)
    try:
        yield
    finally:
        _home.reset(token)


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
    require_extra()
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

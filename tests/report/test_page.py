import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from smidgen.report.page import Cell, Column, Table, _environment, cells, marked, write_page

from .conftest import HOSTILE, Page

_TEMPLATE = """{% extends "base.html" %}
{% from "macros.html" import stat, table, search, pick, toggle %}
{% block lede %}{{ word }}{% endblock %}
{% block main %}<h2 id="a">{{ word }}</h2><dl>{{ stat(word, word, word) }}</dl>{{ table(shown) }}
{{ search("t", word) }}{{ pick("t", word, [(word, word)]) }}{{ toggle("x", word, [("a", word)]) }}
{% endblock %}"""


def _page(word: str) -> str:
    row = [Cell(word, order=word, link="#a", note=word), *cells(1234, None)]
    shown = Table(word, [Column(word, False, word), Column("n"), Column("m")], [row], True, "t")
    sections = [("a", word)]
    template = _environment().from_string(_TEMPLATE)
    return template.render(title=word, word=word, shown=shown, sections=sections, home="")


def test_every_place_of_the_shell_escapes(read_page: Callable[[str], Page]) -> None:
    """Titles, captions, cells, notes, options and labels show hostile text as text."""
    page = read_page(_page(HOSTILE))

    assert "<script>alert" not in page.html
    assert page.text.count(HOSTILE) >= 8


def test_the_policy_allows_this_style_and_this_script_alone() -> None:
    """The hashes in the page are those of what stands in it; nothing may be loaded or called."""
    html = _page("x")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy[1].replace("&#39;", "'").split("; "))

    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert not re.search(r"https?:|url\((?!#)|@import|fetch\(|XMLHttp", html)


def test_numbers_sort_as_numbers() -> None:
    """A cell's order stands beside its text; what is missing comes first."""
    assert cells("a", 1234, None, Cell("b")) == [
        Cell("a"),
        Cell("1,234", order=1234),
        Cell("–", order=float("-inf")),
        Cell("b"),
    ]
    html = _page("x")
    assert 'data-order="1234">1,234</td>' in html
    assert 'data-order="-inf">–</td>' in html


def test_code_and_stress_of_our_sentences_are_elements() -> None:
    """Backticks and stars of our own lines are shown as such, and nothing else is."""
    assert marked("run `a <b>`, *not so*, 3 * 4 * 5 & `") == (
        "run <code>a &lt;b&gt;</code>, <em>not so</em>, 3 * 4 * 5 &amp; `"
    )


def test_a_page_is_written_whole_in_a_folder_that_is_made(tmp_path: Path) -> None:
    """Text that no encoding has is written as an escape."""
    write_page(tmp_path / "new" / "page.html", "é \ud800")

    assert (tmp_path / "new" / "page.html").read_text("utf-8") == "é \\ud800"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from smidgen.report.style import BLUE, COLORS, SERIES, TIP, css_variables, inlined, themed

# Machado, Oliveira and Fernandes, 2009: severity 1 of each kind, on linear RGB
_KINDS = {
    "red": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "green": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "blue": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def _linear(color: str) -> list[float]:
    shares = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]


def _luminance(color: str) -> float:
    return sum(w * s for w, s in zip((0.2126, 0.7152, 0.0722), _linear(color), strict=True))


def _contrast(one: str, two: str) -> float:
    low, high = sorted((_luminance(one), _luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("tone", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "muted", "blue", "orange", "green"])
def test_text_can_be_read(name: str, tone: int) -> None:
    """Every color that text has is 4.5 times as bright or dark as what it stands on (AA)."""
    for ground in ("paper", "card", "faint"):
        assert _contrast(COLORS[name][tone], COLORS[ground][tone]) >= 4.5, ground


@pytest.mark.parametrize("tone", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("light", SERIES)
def test_lines_can_be_seen(light: str, tone: int) -> None:
    """Every color of a curve has a contrast of 3 on the paper (AA for what is no text)."""
    pair = next(pair for pair in COLORS.values() if pair[0] == light)

    assert _contrast(pair[tone], COLORS["paper"][tone]) >= 3.0


@pytest.mark.parametrize("tone", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("kind", _KINDS)
def test_the_first_three_colors_differ_for_everybody(kind: str, tone: int) -> None:
    """Blue, orange and green stay apart for people who lack one kind of cone."""

    def seen(color: str) -> list[float]:
        rgb = _linear(color)
        mixed = [sum(w * s for w, s in zip(row, rgb, strict=True)) for row in _KINDS[kind]]
        return [max(s, 0.0) ** (1 / 2.2) for s in mixed]

    shown = [pair[tone] for pair in COLORS.values() if pair[0] in SERIES[:3]]
    for one, two in combinations(shown, 2):
        distance = sum((a - b) ** 2 for a, b in zip(seen(one), seen(two), strict=True)) ** 0.5
        assert distance > 0.2, (one, two)


def test_no_two_light_colors_are_one() -> None:
    """A color in a plot stands for exactly one variable."""
    lights = [light for light, _ in COLORS.values()]

    assert len(set(lights)) == len(lights)
    assert {themed(light) for light in lights} == {f"var(--{name})" for name in COLORS}
    assert themed("none") == "none"


def test_every_variable_is_set_for_light_dark_and_print() -> None:
    """No color is missing where a reader changes the scheme."""
    for name, (light, dark) in COLORS.items():
        assert re.findall(rf"--{name}:(#[0-9a-f]{{6}});", css_variables()) == [light, dark, light]


_SVG = f"""<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt"
 height="5pt" viewBox="0 0 9 5" version="1.1">
<metadata>who</metadata><defs><style type="text/css">*{{color:red}}</style>
<clipPath id="c1"><rect width="1" height="1"/></clipPath><path id="m1" d="M 0.123456 0"/></defs>
<g id="unused"><g id="{TIP}a &lt;b&gt;"><path d="M 1.000001 2
L 3 4.5" style="fill: none; stroke: {BLUE.upper()}; clip-path: url(#c1)"/></g></g>
<use xlink:href="#m1" x="1.23456" transform="rotate(-0 1 2)"/>
<text style="font-size: 10px; font-family: 'X', serif; text-anchor: middle">5 $x$</text></svg>"""


def _inlined(name: str = "n") -> ElementTree.Element:
    return ElementTree.fromstring(inlined(_SVG, name, 'says "<so>"', "wide"))


def test_styles_become_attributes_and_colors_variables() -> None:
    """A page whose policy allows no inline style shows the picture all the same."""
    root = _inlined()
    path = next(each for each in root.iter("path") if each.get("fill"))
    text = next(root.iter("text"))

    assert path.attrib == {
        "d": "M 1 2 L 3 4.5",
        "fill": "none",
        "stroke": "var(--blue)",
        "clip-path": "url(#n-c1)",
    }
    assert text.attrib == {"font-size": "10", "text-anchor": "middle"}
    assert not list(root.iter("style"))
    assert not list(root.iter("metadata"))


def test_ids_are_kept_where_they_are_used_and_begin_with_the_name() -> None:
    """Two pictures on one page never share an id."""
    ids = {each.get("id") for each in _inlined("one").iter() if each.get("id")}
    other = {each.get("id") for each in _inlined("two").iter() if each.get("id")}

    assert ids == {"one-c1", "one-m1"}
    assert not ids & other
    assert next(_inlined("one").iter("use")).attrib == {"href": "#one-m1", "x": "1.23"}


def test_a_tip_is_a_title_that_needs_no_script() -> None:
    """The text of a mark is escaped and stands inside of it."""
    (mark,) = [each for each in _inlined().iter("g") if each.get("class") == "mark"]

    assert [title.text for title in mark.findall("title")] == ["a <b>"]


def test_the_picture_takes_the_width_it_gets_and_says_what_it_shows() -> None:
    """It scales by its view box and has words for people who do not see it."""
    root = _inlined()

    assert root.get("viewBox") == "0 0 9 5"
    assert root.get("width") is None
    assert (root.get("role"), root.get("aria-label")) == ("img", 'says "<so>"')


def test_what_xml_cannot_hold_is_replaced() -> None:
    """A control character in a name does not cost the page."""
    odd = _SVG.replace("5 $x$", "5 \x00\x1b\ud800")

    assert "5 \ufffd\ufffd\ufffd" in inlined(odd, "n", "x", "wide")

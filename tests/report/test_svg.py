from xml.etree import ElementTree

from smidgen.report.style import BLUE
from smidgen.report.svg import TIP, inlined

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

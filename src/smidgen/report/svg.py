"""SVG as other tools write it in, SVG for the inside of an HTML page out.

Ids are made unique on the page, styles become attributes (the page's Content-Security-Policy
allows no others), and light colors become the page's variables.
"""

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from smidgen.report.style import themed

if TYPE_CHECKING:
    from markupsafe import Markup

TIP = "tip:"
"""What the id of an element begins with whose rest is shown when the pointer is on it."""
TIP_BREAK = "\N{LINE SEPARATOR}"
"""Stands in such an id for a line break, of which XML makes a blank."""

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_DROPPED_STYLES = {"font-family", "line-height"}  # the page decides about them
_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def inlined(svg: str, name: str, label: str, css: str, keeps_size: bool = False) -> "Markup":
    """Return a picture as an element of an HTML page.

    Args:
        svg: A whole SVG file.
        name: Unique on the page; every id begins with it.
        label: What the picture says, for people who do not see it.
        css: Class of the element.
        keeps_size: Whether it is as large as it was drawn; otherwise it fills what it gets.
    """
    from markupsafe import Markup

    root = ElementTree.fromstring(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", svg))
    used = _referenced(root)
    _drop(root, ("metadata", "title", "desc", "style"))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        _rewrite(element, name, used)
    for key in ("version",) if keeps_size else ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update({"class": css, "role": "img", "aria-label": label, "focusable": "false"})
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=True))


def _referenced(root: ElementTree.Element) -> set[str]:
    found: set[str] = set()
    for element in root.iter():
        for key, text in element.attrib.items():
            if key == f"{_XLINK}href" and text.startswith("#"):
                found.add(text[1:])
            found.update(_REFERENCE.findall(text))
    return found


def _drop(root: ElementTree.Element, names: tuple[str, ...]) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(_SVG) in names:
                parent.remove(child)


def _rewrite(element: ElementTree.Element, name: str, used: set[str]) -> None:
    old, element.attrib = dict(element.attrib), {}
    for declaration in filter(None, map(str.strip, old.pop("style", "").split(";"))):
        key, _, text = declaration.partition(":")
        if key not in _DROPPED_STYLES:
            old[key] = text.strip().removesuffix("px") if key == "font-size" else text.strip()
    identity = old.pop("id", "")
    for key, text in old.items():
        if key == "transform" and text.startswith("rotate(-0 "):
            continue
        text = _REFERENCE.sub(rf"url(#{name}-\1)", text)
        if key == f"{_XLINK}href":
            key, text = "href", f"#{name}-{text[1:]}" if text.startswith("#") else text
        elif key == "d":
            text = " ".join(text.split())
        if key in ("d", "x", "y", "points"):
            text = _NUMBER.sub(_rounded, text)
        element.set(key, themed(text))
    if identity.startswith(TIP):
        element.set("class", "mark")
        ElementTree.SubElement(element, "title").text = _tip_of(identity)
    elif identity in used:
        element.set("id", f"{name}-{identity}")


def _tip_of(identity: str) -> str:
    return identity.removeprefix(TIP).replace(TIP_BREAK, "\n")


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")

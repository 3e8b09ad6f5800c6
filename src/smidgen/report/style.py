"""The one look of all pages and plots: colors for light and dark, and SVG in those colors.

The first three series are told apart by people who lack any one kind of cone (simulated), and every
color of text and lines has the contrast that WCAG 2.2 AA asks for on both papers.
A plot is drawn in the light colors; in a page they become CSS variables, so one picture serves
both. That is why no two colors here may be equal. SVG as other tools write it becomes SVG for the
inside of a page: ids are made unique, styles become attributes (the page's
Content-Security-Policy allows no others), and light colors become the page's variables.
"""

import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from markupsafe import Markup


COLORS: dict[str, tuple[str, str]] = {
    "paper": ("#fcfbf8", "#15181d"),
    "card": ("#ffffff", "#1c2027"),
    "ink": ("#1b2029", "#e9e7e2"),
    "muted": ("#59626f", "#a7afbb"),
    "line": ("#dedad2", "#343a45"),
    "faint": ("#f4f2ec", "#242932"),
    "blue": ("#1c3f7c", "#5ea8e8"),
    "orange": ("#ad480c", "#f2a862"),
    "green": ("#0d7a62", "#74e8c4"),
    "pink": ("#d6409f", "#f179b0"),
    "gold": ("#8f6b00", "#dcb84a"),
    "sky": ("#2f87b8", "#8fd3f4"),
    "violet": ("#6a4bbd", "#b5a0f5"),
    "gray": ("#737c89", "#8f98a5"),
}
"""Each color on light paper and on dark."""


PAPER, CARD, INK, MUTED, LINE, FAINT, BLUE, ORANGE, GREEN, PINK, GOLD, SKY, VIOLET, GRAY = (
    light for light, _ in COLORS.values()
)


SERIES = (BLUE, ORANGE, GREEN, PINK, GOLD, SKY, VIOLET, GRAY)
"""For curves side by side, in this order; beyond four, dashes and labels help as well."""


TEXT_POINTS = 11.5


_VARIABLES = {light: f"var(--{name})" for name, (light, _) in COLORS.items()}


def css_variables() -> str:
    """Return the colors as CSS: light, dark where the reader's system is, and light on paper."""
    light, dark = (
        "".join(f"--{name}:{pair[tone]};" for name, pair in COLORS.items()) for tone in (0, 1)
    )
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"@media print{{:root{{color-scheme:light;{light}}}}}\n"
    )


def themed(color: str) -> str:
    """Return the CSS variable of one of the light colors; any other value as it is."""
    return _VARIABLES.get(color.lower(), color)


def rc() -> dict[Any, Any]:
    """Return how matplotlib draws: no boxes, quiet grids, text as text, `$` as a dollar."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "smidgen",
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": TEXT_POINTS,
        "axes.titlesize": TEXT_POINTS + 1,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlepad": 10,
        "axes.labelsize": TEXT_POINTS,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": GRAY,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.linewidth": 1,
        "grid.color": LINE,
        "grid.linewidth": 0.8,
        "xtick.color": GRAY,
        "ytick.color": GRAY,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "xtick.labelsize": TEXT_POINTS - 0.5,
        "ytick.labelsize": TEXT_POINTS - 0.5,
        "xtick.major.size": 4,
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
        "text.color": INK,
        "lines.linewidth": 2,
        "lines.markersize": 6,
        "lines.solid_capstyle": "round",
        "legend.frameon": False,
        "legend.fontsize": TEXT_POINTS - 0.5,
        "legend.labelcolor": INK,
        "figure.facecolor": "none",
        "image.interpolation": "nearest",
    }


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

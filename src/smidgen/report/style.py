"""The one look of all pages and plots: colors for light and dark, and how matplotlib draws.

The first three series are told apart by people who lack any one kind of cone (simulated), and every
color of text and lines has the contrast that WCAG 2.2 AA asks for on both papers.
A plot is drawn in the light colors; in a page they become CSS variables, so one picture serves
both. That is why no two colors here may be equal.
"""

from typing import Any

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

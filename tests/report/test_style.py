import re
from itertools import combinations

import pytest

from smidgen.report.style import COLORS, SERIES, css_variables, themed

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

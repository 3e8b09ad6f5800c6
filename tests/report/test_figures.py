import io
import re
import subprocess
import sys

import pytest
from matplotlib.figure import Figure
from PIL import Image

from smidgen.report.figures import (
    HALF,
    NARROW,
    WIDE,
    Plot,
    accuracy_axis,
    drawable,
    is_narrow,
    percent_tick,
    ticks_between,
    tip,
)
from smidgen.report.style import BLUE

ODD = "日本 $x^2$ <b>\x07"


def _draw(figure: Figure) -> None:
    axes = figure.subplots()
    (line,) = axes.plot([0, 1], [0, 1], color=BLUE)
    tip(line, f"from 0 to 1\n{ODD}")
    axes.set_xlabel("narrow" if is_narrow(figure) else "wide")
    axes.set_ylabel(ODD)


def _plot(**changes: object) -> Plot:
    settings = {"name": "odd", "title": "It <rises>", "caption": "c", "description": "d & e"}
    return Plot(**{**settings, "draw": _draw, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("form", "width", "word"), [("wide_svg", WIDE, "wide"), ("narrow_svg", NARROW, "narrow")]
)
def test_a_plot_has_a_form_for_each_screen(form: str, width: int, word: str) -> None:
    """Each is drawn for its width and says the same to people who do not see it."""
    svg = str(getattr(_plot(), form))

    assert svg.startswith("<svg")
    assert f'viewBox="0 0 {width}' in svg
    assert f">{word}</text>" in svg
    assert 'aria-label="It &lt;rises&gt; d &amp; e"' in svg


def test_text_stays_text_whatever_it_says() -> None:
    """No mathematics, no markup, no missing glyph that warns or fails."""
    svg = str(_plot().wide_svg)

    assert "日本 $x^2$ &lt;b&gt;\ufffd" in svg
    assert "<title>from 0 to 1\n日本 $x^2$ &lt;b&gt;\ufffd</title>" in svg


def test_a_plot_is_drawn_in_the_pages_colors_and_alike_each_time() -> None:
    """No color of its own stays in it, and equal data give equal bytes."""
    first, second = str(_plot().wide_svg), str(_plot().wide_svg)

    assert first == second
    assert 'stroke="var(--blue)"' in first
    assert re.findall(r'(?:fill|stroke)="#[0-9a-f]+"', first) == []
    assert "style=" not in first


def test_ids_of_the_two_forms_differ() -> None:
    """Both forms stand on one page."""
    wide, narrow = (
        set(re.findall(r' id="([^"]+)"', str(svg)))
        for svg in (_plot().wide_svg, _plot().narrow_svg)
    )

    assert wide
    assert not wide & narrow


def test_half_plots_are_told_apart() -> None:
    """Two plots of half the width stand side by side."""
    assert _plot(width=HALF).is_half
    assert not _plot().is_half


def test_png_is_a_picture_with_its_title_on_light_ground() -> None:
    """It is 2.5 times as fine as the page, and a corner of it is white."""
    picture = Image.open(io.BytesIO(_plot(width=HALF, height=200).png())).convert("RGB")

    assert picture.size == (1300, 585)
    assert picture.getpixel((2, 580)) == (255, 255, 255)


def test_pyplot_is_never_imported() -> None:
    """A machine without a screen draws all the same."""
    code = (
        "import sys; from smidgen.report.figures import Plot; "
        "Plot('a', 't', 'c', 'd', lambda f: f.subplots().plot([1])).wide_svg; "
        "sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_no_error_at_all_is_drawn_near_the_top() -> None:
    """A logarithm has no place for it."""
    assert drawable([0.5, 1.0]).tolist() == [0.5, 0.99995]


@pytest.mark.parametrize(("low", "high"), [(0.1, 1.0), (0.97, 0.995), (0.9941, 0.9942), (0.5, 0.5)])
def test_axis_holds_what_is_drawn_between_at_least_two_ticks(low: float, high: float) -> None:
    """Whatever the range, one reads numbers off it."""
    axes = Figure().add_subplot()

    accuracy_axis(axes, low, high)

    bottom, top = axes.get_ylim()
    assert bottom < low <= high <= top or high == 1.0
    assert len(axes.get_yticks()) >= 2


def test_ticks_are_round_and_thin_out() -> None:
    """The top, where the interest is, keeps its tick."""
    assert ticks_between(0.97, 0.9945, 3) == [0.97, 0.985, 0.994]


def test_ticks_have_as_few_digits_as_they_need() -> None:
    """In percent."""
    assert [percent_tick(share) for share in (0.9, 0.994, 0.9995)] == ["90", "99.4", "99.95"]

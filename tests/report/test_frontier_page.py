from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from smidgen.report import frontier_page
from smidgen.report.figures import Label, write_labels
from smidgen.report.frontier_page import frontier_plot, frontier_plots, make_frontier_page, tip_of
from smidgen.report.frontier_points import Point, frontier_points
from smidgen.runs.store import RunStore

ReadPage = Callable[[str], Any]


def _ours(size: int, accuracy: float, n: int = 20, **more: Any) -> Point:
    half = 0.0003
    return Point(
        name=f"net {size}",
        measured="mean",
        num_params=size,
        accuracy=accuracy,
        n=n,
        low=accuracy - half,
        high=accuracy + half,
        **more,
    )


def test_newcomer_gets_a_page_with_three_plots_and_every_network(
    read_page: ReadPage, tmp_path: Path
) -> None:
    """By parameters, arithmetic and seconds; buttons choose, without scripts all are there."""
    points = frontier_points(RunStore(tmp_path / "none"))

    html = make_frontier_page(points, proof_links={"smidgen/quick": "proof-q.html"})

    page = read_page(html)
    for name in ("parameters", "macs", "seconds"):
        assert f'id="plot-frontier-{name}"' in html
        assert f'data-shows="plot-frontier-{name}"' in html
    assert html.count("<tr data-item>") == 2 * len(points)  # numbers, then layers and sources
    assert '<a href="proof-q.html">smidgen/quick</a>' in html
    assert "released weights, measured again" in page.text


def test_names_of_users_stay_text(read_page: ReadPage) -> None:
    """In the table as in the plot."""
    point = _ours(500, 0.99, network="<u>Conv</u>", source="<script>alert(1)</script>")

    html = make_frontier_page([point])

    read_page(html)
    assert "<u>" not in html
    assert "<script>alert" not in html


def test_empty_frontier_says_what_to_do(read_page: ReadPage) -> None:
    """Of a data set on which nothing was proved."""
    html = make_frontier_page([], "stripes")

    assert "Nothing was proved on stripes yet. smidgen prove smidgen/quick" in read_page(html).text
    assert frontier_plots([], "stripes") == []


def test_title_is_the_cheapest_proven_way_to_the_mark() -> None:
    """99.4 % where it is reached, else the best mean there is, else that nothing is proven."""
    few, low, high = _ours(300, 0.995, n=5), _ours(400, 0.991), _ours(900, 0.9945)

    titles = [
        frontier_plot(points, "num_params", "mnist").title
        for points in ([few, low, high], [few, low], [few])
    ]

    assert titles == [
        "99.4 % as a proven mean takes 900 parameters",
        "No proven mean is at 99.4 %: the best is 99.10 %, with 400 parameters",
        "Nothing is proven yet: that takes 20 seeds",
    ]


def test_another_target_is_asked_for_in_every_title() -> None:
    """On the page as in the plots."""
    points = [_ours(400, 0.991, num_macs=4_000), _ours(900, 0.9945, num_macs=9_000)]

    titles = [plot.title for plot in frontier_plots(points, "mnist", 0.99)]

    assert titles == ["99 % as a proven mean takes 400 parameters",
                      "99 % as a proven mean takes 4,000 MACs"]  # fmt: skip
    html = make_frontier_page(points, target=0.99)
    assert titles[0] in html
    assert "99.4 % as a proven mean" not in html


def test_crowded_front_keeps_the_labels_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many neighbours: no two labels overlap, and the cheapest at the target has its own."""
    written: list[list[str]] = []
    monkeypatch.setattr(frontier_page, "write_labels", _checked(written))
    points = [
        Point(f"net {n}", "mean", int(1000 * 1.1**n), 0.99322 + 0.0001 * n, n=20) for n in range(12)
    ]

    plot = frontier_plot(points, "num_params", "mnist")

    assert str(plot.wide_svg).startswith("<svg")
    assert str(plot.narrow_svg).startswith("<svg")
    wide, narrow = written
    assert wide[0] == narrow[0] == "99.40 %"
    assert len(narrow) < len(points)


def _checked(written: list[list[str]]) -> Callable[..., list[Label]]:
    def write(axes: Any, labels: list[Label]) -> list[Label]:
        found = write_labels(axes, labels)
        boxes = [text.get_window_extent() for text in axes.texts]
        marks = [line.get_window_extent() for line in axes.lines[1:]]
        assert [text.get_text() for text in axes.texts] == [label.text for label in found]
        for place, box in enumerate(boxes):
            assert box.count_overlaps([*boxes[:place], *boxes[place + 1 :], *marks]) == 0
        written.append([label.text for label in found])
        return found

    return write


def test_interval_wider_than_the_plot_does_not_stretch_it() -> None:
    """One that includes no errors at all is not drawn; it is printed within 100 %."""
    wide = Point("wide", "mean", 800, 0.985, n=20, low=0.9, high=1.05)
    figure = Figure()

    frontier_plot([wide, _ours(400, 0.991)], "num_params", "mnist").draw(figure)

    (axes,) = figure.axes
    assert axes.get_ylim()[0] == pytest.approx(1.5 * 1.4)
    assert "98.500 %, mean of 20 seeds (90.000 to 100.000)" in tip_of(wide)
    assert "90.000 to 100.000 %" in make_frontier_page([wide])


def test_plot_of_a_cost_holds_the_points_that_have_it() -> None:
    """A cost that no point has is no plot."""
    points = [_ours(400, 1.0, num_macs=5_000), _ours(900, 0.5)]

    assert [plot.name for plot in frontier_plots(points, "mnist")] == [
        "frontier-parameters",
        "frontier-macs",
    ]
    assert str(frontier_plots(points, "mnist")[0].wide_svg).startswith("<svg")


def test_pointing_at_a_network_says_what_it_is_and_what_the_number_is_worth() -> None:
    """A mean with its interval, or a claim with its grade and its last epoch."""
    mean = tip_of(_ours(400, 0.994, network="Conv(4, 3)"))
    claim = tip_of(Point("a", "best", 500, 0.995, grade="B", last=0.994, note="Epoch 9."))

    assert mean.splitlines() == [
        "net 400",
        "400 parameters",
        "99.400 %, mean of 20 seeds (99.370 to 99.430)",
        "Conv(4, 3)",
    ]
    assert claim.splitlines() == [
        "a",
        "500 parameters",
        "99.50 %: best epoch or best run, chosen on the test set",
        "99.40 % after its last epoch",
        "evidence B: the training log was read",
        "Epoch 9.",
    ]

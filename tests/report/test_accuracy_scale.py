import pytest
from matplotlib.figure import Figure

from smidgen.report.accuracy_scale import accuracy_axis, drawable, percent_tick, ticks_between


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

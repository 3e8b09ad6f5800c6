from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.cloud.rental import (
    BESIDES_DOLLARS_PER_HOUR,
    GRACE_MINUTES,
    CloudJob,
    Notes,
    arithmetic,
    price_cap,
)
from smidgen.errors import CloudError


def job(name: str = "train-tiny-1", **changes: object) -> CloudJob:
    """Return a job that nobody submitted."""
    made = CloudJob(name, "train tiny", "us-east-1", "b", ("c6i.large",), 0.5, 30, ("train",))
    return made.replace(**changes)


@given(st.floats(0.001, 1000.0), st.integers(1, 10_000), st.floats(0.0, 1.0))
def test_cap_is_never_passed(dollars: float, minutes: int, share: float) -> None:
    """Whatever the price does below its cap, the whole time costs at most the dollars."""
    try:
        cap = price_cap(dollars, minutes)
    except CloudError:
        return
    price = share * cap

    assert (price + BESIDES_DOLLARS_PER_HOUR) * (minutes + GRACE_MINUTES) / 60 <= dollars


@given(st.floats(0.1, 10.0), st.integers(2, 500), st.lists(st.floats(0, 1e5), max_size=6))
def test_relaunches_stay_below_the_cap(dollars: float, minutes: int, lives: list[float]) -> None:
    """However machines are lost, what they may have cost stays within the dollars."""
    current = job(max_dollars=dollars, minutes=minutes)
    for seconds in lives:
        if current.minutes_left < 1:
            break
        try:
            cap = price_cap(current.dollars_left, current.minutes_left)
        except CloudError:
            break
        most = (current.minutes_left + GRACE_MINUTES) * 60
        current = current.replace(max_price=cap).after(min(seconds, most))

        assert current.spent_dollars <= dollars + 1e-9


def test_arithmetic_is_shown() -> None:
    """Half a dollar for half an hour is 0.8511 dollars an hour."""
    assert price_cap(0.5, 30) == pytest.approx(0.8511)
    assert arithmetic(0.5, 30) == (
        "0.5 dollars / (30 + 5 minutes) - 0.006 for address and disk = 0.8511 dollars an hour at "
        "most; 35 minutes at that price cost 0.5000."
    )


@pytest.mark.parametrize(
    ("dollars", "minutes", "said"),
    [
        (0.0001, 30, "Give at least `--max-dollars 0.0041`, or fewer `--minutes`"),
        (0.0, 30, "buys nothing"),
        (float("nan"), 30, "buys nothing"),
        (0.5, 0, "out of range"),
        (0.5, 20_000, "out of range: 1 to 10,075"),
    ],
)
def test_senseless_caps_are_refused(dollars: float, minutes: int, said: str) -> None:
    """Money or time out of range gets a line that says what would do."""
    with pytest.raises(CloudError, match=said):
        price_cap(dollars, minutes)


def test_notes_are_found_by_a_part_of_their_name(tmp_path: Path) -> None:
    """A job is found by name, by a part of it, and as the last one."""
    notes = Notes(tmp_path)
    notes.save(job("train-a-1", launched=1.0))
    notes.save(job("prove-b-2", launched=2.0))

    assert notes.find("train").name == "train-a-1"
    assert notes.find("last").name == "prove-b-2"
    with pytest.raises(CloudError, match="fits 2 jobs"):
        notes.find("-")
    with pytest.raises(CloudError, match="is no job in"):
        notes.find("nothing")


def test_damaged_note_gets_a_line(tmp_path: Path) -> None:
    """A note that is no JSON is told with its path."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "job.json").write_text("{")

    with pytest.raises(CloudError, match=r"job\.json"):
        Notes(tmp_path).all()

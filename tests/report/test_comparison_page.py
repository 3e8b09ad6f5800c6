from collections.abc import Callable

import numpy as np
import pytest

from smidgen.errors import RunError
from smidgen.report.comparison_page import make_comparison_page, tell_comparison
from smidgen.report.pictures import Pictures
from smidgen.runs.store import RunFolder

MakeRun = Callable[..., RunFolder]
PIXELS = Pictures(np.zeros((40, 1, 6, 6), np.uint8))


def _sides(make_run: MakeRun, seeds: int) -> tuple[list[RunFolder], list[RunFolder]]:
    good = [make_run(seed=s, name="good", wrong=(1,)) for s in range(1, seeds + 1)]
    bad = [
        make_run(seed=s, name="bad", engine="native", wrong=(1, 5, *range(20, 20 + s % 3)))
        for s in range(1, seeds + 1)
    ]
    return good, bad


def test_story_pairs_by_seed_and_finds_the_images_that_tell(make_run: MakeRun) -> None:
    """Only seeds that both have are paired; an image wrong for both tells nothing."""
    good, bad = _sides(make_run, 3)

    story = tell_comparison(good, bad[:2])

    assert [(pair.seed, round(40 * pair.difference)) for pair in story.pairs] == [(1, 2), (2, 3)]
    assert story.comparison.left_out == (3,)
    assert [image.position for image in story.telling] == [5, 20, 21]
    assert (story.telling[1].wrong_a, story.telling[1].wrong_b) == (0.0, 1.0)
    assert story.curve_a == (0.775, 0.8, 0.975)


def test_page_says_the_verdict_of_compare(make_run: MakeRun) -> None:
    """Eight seeds that all agree are enough; the words are those of the command."""
    good, bad = _sides(make_run, 8)

    html = make_comparison_page(tell_comparison(good, bad), PIXELS, ("good", "a<b"))

    assert "good is better than bad by" in html
    assert "A is ahead with 8 of 8 seeds, B with 0" in html
    assert "the recipes are the same, the engines are not" in html
    assert "smidgen compare good &#39;a&lt;b&#39;" in html
    assert html.count("data:image/png;base64") == 3


def test_one_seed_cannot_tell(make_run: MakeRun) -> None:
    """And the page says so, without an interval."""
    good, bad = _sides(make_run, 1)

    html = make_comparison_page(tell_comparison(good, bad), PIXELS, ("good", "bad"))

    assert "Cannot tell from one seed: run more with <code>smidgen prove</code>." in html
    assert "Student" not in html


def test_sides_without_a_common_seed_are_refused(make_run: MakeRun) -> None:
    """With the seeds that each has."""
    good, bad = _sides(make_run, 2)

    with pytest.raises(RunError, match="of the seeds 1 and `bad` of 2: none in common"):
        tell_comparison(good[:1], bad[1:])

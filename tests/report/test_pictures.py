from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smidgen.data import Dataset
from smidgen.report.pictures import ImageSource, Pictures, pictures_of
from smidgen.runs.store import RunFolder

MakeRun = Callable[..., RunFolder]


def test_pictures_are_those_of_the_measured_split(make_run: MakeRun) -> None:
    """The drawn data set needs no file: what a `final` run was measured on are its test images."""
    from smidgen.data import draw_stripes

    drawn = draw_stripes()
    record = make_run(data_sha256=drawn.sha256).record()

    found = pictures_of(record, ImageSource())

    assert found.reason == ""
    assert found.images is not None
    assert np.array_equal(found.images, drawn.test.images)
    assert found.uri(0).startswith("data:image/png;base64,iVBOR")


def test_other_images_of_that_name_are_not_shown(make_run: MakeRun, stripes: Dataset) -> None:
    """A picture of another image than the one that was wrong would be a lie."""
    found = pictures_of(make_run(data_sha256=stripes.sha256).record(), ImageSource())

    assert found.images is None
    assert found.reason == "The images of `stripes` on this machine are not those of the run."
    assert found.uri(3) == ""


def test_published_images_are_never_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is not here is not here: a page must not wait for a network."""
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path))
    monkeypatch.setattr("smidgen.data.fetch.fetch_dataset", _fail)

    found = ImageSource().find("mnist", "0" * 64)

    assert isinstance(found, str)
    assert found.startswith("No pictures: `mnist` is not in")


def _fail(*_: object, **__: object) -> None:
    raise AssertionError("a page tried to fetch images")


def test_color_images_become_pictures() -> None:
    """Three channels as well as one."""
    images = np.zeros((1, 3, 4, 4), np.uint8)

    assert Pictures(images).uri(0).startswith("data:image/png;base64,")

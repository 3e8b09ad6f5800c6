import numpy as np
import pytest
from shipped import EVERYTHING, images_of, integer_of

from smidgen.ship import runtimes
from smidgen.ship.runtimes import compare_all


@pytest.mark.slow
def test_all_runtimes_agree() -> None:
    """Every runtime at hand gives all scores."""
    for found in compare_all(integer_of(EVERYTHING), images_of(EVERYTHING, 20)):
        assert found.num_different in (0, None), found
        assert found.num_different == 0 or found.note


def test_differences_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime with one wrong score is told, and one that is missing says so."""
    integers, images = integer_of(EVERYTHING), images_of(EVERYTHING, 5)
    wrong = runtimes.scores_of(integers, images)
    wrong[2, 1] += 1
    monkeypatch.setattr(runtimes, "is_tool", lambda name: name == "gcc")
    monkeypatch.setattr(runtimes, "is_installed", lambda name: False)
    monkeypatch.setattr(runtimes, "run_c", lambda *given: wrong)
    monkeypatch.setattr(runtimes, "CORES", ())

    found = list(compare_all(integers, images))

    assert [(c.runtime, c.num_different) for c in found] == [
        ("C by gcc", 1),
        ("C by clang", None),
        ("JavaScript in node", None),
        ("ONNX in onnxruntime", None),
    ]
    assert found[1].note == "no clang here"
    assert isinstance(wrong, np.ndarray)

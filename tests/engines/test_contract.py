from smidgen.engines.contract import EpochStats


def test_accuracy_is_a_share() -> None:
    """Accuracy is right answers over images, and 0 where no image was seen."""
    assert EpochStats(0.5, 3, 4).accuracy == 0.75
    assert EpochStats(float("nan"), 0, 0, stopped=True).accuracy == 0.0

import numpy as np
import pytest

from smidgen.engines.plan import EpochPlan


@pytest.mark.parametrize(
    ("count", "batch", "expected"),
    [(10, 4, [(0, 4), (4, 8), (8, 10)]), (8, 4, [(0, 4), (4, 8)]), (3, 4, [(0, 3)])],
)
def test_rows_cover_every_image_once(
    count: int, batch: int, expected: list[tuple[int, int]]
) -> None:
    """Batches follow each other without gap or overlap, and the last may be smaller."""
    steps = len(expected)
    plan = EpochPlan(
        epoch=1,
        first_step=0,
        batch_size=batch,
        order=np.arange(count, dtype=np.int32),
        lr=np.zeros(steps),
        momentum=np.zeros(steps),
        dropout_key=0,
    )

    found = [(plan.rows(step).start, plan.rows(step).stop) for step in range(plan.num_steps)]

    assert found == expected

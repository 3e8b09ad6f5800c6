import numpy as np
import pytest

from smidgen.engines.plan import EpochPlan, Erasures, Geometry


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


def test_picked_keeps_each_images_own_changes() -> None:
    """Images picked in another order come with their own rows of every array."""
    numbers = np.arange(4, dtype=np.float32)
    plan = EpochPlan(
        epoch=3,
        first_step=8,
        batch_size=2,
        order=np.array([40, 41, 42, 43], dtype=np.int32),
        lr=np.array([0.1, 0.2]),
        momentum=np.zeros(2),
        dropout_key=7,
        geometry=Geometry(
            np.outer(numbers, np.ones(6)), fill=0.5, elastic=np.zeros((4, 2, 7, 7)) + numbers[0]
        ),
        jitter=np.outer(numbers, np.ones(2)),
        erasing=Erasures(np.outer(numbers, np.ones(4)).astype(np.int32), 0.3),
        targets=np.outer(numbers, np.ones(10)),
    )

    picked = plan.picked(np.array([2, 0, 2]))

    assert picked.order.tolist() == [42, 40, 42]
    assert picked.geometry is not None
    assert picked.erasing is not None
    assert picked.geometry.elastic is not None
    assert picked.geometry.elastic.shape == (3, 2, 7, 7)
    assert (picked.geometry.fill, picked.erasing.level) == (0.5, 0.3)
    for array in (picked.geometry.affine, picked.jitter, picked.erasing.boxes, picked.targets):
        assert array is not None
        assert array[:, 0].tolist() == [2, 0, 2]
    assert (picked.epoch, picked.first_step, picked.lr.tolist()) == (3, 8, [0.1, 0.2])


def test_picked_of_a_plan_that_changes_nothing() -> None:
    """What a plan does not have, its parts do not have either."""
    plan = EpochPlan(1, 0, 2, np.arange(4, dtype=np.int32), np.zeros(2), np.zeros(2), 0)

    part = plan.picked(slice(1, 3))

    assert part.order.tolist() == [1, 2]
    assert (part.geometry, part.jitter, part.erasing, part.targets) == (None,) * 4

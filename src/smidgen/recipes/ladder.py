"""What the steps of a ladder save in parameters and cost in accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

from smidgen.network.trace import trace
from smidgen.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Saving:
    """One step of a ladder against the ladder's first.

    Args:
        name: The step's recipe.
        params_saved_percent: Parameters saved, by our counting rule.
        keras_saved_percent: Parameters and batch norm statistics saved, as Keras counts.
        points_lost: Percentage points between the headline accuracies that the sources claim;
            negative where the step gains, None where one of the two is not claimed.
    """

    name: str
    params_saved_percent: float
    keras_saved_percent: float
    points_lost: float | None


def savings(steps: Sequence[Recipe]) -> tuple[Saving, ...]:
    """Compare every step of a ladder with its first, the first with itself included.

    Source: the table of aknakshay/MNIST-Challenge.
    """
    totals = [trace(step.network).totals for step in steps]
    first, claimed = totals[0], _claimed(steps[0])
    rows = []
    for step, total in zip(steps, totals, strict=True):
        reached = _claimed(step)
        points = None if claimed is None or reached is None else claimed - reached
        rows.append(
            Saving(
                name=step.name,
                params_saved_percent=100 * (1 - total.num_params / first.num_params),
                keras_saved_percent=100 * (1 - total.keras_total / first.keras_total),
                points_lost=points,
            )
        )
    return tuple(rows)


def _claimed(step: Recipe) -> float | None:
    return step.about.claim.best_accuracy if step.about.claim else None

"""What a run reached: the epochs and the last measurement in, a `Result` out."""

from collections.abc import Sequence

from smidgen.runs.record import ON_TEST, EpochRecord, Result
from smidgen.training.evaluation import Evaluation
from smidgen.training.splits import ProtocolSplits


def best_index(epochs: Sequence[EpochRecord]) -> int:
    """Return the place of the first epoch with the fewest errors."""
    return min(range(len(epochs)), key=lambda index: epochs[index].eval_num_errors)


def result_of(
    epochs: Sequence[EpochRecord], splits: ProtocolSplits, chosen: int, measured: Evaluation
) -> Result:
    """Return what a run reached.

    Args:
        epochs: All epochs, in order.
        splits: The protocol's splits.
        chosen: Place of the epoch whose weights were measured.
        measured: How they did on the split that the protocol ends with.
    """
    accuracies = [epoch.eval_accuracy for epoch in epochs]
    best = best_index(epochs)
    tail = accuracies[-5:]
    return Result(
        split=splits.end_name,
        accuracy=measured.accuracy,
        num_errors=measured.num_errors,
        num_images=measured.num_images,
        epoch=chosen + 1,
        selection=ON_TEST if splits.selects_on_test else "last epoch",
        last_accuracy=accuracies[-1],
        mean_of_last_five=sum(tail) / len(tail),
        best_accuracy=accuracies[best],
        best_epoch=best + 1,
    )

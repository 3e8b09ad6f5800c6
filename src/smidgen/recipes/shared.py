"""What several entries of the catalogue have in common."""

from smidgen.recipes.augmentation import Augmentation, Rotation
from smidgen.recipes.parts import Budget, Loss, Normalization
from smidgen.recipes.recipe import Claim

MNIST_NORMALIZATION = Normalization(
    train_mean=0.1307, train_std=0.3081, eval_mean=0.1307, eval_std=0.3081
)
"""Mean and standard deviation of the 60,000 training images, for both splits."""

NLL = Loss(name="nll")
"""The courses' loss: negative log-likelihood on a log-softmax output."""

COURSE_BUDGET = Budget(max_params=9_999, max_epochs=15)
"""Fewer than 10,000 parameters and at most 15 epochs.

The courses' target of 99.4 % is not part of what an entry promises: the logs show that their
runs meet it at some epochs and miss it at others.
"""


def percent_log(text: str) -> tuple[float, ...]:
    """Read a log typed as one line: the percentages of epochs 1, 2, ... between spaces."""
    return tuple(float(word) for word in text.split())


def tilt(degrees: float) -> Augmentation:
    """Return the courses' rotation: 8-bit pixels, nearest neighbor, corners at 1 of 255."""
    return Augmentation(transforms=(Rotation(degrees),), interpolation="nearest", fill=1 / 255)


def logged(
    num_params: int,
    best: tuple[float, int],
    train: str,
    test: str,
    seconds: tuple[float, float],
) -> Claim:
    """Return the claim of a source that shows its whole log.

    Args:
        num_params: As the source states it.
        best: The headline accuracy in percent and its epoch, as the source states them.
        train: Running training accuracy of each epoch, for `percent_log`.
        test: Accuracy on the source's evaluation split after each epoch, for `percent_log`.
        seconds: Lowest and highest seconds per epoch.
    """
    return Claim(
        num_params=num_params,
        best_accuracy=best[0],
        best_epoch=best[1],
        train_log=percent_log(train),
        test_log=percent_log(test),
        seconds_per_epoch=seconds,
    )

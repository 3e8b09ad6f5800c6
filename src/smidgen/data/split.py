"""Labels in, a fixed stratified split into training and validation indices out."""

import numpy as np

from smidgen.errors import DataError

DEFAULT_NUM_VALID = 5000
_MAX_VALID_FRACTION = 6  # never more than one image in six
_KEY = 0x736D696467656E  # "smidgen"; a constant, so that no run's seed moves the split


def split_valid(
    labels: np.ndarray, num_valid: int = DEFAULT_NUM_VALID
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a validation set that has the classes in the training set's proportions.

    The same labels always give the same split, whatever the seed of a run.

    Args:
        labels: int (N,), N at least 6.
        num_valid: Images to hold out, at least 1; at most a sixth of all are.

    Returns:
        Two sorted int64 arrays of indices, training and validation, which together are
        0 to N - 1. Each class gets its share of the validation set rounded down or up.

    Raises:
        DataError: Fewer than 6 labels, or `num_valid` below 1.
    """
    total = len(labels)
    if total < _MAX_VALID_FRACTION:
        raise DataError(
            f"{total} images are too few to hold out a validation set; "
            f"at least {_MAX_VALID_FRACTION} are needed."
        )
    if num_valid < 1:
        raise DataError(f"`num_valid` must be at least 1, not {num_valid}.")
    num_valid = min(num_valid, total // _MAX_VALID_FRACTION)
    classes, counts = np.unique(labels, return_counts=True)
    shares = _shares(counts, num_valid)
    ranks = np.random.Philox(key=_KEY).random_raw(total)
    held_out: list[np.ndarray] = []
    for label, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels == label)
        held_out.append(members[np.argsort(ranks[members], kind="stable")[:share]])
    valid = np.sort(np.concatenate(held_out))
    is_train = np.ones(total, bool)
    is_train[valid] = False
    return np.flatnonzero(is_train), valid


def _shares(counts: np.ndarray, num_valid: int) -> np.ndarray:
    """Share `num_valid` among the classes by largest remainder, in whole numbers."""
    exact = counts.astype(np.int64) * num_valid
    shares, remainders = np.divmod(exact, counts.sum())
    first = np.argsort(-remainders, kind="stable")[: num_valid - shares.sum()]
    shares[first] += 1
    return shares

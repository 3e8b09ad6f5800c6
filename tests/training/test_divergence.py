from collections.abc import Callable

import pytest

from smidgen.runs.store import RunFolder
from smidgen.training.divergence import (
    DIVERGED,
    forget_divergence,
    note_divergence,
    why_unfinished,
)


@pytest.fixture
def folder(make_run: Callable[..., RunFolder]) -> RunFolder:
    """Return the folder of an unfinished run."""
    return make_run(1, finish=False)


def test_what_diverged_is_not_to_be_continued(folder: RunFolder) -> None:
    """The epoch is kept in the run's folder, until a new sitting sees for itself."""
    goes_on = (
        f"`{folder.name}` is not finished. Continue it with `smidgen train --resume {folder.name}`."
    )
    assert why_unfinished(folder) == goes_on

    note_divergence(folder, 3)
    assert why_unfinished(folder) == (
        f"`{folder.name}` diverged in epoch 3 (numbers not finite) and would do so again if "
        "continued. Train with a lower `optimizer.lr`."
    )

    forget_divergence(folder)
    forget_divergence(folder)
    assert why_unfinished(folder) == goes_on


@pytest.mark.parametrize("content", ["", "[]", "{}", "3"])
def test_a_damaged_note_says_nothing(folder: RunFolder, content: str) -> None:
    """Then the run counts as one that was stopped."""
    (folder.path / DIVERGED).write_text(content)

    assert " is not finished. " in why_unfinished(folder)

"""Options that say what a model must keep, and what they and a budget file come to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.prove import share_of

if TYPE_CHECKING:
    from smidgen.evidence.limits import Limits

MaxParams = Annotated[
    int | None, typer.Option(min=1, help="Most parameters: trainable, reached, shared once.")
]
MaxMacs = Annotated[
    int | None, typer.Option(min=1, help="Most multiply-accumulates for one image.")
]
MaxEpochs = Annotated[int | None, typer.Option(min=1, help="Most epochs of training.")]
MinAccuracy = Annotated[
    float | None,
    typer.Option(
        metavar="PERCENT", help="Least mean of the last epochs' accuracy over the seeds, as 99.4."
    ),
]
Stay = Annotated[
    int | None,
    typer.Option(min=1, help="So many last epochs of every seed must be at --min-accuracy."),
]
Require = Annotated[
    str | None, typer.Option(metavar="KINDS", help="Layers that must run, as batchnorm,dropout.")
]
Forbid = Annotated[
    str | None, typer.Option(metavar="KINDS", help="Layers that must not run, as linear.")
]
BudgetFile = Annotated[
    Path | None, typer.Option("--budget", help="A JSON file of limits; options go before it.")
]


def read_limits(path: Path | None) -> "Limits":
    """Return the limits of a budget file; none without a file.

    Raises:
        RecipeError: It cannot be read, or holds what is no limit.
        UnknownNameError: It names a kind of layer that there is not.
    """
    from smidgen.errors import RecipeError
    from smidgen.evidence.limits import Limits
    from smidgen.values import from_json

    if path is None:
        return Limits()
    try:
        return from_json(Limits, path.read_bytes(), RecipeError, f"`{path}`")
    except OSError as error:
        raise RecipeError(f"Cannot read `{path}`: {error.strerror}.") from error


def limits_from(
    sizes: tuple[int | None, int | None, int | None],
    accuracy: tuple[float | None, int | None],
    kinds: tuple[str | None, str | None],
    budget: Path | None,
) -> "Limits":
    """Return the limits of options over those of a file.

    Args:
        sizes: `--max-params`, `--max-macs`, `--max-epochs`.
        accuracy: `--min-accuracy` in percent, `--stay`.
        kinds: `--require`, `--forbid`: words between commas.
        budget: `--budget`.

    Raises:
        typer.BadParameter: An option that makes no sense, or contradicts another limit.
        RecipeError: As `read_limits`.
    """
    import dataclasses

    from smidgen.errors import RecipeError

    named = read_limits(budget)
    percent, stay_epochs = accuracy
    given: dict[str, object] = {
        "max_params": sizes[0],
        "max_macs": sizes[1],
        "max_epochs": sizes[2],
        "target_accuracy": None if percent is None else _share(percent),
        "stay_epochs": stay_epochs,
        "require": _words(kinds[0], "--require"),
        "forbid": _words(kinds[1], "--forbid"),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if stay_epochs is not None and percent is None and named.target_accuracy is None:
        raise typer.BadParameter(
            "it needs an accuracy to stay at, as `--min-accuracy 99.4`.", param_hint="'--stay'"
        )
    try:
        return dataclasses.replace(named, **changes)
    except RecipeError as error:  # the file's own limits went together
        raise typer.BadParameter(str(error)) from None


def _share(percent: float) -> float:
    share = share_of(percent, "--min-accuracy")
    if share >= 1.0:
        raise typer.BadParameter("100 % leaves no error.", param_hint="'--min-accuracy'")
    return share


def _words(text: str | None, option: str) -> tuple[str, ...] | None:
    from smidgen.errors import UnknownNameError
    from smidgen.evidence.limits import layer_word

    if text is None:
        return None
    try:
        return tuple(layer_word(word) for word in text.split(",") if word.strip())
    except UnknownNameError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from None

"""Options that several commands share, and what they stand for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from smidgen.choices import EngineChoice, Fit, Invert, Protocol

if TYPE_CHECKING:
    from smidgen.data import Dataset
    from smidgen.evidence.limits import Limits
    from smidgen.runs.store import RunStore
    from smidgen.work.jobs import Place

RunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", help="Folder of runs (else SMIDGEN_RUNS, else ./runs)."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Folder with the files, or the images of `folder` (else SMIDGEN_DATA)."
    ),
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, as --set epochs=3 --set dataset=stripes --set optimizer.lr=0.05.",
    ),
]
Like = Annotated[
    str | None,
    typer.Option(
        "--like",
        metavar="RECIPE",
        help="Whose settings train a FILE.py:Class (else smidgen/quick).",
    ),
]
ProtocolOption = Annotated[
    Protocol,
    typer.Option(
        "--protocol",
        help="final: all images, last epoch on test. tune: hold out valid. origin: as the source.",
    ),
]
RunsProtocol = Annotated[
    Protocol, typer.Option("--protocol", help="Of which runs to take for a recipe's name.")
]
LanesOption = Annotated[
    int | None, typer.Option(help="Images side by side in the native engine: 16, 8, 4 or 1.")
]
EngineOption = Annotated[EngineChoice, typer.Option("--engine", help="What does the arithmetic.")]
Device = Annotated[str, typer.Option(help="A torch device, such as cpu or cuda.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes at once, one thread each (else as many as cores)."),
]
On = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="WHERE",
        help="Where runs are made: local, ray:local, ray:auto, ray://HOST:PORT, or slurm.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A path, a name, a unique prefix, or `last`.")
]
InvertOption = Annotated[
    Invert, typer.Option("--invert", help="For `folder`: whether images are dark on light.")
]
FitOption = Annotated[
    Fit,
    typer.Option("--fit", help="For `folder`: scale to 28x28, or crop and center like MNIST."),
]

MaxParams = Annotated[
    int | None, typer.Option(min=1, help="Most parameters: trainable, reached, shared once.")
]
MaxMacs = Annotated[
    int | None, typer.Option(min=1, help="Most multiply-accumulates for one image.")
]
MaxFlash = Annotated[
    int | None,
    typer.Option(min=1, metavar="BYTES", help="Most flash on a Cortex-M0, code and tables."),
]
MaxRam = Annotated[
    int | None,
    typer.Option(min=1, metavar="BYTES", help="Most RAM there, with the stack, not the image."),
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


class SettingCommand(TyperCommand):
    """A command with `--set`: told `--epochs 1` by mistake, it names `--set epochs=1`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of a command line."""
        given = list(args)  # the parser empties its own
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # click's NoSuchOption, which typer does not name
            name = getattr(error, "option_name", "")
            if hasattr(error, "possibilities") and (advice := _as_setting(name, given)):
                vars(error)["possibilities"] = [advice]
            raise


def _as_setting(option: str, given: list[str]) -> str:
    """Return how `--set` writes an option that there is not; empty if it is no setting."""
    from smidgen.recipes.catalogue import get_recipe
    from smidgen.values import to_plain

    key = option.lstrip("-").replace("-", "_")
    plain = to_plain(get_recipe("smidgen/quick"))
    if key not in plain:
        if key not in plain["optimizer"]:
            return ""
        key = f"optimizer.{key}"
    for word, after in zip(given, [*given[1:], ""], strict=True):
        if word == option and after and not after.startswith("-"):
            return f"--set {key}={after}"
        if word.startswith(f"{option}="):
            return f"--set {key}={word.partition('=')[2]}"
    return f"--set {key}=VALUE"


def store_at(runs_dir: Path | None) -> "RunStore":
    """Return the run store of an option, of SMIDGEN_RUNS, or of ./runs."""
    from smidgen.places import RUNS_VARIABLE, folder_from
    from smidgen.runs.store import RunStore

    return RunStore(runs_dir or folder_from(RUNS_VARIABLE) or Path("runs"))


def share_of(given: float, option: str) -> float:
    """Return a percentage as a share; refuses what must be a share already, or no percentage."""
    if 0.0 <= given <= 1.0:
        raise typer.BadParameter(
            f"{given:g} looks like a share; accuracies are written in percent, as 99.4.",
            param_hint=f"'{option}'",
        )
    if not 1.0 < given <= 100.0:
        raise typer.BadParameter(
            f"{given:g} is no percentage; accuracies are above 1 and at most 100, as 99.4.",
            param_hint=f"'{option}'",
        )
    # 99.93 / 100 is above 0.9993 in doubles, and 7 errors in 10,000 images would be too many
    return round(given / 100.0, 12)


def load_named(
    name: str,
    data_dir: Path | None,
    invert: Invert = "auto",
    fit: Fit = "resize",
) -> "Dataset":
    """Load a data set and show how that goes; raises SmidgenError as `load_dataset`."""
    from smidgen.cli.live import data_progress
    from smidgen.data import load_dataset

    for option, given, usual in (("--invert", invert, "auto"), ("--fit", fit, "resize")):
        if name != "folder" and given != usual:
            raise typer.BadParameter(
                f"it says how images of `folder` are read; `{name}` has images as they should be.",
                param_hint=f"'{option}'",
            )
    with data_progress("images" if name == "folder" else "bytes") as progress:
        return load_dataset(name, data_dir, invert=invert, fit=fit, progress=progress)


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
    budget: Path | None,
    *,
    max_params: int | None,
    max_macs: int | None,
    max_flash: int | None = None,
    max_ram: int | None = None,
    max_epochs: int | None,
    min_accuracy: float | None,
    stay: int | None,
    require: str | None,
    forbid: str | None,
) -> "Limits":
    """Return the limits of options over those of a file.

    Args:
        budget: The file of `--budget`.
        max_params: Of the option; as all that follow None where it was not given.
        max_macs: The same.
        max_flash: The same.
        max_ram: The same.
        max_epochs: The same.
        min_accuracy: In percent.
        stay: How many last epochs must be there.
        require: Words between commas.
        forbid: The same.

    Raises:
        typer.BadParameter: An option that makes no sense, or contradicts another limit.
        RecipeError: As `read_limits`.
    """
    import dataclasses

    from smidgen.errors import RecipeError

    named = read_limits(budget)
    given: dict[str, object] = {
        "max_params": max_params,
        "max_macs": max_macs,
        "max_flash": max_flash,
        "max_ram": max_ram,
        "max_epochs": max_epochs,
        "target_accuracy": None if min_accuracy is None else _least_share(min_accuracy),
        "stay_epochs": stay,
        "require": _words(require, "--require"),
        "forbid": _words(forbid, "--forbid"),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if stay is not None and min_accuracy is None and named.target_accuracy is None:
        raise typer.BadParameter(
            "it needs an accuracy to stay at, as `--min-accuracy 99.4`.", param_hint="'--stay'"
        )
    try:
        return dataclasses.replace(named, **changes)
    except RecipeError as error:  # the file's own limits went together
        raise typer.BadParameter(str(error)) from None


def _least_share(percent: float) -> float:
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


def lanes_of(on: str, lanes: int | None, engine: EngineChoice) -> int | None:
    """Return how many lanes runs shall have: over several machines 8, unless it was said.

    Every x86 processor since 2013 has what 8 lanes need, so one library serves all nodes.
    """
    if lanes is None and engine != "torch" and on.startswith("ray:") and on != "ray:local":
        return 8
    return lanes


def place_of(on: str, runs_dir: Path | None) -> "Place":
    """Return where `--on` says that runs are made; for `slurm` print a script and end.

    Raises:
        typer.BadParameter: No such place.
        typer.Exit: After the script is printed.
    """
    from smidgen.work.local import Local

    if on == "slurm":
        print(_slurm_script(runs_dir), end="")
        raise typer.Exit
    if on == "local":
        return Local
    kind, _, address = on.partition(":")
    if kind != "ray" or address.strip("/") == "":
        raise typer.BadParameter(
            f"`{on}` is none of local, ray:local, ray:auto, ray://HOST:PORT, slurm.",
            param_hint="'--on'",
        )
    from smidgen.extras import require
    from smidgen.work.cluster import Cluster

    require("A cluster needs", "ray")  # before anything is read
    return lambda shared, workers: Cluster(shared, workers, address.strip("/"))


def _slurm_script(runs_dir: Path | None) -> str:
    """Return the array script of this very command, made on local processes."""
    import sys

    from smidgen.work.slurm import array_script

    words = list(sys.argv[1:])
    for option in ("--on", "--workers"):
        for place in [i for i, word in enumerate(words) if word.split("=")[0] == option][::-1]:
            del words[place : place + (1 if "=" in words[place] else 2)]
    environment = Path(sys.prefix) if sys.prefix != sys.base_prefix else None
    store = store_at(runs_dir)
    return array_script(["smidgen", *words], store.root, environment=environment)

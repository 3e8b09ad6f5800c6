"""`RunRecord`: what was trained, where, how it went, and what came out. Plain data."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from smidgen.data.fit import Fit, Invert, Reading, reading_of
from smidgen.errors import RunError
from smidgen.recipes.recipe import Recipe
from smidgen.values import from_plain, to_plain, value

RESULTS_VERSION = 1
"""Raised when a fix changes the numbers of a run; part of every run's identity."""

_DIGEST = "sha256"

ON_TEST: Final = "selected on the test set"
"""How an origin chooses the epoch that it reports; said wherever such a number is shown."""

Protocol = Literal["tune", "final", "origin"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


@value(RunError)
class EpochRecord:
    """One epoch.

    Args:
        epoch: From 1.
        train_loss: Mean over the epoch's images, each before its batch's update.
        train_accuracy: Running accuracy inside the epoch: dropout and augmentation are on.
        split: Where the next three were measured after the epoch: `valid` or `test`.
        eval_loss: Mean cross-entropy.
        eval_accuracy: Share of images classified right.
        eval_num_errors: Images classified wrong.
        train_seconds: Wall time of the training part.
        eval_seconds: Wall time of the evaluation.
        images_per_second: Training images per second of the training part.
        lr_first: Learning rate of the first step.
        lr_last: Learning rate of the last step.
    """

    epoch: int
    train_loss: float
    train_accuracy: Share
    split: Literal["valid", "test"]
    eval_loss: float
    eval_accuracy: Share
    eval_num_errors: int
    train_seconds: float
    eval_seconds: float
    images_per_second: float
    lr_first: float
    lr_last: float

    def without_times(self) -> tuple[object, ...]:
        """Return what must be equal when a run is repeated."""
        return (
            self.epoch,
            self.train_loss,
            self.train_accuracy,
            self.split,
            self.eval_loss,
            self.eval_accuracy,
            self.eval_num_errors,
            self.lr_first,
            self.lr_last,
        )


@value(RunError)
class Result:
    """What a finished run reached.

    Args:
        split: Where it was measured: `test`, or `valid` under the `tune` protocol.
        accuracy: Share of images classified right.
        num_errors: Images classified wrong.
        num_images: Images in the split.
        epoch: The epoch whose weights these are.
        selection: `last epoch`, or `selected on the test set` where an origin does so.
        last_accuracy: On the epochs' split after the last epoch.
        mean_of_last_five: Mean over the last five epochs there (fewer if there are fewer).
        best_accuracy: The highest of all epochs there; for `final` runs a mere observation.
        best_epoch: Where that was first reached.
    """

    split: Literal["valid", "test"]
    accuracy: Share
    num_errors: int
    num_images: int
    epoch: int
    selection: Literal["last epoch", "selected on the test set"]
    last_accuracy: Share
    mean_of_last_five: Share
    best_accuracy: Share
    best_epoch: int


@value(RunError)
class Environment:
    """Where a run ran; only `engine`, `device` and torch's `threads` are part of its identity."""

    engine: Literal["torch", "native"]
    device: str
    threads: int
    versions: dict[str, str]
    hardware: dict[str, str]


@value(RunError)
class DataUsed:
    """Which images a run saw.

    Args:
        name: Of the data set.
        sha256: Its hash.
        class_names: One per class.
        num_train: Images trained on.
        num_valid: Images held out.
        num_test: Images measured on; 0 if they were not opened.
        invert: How the images of a folder were read; None for other data sets, and for runs
            from before this was kept.
        fit: The same.
    """

    name: str
    sha256: str
    class_names: tuple[str, ...]
    num_train: int
    num_valid: int
    num_test: int
    invert: Invert | None = None
    fit: Fit | None = None

    @property
    def reading(self) -> Reading:
        """The options that read a folder's images as this run saw them; empty if not known."""
        return reading_of(self.invert, self.fit)


@value(RunError)
class TeacherUsed:
    """A finished run that a student learned from.

    Args:
        run: Name of its folder, beside the student's.
        recipe: Its recipe's name.
        seed: Its seed.
        identity: As in its record.
        model_sha256: Of its `model.safetensors`.
    """

    run: str
    recipe: str
    seed: int
    identity: str
    model_sha256: str


@value(RunError)
class RunRecord:
    """Everything about one run.

    Args:
        recipe: In full.
        fingerprint: The recipe's.
        identity: 64 hexadecimal digits over what decides the numbers (see `identity_of`).
        seed: The random seed.
        protocol: `tune`, `final` or `origin`.
        environment: Engine, versions, hardware.
        data: Which images.
        num_params: By the counting rule.
        num_macs: For one image.
        started: UTC, ISO 8601.
        epochs: What happened, in order.
        result: None until the run is finished.
        train_seconds: Sum over epochs of the training part.
        wall_seconds: From the call of `train` to the last file; of sittings that were cut
            short, up to their last finished epoch.
        files: SHA-256 of each file beside the record; empty until the run is finished.
        results_version: The `RESULTS_VERSION` it was made with.
        source_sha256: Of `source.py`, the Python file that the network was read from, else "".
        teachers: The runs that taught, in the order of the recipe's distillation.
    """

    recipe: Recipe
    fingerprint: str
    identity: str
    seed: int
    protocol: Protocol
    environment: Environment
    data: DataUsed
    num_params: int
    num_macs: int
    started: str
    epochs: tuple[EpochRecord, ...] = ()
    result: Result | None = None
    train_seconds: float = 0.0
    wall_seconds: float = 0.0
    files: dict[str, str] = Field(default_factory=dict)
    results_version: int = RESULTS_VERSION
    source_sha256: str = ""
    teachers: tuple[TeacherUsed, ...] = ()

    def to_json(self) -> str:
        """Return the content of `record.json`: the fields, and `sha256` over all of them."""
        plain = to_plain(self)
        for option in ("invert", "fit"):
            if plain["data"][option] is None:
                del plain["data"][option]  # so that records without are as they always were
        return json.dumps({**plain, _DIGEST: _digest(plain)}, indent=2)

    @staticmethod
    def read(path: Path) -> "RunRecord":
        """Read a `record.json`; raises RunError if it is missing, damaged or was edited."""
        try:
            plain = json.loads(path.read_bytes())
        except OSError as error:
            raise RunError(f"Cannot read `{path}`: {error.strerror}.") from error
        except (ValueError, RecursionError):
            raise RunError(f"`{path}` is damaged: it is not JSON. Restore it.") from None
        if not isinstance(plain, dict) or plain.pop(_DIGEST, None) != _digest(plain):
            raise RunError(
                f"`{path}` is damaged: its content does not match its SHA-256. Restore it."
            )
        return from_plain(RunRecord, plain, RunError, f"`{path}`")


def identity_of(
    recipe: Recipe, seed: int, protocol: Protocol, environment: Environment, data_sha256: str
) -> str:
    """Return what makes two runs the same run: equal identity, equal numbers.

    Thread counts change the bits of the torch engine and not those of the native one.
    """
    parts = {
        "recipe": recipe.fingerprint(),
        "seed": seed,
        "protocol": protocol,
        "engine": environment.engine,
        "device": environment.device,
        "threads": environment.threads if environment.engine == "torch" else None,
        "data": data_sha256,
        "results_version": RESULTS_VERSION,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _digest(plain: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

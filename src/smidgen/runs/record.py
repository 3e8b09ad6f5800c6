"""`RunRecord`: what was trained, where, how it went, and what came out. Plain data."""

import hashlib
import json
from dataclasses import field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field
from pydantic_core import from_json

from smidgen.choices import EngineName, Protocol
from smidgen.data.images import Fit, Invert, Reading, reading_of
from smidgen.errors import RunError
from smidgen.recipes.recipe import FORM, Recipe
from smidgen.runs.first_form import first_fingerprint, first_identity
from smidgen.values import canonical, canonical_digest, from_plain, to_plain, value

RESULTS_VERSION = 1
"""Raised when a fix changes the numbers of a run; part of every run's identity."""

_DIGEST, _FORM = "sha256", "form"
_MARK = ',\n  "sha256": "'

ON_TEST: Final = "selected on the test set"
"""How an origin chooses the epoch that it reports; said wherever such a number is shown."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0.0)]


@value(RunError)
class RunChoices:
    """What decides the numbers of a run beside its recipe and its seed.

    Args:
        protocol: `tune`, `final` or `origin`.
        engine: What does the arithmetic.
        data_sha256: Hash of the data set.
        device: A torch device.
        threads: Cores of the torch engine, whose bits depend on them; None for the native one.
        lanes: Images that the native engine holds side by side, on which its bits depend; None
            for the torch engine, and where a record from before lanes were kept does not tell.
        results_version: The `RESULTS_VERSION` that the numbers are of.
    """

    protocol: Protocol = field(kw_only=True)
    engine: EngineName = field(kw_only=True)
    data_sha256: str = field(kw_only=True)
    device: str = field(default="cpu", kw_only=True)
    threads: Positive | None = field(default=None, kw_only=True)
    lanes: Positive | None = field(default=None, kw_only=True)
    # made, not declared: a default would be left out of the identity
    results_version: Positive = field(default_factory=lambda: RESULTS_VERSION, kw_only=True)

    def __post_init__(self) -> None:
        is_torch = self.engine == "torch"
        if is_torch != (self.threads is not None) or (is_torch and self.lanes is not None):
            raise RunError(
                f"A run of the {self.engine} engine does not depend on `threads={self.threads}` "
                f"and `lanes={self.lanes}`. Name threads for torch and lanes for native."
            )


@value(RunError)
class RunKind(RunChoices):
    """What runs that differ only in the seed have in common: hashable, made from spec or record.

    Args:
        fingerprint: The recipe's.
    """

    fingerprint: str = field(kw_only=True)


@value(RunError)
class RunSpec(RunChoices):
    """What makes a run: equal specs, equal numbers. A value that other processes can be sent.

    Args:
        recipe: What is trained, and how.
        seed: The random seed.
    """

    recipe: Recipe
    seed: NonNegative

    NOT_IDENTITY: ClassVar = ("recipe",)

    @property
    def kind(self) -> RunKind:
        """Everything but the seed, the recipe by its fingerprint."""
        choices = {item.name: getattr(self, item.name) for item in fields(RunChoices)}
        return RunKind(fingerprint=self.recipe.fingerprint(), **choices)

    @cached_property
    def identity(self) -> str:
        """64 hexadecimal digits over everything that decides the numbers."""
        plain = {"recipe": self.recipe.fingerprint(), **canonical(self)}
        return canonical_digest(plain, FORM)

    def first_identity(self) -> str | None:
        """Return what it was called before defaults were left out; None for what came later."""
        fingerprint = first_fingerprint(self.recipe)
        if fingerprint is None or self.lanes is not None:
            return None
        return first_identity(
            fingerprint,
            self.seed,
            protocol=self.protocol,
            engine=self.engine,
            device=self.device,
            threads=self.threads,
            data=self.data_sha256,
            results_version=self.results_version,
        )


def differences(one: RunKind, other: RunKind) -> list[str]:
    """Return, in words, in what two kinds of runs differ; lanes that are not known fit any."""
    return [
        _WORDS.get(item.name, item.name.replace("_", " "))
        for item in fields(RunKind)
        if (mine := getattr(one, item.name)) != (theirs := getattr(other, item.name))
        and not (item.name == "lanes" and None in (mine, theirs))
    ]


_WORDS = {"fingerprint": "recipe", "data_sha256": "data"}


def alike(one: RunKind, other: RunKind) -> bool:
    """Return whether runs of two kinds may stand in one sample: the same but for the seed."""
    return not differences(one, other)


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

    epoch: Positive
    train_loss: float
    train_accuracy: Share
    split: Literal["valid", "test"]
    eval_loss: float
    eval_accuracy: Share
    eval_num_errors: NonNegative
    train_seconds: Seconds
    eval_seconds: Seconds
    images_per_second: Annotated[float, Field(ge=0.0)]
    lr_first: Annotated[float, Field(ge=0.0)]
    lr_last: Annotated[float, Field(ge=0.0)]

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
    num_errors: NonNegative
    num_images: Positive
    epoch: Positive
    selection: Literal["last epoch", "selected on the test set"]
    last_accuracy: Share
    mean_of_last_five: Share
    best_accuracy: Share
    best_epoch: Positive

    def __post_init__(self) -> None:
        if self.num_errors > self.num_images:
            raise RunError(f"`num_errors` is {self.num_errors} of {self.num_images} images.")


@value(RunError)
class Environment:
    """Where a run ran.

    Args:
        engine: Part of its identity, as `device`, torch's `threads` and native `lanes` are.
        device: A torch device.
        threads: Cores it used.
        versions: Of the software.
        hardware: The machine.
        lanes: Images side by side in the native engine; None for torch, and for runs from before
            this was kept.
        build: Of the native engine's library: `compiler`, as it tells its version, and `sha256`
            of the machine code. Empty for torch, and for runs from before this was kept.
    """

    engine: EngineName
    device: str
    threads: Positive
    versions: dict[str, str]
    hardware: dict[str, str]
    lanes: Positive | None = None
    build: dict[str, str] = Field(default_factory=dict)


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
    num_train: NonNegative
    num_valid: NonNegative
    num_test: NonNegative
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
    seed: NonNegative
    identity: str
    model_sha256: str


@value(RunError)
class RunRecord:
    """Everything about one run.

    Args:
        recipe: In full.
        fingerprint: The recipe's.
        identity: 64 hexadecimal digits over what decides the numbers (see `RunSpec`).
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
    seed: NonNegative
    protocol: Protocol
    environment: Environment
    data: DataUsed
    num_params: NonNegative
    num_macs: NonNegative
    started: str
    epochs: tuple[EpochRecord, ...] = ()
    result: Result | None = None
    train_seconds: Seconds = 0.0
    wall_seconds: Seconds = 0.0
    files: dict[str, str] = Field(default_factory=dict)
    results_version: Positive = RESULTS_VERSION
    source_sha256: str = ""
    teachers: tuple[TeacherUsed, ...] = ()

    def __post_init__(self) -> None:
        if [done.epoch for done in self.epochs] != list(range(1, len(self.epochs) + 1)):
            raise RunError("`epochs` are not numbered 1, 2, 3 and so on.")
        if self.result is None:
            return
        for what, epoch in (("epoch", self.result.epoch), ("best_epoch", self.result.best_epoch)):
            if epoch > len(self.epochs):
                raise RunError(f"`result.{what}` is {epoch} of {len(self.epochs)} epochs.")

    @property
    def spec(self) -> RunSpec:
        """What makes this run."""
        return RunSpec(self.recipe, self.seed, **self._choices)

    @property
    def kind(self) -> RunKind:
        """What it has in common with runs of other seeds."""
        return RunKind(fingerprint=self.fingerprint, **self._choices)

    @property
    def _choices(self) -> dict[str, Any]:
        used = self.environment
        return {
            "protocol": self.protocol,
            "engine": used.engine,
            "data_sha256": self.data.sha256,
            "device": used.device,
            "threads": used.threads if used.engine == "torch" else None,
            "lanes": used.lanes,
            "results_version": self.results_version,
        }

    def to_json(self) -> str:
        """Return the content of `record.json`: the fields, `form`, `sha256` over that text."""
        text = json.dumps({**to_plain(self), _FORM: FORM}, indent=2).removesuffix("\n}")
        return f'{text}{_MARK}{hashlib.sha256(text.encode()).hexdigest()}"\n}}'

    @staticmethod
    def read(path: Path) -> "RunRecord":
        """Read a `record.json`.

        One of the first form is given the fingerprint and the identity that it has now.

        Raises:
            RunError: It is missing, damaged, was edited, or says what cannot be.
        """
        plain = read_plain(path)
        form = form_of(plain)
        plain.pop(_FORM, None)
        record = from_plain(RunRecord, plain, RunError, f"`{path}`")
        if form == 1 and record.fingerprint == first_fingerprint(record.recipe):
            fingerprint, identity = record.recipe.fingerprint(), record.spec.identity
            return replace(record, fingerprint=fingerprint, identity=identity)
        return record


def form_of(plain: dict[str, Any]) -> int:
    """Return of which canonical form the fingerprint and the identity of a plain record are."""
    return plain.get(_FORM, 1)


def read_plain(path: Path) -> dict[str, Any]:
    """Read what stands in a `record.json`; raises RunError if that was damaged or edited."""
    try:
        content = path.read_bytes()
        plain = from_json(content)  # three times as fast as the standard library's
    except OSError as error:
        raise RunError(f"Cannot read `{path}`: {error.strerror}.") from error
    except ValueError:
        raise RunError(f"`{path}` is damaged: it is not JSON. Restore it.") from None
    digest = plain.pop(_DIGEST, None) if isinstance(plain, dict) else None
    text, mark, _ = content.rpartition(_MARK.encode())
    is_whole = bool(mark) and digest == hashlib.sha256(text).hexdigest()
    if not is_whole and (digest is None or digest != _digest(plain)):
        raise RunError(f"`{path}` is damaged: its content does not match its SHA-256. Restore it.")
    return plain


def _digest(plain: dict[str, object]) -> str:
    """Return what records of the first form have for a digest: over the sorted fields."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

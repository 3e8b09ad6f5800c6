"""From a trained run to files that run elsewhere, and a manifest that says what they are."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from smidgen.data import load_dataset
from smidgen.data.dataset import Dataset, Split
from smidgen.errors import DataError, ShipError, nearest
from smidgen.network.network import Network
from smidgen.network.weights import initial_weights
from smidgen.runs.store import RunFolder
from smidgen.ship.arduino import arduino
from smidgen.ship.boards import Weight, weigh_or_estimate
from smidgen.ship.c_printer import header
from smidgen.ship.executor import scores_of
from smidgen.ship.folding import FloatNetwork, fold
from smidgen.ship.integer import IntegerNetwork
from smidgen.ship.onnx_printer import float_onnx, integer_onnx
from smidgen.ship.quantize import NUM_CALIBRATION, Naming, quantize, stand_in
from smidgen.ship.scripts import javascript, javascript_types, python
from smidgen.ship.wasm import wasm

Form = Literal["c", "arduino", "onnx", "js", "wasm", "python"]
FORMS: tuple[str, ...] = get_args(Form)

_NUM_EXAMPLES = 3
_C_WORDS = re.compile(
    "auto|break|case|char|class|const|continue|default|delete|do|double|else|enum|extern|float|for|"
    "goto|if|inline|int|long|new|register|restrict|return|short|signed|sizeof|static|struct|"
    "switch|this|typedef|union|unsigned|void|volatile|while"
)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A run made ready to be printed.

    Args:
        name: What all names begin with.
        folded: Its float stages.
        network: Its integers.
        examples: uint8 (3, C, H, W) images for self-tests.
        test: The test images and labels of its data set.
        num_macs: Multiply-accumulates for one image.
        source: Where it comes from, for people and manifests.
    """

    name: str
    folded: FloatNetwork
    network: IntegerNetwork
    examples: np.ndarray
    test: Split
    num_macs: int
    source: dict[str, str]

    def errors(self) -> tuple[int, int]:
        """Return how many test images floats and integers get wrong."""
        floats = self.folded.logits(self.test.images).argmax(axis=1)
        whole = scores_of(self.network, self.test.images).argmax(axis=1)
        labels = self.test.labels
        return int((floats != labels).sum()), int((whole != labels).sum())


@dataclass(frozen=True, slots=True)
class Exported:
    """Files by name, and what they are.

    Args:
        files: Their bytes.
        manifest: Name, source, errors, flash and RAM, sizes and SHA-256 of the files.
    """

    files: dict[str, bytes]
    manifest: dict[str, Any] = field(default_factory=dict)


def export(
    run: RunFolder | Path | str,
    to: Form = "c",
    *,
    name: str = "",
    floats: bool = False,
    fast: bool = False,
    calibrate: int = NUM_CALIBRATION,
    data_dir: Path | None = None,
) -> Exported:
    """Print a finished run for another machine.

    Args:
        run: The run's folder, or a handle on it.
        to: `c`, `arduino`, `onnx`, `js`, `wasm` or `python`.
        name: What all names begin with; the recipe's with `_` if empty.
        floats: For `onnx`: the float network and not the integers.
        fast: For `c`, `arduino` and `wasm`: laid out for speed, not for the smallest flash.
        calibrate: Training images that decide the integers' scales.
        data_dir: As for `load_dataset`.

    Returns:
        The files by name, and the manifest, which is one of them, too.

    Raises:
        RunError: The run is unfinished or damaged.
        DataError: Its data set is not here.
        NetworkError: A layer that cannot be shipped.
        ShipError: A form, a name or a number that makes no sense.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(Path(run))
    prepared = prepare(folder, name=name, calibrate=calibrate, data_dir=data_dir)
    return print_as(prepared, to, floats=floats, fast=fast)


def prepare(
    run: RunFolder,
    *,
    name: str = "",
    calibrate: int = NUM_CALIBRATION,
    data_dir: Path | None = None,
) -> Prepared:
    """Fold and quantize a finished run; arguments and errors as for `export`."""
    record = run.record()
    if record.result is None or not run.is_finished:
        raise ShipError(
            f"`{run.name}` is not finished. Go on with `smidgen train --resume {run.name}`."
        )
    recipe = record.recipe
    name = checked_name(name or re.sub(r"\W+", "_", recipe.name).strip("_"))
    dataset = load_dataset(record.data.name, data_dir, **record.data.reading)
    if dataset.sha256 != record.data.sha256:
        raise DataError(
            f"The `{dataset.name}` here is not the one that `{run.name}` was trained with."
        )
    if not 1 <= calibrate <= len(dataset.train):
        raise ShipError(
            f"`calibrate` must be from 1 to {len(dataset.train):,} training images, "
            f"not {calibrate:,}."
        )
    normalization = recipe.normalization
    folded = fold(recipe.network, run.model(), normalization.eval_mean, normalization.eval_std)
    source = {
        "recipe": recipe.name,
        "seed": str(record.seed),
        "run": run.name,
        "identity": record.identity,
        "data": f"{record.data.name} {record.data.sha256}",
        "calibrated on": f"{calibrate} training images",
    }
    naming = Naming(name, record.data.class_names, source)
    network = quantize(folded, dataset.train.images[:calibrate], naming)
    return Prepared(
        name,
        folded,
        network,
        _examples(dataset),
        dataset.test,
        record.num_macs,
        source,
    )


def checked_name(name: str) -> str:
    """Return a prefix of C names as it is; raises ShipError if it is none."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", name) or _C_WORDS.fullmatch(name):
        raise ShipError(
            f"`{name}` cannot begin names in C: it must be up to 41 letters, digits and _, begin "
            "with a letter, and be no word of the language; as `digit`."
        )
    return name


def print_as(prepared: Prepared, to: Form, *, floats: bool = False, fast: bool = False) -> Exported:
    """Print what was prepared; arguments and errors as for `export`."""
    if to not in FORMS:
        near = nearest(to, FORMS)
        advice = f"Did you mean `{near}`?" if near else f"Known: {', '.join(FORMS)}."
        raise ShipError(f"There is no form `{to}`. {advice}")
    if floats and to != "onnx":
        raise ShipError(f"Floats are printed for `onnx` only, not for `{to}`.")
    if fast and to not in ("c", "arduino", "wasm"):
        raise ShipError(f"The fast form is one of the C code; `{to}` has none.")
    files = _files(prepared, to, floats=floats, fast=fast)
    manifest = _manifest(prepared, to, files, fast=fast)
    return Exported(files, manifest)


def _files(prepared: Prepared, to: Form, *, floats: bool, fast: bool) -> dict[str, bytes]:
    name, network, examples = prepared.name, prepared.network, prepared.examples
    metadata = prepared.source | {"classes": "\n".join(network.class_names)}
    match to:
        case "c":
            return {f"{name}.h": header(network, name, fast, examples).encode()}
        case "arduino":
            about = f"From the recipe {prepared.source['recipe']}, seed {prepared.source['seed']}."
            packed = arduino(header(network, name, fast, examples), name, about)
            return {f"{name}.zip": packed}
        case "onnx" if floats:
            return {f"{name}.onnx": float_onnx(prepared.folded, metadata)}
        case "onnx":
            scale = {"score_scale": repr(network.score_scale)}
            return {f"{name}_int8.onnx": integer_onnx(network, metadata | scale)}
        case "js":
            module = javascript(network, examples)
            return {f"{name}.mjs": module.encode(), f"{name}.d.mts": javascript_types().encode()}
        case "wasm":
            return {f"{name}.wasm": wasm(header(network, name, fast), name)}
        case "python":
            return {f"{name}.py": python(network, examples).encode()}


def _manifest(
    prepared: Prepared, to: Form, files: dict[str, bytes], *, fast: bool
) -> dict[str, Any]:
    float_errors, integer_errors = prepared.errors()
    weight, is_measured = weigh_or_estimate(prepared.network, fast)
    return {
        "name": prepared.name,
        "form": to,
        "source": prepared.source,
        "classes": list(prepared.network.class_names),
        "num_test_images": len(prepared.test),
        "float_errors": float_errors,
        "integer_errors": integer_errors,
        "num_macs": prepared.num_macs,
        "cortex_m0": weight_plain(weight, is_measured),
        "files": {
            name: {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }


def weight_plain(weight: Weight, is_measured: bool) -> dict[str, int | bool]:
    """Return flash and RAM on a Cortex-M0 as plain data."""
    return {
        "flash_bytes": weight.flash,
        "ram_bytes": weight.ram,
        "arena_bytes": weight.arena,
        "stack_bytes": weight.stack,
        "is_measured": is_measured,
    }


def foreseen(network: Network, mean: float = 0.0, fast: bool = False) -> tuple[Weight, bool]:
    """Return what a network will take on a Cortex-M0 before it is trained.

    RAM is arena and stack; the image is the caller's. Flash is what `export` prints later, unless
    training turns the sign of a norm behind an activation.

    Args:
        network: The network.
        mean: What evaluation subtracts from pixels / 255.
        fast: Of the fast form, whose code depends a little on the weights.

    Returns:
        Flash and RAM, and whether a cross compiler measured them.

    Raises:
        NetworkError: A layer that cannot be shipped.
    """
    rng = np.random.default_rng(0)
    tensors = {
        # all numbers that training moves are moved a little: norms then have offsets
        name: array + rng.uniform(0.01, 0.1, array.shape).astype(np.float32)
        for name, array in initial_weights(network, 1).items()
    }
    naming = Naming("network", tuple(str(number) for number in range(network.num_classes)), {})
    return weigh_or_estimate(stand_in(network, tensors, naming, mean), fast)


def _examples(dataset: Dataset) -> np.ndarray:
    """Return the first test image of each of the first three classes that have one."""
    labels = dataset.test.labels
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    return dataset.test.images[firsts[:_NUM_EXAMPLES]]

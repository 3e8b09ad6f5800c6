"""The numbers of plans, initial weights and short runs, as they are now; `--write` pins them.

    python tests/golden.py --write

adds what `golden.json` lacks: numbers of new recipes and layers, and digests of a compiler that
it does not list (`SMIDGEN_CC=zig python tests/golden.py --write`). Numbers that are pinned and
differ are refused. Where `RESULTS_VERSION` was raised, all are pinned anew: run it once for each
compiler that shall be listed.

A digest is over values, so a renamed module or a moved function changes none of them.
"""

import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.data import draw_stripes
from smidgen.engines.choose import make_engine
from smidgen.engines.contract import Engine, EpochPlan
from smidgen.engines.native.build import CompileOptions, find_compiler
from smidgen.engines.native.engine import NativeEngine
from smidgen.engines.native.toolchain import LANES, missing_features
from smidgen.network import layers as L
from smidgen.network.layers import Branches, Repeat, Residual
from smidgen.network.network import Network
from smidgen.network.weights import initial_weights
from smidgen.recipes.augmentation import (
    Augmentation,
    Elastic,
    Erasing,
    Jitter,
    ResizedCrop,
    Rotation,
    Scaling,
    Shear,
    Translation,
)
from smidgen.recipes.parts import (
    SGD,
    Adam,
    AdamW,
    Cosine,
    Linear,
    Loss,
    Normalization,
    OneCycle,
    Plateau,
    StepDecay,
    WeightAveraging,
)
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import RESULTS_VERSION
from smidgen.training.plan import plan

PINNED = Path(__file__).with_name("golden.json")
SEED = 3
HISTORY = (0.5, 0.7, 0.7, 0.7, 0.7)
"""Accuracies after which the plateau rule has lowered the rate."""
EPOCHS = (1, 2)

EVERY_LAYER = Network(
    (
        L.Conv(6, 3, padding=1),
        L.BatchNorm(),
        L.ReLU(),
        L.MaxPool(2),
        L.SeparableConv(8, 3, padding="same", depthwise_bias=True),
        L.LeakyReLU(0.1),
        L.Dropout(0.1),
        Branches(
            (
                (L.Conv(4, 1, bias=True),),
                (
                    L.Conv(4, 3, padding=1, groups=2),
                    L.BatchNorm(momentum=0.01, running_variance="biased"),
                    L.PReLU(),
                ),
                (),
            )
        ),
        L.AvgPool(2),
        Residual((L.Conv(16, 3, padding=1), L.SampleNorm())),
        Repeat((L.Conv(16, (1, 3), padding="same"), L.BatchNorm(), L.ReLU()), times=2),
        L.MaxPool(3, stride=2, padding=1),
        Branches(((L.GlobalAvgPool(),), (L.GlobalMaxPool(),))),
        L.Flatten(),
        L.Dense(12),
        L.Dropout(0.2),
        L.Multiply(0.5),
        L.Dense(10),
    )
)
SMALL = Network((L.Conv(4, 5, stride=3), L.ReLU(), L.GlobalAvgPool(), L.Flatten(), L.Dense(10)))

# No bias stands right before a norm: its gradient is rounding alone, which Adam would blow up.
LATER_LAYERS = Network(
    (L.Conv(4, 3), L.GroupNorm(2), L.Dropout2d(0.1), L.Flatten(), L.Dense(4)),
    (1, 10, 10),
    num_classes=4,
)
NETWORKS = {"every layer": EVERY_LAYER, "later layers": LATER_LAYERS}
"""Together they have every kind of layer, in every convention for initial weights."""


def _recipe(name: str, **parts: Any) -> Recipe:
    usual = {"network": SMALL, "optimizer": SGD(0.1), "epochs": 6, "batch_size": 32}
    return Recipe(name=name, dataset="stripes", **(usual | parts))


PLANNED = (
    _recipe("constant", augmentation=Augmentation((Rotation(15.0),))),
    _recipe(
        "step",
        schedule=StepDecay(1, 0.5),
        batch_size=50,
        drop_last=True,
        augmentation=Augmentation(
            (Translation(2.0, whole_pixels=True), Scaling(0.8, 1.2), Rotation(5.0)),
            interpolation="nearest",
        ),
    ),
    _recipe(
        "one cycle",
        optimizer=Adam(0.01),
        schedule=OneCycle(),
        augmentation=Augmentation((Shear(10.0), Translation(1.5), Elastic(1.0))),
    ),
    _recipe(
        "one cycle by epoch",
        optimizer=SGD(0.1, momentum=0.9, nesterov=True),
        schedule=OneCycle(warmup_fraction=0.4, anneal="linear", momentum=None, every="epoch"),
        augmentation=Augmentation((ResizedCrop(0.5), Jitter(0.2, 0.3))),
    ),
    _recipe(
        "cosine",
        optimizer=AdamW(0.01),
        schedule=Cosine(final_lr=1e-4, warmup_fraction=0.3),
        normalization=Normalization(0.1307, 0.3081, 0.1325, 0.3105),
        augmentation=Augmentation(
            (Erasing(0.5), Rotation(7.0)), fill=1.0, position="after_normalization"
        ),
    ),
    _recipe(
        "linear",
        epochs=2,
        clean_epochs=1,
        schedule=Linear(final_lr=1e-3, warmup_fraction=0.2, every="epoch"),
        augmentation=Augmentation(
            (Jitter(brightness=0.4), Erasing(0.3, level=0.5, position="before_normalization"))
        ),
    ),
    _recipe("plateau", schedule=Plateau(2.0, first_epoch=3), batch_size=120),
)
"""Together they have every transform, schedule and optimizer and both rules for the last batch."""

EVERYTHING = Augmentation(
    (Rotation(10.0), Translation(1.0), Elastic(0.5), Jitter(0.2, 0.2), Erasing(0.3)), fill=0.1
)
TRAINED = (
    _recipe(
        "sgd",
        network=EVERY_LAYER,
        optimizer=SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
        schedule=Linear(final_lr=1e-3),
        loss=Loss(label_smoothing=0.1),
        normalization=Normalization(0.4, 0.3, 0.41, 0.31),
        augmentation=EVERYTHING,
        epochs=2,
    ),
    _recipe(
        "adam",
        network=EVERY_LAYER,
        optimizer=Adam(0.01, weight_decay=1e-3),
        schedule=OneCycle(),
        augmentation=Augmentation((Rotation(10.0), Scaling(0.9, 1.1)), interpolation="nearest"),
        averaging=WeightAveraging(0.9),
        drop_last=True,
        epochs=2,
    ),
    _recipe(
        "adamw",
        network=EVERY_LAYER,
        optimizer=AdamW(0.003),
        augmentation=Augmentation((Rotation(20.0), ResizedCrop(0.6))),
        averaging=WeightAveraging(0.8, warmup=False),
        epochs=2,
    ),
)
"""What the short runs train: one network, so that each width of vectors compiles once."""


def digest(values: object) -> str:
    """Return 16 hexadecimal digits over an array or a number, by value.

    float64 counts as float32, which is what engines read: the last bits of a cosine are the
    mathematical library's.
    """
    array = np.asarray(values)
    if array.dtype.kind == "U":
        data = str(values).encode()
    else:
        kinds = {"f": "<f4", "i": "<i8", "u": "<i8", "b": "<i8"}
        data = np.ascontiguousarray(array, dtype=kinds[array.dtype.kind]).tobytes()
    return hashlib.sha256(f"{array.shape}".encode() + data).hexdigest()[:16]


def plans() -> dict[str, str]:
    """Return a digest of every array of every plan, over two epochs and two later ones."""
    found: dict[str, list[str]] = {}
    for recipe in PLANNED:
        for epoch in (*EPOCHS, recipe.epochs):
            planned = plan(recipe, SEED, epoch, HISTORY[: epoch - 1], 120)
            for name, values in _leaves(planned):
                found.setdefault(f"{recipe.name}: {name}", []).append(digest(values))
    return {name: digest(" ".join(each)) for name, each in found.items()}


def _leaves(planned: EpochPlan, prefix: str = "") -> Iterator[tuple[str, object]]:
    for field in dataclasses.fields(planned):
        values = getattr(planned, field.name)
        if dataclasses.is_dataclass(values):
            yield from _leaves(values, f"{prefix}{field.name}.")  # type: ignore[arg-type]
        elif values is not None:
            yield f"{prefix}{field.name}", values


def first_weights() -> dict[str, str]:
    """Return a digest of every initial tensor of every network under both conventions."""
    return {
        f"{title}, {init}: {name}": digest(array)
        for title, network in NETWORKS.items()
        for init in ("torch", "keras")
        for name, array in initial_weights(dataclasses.replace(network, init=init), SEED).items()
    }


@dataclasses.dataclass(frozen=True, slots=True)
class ShortRun:
    """Two epochs on 120 drawn images: the log, the whole state, and scores of 40 more."""

    log: dict[str, list[float]]
    state: dict[str, np.ndarray]
    scores: np.ndarray

    def digest(self) -> str:
        """Return 16 hexadecimal digits over all of it."""
        parts = [f"{name} {digest(array)}" for name, array in sorted(self.state.items())]
        parts += [f"{name} {digest(values)}" for name, values in self.log.items()]
        return digest(" ".join([*parts, digest(self.scores)]))

    def numbers(self) -> dict[str, list[float]]:
        """Return what other compilers and torch come near to: the log and the scores of four."""
        scores = [float(f"{score:.7g}") for score in self.scores[:4].ravel()]
        sizes = [
            float(f"{np.sqrt(np.mean(np.square(array, dtype=np.float64))):.7g}")
            for name, array in sorted(self.state.items())
            if name != "step"
        ]
        return {**self.log, "scores": scores, "sizes of the state": sizes}


def native_run(recipe: Recipe, lanes: int, optimize: str = "-O3") -> ShortRun:
    """Train two epochs, with the flags of real runs if not told otherwise."""
    train = draw_stripes(120, 40).train
    options = CompileOptions(lanes=lanes, optimize=optimize)
    engine = NativeEngine(
        recipe.network, recipe, train.images, train.labels, seed=SEED, compile_options=options
    )
    return _run(engine, recipe)


def torch_run(recipe: Recipe) -> ShortRun:
    """Train two epochs with the torch engine on one thread."""
    train = draw_stripes(120, 40).train
    engine = make_engine("torch", recipe, train.images, train.labels, seed=SEED, threads=1)
    return _run(engine, recipe)


def _run(engine: Engine, recipe: Recipe) -> ShortRun:
    log: dict[str, list[float]] = {"loss": [], "images right": []}
    for epoch in EPOCHS:
        stats = engine.train_epoch(plan(recipe, SEED, epoch, (), 120), lambda: False)
        log["loss"].append(float(f"{stats.loss:.9g}"))
        log["images right"].append(stats.num_correct)
    weights = "raw" if recipe.averaging is None else "ema"
    scores = engine.logits(draw_stripes(120, 40).test.images, "eval", weights)
    return ShortRun(log, engine.state(), scores)


def compiler_key(lanes: int) -> str:
    """Return under what a digest of native runs is listed, such as `gcc 12.2.0, 16 lanes`."""
    compiler = find_compiler()
    release = re.search(r"\d+(\.\d+)+", compiler.version.split(") ")[-1])
    return f"{compiler.kind} {release[0] if release else compiler.version}, {lanes} lanes"


def widths() -> list[int]:
    """Return the numbers of images side by side that this processor can run."""
    return [lanes for lanes in LANES if not missing_features(lanes)]


def measure() -> dict[str, Any]:
    """Return all the numbers that this machine can tell."""
    return {
        "results_version": RESULTS_VERSION,
        "plans": plans(),
        "initial weights": first_weights(),
        "runs": {recipe.name: torch_run(recipe).numbers() for recipe in TRAINED},
        "native runs": {
            f"{recipe.name}, {compiler_key(lanes)}": native_run(recipe, lanes).digest()
            for recipe in TRAINED
            for lanes in widths()
        },
    }


def write() -> int:
    """Pin what is not pinned yet; return an exit status."""
    found = measure()
    pinned = json.loads(PINNED.read_text()) if PINNED.exists() else {}
    if pinned.get("results_version") == RESULTS_VERSION:
        for part in ("plans", "initial weights", "native runs"):
            changed = [
                name for name, old in pinned[part].items() if found[part].get(name, old) != old
            ]
            if changed:
                print(f"Other numbers ({part}): {', '.join(changed)}. {ADVICE}")
                return 1
            found[part] = pinned[part] | found[part]
        found["runs"] |= pinned["runs"]
    PINNED.write_text(re.sub(r",\n +(?=-?\d)", ", ", json.dumps(found, indent=1)) + "\n")
    print(f"Wrote {PINNED}.")
    return 0


ADVICE = (
    "Every run with these settings would now give other numbers under the same name. Undo the "
    "change; or, if the new numbers are meant, raise RESULTS_VERSION (smidgen.runs) and run "
    "`python tests/golden.py --write`, once more for each compiler that is listed."
)

if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("Usage: python tests/golden.py --write")
    sys.exit(write())

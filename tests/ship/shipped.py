"""Networks with weights nobody trained, for tests of what is shipped."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    LeakyReLU,
    MaxPool,
    PReLU,
    ReLU,
    Residual,
    SeparableConv,
)
from smidgen.network.network import Network
from smidgen.network.weights import initial_weights
from smidgen.ship.folding import FloatNetwork, fold
from smidgen.ship.integer import IntegerNetwork
from smidgen.ship.quantize import Naming, quantize

WARNINGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror")
NAMING = Naming("digit", tuple(f"class {n}" for n in range(4)), {"recipe": "a test"})
MEAN, STD = 0.1307, 0.3081

EVERYTHING = Network(
    layers=(
        Conv(4, 3, padding=1),
        ReLU(),
        BatchNorm(),
        MaxPool(2),
        SeparableConv(6, 3, padding=1),
        BatchNorm(scale=False),
        PReLU(),
        Residual((Conv(6, 3, padding=1), BatchNorm()), ()),
        LeakyReLU(0.2),
        Branches(((Conv(3, 1), ReLU()), (MaxPool(2, stride=1, padding="same"),), ())),
        AvgPool(2),
        Dropout(0.1),
        Conv(5, 1, bias=True),
        ReLU(),
        Flatten(),
        Dense(4),
    ),
    input_shape=(1, 9, 9),
    num_classes=4,
)
"""Every kind of stage on a small image."""


def tensors_of(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Return weights as if trained: norms with statistics, slopes of any sign and above 1."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, array in initial_weights(network, seed).items():
        if name.endswith("running_var"):
            made[name] = rng.uniform(0.2, 2.0, array.shape)
        else:
            wide = 1.0 if name.startswith("prelu") else 0.2
            made[name] = array + rng.normal(0.0, wide, array.shape)
    return {name: array.astype(np.float32) for name, array in made.items()}


def images_of(network: Network, count: int, seed: int = 0) -> np.ndarray:
    """Return random images, with one of zeros and one of 255 among them."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *network.input_shape), dtype=np.uint8)
    images[:1], images[1:2] = 0, 255
    return images


def folded_and_integer(network: Network, seed: int = 0) -> tuple[FloatNetwork, IntegerNetwork]:
    """Return a network's float stages and its integers, calibrated on random images."""
    folded = fold(network, tensors_of(network, seed), MEAN, STD)
    names = tuple(f"class {number}" for number in range(network.num_classes))
    naming = Naming(NAMING.name, names, NAMING.source)
    return folded, quantize(folded, images_of(network, 24, seed), naming)


def integer_of(network: Network, seed: int = 0) -> IntegerNetwork:
    """Return the integers of a network."""
    return folded_and_integer(network, seed)[1]


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Draw small networks of all kinds of layers, on 1 or 3 channels."""
    layers: list = []
    side = draw(st.integers(8, 11))
    channels = draw(st.sampled_from([1, 1, 3]))
    shape = (channels, side, side)
    size = side
    for _ in range(draw(st.integers(1, 4))):
        width = draw(st.integers(1, 7))
        padding = draw(st.integers(0, 1))
        kernel = draw(st.sampled_from([1, 2, 3]))
        kind = draw(st.sampled_from([Conv, SeparableConv]))
        if size + 2 * padding - kernel < 1:
            break
        size += 2 * padding - kernel + 1
        layers.append(kind(width, kernel, padding=padding, bias=draw(st.booleans())))
        after = [ReLU(), PReLU(), LeakyReLU(0.3), BatchNorm(), BatchNorm(scale=False)]
        layers += draw(st.permutations(after))[: draw(st.integers(0, 2))]
        if size >= 4 and draw(st.booleans()):
            layers.append(draw(st.sampled_from([MaxPool(2), AvgPool(2), MaxPool(2, stride=1)])))
            size = size // 2 if layers[-1] != MaxPool(2, stride=1) else size - 1
    if not layers:
        layers.append(Conv(2, 1))
    if draw(st.booleans()):
        layers += [Conv(4, 1), GlobalAvgPool(), Flatten()]
    else:
        layers += [Flatten(), Dense(4)]
    return Network(tuple(layers), input_shape=shape, num_classes=4)


_MAIN = """#include <stdio.h>
#include "network.h"
int main(void) {
    static uint8_t image[PIXELS];
    int32_t scores[CLASSES];
    while (fread(image, 1, PIXELS, stdin) == PIXELS) {
        digit_classify(image, scores);
        fwrite(scores, 4, CLASSES, stdout);
    }
    return 0;
}
"""


def run_c(
    header: str, images: np.ndarray, num_classes: int, folder: Path, compiler: str, *flags: str
) -> np.ndarray:
    """Compile a header with its warnings as errors, run it, and return int32 (N, classes)."""
    (folder / "network.h").write_text(header)
    (folder / "main.c").write_text(_MAIN)
    settings = [f"-DPIXELS={images[0].size}", f"-DCLASSES={num_classes}"]
    command = [compiler, *WARNINGS, *flags, *settings, "main.c", "-o", "main"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[:2000]
    pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).tobytes()
    done = subprocess.run(["./main"], cwd=folder, input=pixels, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return np.frombuffer(done.stdout, np.int32).reshape(-1, num_classes)


def has(program: str) -> bool:
    """Tell whether a program is installed."""
    return shutil.which(program) is not None

"""One network that holds every layer kind: all builds agree, and memory is used cleanly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.engines.native.build import (
    CompileOptions,
    compile_executable,
    compile_wasm,
    find_compiler,
    lanes_of_host,
)
from smidgen.engines.native.codegen import generate
from smidgen.errors import CompilerError
from smidgen.network import layers as L
from smidgen.network.layers import Branches, Repeat, Residual
from smidgen.network.network import Network

from .conftest import Answer, data_for, engine_with, largest_error, native_answer, random_tensors

EVERYTHING = Network(
    layers=(
        L.Conv(5, (3, 2), padding=(1, 0)),
        L.BatchNorm(),
        L.ReLU(),
        L.Dropout(0.1),
        L.MaxPool(3, stride=2, padding=1),
        Branches(
            (
                (
                    L.SeparableConv(3, 3, padding="same", bias=True),
                    L.BatchNorm(scale=False),
                    L.PReLU(),
                ),
                (L.AvgPool(3, stride=1, padding="same"), L.Multiply(0.5)),
                (),
            )
        ),
        Residual(
            (L.Conv(13, 3, padding=1, bias=True), L.LeakyReLU(0.1), L.BatchNorm(shift=False)), ()
        ),
        Repeat((L.Conv(13, 3, padding=1, groups=13), L.SampleNorm(), L.ReLU()), 2),
        L.Conv(6, 3, stride=2, padding="same"),
        Branches(((L.GlobalMaxPool(),), (L.GlobalAvgPool(),))),
        L.Flatten(),
        L.Dense(7),
        L.Dropout(0.2),
        L.Dense(3, bias=False),
    ),
    input_shape=(2, 13, 11),
    num_classes=3,
)
DATA = data_for(EVERYTHING, 21, 1)
TENSORS = random_tensors(EVERYTHING, 1)


def answer(compiler: str, lanes: int) -> Answer:
    """Return what one build says."""
    options = CompileOptions(compiler=compiler, lanes=lanes, optimize="-O1")
    return native_answer(engine_with(EVERYTHING, TENSORS, DATA, options=options), DATA)


BUILDS = [("gcc", 16), ("gcc", 8), ("gcc", 4)]
SLOW_BUILDS = [("clang", lanes) for lanes in (16, 4, 1)] + [
    ("zig", lanes) for lanes in (16, 8, 4, 1)
]


@pytest.mark.parametrize(
    ("compiler", "lanes"),
    [*BUILDS, *(pytest.param(*build, marks=pytest.mark.slow) for build in SLOW_BUILDS)],
)
def test_compilers_and_lanes_agree(compiler: str, lanes: int) -> None:
    """Every compiler and width gives the scores and gradients of gcc's narrowest to 1e-4."""
    try:
        find_compiler(compiler)
    except CompilerError:
        pytest.skip(f"no {compiler} here")
    if lanes > lanes_of_host():
        pytest.skip(f"this processor has fewer than {lanes} lanes")
    error, where = largest_error(answer(compiler, lanes), answer("gcc", 1))
    assert error < 1e-4, f"{where}: {error:.2e}"


def test_everything_agrees_with_pytorch(assert_agrees: object) -> None:
    """The network of every layer kind agrees with float64 PyTorch."""
    assert_agrees(EVERYTHING, distance=1e-5)  # type: ignore[operator]


MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define LANES {lanes}
#include "job.h"
void smidgen_train(Job *, int);
void smidgen_evaluate(Job *, int);

/* exactly as large as asked for, so that one step beyond the end is seen */
static void *zeros(size_t bytes) {{
    void *memory = aligned_alloc(128, (bytes + 127) / 128 * 128);
    memset(memory, 0, (bytes + 127) / 128 * 128);
    return memory;
}}

int main(void) {{
    enum {{ IMAGES = 37, BATCH = 20, PIXELS = {pixels}, BLOCKS = (BATCH + LANES - 1) / LANES }};
    uint8_t *images = zeros(IMAGES * PIXELS);
    int32_t *labels = zeros(4 * IMAGES), *order = zeros(4 * IMAGES);
    int32_t *boxes = zeros(16 * IMAGES);
    float *affine = zeros(24 * IMAGES), *elastic = zeros(4 * 98 * IMAGES);
    float *jitter = zeros(8 * IMAGES);
    float *weights = zeros(4 * {numbers}), *moment = zeros(4 * {weights});
    float *second = zeros(4 * {weights});
    float *statistics = zeros(4 * {statistics}), *gradient = zeros(4 * {weights});
    Schedule schedule[2] = {{
        {{0.01f, 0.9f, 0.1f, 0.1f, 0.1f, 0.1f}},
        {{0.01f, 0.9f, 0.1f, 0.2f, 0.2f, 0.1f}},
    }};
    for (int i = 0; i < IMAGES * PIXELS; i++) images[i] = (uint8_t)(i * 2654435761u >> 24);
    for (int i = 0; i < {numbers}; i++) weights[i] = 0.1f * (i % 7 - 3) + 0.01f;
    for (int i = 0; i < IMAGES; i++) {{
        labels[i] = i % {classes};
        order[i] = IMAGES - 1 - i;
        float map[6] = {{1.1f, 0.2f, -1e6f * (i == 3), -0.1f, 0.9f, 2.0f}};
        memcpy(affine + 6 * i, map, sizeof map);
        jitter[2 * i] = jitter[2 * i + 1] = 1.2f;
        boxes[4 * i + 2] = boxes[4 * i + 3] = 3;
        elastic[98 * i + i] = 1.5f;
    }}
    Job job = {{
        .images = images, .labels = labels, .order = order, .affine = affine,
        .elastic = elastic, .jitter = jitter, .boxes = boxes, .schedule = schedule,
        .weights = weights, .statistics = statistics,
        .gradient = gradient, .first_moment = moment, .second_moment = second,
        .stored = zeros(4 * LANES * {stored} * BLOCKS),
        .block_gradients = zeros(4 * {weights} * BLOCKS),
        .block_sums = zeros(32 * {norms} * BLOCKS), .block_losses = zeros(16 * BLOCKS),
        .scratch = zeros(4 * LANES * {scratch}), .coefficients = zeros(28 * {norms}),
        .num_images = IMAGES, .batch_size = BATCH, .num_steps = 2, .inverse_std = 1.0f,
        .beta2 = 0.99f, .rest_beta2 = 0.01f, .eps = 1e-6f, .optimizer = 2, .updates = 1,
        .threads = 1,
    }};
    smidgen_train(&job, 0);
    printf("%d %d %s\\n", (int)job.steps_done, job.broken, job.loss > 0 ? "finite" : "odd");
    job.scores = zeros(4 * IMAGES * {classes});
    job.order = NULL;
    smidgen_evaluate(&job, 0);
    return 0;
}}
"""


@pytest.mark.parametrize(
    "lanes", [4, *(pytest.param(lanes, marks=pytest.mark.slow) for lanes in (16, 8, 1))]
)
def test_memory_is_used_cleanly(lanes: int) -> None:
    """AddressSanitizer and UBSan see nothing wrong in two steps and an evaluation."""
    if lanes > lanes_of_host():
        pytest.skip(f"this processor has fewer than {lanes} lanes")
    program = generate(EVERYTHING, lanes)
    main = MAIN.format(
        lanes=lanes,
        pixels=2 * 13 * 11,
        numbers=max(program.layout.num_weights, program.evaluation_layout.size),
        weights=program.layout.num_weights,
        statistics=program.layout.num_statistics,
        stored=program.stored_vectors,
        scratch=program.scratch_vectors,
        norms=program.norm_channels,
        classes=3,
    )
    options = CompileOptions(compiler="gcc", lanes=lanes, optimize="-O0", sanitize=True)
    path = compile_executable(program.source, main, options)
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # the program frees nothing
    outcome = subprocess.run(
        [path], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert outcome.returncode == 0, outcome.stderr[:2000]
    assert outcome.stdout == "2 0 finite\n"


@pytest.mark.slow
def test_zig_compiles_it_for_browsers() -> None:
    """Zig makes a WebAssembly module with 128-bit vectors out of it."""
    module = compile_wasm(generate(EVERYTHING, 4).source)
    assert module.read_bytes().startswith(b"\0asm")


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
from smidgen.engines.native.build import CompileOptions
from smidgen.engines.native.engine import NativeEngine
from smidgen.engines.contract import EpochPlan
from smidgen.network.layers import BatchNorm, Conv, Flatten, GlobalAvgPool, ReLU
from smidgen.network.network import Network
from smidgen.recipes.parts import SGD
from smidgen.recipes.recipe import Recipe

net = Network((Conv(3, 3), BatchNorm(), ReLU(), GlobalAvgPool(), Flatten()), (1, 8, 8), 3)
recipe = Recipe("test", net, SGD(lr=0.1), epochs=1, batch_size=10)
rng = np.random.default_rng(1)
data = rng.integers(0, 256, (30, 1, 8, 8), dtype=np.uint8), rng.integers(0, 3, 30)
options = CompileOptions(compiler="gcc", optimize="-O1")
engine = NativeEngine(net, recipe, *data, compile_options=options)
plan = EpochPlan(1, 0, 10, np.arange(30, dtype=np.int32), np.full(3, 0.1), np.zeros(3), 1)
engine.train_epoch(plan, lambda: False)
state = engine.state()
print("torch" in sys.modules, b"".join(state[name].tobytes() for name in state).hex())
"""


def test_another_process_gets_the_same_bits_without_torch() -> None:
    """Two fresh processes end an epoch with the same bits, and neither imports torch."""
    script = SCRIPT.format(folder=str(Path(__file__).parents[3] / "src"))
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
        ).stdout
        for _ in range(2)
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("False ")
    assert len(outputs[0]) > 100

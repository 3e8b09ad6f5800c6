"""One network that holds every layer kind: all builds agree, and memory is used cleanly."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from smidgen.engines.native.build import CompileOptions, headers
from smidgen.engines.native.codegen import generate
from smidgen.engines.native.toolchain import (
    COMMON_FLAGS,
    LANES,
    find_compiler,
    lanes_of_host,
    target_flags,
)
from smidgen.errors import CompilerError
from smidgen.lowering.kernels import KERNELS, Parameter
from smidgen.network import layers as L
from smidgen.network.layers import Branches, Repeat, Residual
from smidgen.network.network import Network

from ...lowering.test_interpreter import interpreted
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
        L.Conv(6, 3, stride=2, padding="same", dilation=2),
        L.GroupNorm(2),
        L.PReLU(shared=True),
        L.Dropout2d(0.1),
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


BUILDS = [
    *(("gcc", lanes) for lanes in (16, 8, 4)),
    *(("clang", lanes) for lanes in (16, 4, 1)),
    *(("zig", lanes) for lanes in (16, 8, 4, 1)),
]


@pytest.mark.slow  # the golden numbers hold every width of the compiler at hand to them
@pytest.mark.parametrize(("compiler", "lanes"), BUILDS)
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
def test_memory_is_used_cleanly(lanes: int, tmp_path: Path) -> None:
    """AddressSanitizer and UBSan see nothing wrong in two steps and an evaluation."""
    if lanes > lanes_of_host():
        pytest.skip(f"this processor has fewer than {lanes} lanes")
    program = generate(EVERYTHING, lanes)
    training, folding = program.training, program.evaluation.folding
    main = MAIN.format(
        lanes=lanes,
        pixels=2 * 13 * 11,
        numbers=max(training.weights.size, folding.layout.size),
        weights=training.weights.size,
        statistics=training.statistics.size,
        stored=program.stored_vectors,
        scratch=program.scratch_vectors,
        norms=training.norm_channels,
        classes=3,
    )
    folder = placed(tmp_path, program.source)
    (folder / "main.c").write_text(main)
    flags = [*COMMON_FLAGS, "-O0", "-g", *target_flags(find_compiler("gcc"), lanes), *SANITIZED]
    compiled(folder, "gcc", [*flags, "main.c", "-lm"])
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # the program frees nothing
    outcome = subprocess.run(
        [folder / "made"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert outcome.returncode == 0, outcome.stderr[:2000]
    assert outcome.stdout == "2 0 finite\n"


SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def placed(folder: Path, source: str) -> Path:
    """Write a program and all that it includes into a folder."""
    for name, text in {**headers(), "network.c": source}.items():
        (folder / name).write_text(text)
    return folder


def compiled(folder: Path, compiler: str, flags: Sequence[str]) -> None:
    """Make `made` of `network.c`; fail with what the compiler says."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    outcome = subprocess.run(
        [compiler, *flags, "network.c", "-o", "made"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[:3000]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("is_profiled", [False, True])
def test_generated_c_gives_no_warnings(compiler: str, is_profiled: bool, tmp_path: Path) -> None:
    """With any number of lanes, all warnings on and each an error."""
    for lanes in LANES:
        if lanes <= lanes_of_host():
            folder = placed(tmp_path, generate(EVERYTHING, lanes, is_profiled).source)
            flags = (*COMMON_FLAGS, *target_flags(find_compiler("gcc"), lanes), *STRICT)
            compiled(folder, compiler, [*flags, "-fsyntax-only"])


STRICT = ("-Wall", "-Wextra", "-Werror")
C99 = ("-std=c99", "-pedantic-errors", *STRICT, "-DSMIDGEN_SCALAR")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_it_is_plain_c99_for_one_image(compiler: str, tmp_path: Path) -> None:
    """Without vector extensions the same calls give the interpreter's numbers."""
    folder = placed(tmp_path, generate(EVERYTHING, 1).source)
    compiled(folder, compiler, [*C99, "-O1", "-shared", "-fPIC", "-lm"])
    options = CompileOptions(lanes=1, optimize="-O1")
    engine = engine_with(EVERYTHING, TENSORS, DATA, options=options)
    engine.library = ctypes.CDLL(str(folder / "made"))

    found = native_answer(engine, DATA)

    error, where = largest_error(found, interpreted(EVERYTHING, TENSORS, DATA))
    assert error < 1e-4, f"{where}: {error:.2e}"


def test_program_reads_like_the_headers() -> None:
    """Offsets have names, one operand stands on a line, and no line is longer than theirs."""
    source = generate(EVERYTHING, 8).source

    assert "w->weights + conv1_weight" in source
    assert not re.search(r"(stored|scratch|weights|gradient) \+ \d", source)
    assert max(map(len, source.splitlines())) <= 110


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_is_declared_as_it_is_written(kernel: str) -> None:
    """A kernel's C function takes the table's parameters in their order; what is read is const."""
    text = "\n".join(headers().values())
    written = re.search(rf"^INLINE void {kernel}\(([^)]*)\)", text, re.MULTILINE)
    assert written is not None
    types = [re.sub(r"\w+$", "", one.strip()).strip() for one in written[1].split(",")]

    parameters = KERNELS[kernel].parameters
    assert types == [c_type for parameter in parameters for c_type in c_types(parameter)]


def c_types(parameter: Parameter) -> tuple[str, ...]:
    """Return the C types of a parameter."""
    const = "const " if parameter.access == "reads" else ""
    match parameter.kind:
        case "map":
            return (f"{const}V *", "Map")
        case "vectors":
            return (f"{const}V *",)
        case "numbers":
            return ("const float *",)
        case "gradient":
            return ("float *",)
        case "sums":
            return ("double *",)
    named = {
        "worker": "const Worker *",
        "block": "int64_t",
        "tile": "Tile",
        "totals": "VD *",
        "images": "VI",
        "keys": "VU",
        "window": "Window",
        "finish": "Finish",
        "steps": "Pointwise",
        "slope": "float",
        "eps": "float",
    }
    return (named.get(parameter.name, "int"),)


@pytest.mark.slow
def test_zig_compiles_it_for_browsers(tmp_path: Path) -> None:
    """Zig makes a WebAssembly module with 128-bit vectors out of it."""
    pytest.importorskip("ziglang")
    folder = placed(tmp_path, generate(EVERYTHING, 4).source)
    flags = ["-target", "wasm32-wasi", "-mcpu=generic+simd128", "-mexec-model=reactor", "-s"]
    command = [*find_compiler("zig").command, *flags, *COMMON_FLAGS, "-O3"]

    subprocess.run([*command, "network.c", "-o", "made"], cwd=folder, check=True)

    assert (folder / "made").read_bytes().startswith(b"\0asm")


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
options = CompileOptions(compiler="gcc", optimize="-O0")
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


def test_the_guide_to_a_new_layer_names_its_files() -> None:
    """The files listed for a layer are those that speak of group norms; shipping is its own."""
    root = Path(__file__).parents[3]
    guide = (root / "docs" / "native-engine.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\d\. `(src/\S+)`:", guide, re.MULTILINE)
    word = re.compile(r"\bGroupNorm\b|group_?norm|NormalizeGroups", re.IGNORECASE)

    speaking = [
        str(path.relative_to(root))
        for path in sorted((root / "src").rglob("*"))
        if path.suffix in (".py", ".h") and word.search(path.read_text(encoding="utf-8"))
    ]
    speaking = [path for path in speaking if not path.startswith("src/smidgen/ship/")]

    assert len(listed) == 7
    assert sorted(listed) == speaking

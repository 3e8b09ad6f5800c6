"""Training steps per CPU-second of one thread: PyTorch's variants against the native engine.

All variants take turns within one process, and the median over the rounds counts, so that a
busy machine slows all of them alike. A step is the gathering of a batch (native only), forward,
loss, backward and update, in training mode, with the recipe's optimizer.

    python benchmarks/engines.py [--rounds 7] [--recipes smidgen/quick,era-s7/7] [--no-compile]
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
import torch.nn.functional as F

from smidgen.engines.contract import EpochPlan
from smidgen.engines.native.build import CompileOptions, find_compiler
from smidgen.engines.native.engine import NativeEngine
from smidgen.engines.native.profile import peak_gflops
from smidgen.errors import CompilerError
from smidgen.network.network import Network
from smidgen.network.torch_module import to_torch
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.parts import SGD
from smidgen.recipes.recipe import Recipe

NAMES = (
    "smidgen/quick",
    "smidgen/yardstick",
    "mnist-challenge/separable",
    "era-s7/7",
    "eva4-s5/5",
    "mnist-99-4",
    "assignment7/3",
)
BATCH = 256
STEPS = {"torch": 3, "native": 12}
"""Steps per turn; a turn takes about a tenth of a second."""
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "engines.json"

Turn = Callable[[], int]
"""Runs some steps and returns how many images it saw."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--recipes", default=",".join(NAMES))
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure(RECIPES[name], arguments.rounds, not arguments.no_compile)
        for name in arguments.recipes.split(",")
    ]
    result = {"machine": machine(), "batch_size": BATCH, "rounds": arguments.rounds, "rows": rows}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(recipe: Recipe, rounds: int, with_compile: bool) -> dict[str, object]:
    """Let all variants of one recipe take turns; print and return their medians."""
    turns = variants(recipe, with_compile)
    speeds: dict[str, list[float]] = {name: [] for name in turns}
    peaks = []
    for _ in range(rounds):
        peaks.append(peak_gflops(rounds=1))
        for name, turn in turns.items():
            start = time.process_time()
            num_images = turn()
            speeds[name].append(num_images / (time.process_time() - start))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    flops, peak = training_flops(recipe.network), max(peaks)
    best_torch = max(speed for name, speed in medians.items() if name.startswith("torch"))
    print(f"\n{recipe.name}: {flops / 1e6:.2f} MFLOP per image, core's peak {peak:.0f} GFLOP/s")
    for name, speed in medians.items():
        print(
            f"  {name:24s} {speed:9.0f} images/s {1e6 / speed:8.2f} us "
            f"{100 * flops * speed / peak / 1e9:5.1f} % of peak {speed / best_torch:6.2f}x"
        )
    sys.stdout.flush()
    return {
        "recipe": recipe.name,
        "flops_per_image": flops,
        "peak_gflops": peak,
        "images_per_cpu_second": medians,
        "share_of_peak": {n: flops * s / peak / 1e9 for n, s in medians.items()},
        "times_fastest_torch": {n: s / best_torch for n, s in medians.items()},
    }


def variants(recipe: Recipe, with_compile: bool) -> dict[str, Turn]:
    turns = {
        "torch eager": torch_turn(recipe, torch.contiguous_format, False),
        "torch channels_last": torch_turn(recipe, torch.channels_last, False),
    }
    if with_compile:
        turns["torch.compile"] = torch_turn(recipe, torch.contiguous_format, True)
    for compiler in ("gcc", "zig"):
        try:
            find_compiler(compiler)
        except CompilerError:
            continue
        turns[f"native {compiler}"] = native_turn(recipe, compiler)
    for turn in turns.values():
        turn()
    return turns


def torch_turn(recipe: Recipe, layout: torch.memory_format, compiled: bool) -> Turn:
    model = to_torch(recipe.network).to(memory_format=layout).train()
    x = torch.randn(BATCH, *recipe.network.input_shape).contiguous(memory_format=layout)
    labels = torch.randint(recipe.network.num_classes, (BATCH,))
    chosen = recipe.optimizer
    if isinstance(chosen, SGD):
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), lr=1e-3, momentum=chosen.momentum, nesterov=chosen.nesterov
        )
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scores = torch.compile(model.scores) if compiled else model.scores

    def turn() -> int:
        for _ in range(STEPS["torch"]):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(scores(x), labels).backward()
            optimizer.step()
        return STEPS["torch"] * BATCH

    return turn


def native_turn(recipe: Recipe, compiler: str) -> Turn:
    num_images = STEPS["native"] * BATCH
    rng = np.random.default_rng(1)
    shape = (num_images, *recipe.network.input_shape)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    labels = rng.integers(0, recipe.network.num_classes, num_images)
    options = CompileOptions(compiler=compiler)
    engine = NativeEngine(recipe.network, recipe, images, labels, compile_options=options)
    plan = EpochPlan(
        epoch=1,
        first_step=0,
        batch_size=BATCH,
        order=rng.permutation(num_images).astype(np.int32),
        lr=np.full(STEPS["native"], 1e-3),
        momentum=np.full(STEPS["native"], 0.9),
        dropout_key=1,
    )
    return lambda: engine.train_epoch(plan, lambda: False).num_images


def training_flops(network: Network) -> int:
    """Forward, input gradient and weight gradient; the first layer needs no input gradient."""
    macs = [row.num_macs for row in trace(network).rows if row.num_macs]
    return 2 * (3 * sum(macs) - macs[0])


def machine() -> dict[str, str]:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": str(os.cpu_count()),
        "torch": torch.__version__,
        "gcc": find_compiler("gcc").version,
    }


if __name__ == "__main__":
    main()

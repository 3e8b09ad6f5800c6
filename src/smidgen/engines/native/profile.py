"""Where the time of a training step goes: by layer and kind of work."""

import ctypes
import time
from dataclasses import dataclass

import numpy as np

from smidgen.engines.contract import EpochPlan
from smidgen.engines.native.build import CompileOptions, build_library
from smidgen.engines.native.codegen import generate
from smidgen.engines.native.engine import NativeEngine
from smidgen.engines.native.toolchain import lanes_of_host
from smidgen.network.network import Network
from smidgen.recipes.recipe import Recipe

REST = "optimizer"
"""Kind of what no timer sees: reductions over blocks, batch statistics, update, waiting."""


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One kind of work of one layer.

    Args:
        layer: The operation's name; empty for what belongs to no layer.
        kind: Such as `forward`, `input gradient`, `weight gradient`, `norm` or `pool`.
        seconds: Time spent in an epoch.
        num_macs: Multiply-accumulates per image; 0 where there are none.
        gflops: Billions of floating-point operations per second.
        share_of_peak: `gflops` over what the core can do at most.
    """

    layer: str
    kind: str
    seconds: float
    num_macs: int
    gflops: float
    share_of_peak: float


def profile(
    network: Network,
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
    plan: EpochPlan,
    compile_options: CompileOptions | None = None,
) -> list[ProfileRow]:
    """Train one epoch with timers around every kernel, on one thread.

    Args:
        network: What to train.
        recipe: How.
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        plan: The epoch; run once to warm up and once to measure.
        compile_options: Compiler and lanes.

    Returns:
        One row per layer and kind, in the order of a step.

    Raises:
        CompilerError: No C compiler, or it failed.
    """
    options = compile_options or CompileOptions()
    lanes = lanes_of_host() if options.lanes is None else options.lanes
    program = generate(network, lanes, is_profiled=True)
    engine = NativeEngine(network, recipe, images, labels, compile_options=options)
    engine.use(program, options)
    timers = (ctypes.c_double * len(program.training_calls)).in_dll(
        engine.library, "smidgen_seconds"
    )
    engine.train_epoch(plan, lambda: False)
    before = np.array(timers)
    start = time.perf_counter()
    engine.train_epoch(plan, lambda: False)
    whole = time.perf_counter() - start
    peak = peak_gflops(options)
    rows: dict[tuple[str, str], tuple[float, int]] = {}
    for call, seconds in zip(program.training_calls, np.array(timers) - before, strict=True):
        spent, macs = rows.get((call.layer, call.kind), (0.0, 0))
        rows[call.layer, call.kind] = (spent + seconds, macs + call.num_macs)
    timed = sum(seconds for seconds, _ in rows.values())
    rows["", REST] = (max(whole - timed, 0.0), 0)
    return [
        _row(layer, kind, seconds, macs, len(plan.order), peak)
        for (layer, kind), (seconds, macs) in rows.items()
    ]


def _row(
    layer: str, kind: str, seconds: float, macs: int, num_images: int, peak: float
) -> ProfileRow:
    gflops = 2e-9 * macs * num_images / seconds if seconds > 0 else 0.0
    return ProfileRow(layer, kind, seconds, macs, gflops, gflops / peak)


def peak_gflops(options: CompileOptions | None = None, rounds: int = 5) -> float:
    """Measure how many billion single-precision operations per second one core can do.

    Independent multiply-adds on registers alone; the best of some rounds.
    """
    options = options or CompileOptions()
    lanes = lanes_of_host() if options.lanes is None else options.lanes
    library = build_library(_PEAK.replace("@LANES@", str(lanes)), ("smidgen_peak",), options)
    library.smidgen_peak.restype = ctypes.c_double
    library.smidgen_peak.argtypes = (ctypes.c_long,)
    best = 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        operations = library.smidgen_peak(1_000_000)
        best = max(best, operations / (time.perf_counter() - start) / 1e9)
    return best


_PEAK = """/* Twelve chains of multiply-adds: enough for two units of four cycles each. */
#define LANES @LANES@
#include "vectors.h"
double smidgen_peak(long rounds) {
    V sums[12] = {0};
    V factor = splat(0.999f), term = splat(1e-3f);
    KEEP(factor);
    KEEP(term);
    for (long round = 0; round < rounds; round++)
        UNROLL for (int i = 0; i < 12; i++) {
            sums[i] = sums[i] * factor + term;
            KEEP(sums[i]);
        }
    V total = sums[0];
    UNROLL for (int i = 1; i < 12; i++) total += sums[i];
    volatile float seen = total[0]; /* or all of it would be left out */
    (void)seen;
    return rounds * 12.0 * 2.0 * LANES;
}
"""

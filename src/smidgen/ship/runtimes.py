"""Runs what was printed, and compares every score with the executor's."""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smidgen.errors import SmidgenError
from smidgen.extras import is_installed
from smidgen.ship.boards import CORES, Core, call_tool, emulate, is_tool
from smidgen.ship.c_printer import header
from smidgen.ship.executor import scores_of
from smidgen.ship.integer import IntegerNetwork
from smidgen.ship.onnx_printer import integer_onnx
from smidgen.ship.scripts import javascript

_NAME = "network"
_WARNINGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror")
_SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_C_MAIN = """#include <stdio.h>
#include "network.h"
static unsigned char image[NETWORK_CHANNELS * NETWORK_HEIGHT * NETWORK_WIDTH];
int main(void) {
    int32_t scores[NETWORK_CLASSES];
    while (fread(image, 1, sizeof image, stdin) == sizeof image) {
        network_classify(image, scores);
        fwrite(scores, sizeof *scores, NETWORK_CLASSES, stdout);
    }
    return 0;
}
"""
_NODE_MAIN = """import { classifyBatch } from "./network.mjs";
import { readFileSync } from "node:fs";
const found = classifyBatch(new Uint8Array(readFileSync("images.bin")));
console.log(JSON.stringify(found.map(({ scores }) => Array.from(scores))));
"""


@dataclass(frozen=True, slots=True)
class Compared:
    """What became of one runtime.

    Args:
        runtime: What ran.
        num_images: On how many images.
        num_different: Scores that differ from the executor's; None if it did not run.
        note: Why it did not run, or what else is known, such as instructions.
    """

    runtime: str
    num_images: int
    num_different: int | None
    note: str = ""


def compare_all(
    network: IntegerNetwork, images: np.ndarray, fast: bool = False
) -> Iterator[Compared]:
    """Run every runtime at hand over images and compare all scores.

    Args:
        network: What was printed.
        images: uint8 (N, C, H, W); slow runtimes get the first of them.
        fast: Which form of the C.
    """
    expected = scores_of(network, images)
    text = header(network, _NAME, fast)
    for name in ("gcc", "clang"):
        reason = "" if is_tool(name) else f"no {name} here"
        yield _compared(f"C by {name}", expected, reason, lambda n=name: run_c(text, images, n))
    some, most = images[:1000], expected[:1000]
    reason = "" if is_tool("node") else "no node here"
    yield _compared("JavaScript in node", most, reason, lambda: run_node(network, some))
    reason = "" if is_installed("onnxruntime") and is_installed("onnx") else "no onnxruntime here"
    yield _compared("ONNX in onnxruntime", most, reason, lambda: run_onnx(network, some))
    for core in CORES:
        yield _on_core(network, core, (images[:100], expected[:100]), fast)


def run_c(text: str, images: np.ndarray, compiler: str) -> np.ndarray:
    """Compile a header called `network` for this machine, with gcc's sanitizers, and run it.

    Raises:
        CompilerError: The compiler refuses the header, or the program ends with an error.
    """
    with tempfile.TemporaryDirectory(prefix="smidgen-") as name:
        folder = Path(name)
        (folder / "network.h").write_text(text, encoding="utf-8")
        (folder / "main.c").write_text(_C_MAIN, encoding="utf-8")
        checks = _SANITIZERS if compiler == "gcc" else ()
        call_tool([compiler, *_WARNINGS, "-O2", *checks, "main.c", "-o", "main"], folder)
        pixels = images.transpose(0, 2, 3, 1).tobytes()
        done = subprocess.run(
            [str(folder / "main")], input=pixels, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise SmidgenError(f"The program ended with {done.returncode}: {done.stderr[:200]!r}.")
        return np.frombuffer(done.stdout, np.int32).reshape(len(images), -1)


def run_node(network: IntegerNetwork, images: np.ndarray) -> np.ndarray:
    """Run the JavaScript module in node; raises CompilerError if node fails."""
    with tempfile.TemporaryDirectory(prefix="smidgen-") as name:
        folder = Path(name)
        (folder / "network.mjs").write_text(javascript(network, images[:1]), encoding="utf-8")
        (folder / "main.mjs").write_text(_NODE_MAIN, encoding="utf-8")
        (folder / "images.bin").write_bytes(images.transpose(0, 2, 3, 1).tobytes())
        return np.array(json.loads(call_tool(["node", "main.mjs"], folder)), np.int32)


def run_onnx(network: IntegerNetwork, images: np.ndarray) -> np.ndarray:
    """Run the integer ONNX file in onnxruntime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        integer_onnx(network, {}), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"image": images})[0])


def _on_core(
    network: IntegerNetwork, core: Core, pair: tuple[np.ndarray, np.ndarray], fast: bool
) -> Compared:
    images, expected = pair
    runtime = f"C on {core.name} (QEMU)"
    if not (core.has_compiler and core.has_emulator):
        return Compared(runtime, 0, None, f"no {core.tools}gcc or {core.emulator[0]} here")
    try:
        made = emulate(header(network, _NAME, fast), _NAME, core, images, expected.shape[1], fast)
    except SmidgenError as error:
        return Compared(runtime, 0, None, str(error))
    different = int((made.scores != expected).sum())
    note = f"{made.instructions / 1e6:.2f} M instructions an image"
    return Compared(runtime, len(images), different, note)


def _compared(
    runtime: str, expected: np.ndarray, reason: str, run: Callable[[], np.ndarray]
) -> Compared:
    if reason:
        return Compared(runtime, 0, None, reason)
    try:
        scores = run()
    except SmidgenError as error:
        return Compared(runtime, len(expected), expected.size, str(error))
    return Compared(runtime, len(expected), int((scores != expected).sum()))

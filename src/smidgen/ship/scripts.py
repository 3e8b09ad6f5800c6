"""An integer network as a JavaScript module and as a Python file that needs NumPy alone."""

import base64
import json
from typing import Any

import numpy as np

from smidgen.ship.c_text import about_lines, resource
from smidgen.ship.executor import scores_of
from smidgen.ship.integer import IntegerNetwork, Stage


def javascript(network: IntegerNetwork, examples: np.ndarray) -> str:
    """Print an ES module without dependencies.

    Args:
        network: What to print.
        examples: uint8 (N, C, H, W) images of its self-test.
    """
    about = "".join(f"// {line}\n" for line in about_lines(network))
    plain = json.dumps(_plain(network, examples), separators=(",", ":"))
    return resource("network.js").replace("@@about\n", about).replace("@@network", plain)


def javascript_types() -> str:
    """Return the TypeScript declarations of the module."""
    return resource("network.d.ts")


def python(network: IntegerNetwork, examples: np.ndarray) -> str:
    """Print a Python file; arguments as for `javascript`."""
    about = "\n".join(about_lines(network))
    plain = json.dumps(_plain(network, examples), separators=(",", ":"))
    plain = plain.replace("'", "\\u0027")  # it stands between quotes
    text = resource("alone.py.txt").replace("@@about", about).replace("NAME", network.name)
    return text.replace("@@network", plain)


def _plain(network: IntegerNetwork, examples: np.ndarray) -> dict[str, Any]:
    """Return what both forms read: the numbers of each stage, weights as base64."""
    pixels = examples.transpose(0, 2, 3, 1)
    scores = scores_of(network, examples)
    return {
        "classNames": network.class_names,
        "inputShape": network.input_shape,
        "scoreScale": network.score_scale,
        "padByte": network.pad_byte,
        "shapes": network.shapes,
        "stages": [_stage(stage) for stage in network.stages],
        "examples": [
            {"image": _packed(image.tobytes()), "scores": row.tolist()}
            for image, row in zip(pixels, scores, strict=True)
        ],
    }


def _stage(stage: Stage) -> dict[str, Any]:
    part, pool = stage.depthwise, stage.pool
    return {
        "inputs": stage.inputs,
        "output": stage.output,
        "firstChannel": stage.first_channel,
        "gather": stage.gather,
        "kernel": stage.kernel,
        "stride": stage.stride,
        "before": stage.before,
        "positions": stage.positions,
        "size": stage.size,
        "weights": _int8(stage.weights),
        "depthwiseWeights": _int8(part.weights if part else ()),
        "depthwiseBias": part.bias if part else (),
        "depthwiseShift": part.shift if part else 0,
        "shiftA": stage.shift_a,
        "bias": stage.bias,
        "positive": stage.positive,
        "negative": stage.negative,
        "shift": stage.shift,
        "offset": stage.offset,
        "pool": None
        if pool is None
        else {
            "kind": pool.kind,
            "kernel": pool.kernel,
            "stride": pool.stride,
            "before": pool.before,
        },
        "poolShift": stage.pool_shift,
    }


def _int8(numbers: tuple[int, ...]) -> str:
    return _packed(np.array(numbers, np.int8).tobytes())


def _packed(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")

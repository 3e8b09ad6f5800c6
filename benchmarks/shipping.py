"""What shipping costs: errors in floats, integers and the stock route; flash, RAM, instructions.

    smidgen train smidgen/500 ...                         # or any runs
    python benchmarks/shipping.py --runs-dir runs         # writes docs/results/shipping.{json,md}
    python benchmarks/shipping.py --runs-dir runs --bars  # prints the bars of the three cores alone

For every finished run of the folder: errors on all test images of the float network, of its
integers and, where onnxruntime is installed, of what its `quantize_static` (QDQ, weights per
channel, int8) makes of the same float ONNX file from the same calibration images. Flash and RAM are
gcc's for a Cortex-M0; instructions are counted by QEMU over some images, every score of which must
equal NumPy's. No board was measured: instructions are neither milliseconds nor joules.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.data import load_dataset
from smidgen.extras import is_installed
from smidgen.files import write_atomically
from smidgen.runs.store import RunFolder, RunStore
from smidgen.ship.artifacts import Prepared, prepare
from smidgen.ship.boards import CORES, emulate, weigh
from smidgen.ship.c_printer import header
from smidgen.ship.executor import scores_of
from smidgen.ship.onnx_printer import float_onnx

RESULTS = Path(__file__).parent.parent / "docs" / "results"
NUM_EMULATED = 20
BARS = {
    "smidgen/500": {"flash": 1_600, "ram": 1_000, "Cortex-M0": 0.40, "Cortex-M4": 0.22},
    "smidgen/2k-15": {"flash": 3_500, "ram": 2_450, "Cortex-M0": 1.2, "Cortex-M4": 0.75},
    "smidgen/quick": {"flash": 10_800, "ram": 1_600, "Cortex-M0": 1.3, "Cortex-M4": 0.6},
}
"""What was asked for: bytes of the small form, million instructions of the fast one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--bars", action="store_true", help="print the bars alone")
    options = parser.parse_args()
    folders = [run for run in RunStore(options.runs_dir).folders() if run.is_finished]
    if options.bars:
        folders = [run for run in folders if run.record().recipe.name in BARS]
    rows = [measured(run, with_errors=not options.bars) for run in folders]
    if options.bars:
        print(cost_table(rows))
        return
    write_atomically(RESULTS / "shipping.json", (json.dumps(rows, indent=1) + "\n").encode())
    page = TEXT.format(errors=error_table(rows), costs=cost_table(rows))
    write_atomically(RESULTS / "shipping.md", page.encode())
    print(page)


def measured(run: RunFolder, with_errors: bool) -> dict[str, Any]:
    record = run.record()
    prepared = prepare(run, name="network")
    row: dict[str, Any] = {
        "recipe": record.recipe.name,
        "epochs": record.recipe.epochs,
        "seed": record.seed,
        "num_params": record.num_params,
        "num_macs": record.num_macs,
    }
    if with_errors:
        row["float_errors"], row["integer_errors"] = prepared.errors()
        row["stock_errors"] = stock_errors(run, prepared)
        print(row, flush=True)
    if record.seed == 1:
        row["cores"] = {
            form: dict(on_cores(prepared, form == "fast")) for form in ("small", "fast")
        }
    return row


def on_cores(prepared: Prepared, fast: bool) -> Iterator[tuple[str, dict[str, float]]]:
    images = prepared.test.images[:NUM_EMULATED]
    expected = scores_of(prepared.network, images)
    text = header(prepared.network, "network", fast)
    for core in CORES:
        weight = weigh(text, "network", core, fast)
        made = emulate(text, "network", core, images, expected.shape[1], fast)
        assert np.array_equal(made.scores, expected), core.name
        yield (
            core.name,
            {
                "flash": weight.flash,
                "ram": weight.ram,
                "millions": round(made.instructions / 1e6, 3),
            },
        )


def stock_errors(run: RunFolder, prepared: Prepared) -> int | None:
    """Quantize the float ONNX file by onnxruntime's own means and count its errors."""
    if not (is_installed("onnxruntime") and is_installed("onnx")):
        return None
    import onnxruntime
    from onnxruntime import quantization

    dataset = load_dataset(run.record().data.name)

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(np.array_split(dataset.train.images[:1000], 20))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.images, None)
            return None if batch is None else {"image": batch}

    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "float.onnx", Path(name) / "qdq.onnx"
        source.write_bytes(float_onnx(prepared.folded, {}))
        quantization.quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(target), options)
        parts = [
            session.run(None, {"image": images})[0]
            for images in np.array_split(prepared.test.images, 20)
        ]
    return int((np.concatenate(parts).argmax(axis=1) != prepared.test.labels).sum())


def error_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| recipe | epochs | seed | float | integers | stock QDQ |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        stock = "-" if row["stock_errors"] is None else f"{row['stock_errors']:,}"
        lines.append(
            f"| {row['recipe']} | {row['epochs']} | {row['seed']} | {row['float_errors']} "
            f"| {row['integer_errors']} | {stock} |"
        )
    return "\n".join(lines)


def cost_table(rows: list[dict[str, Any]]) -> str:
    head = ["recipe", "params", "flash", "RAM", "fast flash"]
    for core in CORES:
        head += [f"{core.name} small", "fast"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    for row in rows:
        if "cores" not in row:
            continue
        small, fast = row["cores"]["small"], row["cores"]["fast"]
        m0 = small["Cortex-M0"]
        cells = [row["recipe"], f"{row['num_params']:,}", f"{m0['flash']:,}", f"{m0['ram']:,}"]
        cells.append(f"{fast['Cortex-M0']['flash']:,}")
        for core in CORES:
            cells += [f"{form[core.name]['millions']:.2f} M" for form in (small, fast)]
        lines.append(f"| {' | '.join(cells)} |")
        if bars := BARS.get(row["recipe"]):
            asked = ["*asked*", "", f"{bars['flash']:,}", f"{bars['ram']:,}", "", "", ""]
            asked[6] = f"{bars['Cortex-M0']:.2f} M"
            asked += ["", f"{bars['Cortex-M4']:.2f} M", "", ""]
            lines.append(f"| {' | '.join(asked)} |")
    return "\n".join(lines)


TEXT = """# Shipping: errors, flash, RAM, instructions

Made by `benchmarks/shipping.py`; what the words mean stands in `docs/shipping.md`.

## Errors in all test images

Floats, integers calibrated on 1,000 training images, and the stock route: onnxruntime's
`quantize_static` (QDQ, int8, weights per channel) on the same float file and images.

{errors}

## Flash, RAM and instructions

Bytes on a Cortex-M0 by gcc 12.2, code and tables; RAM is arena and stack, the image is the
caller's. Small is `-Os`, fast `-O2` of the fast form. Million instructions an image under QEMU;
every score was equal to NumPy's. **No board measured**: instructions are neither milliseconds nor
joules.

{costs}
"""


if __name__ == "__main__":
    main()

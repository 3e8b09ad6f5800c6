import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from shipped import EVERYTHING, has, images_of, integer_of

from smidgen.extras import is_installed
from smidgen.ship.c_printer import header
from smidgen.ship.executor import scores_of
from smidgen.ship.wasm import wasm

_ASK = """import { readFileSync } from "node:fs";
const module = new WebAssembly.Module(readFileSync("digit.wasm"));
const { memory, image, scores, classify } = new WebAssembly.Instance(module, {}).exports;
const images = readFileSync("images.bin"), found = [];
for (let at = 0; at < images.length; at += SIZE) {
  new Uint8Array(memory.buffer, image(), SIZE).set(images.subarray(at, at + SIZE));
  classify();
  found.push(Array.from(new Int32Array(memory.buffer, scores(), CLASSES)));
}
console.log(JSON.stringify({ found, imports: WebAssembly.Module.imports(module).length }));
"""


@pytest.mark.skipif(not is_installed("ziglang"), reason="no ziglang here")
@pytest.mark.skipif(not has("node"), reason="no node here")
def test_wasm_computes_what_python_does(tmp_path: Path) -> None:
    """The module imports nothing and gives all scores."""
    integers, images = integer_of(EVERYTHING), images_of(EVERYTHING, 20)
    (tmp_path / "digit.wasm").write_bytes(wasm(header(integers, "digit"), "digit"))
    (tmp_path / "images.bin").write_bytes(images.transpose(0, 2, 3, 1).tobytes())
    size, classes = images[0].size, EVERYTHING.num_classes
    text = _ASK.replace("SIZE", str(size)).replace("CLASSES", str(classes))
    (tmp_path / "ask.mjs").write_text(text)

    done = subprocess.run(["node", "ask.mjs"], cwd=tmp_path, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["imports"] == 0
    assert np.array_equal(said["found"], scores_of(integers, images))

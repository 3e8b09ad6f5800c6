import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from shipped import EVERYTHING, has, images_of, integer_of

from smidgen.network.network import Network
from smidgen.recipes.catalogue import get_recipe
from smidgen.ship.executor import scores_of
from smidgen.ship.integer import IntegerNetwork
from smidgen.ship.scripts import javascript, javascript_types, python

NETWORKS = {
    "everything": EVERYTHING,
    "500": get_recipe("smidgen/500").network,
    "inception": get_recipe("mnist-challenge/inception").network,
}
needs_node = pytest.mark.skipif(not has("node"), reason="no node here")

_ASK = """import {{ classifyBatch, selfTest, probabilities }} from "./digit.mjs";
import {{ readFileSync }} from "node:fs";
const found = classifyBatch(new Uint8Array(readFileSync("{images}")));
console.log(JSON.stringify({{
  scores: found.map(({{ scores }}) => Array.from(scores)),
  named: found.map(({{ className }}) => className),
  passed: selfTest(),
  sum: probabilities(found[0].scores).reduce((a, b) => a + b, 0),
}}));
"""


def _in_node(integers: IntegerNetwork, images: np.ndarray, folder: Path) -> dict:
    (folder / "digit.mjs").write_text(javascript(integers, images[:3]))
    (folder / "images.bin").write_bytes(images.transpose(0, 2, 3, 1).tobytes())
    (folder / "ask.mjs").write_text(_ASK.format(images="images.bin"))
    done = subprocess.run(["node", "ask.mjs"], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[:1000]
    return json.loads(done.stdout)


@needs_node
@pytest.mark.parametrize("name", NETWORKS)
def test_javascript_computes_what_python_does(name: str, tmp_path: Path) -> None:
    """The module gives all scores, names the classes and passes its own test."""
    network: Network = NETWORKS[name]
    integers, images = integer_of(network), images_of(network, 30)

    said = _in_node(integers, images, tmp_path)

    expected = scores_of(integers, images)
    assert said["scores"] == expected.tolist()
    assert said["named"] == [integers.class_names[i] for i in expected.argmax(axis=1)]
    assert said["passed"] is True
    assert said["sum"] == pytest.approx(1.0)


@needs_node
def test_javascript_notices_other_scores(tmp_path: Path) -> None:
    """The self-test fails where one score differs."""
    integers, images = integer_of(EVERYTHING), images_of(EVERYTHING, 3)
    text = javascript(integers, images)
    first = json.dumps(scores_of(integers, images)[0].tolist(), separators=(",", ":"))
    assert first in text
    changed = text.replace(first, first.replace("[", "[1", 1))
    (tmp_path / "digit.mjs").write_text(changed)
    ask = 'import { selfTest } from "./digit.mjs"; console.log(selfTest());'

    done = subprocess.run(
        ["node", "--input-type=module", "-e", ask],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip() == "false", done.stderr


def test_types_name_every_export() -> None:
    """The declarations have each name that the module exports."""
    import re

    text = javascript(integer_of(EVERYTHING), images_of(EVERYTHING, 1))
    exported = set(re.findall(r"^export (?:function|const) (\w+)", text, re.MULTILINE))

    assert exported == set(
        re.findall(r"^export declare (?:function|const) (\w+)", javascript_types(), re.MULTILINE)
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_python_file_stands_alone(name: str, tmp_path: Path) -> None:
    """The file gives all scores with NumPy alone, and passes its own test."""
    network = NETWORKS[name]
    integers, images = integer_of(network), images_of(network, 20)
    path = tmp_path / "digit.py"
    path.write_text(python(integers, images[:3]))
    spec = importlib.util.spec_from_file_location("digit_alone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert np.array_equal(module.scores_of(images), scores_of(integers, images))
    assert module.self_test()
    assert "smidgen" not in {
        line.split()[1] for line in path.read_text().splitlines() if line.startswith("import ")
    }


def test_names_cannot_break_out() -> None:
    """Class names with quotes and ends of comments stay data."""
    from dataclasses import replace

    integers = integer_of(EVERYTHING)
    evil = ("''' + x", "*/ int x;", 'a"b', "c\nd")
    named = replace(integers, class_names=evil, source={"recipe": "*/ evil \n // '''"})

    text = python(named, images_of(EVERYTHING, 1))

    compile(text, "digit.py", "exec")
    assert "*/" not in "\n".join(text.splitlines()[:6])

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smidgen
from smidgen.data import Dataset
from smidgen.errors import MissingPackageError, ShipError
from smidgen.runs.store import RunFolder, RunStore
from smidgen.ship import artifacts
from smidgen.ship.boards import CORTEX_M0
from smidgen.ship.executor import scores_of

Shell = Callable[..., Any]


@pytest.fixture
def run(
    shell: Shell,
    tiny_file: str,
    stripes: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> RunFolder:
    """Return the folder of a trained run."""
    monkeypatch.setattr(artifacts, "load_dataset", lambda name, folder, **more: stripes)
    assert shell("train", tiny_file, "--engine", "torch", "--threads", "1").code == 0
    return RunStore(tmp_path / "runs").find("last")


def test_export_writes_what_it_says(run: RunFolder, shell: Shell, tmp_path: Path) -> None:
    """The header lies where the table says, with errors, flash and RAM above."""
    done = shell(
        "export", "last", "--name", "digit", "-o", str(tmp_path / "out"), "--calibrate", "30"
    )

    assert done.code == 0
    assert (tmp_path / "out" / "digit.h").is_file()
    titles = [line.split()[0] for line in done.out.splitlines()]
    assert titles == ["network", "float", "integers", "flash", "RAM", "MACs", "written", "next"]
    assert "digit_classify(image, scores)" in done.out


@pytest.mark.parametrize(
    ("to", "names"),
    [
        ("c", ["digit.h"]),
        ("arduino", ["digit.zip"]),
        ("onnx", ["digit_int8.onnx"]),
        ("js", ["digit.mjs", "digit.d.mts"]),
        ("python", ["digit.py"]),
    ],
)
def test_every_form_comes_with_its_manifest(run: RunFolder, to: Any, names: list[str]) -> None:
    """From Python, `export` gives the files' bytes, their hashes and where they come from."""
    try:
        made = smidgen.export(run, to, name="digit", calibrate=30)
    except MissingPackageError as missing:
        pytest.skip(str(missing))

    assert list(made.files) == names
    for name, content in made.files.items():
        told = made.manifest["files"][name]
        assert told["num_bytes"] == len(content)
        assert told["sha256"] == hashlib.sha256(content).hexdigest()
    assert made.manifest["source"]["identity"] == run.record().identity
    assert made.manifest["num_test_images"] == 40


def test_equal_runs_give_equal_files(run: RunFolder) -> None:
    """Nothing in an artifact depends on when it is made."""
    first = smidgen.export(run, "arduino", name="digit", calibrate=30)

    assert smidgen.export(run, "arduino", name="digit", calibrate=30).files == first.files


def test_arduino_library_has_what_the_ide_wants(run: RunFolder) -> None:
    """The zip holds properties, the header in src and an example that includes it."""
    packed = smidgen.export(run, "arduino", name="digit", calibrate=30).files["digit.zip"]

    archive = zipfile.ZipFile(io.BytesIO(packed))

    assert archive.namelist() == [
        "digit/library.properties",
        "digit/src/digit.h",
        "digit/examples/digit_digits/digit_digits.ino",
    ]
    assert "includes=digit.h" in archive.read("digit/library.properties").decode()
    assert "digit_self_test()" in archive.read(archive.namelist()[2]).decode()


def test_errors_are_those_of_the_test_images(run: RunFolder, stripes: Dataset) -> None:
    """The float errors are the record's, and the integers' are counted by the executor."""
    prepared = artifacts.prepare(run, calibrate=30)

    floats, whole = prepared.errors()

    result = run.record().result
    assert result is not None
    assert floats == result.num_errors
    scores = scores_of(prepared.network, stripes.test.images)
    assert whole == int((scores.argmax(axis=1) != stripes.test.labels).sum())


def test_budgets_that_are_not_kept_exit_with_3(
    run: RunFolder, shell: Shell, tmp_path: Path
) -> None:
    """Flash and RAM over their budgets are told with by how much; the files are there."""
    done = shell(
        *("export", "last", "-o", str(tmp_path), "--calibrate", "30"),
        *("--max-flash", "100", "--max-ram", "1000000", "--name", "digit"),
    )

    assert done.code == 3
    assert "error: Flash is " in done.err
    assert "over the 100 of --max-flash" in done.err
    assert "RAM" not in done.err
    assert (tmp_path / "digit.h").is_file()


def test_json_is_the_manifest(run: RunFolder, shell: Shell, tmp_path: Path) -> None:
    """`--json` prints one object."""
    done = shell("export", "last", "-o", str(tmp_path), "--calibrate", "30", "--json")

    assert json.loads(done.out)["form"] == "c"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": "c", "floats": True}, "Floats are printed for `onnx` only"),
        ({"to": "js", "fast": True}, "The fast form is one of the C code"),
        ({"to": "rust"}, "There is no form `rust`"),
        ({"name": "2digits"}, "cannot begin names in C"),
        ({"name": "while"}, "cannot begin names in C"),
        ({"calibrate": 0}, "`calibrate` must be from 1 to"),
    ],
)
def test_senseless_wishes_are_refused(run: RunFolder, options: Any, said: str) -> None:
    """What cannot be is one line that says what can."""
    with pytest.raises(ShipError, match=said):
        smidgen.export(run, **{"calibrate": 30, "name": "digit", **options})


@pytest.mark.skipif(not CORTEX_M0.has_compiler, reason="no arm-none-eabi-gcc here")
def test_flash_and_ram_are_foreseen(run: RunFolder) -> None:
    """Before training, flash and RAM are known to the byte."""
    prepared = artifacts.prepare(run, calibrate=30)
    network = run.record().recipe.network

    foreseen, is_measured = artifacts.foreseen(network, prepared.folded.mean)

    exported = artifacts.print_as(prepared, "c").manifest["cortex_m0"]
    assert is_measured
    assert foreseen.flash == exported["flash_bytes"]
    assert foreseen.ram == exported["ram_bytes"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["check", "smidgen/500", "--max-flash", "100000", "--max-ram", "100000"], 0, "to spare"),
        (["check", "smidgen/500", "--max-flash", "500"], 3, "bytes of flash on a Cortex-M0"),
        (["check", "smidgen/500", "--max-ram", "500"], 3, "bytes of RAM on a Cortex-M0"),
        (["check", "anchors/1936", "--max-ram", "500"], 1, "cannot be shipped"),
        (["show", "smidgen/500", "--max-flash", "100000"], 0, "on a Cortex-M0"),
        (["show", "smidgen/500", "--max-ram", "500"], 3, "over the 500 of --max-ram"),
    ],
)
def test_flash_and_ram_are_limits_before_training(
    shell: Shell, words: list[str], code: int, said: str
) -> None:
    """`check` and `show` hold a recipe against flash and RAM without any weights."""
    done = shell(*words)

    assert done.code == code
    assert said in done.out + done.err

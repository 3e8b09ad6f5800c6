import dataclasses
import hashlib
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smidgen.errors import RunError
from smidgen.recipes.recipe import Recipe
from smidgen.runs import record as record_module
from smidgen.runs.record import (
    EpochRecord,
    Result,
    RunRecord,
    RunSpec,
    alike,
    differences,
)
from smidgen.runs.rows import read_row
from smidgen.runs.store import RunFolder

MakeRun = Callable[..., RunFolder]

EPOCH = EpochRecord(1, 0.25, 0.9, "test", 0.5, 0.975, 1, 1.5, 0.5, 80.0, 0.1, 0.05)


def test_round_trip(make_run: MakeRun) -> None:
    """A record read back equals the one written, with its results."""
    folder = make_run(wrong=(3, 4), errors_before=(9, 1))

    record = folder.record()

    again = folder.path / "again.json"
    again.write_text(record.to_json())
    assert RunRecord.read(again) == record
    assert record.result is not None
    assert record.result.num_errors == 2
    assert [epoch.eval_num_errors for epoch in record.epochs] == [9, 1, 2]


def test_how_a_folder_was_read_is_kept(make_run: MakeRun) -> None:
    """Other records have no word of it, as those from before it was kept; they read back."""
    folder = make_run()
    record = folder.record()

    assert record.data.reading == {}
    read = dataclasses.replace(record.data, invert="yes", fit="mnist")
    folder.save_record(dataclasses.replace(record, data=read))
    assert folder.record().data == read
    assert folder.record().data.reading == {"invert": "yes", "fit": "mnist"}


def test_numbers_survive_exactly(tmp_path: Path, make_run: MakeRun) -> None:
    """Every float comes back to the last bit."""
    record = make_run().record()
    rng = np.random.default_rng(0)
    values = [0.1, 1 / 3, 1e-300, 5e-324, *rng.uniform(0, 1e6, 200), *rng.uniform(0, 1e-6, 200)]
    epochs = tuple(
        dataclasses.replace(EPOCH, epoch=i + 1, train_loss=float(value), lr_last=float(value))
        for i, value in enumerate(values)
    )
    path = tmp_path / "record.json"
    path.write_text(dataclasses.replace(record, epochs=epochs).to_json())

    found = RunRecord.read(path).epochs

    assert [epoch.train_loss for epoch in found] == values
    assert [epoch.lr_last for epoch in found] == values


def test_flipped_bits_are_noticed(make_run: MakeRun) -> None:
    """Whichever bit of a record changes, it is refused or says the same.

    Every 29th bit is tried: each of a byte's eight in turn, over a thousand in all.
    """
    folder = make_run()
    path, record = folder.path / "record.json", folder.record()
    content = path.read_bytes()
    bits = range(0, 8 * len(content), 29)
    refused = 0

    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        refused += is_refused_or_same(path, record)

    assert len(bits) > 1000
    assert refused > 0.95 * len(bits)


def is_refused_or_same(path: Path, expected: RunRecord) -> bool:
    """Return whether a record is refused; one that is not must say what was written."""
    try:
        found = RunRecord.read(path)
    except RunError:
        return True
    assert found == expected
    return False


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_records_are_noticed(make_run: MakeRun, share: float) -> None:
    """A record that ends early is refused in one line."""
    path = make_run().path / "record.json"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(RunError) as caught:
        RunRecord.read(path)

    assert str(caught.value) == f"`{path}` is damaged: it is not JSON. Restore it."


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"3",
        b"null",
        b"{}",
        b'{"sha256": null}',
        b'{"sha256": "' + b"0" * 64 + b'"}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": NaN}',
    ],
)
def test_hostile_records_are_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever stands in a record's file, the answer is one clear line."""
    path = tmp_path / "record.json"
    path.write_bytes(content)

    with pytest.raises(RunError) as caught:
        RunRecord.read(path)

    assert str(caught.value).startswith(f"`{path}` is damaged: it")
    assert "\n" not in str(caught.value)


def test_an_edited_record_is_refused(make_run: MakeRun) -> None:
    """Someone who improves a number by hand is found out."""
    path = make_run(wrong=(1, 2)).path / "record.json"
    plain = json.loads(path.read_bytes())
    plain["result"]["num_errors"] = 0
    path.write_text(json.dumps(plain))

    with pytest.raises(RunError) as caught:
        RunRecord.read(path)

    assert str(caught.value) == (
        f"`{path}` is damaged: its content does not match its SHA-256. Restore it."
    )


def test_a_record_of_other_keys_is_refused(make_run: MakeRun) -> None:
    """A whole record with a key this version does not know is refused with the key's name."""
    path = make_run().path / "record.json"
    plain = json.loads(path.read_bytes())
    del plain["sha256"]
    plain["sead"] = 1
    plain["sha256"] = record_module._digest(plain)
    path.write_text(json.dumps(plain))

    with pytest.raises(RunError) as caught:
        RunRecord.read(path)

    assert str(caught.value) == f"`{path}`: unknown key `sead`. Did you mean `seed`?"


def test_a_missing_record_is_one_line(tmp_path: Path) -> None:
    """A record that is not there is named."""
    with pytest.raises(RunError) as caught:
        RunRecord.read(tmp_path / "record.json")

    assert (
        str(caught.value) == f"Cannot read `{tmp_path / 'record.json'}`: No such file or directory."
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eval_accuracy", 1.1),
        ("train_accuracy", -0.1),
        ("train_loss", math.nan),
        ("eval_loss", math.inf),
        ("split", "train"),
        ("epoch", 1.5),
    ],
)
def test_senseless_epochs_are_refused(field: str, value: Any) -> None:
    """Shares outside [0, 1], numbers that are not finite and wrong types cannot be recorded."""
    with pytest.raises(RunError) as caught:
        dataclasses.replace(EPOCH, **{field: value})

    assert f"`{field}`" in str(caught.value)


def test_without_times_leaves_only_what_repeats() -> None:
    """Two epochs that differ in their times alone count as equal, others do not."""
    slower = dataclasses.replace(EPOCH, train_seconds=9.0, eval_seconds=9.0, images_per_second=1.0)

    assert slower.without_times() == EPOCH.without_times()
    timed = {"train_seconds", "eval_seconds", "images_per_second"}
    for item in dataclasses.fields(EpochRecord):
        other = {"split": "valid", "epoch": 2, "eval_num_errors": 2}.get(item.name, 0.0)
        changed = dataclasses.replace(EPOCH, **{item.name: other})
        assert (changed.without_times() == EPOCH.without_times()) == (item.name in timed)


def test_selection_words() -> None:
    """The words that mark a result chosen by its test accuracy are fixed."""
    with pytest.raises(RunError) as caught:
        Result("test", 1.0, 0, 1, 1, "best", 1.0, 1.0, 1.0, 1)  # pyright: ignore

    assert "'last epoch' or 'selected on the test set'" in str(caught.value)


def made(recipe_: Recipe, **changes: Any) -> RunSpec:
    """Return what makes a run of the torch engine, changed as asked."""
    arguments: dict[str, Any] = {
        "recipe": recipe_,
        "seed": 1,
        "protocol": "final",
        "engine": "torch",
        "threads": 2,
        "data_sha256": "ab",
    }
    return RunSpec(**(arguments | changes))


NATIVE = {"engine": "native", "threads": None}


def test_identity_is_what_decides_the_numbers(
    tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings, seed, protocol, engine, device, torch's threads and data change the identity."""
    others = [
        {"recipe": tiny_recipe.replace(epochs=4)},
        {"seed": 2},
        {"protocol": "tune"},
        NATIVE,
        {"device": "cuda"},
        {"threads": 1},
        {"data_sha256": "cd"},
    ]
    found = [made(tiny_recipe), *(made(tiny_recipe, **change) for change in others)]
    monkeypatch.setattr(record_module, "RESULTS_VERSION", record_module.RESULTS_VERSION + 1)
    found.append(made(tiny_recipe))

    assert len({spec.identity for spec in found}) == len(others) + 2
    assert all(len(spec.identity) == 64 for spec in found)


def test_identity_leaves_out_the_name(tiny_recipe: Recipe) -> None:
    """A recipe of another name is the same recipe."""
    assert made(tiny_recipe.replace(name="other")).identity == made(tiny_recipe).identity


def test_a_spec_travels(tiny_recipe: Recipe) -> None:
    """What makes a run arrives in another process as it was sent."""
    spec = made(tiny_recipe)

    sent = pickle.loads(pickle.dumps(spec))

    assert sent == spec
    assert sent.identity == spec.identity


def test_a_record_says_what_made_it(make_run: MakeRun) -> None:
    """The spec of a record has the record's identity, and its kind the record's fingerprint."""
    whole = make_run().record()

    assert whole.spec.identity == whole.identity
    assert whole.spec.kind == whole.kind
    assert dataclasses.replace(whole.spec, seed=2).kind == whole.kind


def test_alike_is_the_same_but_for_the_seed(tiny_recipe: Recipe) -> None:
    """Runs of two seeds are alike; what differs in more is named."""
    spec = made(tiny_recipe)
    other = made(tiny_recipe, protocol="tune", seed=2, threads=1)

    assert alike(spec.kind, dataclasses.replace(spec, seed=2).kind)
    assert not alike(spec.kind, other.kind)
    assert differences(spec.kind, other.kind) == ["protocol", "threads"]


def test_lanes_that_are_not_known_fit_any(tiny_recipe: Recipe) -> None:
    """Other lanes are another kind of runs; a record from before lanes were kept goes with any."""
    unknown, eight, sixteen = (made(tiny_recipe, **NATIVE, lanes=lanes) for lanes in (None, 8, 16))

    assert not alike(eight.kind, sixteen.kind)
    assert alike(unknown.kind, eight.kind)
    assert alike(sixteen.kind, unknown.kind)


@pytest.mark.parametrize(
    "changes", [{"threads": None}, {"lanes": 8}, {"engine": "native"}, {"seed": -1}]
)
def test_a_spec_that_cannot_be_is_refused(tiny_recipe: Recipe, changes: dict[str, Any]) -> None:
    """Torch without threads or with lanes, native with threads, and seeds below 0 are errors."""
    with pytest.raises(RunError):
        made(tiny_recipe, **changes)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("seed",), -1),
        (("num_params",), -7),
        (("num_macs",), -1),
        (("epochs",), []),
        (("result", "num_errors"), -5),
        (("result", "num_images"), 0),
        (("result", "epoch"), 9),
        (("epochs", 0, "eval_num_errors"), -1),
        (("epochs", 0, "epoch"), 2),
        (("wall_seconds",), -1.0),
        (("environment", "threads"), 0),
    ],
)
def test_a_record_that_cannot_be_is_refused(
    make_run: MakeRun, path: tuple[str | int, ...], value: object
) -> None:
    """Negative counts, no epochs, seeds below 0: one line, though the digest fits."""
    file = make_run().path / "record.json"
    plain = json.loads(file.read_text())
    del plain["sha256"]
    place: Any = plain
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps({**plain, "sha256": digest}))

    with pytest.raises(RunError) as caught:
        RunRecord.read(file)
    assert "\n" not in str(caught.value)
    if path[-1] in ("seed", "num_params", "num_errors", "wall_seconds", "threads"):
        with pytest.raises(RunError):  # what a list shows
            read_row(file.parent)

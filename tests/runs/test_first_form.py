"""Runs made by the first commit's code: `tests/runs/first_form` holds two and an unfinished one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.data import draw_stripes
from smidgen.engines.choose import EngineChoice
from smidgen.evidence.proof import proof_of
from smidgen.network.layers import Conv
from smidgen.recipes.catalogue import RECIPES
from smidgen.runs.first_form import first_fingerprint
from smidgen.runs.listing import finished_rows
from smidgen.runs.record import RunRecord
from smidgen.runs.store import RunStore
from smidgen.training.events import listen
from smidgen.training.run import TrainOptions, train

FINGERPRINTS = {
    "smidgen/quick": "065a9f3db64e134a5b12b913f61160b051dab44d42127c68ba73a92889218e81",
    "smidgen/yardstick": "ac1505b5541352ed6a2f3befbd391db4c231ef387dbda5b3448c0a28ea58e206",
    "era-s7/7": "e42055a857f66fe968968e8f45e44553f885ad3ace9e35bc2a1bf8e440921d91",
    "mnist-99-4": "704566cc216adaa39591302eb7738c0fa0f26fc116043d092ab665afa6cb0be4",
    "anchors/697": "ab4b87f3db3d55376dc7a553b146cccf91728ec64ac4b98aaeb0cefb3cbc1060",
}
NATIVE, TORCH = "old-tiny-s1-d4d4f2b4", "old-tiny-s1-f056d7c5"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Return a store of runs of the first form."""
    root = tmp_path / "runs"
    shutil.copytree(Path(__file__).parent / "first_form", root)
    return RunStore(root)


def record_of(store: RunStore, name: str) -> RunRecord:
    """Return a record of the first form as it is read."""
    return store.find(name).record()


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_first_fingerprints_are_found_again(name: str) -> None:
    """What a recipe of the catalogue was called in the first form is known."""
    assert first_fingerprint(RECIPES[name]) == FINGERPRINTS[name]


def test_a_new_field_changes_no_first_fingerprint(
    add_field: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field that came later is left out at its default, and could not be said otherwise."""
    added = add_field(Conv)
    quick = RECIPES["smidgen/quick"]

    assert first_fingerprint(quick) == FINGERPRINTS["smidgen/quick"]
    monkeypatch.setattr(Conv, added, 2)
    assert first_fingerprint(quick) is None


def test_old_records_are_known_by_what_they_are_called_now(store: RunStore) -> None:
    """Fingerprint and identity are those that the same run would be given today."""
    for name in (NATIVE, TORCH):
        record = record_of(store, name)

        assert record.fingerprint == record.recipe.fingerprint()
        assert record.identity == record.spec.identity


def test_old_runs_are_listed_as_they_are_read(store: RunStore) -> None:
    """The rows of a list say what the records say."""
    rows, problems = finished_rows(store)

    assert problems == []
    for row in rows:
        record = record_of(store, row.run)
        assert (row.fingerprint, row.identity) == (record.fingerprint, record.identity)
        assert row.kind == record.kind


@pytest.mark.parametrize(("name", "engine"), [(NATIVE, "native"), (TORCH, "torch")])
def test_old_runs_are_already_there(store: RunStore, name: str, engine: EngineChoice) -> None:
    """Nobody trains again what the first form's store holds, under whatever name."""
    recipe = record_of(store, name).recipe.replace(name="renamed")

    run = train(recipe, draw_stripes(), store, 1, TrainOptions(engine=engine, threads=1))

    assert run.was_there
    assert run.folder.name == name


def test_an_old_unfinished_run_goes_on(store: RunStore) -> None:
    """An epoch that is there is not trained again."""
    recipe = record_of(store, TORCH).recipe
    before: list[int] = []
    listener = listen(on_start=lambda record: before.append(len(record.epochs)))

    run = train(
        recipe, draw_stripes(), store, 2, TrainOptions("final", "torch", threads=1), listener
    )

    assert before == [1]
    assert not list(store.root.glob("*.partial"))
    assert store.finished(run.record.spec) == run.folder


def test_a_proof_holds_old_runs_and_new_ones(store: RunStore) -> None:
    """Runs of the native engine that do not tell their lanes stand in one sample with others."""
    recipe = record_of(store, NATIVE).recipe
    run = train(recipe, draw_stripes(), store, 2, TrainOptions(engine="native", threads=1))

    proof = proof_of([store.find(NATIVE), run.folder])

    assert [each.seed for each in proof.seeds] == [1, 2]

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smidgen.errors import RunError, StorageError, UnknownNameError
from smidgen.runs.record import RunRecord
from smidgen.runs.store import RunFolder, RunStore, run_name

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Return the store that `make_run` writes into."""
    return RunStore(tmp_path / "runs")


def test_names_are_safe() -> None:
    """A run is called by its recipe, seed and identity, whatever the recipe's name holds."""
    identity = "0123456789abcdef"

    assert run_name("smidgen/quick", 1, identity) == "smidgen-quick-s1-01234567"
    assert run_name("../../etc/passwd", 2, identity) == "etc-passwd-s2-01234567"
    assert run_name(".hidden", 3, identity) == "hidden-s3-01234567"
    assert run_name("über näht", 4, identity) == "ber-n-ht-s4-01234567"
    assert run_name("/", 5, identity) == "recipe-s5-01234567"
    assert len(run_name("x" * 500, 6, identity)) < 100


def test_a_file_is_no_store(tmp_path: Path) -> None:
    """Runs are not said to be missing from what cannot hold any."""
    file = tmp_path / "runs"
    file.touch()

    with pytest.raises(RunError) as caught:
        RunStore(file).folders()

    assert str(caught.value) == f"`{file}` is a file, not a folder of runs. Name a folder."


def test_a_run_is_found_by_path_name_prefix_and_last(make_run: MakeRun, store: RunStore) -> None:
    """All four ways of naming a run lead to it."""
    first, second = make_run(seed=1), make_run(seed=2)

    assert store.find(first.name).path == first.path
    assert store.find(str(first.path)).path == first.path
    assert store.find("tiny-s2").path == second.path
    os.utime(first.path, (9e9, 9e9))
    assert store.find("last").path == first.path
    os.utime(second.path, (9.1e9, 9.1e9))
    assert store.find("last").path == second.path


def test_a_path_is_found_outside_the_store(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path leads to its run from any store, also a relative one."""
    run = make_run()
    monkeypatch.chdir(run.path.parent)

    assert RunStore(tmp_path / "elsewhere").find(f"./{run.path.name}").path == run.path


def test_a_whole_name_wins_over_longer_ones(make_run: MakeRun, store: RunStore) -> None:
    """A name that is also a prefix of others stands for itself."""
    run = make_run()
    longer = run.path.with_name(f"{run.name}-copy")
    longer.mkdir()
    (longer / "record.json").write_bytes((run.path / "record.json").read_bytes())

    assert store.find(run.name).path == run.path


def test_an_unfinished_run_is_found_by_its_name(make_run: MakeRun, store: RunStore) -> None:
    """The mark of an unfinished run need not be typed, but may be."""
    run = make_run(finish=False)

    assert not run.is_finished
    assert run.path.name == f"{run.name}.partial"
    assert store.find(run.name).path == run.path
    assert store.find(run.path.name).path == run.path
    assert store.find("last").path == run.path


def test_unknown_runs_are_one_line(make_run: MakeRun, store: RunStore) -> None:
    """A wrong name suggests the nearest, and says where was looked."""
    run = make_run()

    with pytest.raises(UnknownNameError) as caught:
        store.find(f"{run.name}x")
    with pytest.raises(UnknownNameError) as far:
        store.find("qqq")
    with pytest.raises(RunError) as empty:
        RunStore(store.root / "none").find("last")

    where = f"Runs are looked for in `{store.root}`."
    assert str(caught.value) == (
        f"No run is called `{run.name}x`. Did you mean `{run.name}`? {where}"
    )
    assert str(far.value) == f"No run is called `qqq`. Known: `{run.name}`. {where}"
    assert str(empty.value) == (
        f"There are no runs in `{store.root / 'none'}` yet; `smidgen train` makes one."
    )


def test_an_ambiguous_prefix_lists_what_fits(make_run: MakeRun, store: RunStore) -> None:
    """A prefix of several runs is refused with their names."""
    names = sorted(make_run(seed=seed).name for seed in (1, 2))

    with pytest.raises(RunError) as caught:
        store.find("tiny-s")

    text = str(caught.value)
    assert text.startswith("`tiny-s` fits 2 runs: ")
    assert text.endswith(". Write more of the name.")
    assert all(f"`{name}`" in text for name in names)


def test_folders_come_oldest_first(make_run: MakeRun, store: RunStore) -> None:
    """Runs are listed by the time something was last written into them."""
    runs = [make_run(seed=seed) for seed in (1, 2, 3)]
    for run, time in zip(runs, (3e9, 1e9, 2e9), strict=True):
        os.utime(run.path, (time, time))

    assert [folder.name for folder in store.folders()] == [runs[i].name for i in (1, 2, 0)]


def test_what_is_no_run_is_passed_over(make_run: MakeRun, store: RunStore) -> None:
    """Files, empty folders and hidden ones are not listed; a missing store has no runs."""
    run = make_run()
    (store.root / "notes.txt").write_text("mine")
    (store.root / "empty").mkdir()
    (store.root / ".hidden").mkdir()
    (store.root / ".hidden" / "record.json").write_text("{}")

    assert [folder.name for folder in store.folders()] == [run.name]
    assert RunStore(store.root / "none").folders() == []


def test_a_finished_run_is_known_by_its_identity(make_run: MakeRun, store: RunStore) -> None:
    """The spec leads to the finished run, under whatever name; not to others."""
    run, partial = make_run(name="one"), make_run(name="two", seed=2, finish=False)
    spec = run.record().spec

    found = store.finished(replace(spec, recipe=spec.recipe.replace(name="another")))

    assert found is not None
    assert found.path == run.path
    assert store.finished(partial.record().spec) is None


def test_a_run_is_found_by_one_look(
    make_run: MakeRun, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished run is found without a list of the folder and without its record."""
    run = make_run()
    spec = run.record().spec
    monkeypatch.setattr(os, "listdir", None)
    monkeypatch.setattr(RunRecord, "read", None)

    assert store.finished(spec) == run


def test_copied_runs_are_found_and_linked(make_run: MakeRun, store: RunStore) -> None:
    """A run that was copied in under a name of its own is found, from then on by its link."""
    run = make_run()
    spec = run.record().spec
    shutil.rmtree(store.root / ".identities")
    mine = run.path.rename(store.root / "mine")

    assert store.finished(spec) == RunFolder(mine)
    assert (store.root / ".identities" / spec.identity).resolve() == mine


def test_runs_are_found_where_no_link_can_be_made(make_run: MakeRun, store: RunStore) -> None:
    """A file in the place of the links costs time and nothing else."""
    run = make_run()
    spec = run.record().spec
    shutil.rmtree(store.root / ".identities")
    (store.root / ".identities").touch()
    mine = run.path.rename(store.root / "mine")

    assert store.finished(spec) == RunFolder(mine)


def test_a_removed_run_is_not_found(make_run: MakeRun, store: RunStore) -> None:
    """The link of a run that is gone leads nowhere."""
    run = make_run()
    spec = run.record().spec
    store.remove(run)

    assert store.finished(spec) is None


def test_an_unfinished_run_is_found_under_another_name(make_run: MakeRun, store: RunStore) -> None:
    """A run goes on where it stands though its recipe is called otherwise now."""
    partial = make_run(finish=False)
    spec = partial.record().spec

    renamed = replace(spec, recipe=spec.recipe.replace(name="another"))

    assert store.unfinished(renamed) == partial
    assert store.unfinished(spec) == partial


def test_a_run_that_does_not_tell_its_lanes_will_do(make_run: MakeRun, store: RunStore) -> None:
    """A native run from before lanes were kept is not made again; known lanes come first."""
    old = make_run(engine="native")
    spec = old.record().spec

    assert store.finished(replace(spec, lanes=8)) == old


def test_a_damaged_run_is_found_and_says_so(make_run: MakeRun, store: RunStore) -> None:
    """A run whose record cannot be read stands in the way of its identity."""
    run = make_run()
    spec = run.record().spec
    (run.path / "record.json").write_text("{")

    found = store.finished(spec)

    assert found == run
    with pytest.raises(RunError):
        found.record()


def test_a_handle_reads_its_record_once(make_run: MakeRun, store: RunStore) -> None:
    """What a handle has read or written it keeps."""
    folder = store.find(make_run().name)
    record = folder.record()
    (folder.path / "record.json").unlink()

    assert folder.record() is record


def test_damaged_tensors_are_never_loaded(make_run: MakeRun) -> None:
    """Predictions with one changed bit are refused."""
    run = make_run()
    path = run.path / "predictions.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(RunError) as caught:
        run.predictions()

    assert "does not match its SHA-256" in str(caught.value)


def test_tensors_of_another_run_are_noticed(make_run: MakeRun) -> None:
    """A whole file that belongs to another run does not pass for this one's."""
    run, other = make_run(seed=1, wrong=(1,)), make_run(seed=2, wrong=(2,))
    path = run.path / "predictions.safetensors"
    path.write_bytes((other.path / path.name).read_bytes())

    with pytest.raises(RunError) as caught:
        run.predictions()

    assert str(caught.value) == (
        f"`{path}` is not the file of this run: its record has another SHA-256."
    )


def test_predictions_come_back(make_run: MakeRun) -> None:
    """Predictions hold float32 scores and int64 labels of every image."""
    tensors = make_run(wrong=(5, 7)).predictions()

    assert tensors["logits"].dtype == np.float32
    assert tensors["labels"].dtype == np.int64
    wrong = np.flatnonzero(tensors["logits"].argmax(1) != tensors["labels"])
    assert wrong.tolist() == [5, 7]


def test_two_checkpoints_are_kept(store: RunStore) -> None:
    """Writing the state after an epoch keeps the one before it and drops older ones."""
    folder = store.partial("x")
    for epoch in (1, 2, 3, 10000):
        folder.save_checkpoint(epoch, {"a": np.array([epoch])}, {"epoch": str(epoch)})
        if epoch == 3:
            assert folder.checkpoints() == [2, 3]

    assert folder.checkpoints() == [10000]
    tensors, metadata = folder.load_checkpoint(10000)
    assert tensors["a"].tolist() == [10000]
    assert metadata == {"epoch": "10000"}


def test_later_checkpoints_do_not_push_out_a_new_one(store: RunStore) -> None:
    """A run that went back to its beginning keeps what it writes, beside damaged later files."""
    folder = store.partial("x")
    for epoch in (7, 8, 1, 2):
        folder.save_checkpoint(epoch, {"a": np.array([epoch])}, {})

    assert folder.checkpoints() == [1, 2, 7, 8]


def test_finishing_gives_the_final_name(make_run: MakeRun, store: RunStore) -> None:
    """Finishing moves the folder as it is."""
    partial = make_run(finish=False)
    record = partial.record()

    finished = store.finish(partial, record)

    assert finished.path == store.root / partial.name
    assert finished.is_finished
    assert finished.record() == record
    assert not partial.path.exists()


def test_a_taken_name_is_refused_beforehand(make_run: MakeRun, store: RunStore) -> None:
    """Where something stands in the final place, nothing is begun and nothing overwritten."""
    partial = make_run(finish=False)
    target = store.root / partial.name
    target.mkdir()
    (target / "precious").write_text("mine")

    with pytest.raises(RunError) as caught:
        store.check_free(partial)
    with pytest.raises(StorageError):
        store.finish(partial)

    assert str(caught.value) == f"`{target}` is in the way: it has no `record.json`. Move it."
    assert (target / "precious").read_text() == "mine"
    assert partial.record()


def test_a_free_name_passes(make_run: MakeRun, store: RunStore) -> None:
    """An unfinished run may be begun where nothing stands, and where it stands itself."""
    partial = make_run(finish=False)
    store.check_free(partial)
    renamed = RunFolder(partial.path.rename(store.root / "mine"))

    store.check_free(renamed)


def test_a_run_is_finished_durably(
    make_run: MakeRun, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it gets its final name, the folder of runs is synced, before the call returns."""
    partial = make_run(finish=False)
    record = partial.record()
    events: list[tuple[str, Path]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        events.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        replace(source, target)
        events.append(("replace", Path(target)))

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)

    finished = store.finish(partial, record)

    renamed = events.index(("replace", finished.path))
    assert ("fsync", store.root) in events[renamed:]

import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from smidgen.data import Dataset, draw_stripes
from smidgen.errors import BudgetError, DataError, RunError, StorageError
from smidgen.files import locked
from smidgen.recipes.parts import Budget
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training import run as run_module
from smidgen.training.events import listen
from smidgen.training.run import Run, TrainOptions, describe_environment, resume, train

TrainTiny = Callable[..., Run]
OPTIONS = TrainOptions(engine="torch", threads=1)


class DiedError(Exception):
    """What stands for a crash."""


def broken_off(
    recipe: Recipe, dataset: Dataset, root: Path, options: TrainOptions = OPTIONS
) -> RunFolder:
    """Return the folder of a run that was broken off after its first epoch."""

    def die(done: EpochRecord) -> None:
        raise DiedError

    with pytest.raises(DiedError):
        train(recipe, dataset, RunStore(root), 1, options, listen(on_epoch=die))
    (folder,) = RunStore(root).folders()
    return folder


def contents(folder: RunFolder) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.path.iterdir()}


def test_a_finished_run_is_never_done_again(train_tiny: TrainTiny) -> None:
    """The same run is answered with the one that is there, which stays as it is."""
    first = train_tiny()
    before = contents(first.folder)

    again = train_tiny()

    assert again.was_there
    assert not first.was_there
    assert again.record == first.record
    assert again.folder == first.folder
    assert contents(first.folder) == before


def test_a_native_run_goes_on_with_other_threads(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """Its bits do not depend on them, so nothing warns of another machine."""
    notes: list[str] = []
    options = TrainOptions(engine="native", threads=1)
    whole = train(tiny_recipe, stripes, RunStore(tmp_path / "whole"), 1, options)
    folder = broken_off(tiny_recipe, stripes, tmp_path / "cut", options)

    run = resume(folder, stripes, listen(on_note=notes.append), threads=2)

    assert run.record.environment.threads == 2
    assert notes == []
    names = ("model.safetensors", "predictions.safetensors")
    assert [run.record.files[name] for name in names] == [
        whole.record.files[name] for name in names
    ]


def test_a_recipes_name_does_not_matter(train_tiny: TrainTiny) -> None:
    """A recipe with the same settings under another name is the same run."""
    first = train_tiny()

    again = train_tiny(name="another")

    assert again.was_there
    assert again.folder == first.folder


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"protocol": "tune"}, {"epochs": 2}, {"batch_size": 31}]
)
def test_another_identity_is_another_run(train_tiny: TrainTiny, change: dict[str, Any]) -> None:
    """Another seed, protocol or setting makes a run of its own."""
    first = train_tiny()

    other = train_tiny(**change)

    assert not other.was_there
    assert other.folder.path != first.folder.path
    assert other.record.identity != first.record.identity


def test_a_damaged_finished_run_is_not_overwritten(train_tiny: TrainTiny) -> None:
    """Where a finished run's record is damaged, training stops before it begins."""
    folder = train_tiny().folder
    record = folder.path / "record.json"
    record.write_text("{")
    before = contents(folder)

    with pytest.raises(RunError) as caught:
        train_tiny()

    assert str(caught.value) == (
        f"The run `{folder.name}` is damaged: `{record}` is damaged: it is not JSON. "
        f"Restore it, or remove it with `smidgen runs rm {folder.name}`."
    )
    assert contents(folder) == before
    assert not list(folder.path.parent.glob("*.partial"))


def test_what_is_in_the_way_of_a_run_is_not_overwritten(train_tiny: TrainTiny) -> None:
    """A folder without a record, and one with another run's, are named and stay."""
    folder, other = train_tiny().folder, train_tiny(seed=2).folder
    record = folder.path / "record.json"
    record.unlink()

    with pytest.raises(RunError) as caught:
        train_tiny()
    assert str(caught.value) == f"`{folder.path}` is in the way: it has no `record.json`. Move it."

    shutil.copy(other.path / "record.json", record)
    with pytest.raises(RunError) as caught:
        train_tiny()
    assert str(caught.value) == (f"`{folder.path}` is in the way: it holds another run. Move it.")


def test_two_processes_do_not_share_a_run(train_tiny: TrainTiny, tmp_path: Path) -> None:
    """While another process works on a run, a second one is told so and changes nothing."""
    name = train_tiny().folder.name
    elsewhere = RunStore(tmp_path / "other")

    with pytest.raises(StorageError) as caught, locked(elsewhere.lock_path(name)):
        train_with_store(elsewhere, train_tiny)

    assert str(caught.value) == (
        f"The run `{name}` is in use by another process. Wait for it or stop it."
    )
    assert elsewhere.folders() == []


def train_with_store(store: RunStore, train_tiny: TrainTiny) -> Run:
    """Train the tiny recipe into another store."""
    done = train_tiny()
    return train(done.record.recipe, draw_stripes(120, 40), store, 1, OPTIONS)


def test_the_lock_goes_away(train_tiny: TrainTiny) -> None:
    """Nothing but the run and its link stands in the store afterwards."""
    run = train_tiny()

    beside = {path.name for path in run.folder.path.parent.iterdir()}

    assert beside - {".identities"} == {run.folder.name}


def test_too_many_parameters_are_refused(train_tiny: TrainTiny, tmp_path: Path) -> None:
    """A network above its recipe's promise is not trained; the exit code is 3."""
    with pytest.raises(BudgetError) as caught:
        train_tiny(budget=Budget(max_params=600))

    assert str(caught.value) == (
        "`tiny` promises at most 600 parameters and has 612. "
        "Make it smaller or raise `budget.max_params`."
    )
    assert caught.value.exit_code == 3
    assert not (tmp_path / "runs").exists()


def test_too_many_epochs_are_refused(train_tiny: TrainTiny) -> None:
    """A recipe longer than its own promise is not trained."""
    with pytest.raises(BudgetError) as caught:
        train_tiny(budget=Budget(max_epochs=2))

    assert str(caught.value) == (
        "`tiny` promises at most 2 epochs and has 3. Make it smaller or raise `budget.max_epochs`."
    )


def test_a_budget_that_is_kept_passes(train_tiny: TrainTiny) -> None:
    """The promise is inclusive."""
    assert train_tiny(budget=Budget(max_params=612, max_epochs=3)).record.num_params == 612


def test_resume_goes_on_beside_the_unfinished_run(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, train_tiny: TrainTiny
) -> None:
    """A run named by its path is continued and finished in that folder of runs."""
    whole = train_tiny()
    folder = broken_off(tiny_recipe, stripes, tmp_path / "elsewhere")
    seen: list[int] = []

    run = resume(folder, stripes, listen(on_epoch=lambda done: seen.append(done.epoch)))

    assert seen == [2, 3]
    assert run.folder.path == tmp_path / "elsewhere" / whole.folder.name
    model = whole.folder.model()
    assert {n: a.tobytes() for n, a in run.folder.model().items()} == {
        n: a.tobytes() for n, a in model.items()
    }


def test_resuming_a_finished_run_returns_it(train_tiny: TrainTiny, stripes: Dataset) -> None:
    """There is nothing to continue, and nothing is."""
    run = train_tiny()

    again = resume(run.folder, stripes)

    assert again.was_there
    assert again.record == run.record


def test_other_images_are_refused(tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path) -> None:
    """A run cannot go on with images it did not begin with."""
    folder = broken_off(tiny_recipe, stripes, tmp_path)

    with pytest.raises(DataError) as caught:
        resume(folder, draw_stripes(120, 40, seed=5))

    assert str(caught.value) == (
        f"`{folder.name}` began with other images than these of `stripes`. "
        "Point `--data-dir` at the images it began with."
    )


def test_other_numbers_are_refused(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is not continued by a version that would have given other numbers."""
    folder = broken_off(tiny_recipe, stripes, tmp_path)
    monkeypatch.setattr(run_module, "RESULTS_VERSION", 99)

    with pytest.raises(RunError) as caught:
        resume(folder, stripes)

    assert re.fullmatch(
        r"`tiny-s1-[0-9a-f]{8}` began with results version \d+ and this is version 99: "
        r"other numbers would come out\. Train it anew\.",
        str(caught.value),
    )


def test_the_engine_chosen_is_noted(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `auto` falls back to torch, one line says why."""
    monkeypatch.setattr(
        run_module, "choose_engine", lambda *given: ("torch", "there is no compiler")
    )
    notes: list[str] = []
    options = TrainOptions(engine="auto", threads=1)

    run = train(tiny_recipe, stripes, RunStore(tmp_path), 1, options, listen(on_note=notes.append))

    assert notes == ["Using the torch engine: there is no compiler."]
    assert run.record.environment.engine == "torch"


def test_tune_never_opens_the_test_images(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """A whole tuning run works on a data set whose test images cannot be touched."""

    class Sealed:
        def __getattr__(self, name: str) -> Any:
            assert name != "test", "the test images were opened"
            return getattr(stripes, name)

    options = dataclasses.replace(OPTIONS, protocol="tune")
    sealed: Any = Sealed()

    record = train(tiny_recipe, sealed, RunStore(tmp_path), 1, options).record

    assert record.result is not None
    assert record.result.split == "valid"
    assert (record.data.num_train, record.data.num_valid, record.data.num_test) == (100, 20, 0)


def test_versions_of_what_computed() -> None:
    """A torch run records torch's version; a native run does not pretend to have used it."""
    torch, native = (describe_environment(engine, "cpu", 2) for engine in ("torch", "native"))

    assert torch.versions["torch"] == version("torch")
    assert torch.versions["numpy"] == version("numpy")
    assert "torch" not in native.versions
    assert (torch.engine, torch.device, torch.threads) == ("torch", "cpu", 2)


def test_hardware_is_described() -> None:
    """Processor, cores, machine and system are known on every machine."""
    hardware = describe_environment("native", "cpu", 1).hardware

    assert hardware.keys() == {"processor", "cores", "machine", "system"}
    assert all(hardware.values())
    assert int(hardware["cores"]) >= 1


def test_torch_is_not_imported() -> None:
    """Describing a machine without a GPU in play does not load torch."""
    code = (
        "import sys; from smidgen.training.run import describe_environment as d; "
        "d('torch', 'cpu', 1); sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0

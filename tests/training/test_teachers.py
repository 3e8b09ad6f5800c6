from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smidgen.data import Dataset
from smidgen.engines.torch_engine import TorchEngine
from smidgen.errors import RecipeError, RunError
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import EpochRecord
from smidgen.runs.store import RunStore
from smidgen.runs.tensors import load_tensors
from smidgen.training import teachers as teachers_module
from smidgen.training.events import Began, EpochDone, Event, OfTeacher, listen
from smidgen.training.plan import plan
from smidgen.training.run import Run, TrainOptions, resume, train
from smidgen.training.teachers import Teachers

OPTIONS = TrainOptions(engine="torch", threads=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache of its own."""
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Return an empty store."""
    return RunStore(tmp_path / "runs")


def taught(
    recipe: Recipe, bank_epochs: int | None = None, seeds: tuple[int, ...] = (1, 2)
) -> Recipe:
    """Return a student of two runs of its own recipe, shortened."""
    teacher = Teacher(recipe.replace(name="teacher", epochs=1), seeds)
    settings = Distillation((teacher,), 3.0, 0.8, bank_epochs)
    return recipe.replace(name="student", distillation=settings)


def never() -> bool:
    """Return that nobody wants to stop."""
    return False


def at_work(run: Run, dataset: Dataset) -> Teachers:
    """Return the teachers of a finished run."""
    return Teachers(run.record, dataset.train, run.folder.path)


def mean_of_softened(run: Run, dataset: Dataset, epoch: int, seed: int = 1) -> np.ndarray:
    """Return what the targets of an epoch must be, in float64 from torch engines made here."""
    recipe, train_images = run.record.recipe, dataset.train
    drawn = plan(recipe, seed, epoch, [], len(train_images))
    found = []
    for used in run.record.teachers:
        folder = next(f for f in RunStore(run.folder.path.parent).folders() if f.name == used.run)
        single = recipe.replace(averaging=None, distillation=None)
        engine = TorchEngine(recipe.network, single, train_images.images, train_images.labels)
        engine.load_state(engine.state() | folder.model())
        scores = engine.planned_logits(drawn).astype(np.float64) / 3.0
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        found.append(shares / shares.sum(axis=1, keepdims=True))
    return np.mean(found, axis=0)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by a number of images whenever a teacher is asked."""
    asked: list[int] = []
    answers = TorchEngine.planned_logits

    def noted(engine: TorchEngine, drawn: object) -> np.ndarray:
        scores = answers(engine, drawn)  # type: ignore[arg-type]
        asked.append(len(scores))
        return scores

    monkeypatch.setattr(TorchEngine, "planned_logits", noted)
    return asked


@pytest.mark.parametrize("bank_epochs", [None, 2])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_targets_are_what_teachers_say_of_the_very_images(
    epoch: int, bank_epochs: int | None, tiny_recipe: Recipe, stripes: Dataset, store: RunStore
) -> None:
    """Row i is the mean over teachers of softened probabilities for the plan's i-th image."""
    recipe = taught(tiny_recipe.replace(clean_epochs=1), bank_epochs)
    run = train(recipe, stripes, store, 1, OPTIONS)
    drawn = plan(recipe, 1, epoch, [], len(stripes.train))

    targets = at_work(run, stripes).targets(drawn, never)

    assert targets is not None
    assert targets.dtype == np.float32
    assert targets == pytest.approx(mean_of_softened(run, stripes, epoch), abs=1e-5)
    assert targets.sum(axis=1) == pytest.approx(np.ones(len(targets)), abs=1e-5)


def test_teachers_are_trained_first_and_named(
    tiny_recipe: Recipe, stripes: Dataset, store: RunStore
) -> None:
    """Missing teachers are trained under the student's protocol; the record holds their hashes."""
    notes: list[str] = []
    options = replace(OPTIONS, protocol="tune")

    run = train(taught(tiny_recipe), stripes, store, 5, options, listen(on_note=notes.append))
    again = train(taught(tiny_recipe), stripes, store, 6, options, listen(on_note=notes.append))

    used = run.record.teachers
    assert notes == ["First the teacher `teacher`, seed 1.", "First the teacher `teacher`, seed 2."]
    assert [(t.recipe, t.seed) for t in used] == [("teacher", 1), ("teacher", 2)]
    for teacher in used:
        record = store.find(teacher.run).record()
        assert (record.protocol, record.identity) == ("tune", teacher.identity)
        assert record.data.num_train == run.record.data.num_train < len(stripes.train)
        assert record.files["model.safetensors"] == teacher.model_sha256
    assert again.record.teachers == used
    assert run.folder.record() == run.record
    assert len(run.record.epochs) == 3


def test_teachers_change_what_is_learned(
    tiny_recipe: Recipe, stripes: Dataset, store: RunStore
) -> None:
    """With teachers other weights come out, and the same ones every time."""
    alone = train(tiny_recipe, stripes, store, 1, OPTIONS)
    first = train(taught(tiny_recipe), stripes, store, 1, OPTIONS)
    again = train(taught(tiny_recipe), stripes, RunStore(store.root / "b"), 1, OPTIONS)

    models = [(run.folder.path / "model.safetensors").read_bytes() for run in (alone, first, again)]
    assert models[0] != models[1] == models[2]
    assert first.record.identity != alone.record.identity


def test_a_finished_student_needs_no_teachers(
    tiny_recipe: Recipe, stripes: Dataset, store: RunStore
) -> None:
    """Once it is finished, a student is found again though its teachers were deleted."""
    run = train(taught(tiny_recipe), stripes, store, 1, OPTIONS)
    for teacher in run.record.teachers:
        store.remove(store.find(teacher.run))

    assert train(taught(tiny_recipe), stripes, store, 1, OPTIONS).was_there
    assert len(store.folders()) == 1


class DiedError(Exception):
    """What stands for a crash."""


def die(done: EpochRecord) -> None:
    """Break off after the first epoch."""
    raise DiedError


@pytest.mark.parametrize("bank_epochs", [None, 2])
def test_a_resumed_student_has_the_same_bits(
    bank_epochs: int | None, tiny_recipe: Recipe, stripes: Dataset, store: RunStore
) -> None:
    """Broken off after an epoch and resumed, it ends as if it had never stopped."""
    recipe = taught(tiny_recipe.replace(clean_epochs=1), bank_epochs)
    whole = train(recipe, stripes, RunStore(store.root / "whole"), 1, OPTIONS)
    with pytest.raises(DiedError):
        train(recipe, stripes, store, 1, OPTIONS, listen(on_epoch=die))
    (partial,) = (folder for folder in store.folders() if not folder.is_finished)

    resumed = resume(partial, stripes)

    assert [e.without_times() for e in resumed.record.epochs] == [
        e.without_times() for e in whole.record.epochs
    ]
    names = ("model.safetensors", "predictions.safetensors")
    for name in names:
        assert (resumed.folder.path / name).read_bytes() == (whole.folder.path / name).read_bytes()


def test_a_student_does_not_change_teachers(
    tiny_recipe: Recipe, stripes: Dataset, store: RunStore
) -> None:
    """A run that began with teachers of other weights is not gone on with."""
    recipe = taught(tiny_recipe, seeds=(1,))
    with pytest.raises(DiedError):
        train(recipe, stripes, store, 1, OPTIONS, listen(on_epoch=die))
    (partial,) = (folder for folder in store.folders() if not folder.is_finished)
    begun = partial.record()
    other = replace(begun.teachers[0], model_sha256="0" * 64)
    partial.save_record(replace(begun, teachers=(other,)))

    with pytest.raises(RunError) as caught:
        train(recipe, stripes, store, 1, OPTIONS)

    assert str(caught.value) == (
        f"`{partial.name}` began with teachers of other weights than those here. "
        "Put their runs back, or remove this unfinished run and train it anew."
    )


def test_no_teachers_under_the_origin_protocol(
    tiny_recipe: Recipe, stripes: Dataset, store: RunStore
) -> None:
    """An origin had no teachers, so its protocol refuses them before anything is trained."""
    with pytest.raises(RecipeError) as caught:
        train(taught(tiny_recipe), stripes, store, 1, replace(OPTIONS, protocol="origin"))

    assert str(caught.value) == (
        "`student` learns from teachers, which no origin had: `--protocol origin` says nothing of "
        "the images that teachers may see. Use `final` or `tune`."
    )
    assert store.folders() == []


def test_shared_answers_are_found_once(
    tiny_recipe: Recipe,
    stripes: Dataset,
    store: RunStore,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bank of two epochs and the clean ones are asked for once, for all epochs and seeds."""
    recipe = taught(tiny_recipe.replace(epochs=6, clean_epochs=2), bank_epochs=2, seeds=(1,))
    asked = counted(monkeypatch)

    train(recipe, stripes, store, 1, OPTIONS)
    after_one = len(asked)
    train(recipe, stripes, store, 2, OPTIONS)

    assert after_one == len(asked) == 3
    assert len(list((cache / "teachers").glob("*.safetensors"))) == 3
    assert not list((cache / "teachers").glob("*.lock"))


def test_without_a_bank_every_epoch_is_asked_for_anew(
    tiny_recipe: Recipe,
    stripes: Dataset,
    store: RunStore,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each changed epoch is answered for itself; clean ones once, and only these are kept."""
    recipe = taught(tiny_recipe.replace(epochs=5, clean_epochs=2), seeds=(1,))
    asked = counted(monkeypatch)

    train(recipe, stripes, store, 1, OPTIONS)

    assert asked == [len(stripes.train)] * 4
    assert len(list((cache / "teachers").iterdir())) == 1


def bank_file(cache: Path) -> Path:
    """Return the one file of shared answers."""
    (path,) = (cache / "teachers").glob("*.safetensors")
    return path


def damage(cache: Path) -> None:
    """Flip a bit in the middle of the file of shared answers."""
    path = bank_file(cache)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def block(cache: Path) -> None:
    """Put a file in the place of the folder."""
    bank_file(cache).unlink()
    (cache / "teachers").rmdir()
    (cache / "teachers").write_text("in the way")


@pytest.mark.parametrize("harm", [damage, block])
def test_a_broken_cache_costs_only_time(
    harm: Callable[[Path], None],
    tiny_recipe: Recipe,
    stripes: Dataset,
    store: RunStore,
    cache: Path,
) -> None:
    """Damaged answers, or none that can be kept, are found anew and are the same."""
    recipe = taught(tiny_recipe.replace(epochs=1), bank_epochs=1, seeds=(1,))
    run = train(recipe, stripes, store, 1, OPTIONS)
    drawn = plan(recipe, 1, 1, [], len(stripes.train))
    before = at_work(run, stripes).targets(drawn, never)
    harm(cache)

    after = at_work(run, stripes).targets(drawn, never)

    assert before is not None
    assert after is not None
    assert before.tobytes() == after.tobytes()
    if harm is damage:
        load_tensors(bank_file(cache))  # which was written anew


def test_old_answers_are_removed(
    tiny_recipe: Recipe,
    stripes: Dataset,
    store: RunStore,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When new answers are kept, those that nobody has read for long go."""
    recipe = taught(tiny_recipe.replace(epochs=1), bank_epochs=1, seeds=(1,))
    train(recipe, stripes, store, 1, OPTIONS)
    old = bank_file(cache)
    now = teachers_module.time.time
    monkeypatch.setattr(teachers_module.time, "time", lambda: now() + 31 * 86_400)

    train(recipe.replace(clean_epochs=1), stripes, store, 1, OPTIONS)

    assert not old.exists()


def test_many_targets_are_kept_in_a_file_without_a_name(
    tiny_recipe: Recipe, stripes: Dataset, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the limit targets live on the disk, are the same, and leave nothing behind."""
    run = train(taught(tiny_recipe, bank_epochs=1), stripes, store, 1, OPTIONS)
    drawn = plan(run.record.recipe, 1, 1, [], len(stripes.train))
    expected = at_work(run, stripes).targets(drawn, never)
    monkeypatch.setattr(teachers_module, "_MOST_BYTES", 100)
    before = sorted(entry.name for entry in run.folder.path.iterdir())

    targets = at_work(run, stripes).targets(drawn, never)

    assert isinstance(targets, np.memmap)
    assert expected is not None
    assert targets.tobytes() == expected.tobytes()
    assert sorted(entry.name for entry in run.folder.path.iterdir()) == before


@pytest.mark.parametrize("bank_epochs", [None, 1])
def test_teachers_stop_when_told(
    bank_epochs: int | None,
    tiny_recipe: Recipe,
    stripes: Dataset,
    store: RunStore,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request to stop is heard between parts of the images, and no half answers are kept."""
    monkeypatch.setattr(teachers_module, "_ROWS", 50)
    run = train(taught(tiny_recipe, bank_epochs, seeds=(1,)), stripes, store, 1, OPTIONS)
    asked = counted(monkeypatch)
    stops = iter([False, True])
    for entry in cache.glob("teachers/*"):
        entry.unlink()

    targets = at_work(run, stripes).targets(
        plan(run.record.recipe, 1, 1, [], len(stripes.train)), lambda: next(stops)
    )

    assert targets is None
    assert asked == [50]
    assert not list(cache.glob("teachers/*"))


def test_a_teachers_training_is_told_to_whom_it_may_concern(
    tiny_recipe: Recipe, stripes: Dataset, store: RunStore
) -> None:
    """Epochs of a teacher go to the listener for teachers, and never look like the student's."""
    begun: list[str] = []
    told: list[tuple[str, int]] = []

    def on_event(event: Event, who: str = "student") -> None:
        match event:
            case OfTeacher(event=inner):
                on_event(inner, "teacher")
            case Began(record=record):
                begun.append(f"{who}: {record.recipe.name}")
            case EpochDone(record=done):
                told.append((who, done.epoch))
            case _:
                pass

    train(taught(tiny_recipe, seeds=(1,)), stripes, store, 1, OPTIONS, on_event)

    assert begun == ["teacher: teacher", "student: student"]
    assert told == [("teacher", 1), ("student", 1), ("student", 2), ("student", 3)]

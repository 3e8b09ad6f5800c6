import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smidgen.data import Dataset
from smidgen.errors import BudgetError, RunError
from smidgen.evidence.proof import Proof
from smidgen.evidence.prove import Claim, Proven, ProveOptions, prove, prove_all
from smidgen.files import locked
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.parts import Adam, Budget
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder, RunStore
from smidgen.training.events import Began, EpochDone
from smidgen.training.run import Run
from smidgen.work.jobs import Outcome, RunEvent
from smidgen.work.queue import Planned

GUARD_SECONDS = 120


class Heard:
    """Remembers what a proof told."""

    def __init__(self, on_event: Callable[[object], None] = lambda event: None) -> None:
        self.events: list[object] = []
        self.planned = Planned()
        self._on_event = on_event

    def __call__(self, event: object) -> None:
        """Take up an event."""
        if isinstance(event, Planned):
            self.planned = event
        else:
            self.events.append(event)
        self._on_event(event)

    @property
    def there(self) -> list[int]:
        """Seeds that were in the store and are whole."""
        return sorted(each.spec.seed for each in self.planned.finished if each.run is not None)

    @property
    def missing(self) -> list[int]:
        """Seeds that were trained, or tried."""
        return [spec.seed for spec in self.planned.missing]

    @property
    def made(self) -> list[int]:
        """Seeds that ended with a run, in that order."""
        return [each.spec.seed for each in self.events if isinstance(each, Outcome) and each.run]

    @property
    def failed(self) -> list[int]:
        """Seeds that ended without, in that order."""
        return [e.spec.seed for e in self.events if isinstance(e, Outcome) and e.run is None]

    def of_runs(self, kind: type) -> list[tuple[int, Any]]:
        """Return seed and event of a kind, in order."""
        runs = [each for each in self.events if isinstance(each, RunEvent)]
        return [(each.spec.seed, each.event) for each in runs if isinstance(each.event, kind)]


def options(workers: int = 1, target: float | None = None) -> ProveOptions:
    """Return the options of a small proof, in which no process has to import torch."""
    return ProveOptions(engine="native", workers=workers, target=target, stay_epochs=2)


def workers() -> list[int]:
    """Return the numbers of our own processes that train."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(n) for n in children if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]


def test_a_proof_survives_the_death_of_its_workers(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """A killed process costs nothing: its seed goes on from its epoch in another."""
    store = RunStore(tmp_path / "runs")

    def kill_second(event: object) -> None:
        match event:
            case RunEvent(spec, EpochDone(record)) if (spec.seed, record.epoch) == (2, 1):
                for number in workers():
                    os.kill(number, signal.SIGKILL)

    heard = Heard(kill_second)
    recipe = tiny_recipe.replace(epochs=20)
    proof = prove(recipe, stripes, store, [1, 2, 3], options(), heard)

    starts = [began for seed, began in heard.of_runs(Began) if seed == 2]
    assert [len(began.record.epochs) >= 1 for began in starts] == [False, True]
    assert proof.failures == ()
    assert [each.seed for each in proof.seeds] == [1, 2, 3]
    assert workers() == []


def test_what_is_in_the_store_is_not_trained_again(
    tiny_recipe: Recipe, stripes: Dataset, make_proof: Proof, shared_store: RunStore
) -> None:
    """A proof of finished runs starts no process; name and target are what is asked for now."""
    heard = Heard()
    recipe = tiny_recipe.replace(name="another name", budget=Budget(target_accuracy=0.05))

    proof = prove(recipe, stripes, shared_store, [2, 1], options(), heard)

    assert [type(event) for event in heard.events] == [Proven]
    assert (heard.there, heard.missing) == ([1, 2], [])
    assert [s.accuracy for s in proof.seeds] == [s.accuracy for s in make_proof.seeds[:2]]
    assert proof.recipe == "another name"
    assert proof.target is not None
    assert proof.target.target == 0.05


def test_a_damaged_run_costs_its_seed_alone(
    train_tiny: Callable[..., Run], tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """The run is named with what to do, and is neither trained over nor taken for evidence."""
    runs = [train_tiny(seed=seed, engine="native").folder for seed in (1, 2)]
    (runs[0].path / "predictions.safetensors").write_bytes(b"junk")
    heard = Heard()

    proof = prove(tiny_recipe, stripes, RunStore(tmp_path / "runs"), [1, 2], options(), heard)

    name = runs[0].name
    (failure,) = proof.failures
    assert (failure.seed, [each.seed for each in proof.seeds]) == (1, [2])
    assert failure.reason == (
        f"The run `{name}` is damaged: `{runs[0].path / 'predictions.safetensors'}` is no complete "
        f"safetensors file. Restore it, or remove it with `smidgen runs rm {name}`."
    )
    assert (heard.there, heard.missing, heard.made, heard.failed) == ([2], [], [], [])
    assert (runs[0].path / "predictions.safetensors").read_bytes() == b"junk"


def test_a_target_meant_for_another_data_set_is_not_taken(
    train_tiny: Callable[..., Run], tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """A catalogue's recipe moved to other images has none, but for one that is asked for."""
    train_tiny(seed=1, engine="native")
    budget = Budget(target_accuracy=0.994)
    recipe = tiny_recipe.replace(name="smidgen/quick", budget=budget)
    store = RunStore(tmp_path / "runs")

    moved = prove(recipe, stripes, store, [1], options())
    asked = prove(recipe, stripes, store, [1], options(target=0.5))

    assert moved.target is None
    assert asked.target is not None


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """Return a store that several tests read."""
    return RunStore(tmp_path_factory.mktemp("proofs"))


@pytest.fixture(scope="module")
def make_proof(tiny_recipe: Recipe, stripes: Dataset, shared_store: RunStore) -> Proof:
    """Return the proof of three seeds, trained by two processes."""
    return prove(tiny_recipe, stripes, shared_store, [1, 2, 3], options(2, target=0.1))


def test_a_proof_is_made_by_several_processes(make_proof: Proof, shared_store: RunStore) -> None:
    """Three seeds on two processes give three runs of one thread each, and one statement."""
    records = [RunFolder(shared_store.root / each.run).record() for each in make_proof.seeds]

    assert [each.seed for each in make_proof.seeds] == [1, 2, 3]
    assert make_proof.failures == ()
    assert {record.environment.threads for record in records} == {1}
    assert {record.environment.engine for record in records} == {"native"}
    assert len({record.files["model.safetensors"] for record in records}) == 3
    assert make_proof.accuracy.n == 3
    assert workers() == []


def test_a_proof_has_the_bits_of_single_runs(
    make_proof: Proof, train_tiny: Callable[..., object], tmp_path: Path, shared_store: RunStore
) -> None:
    """A seed trained in a pool ends with the weights of the same seed trained alone."""
    train_tiny(seed=2, engine="native")
    alone = RunStore(tmp_path / "runs").find("last")

    run = next(each.run for each in make_proof.seeds if each.seed == 2)

    pooled = RunFolder(shared_store.root / run)
    assert alone.name == pooled.name
    assert alone.record().files["model.safetensors"] == pooled.record().files["model.safetensors"]


@pytest.mark.slow
def test_seeds_that_fail_are_reported_each(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """Training that diverges fails per seed and is told once; if all do there is no proof."""
    heard = Heard()
    recipe = tiny_recipe.replace(optimizer=Adam(lr=1e30))

    told = r"^No seed gave a run\. Seeds 1, 2 diverged, seed 1 so: Training met a number that"
    with pytest.raises(RunError, match=told):
        prove(recipe, stripes, RunStore(tmp_path), [1, 2], options(), heard)

    assert heard.failed == [1, 2]


@pytest.mark.slow
def test_a_seed_in_use_elsewhere_is_waited_for(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, make_proof: Proof, shared_store: RunStore
) -> None:
    """While another process holds a seed's lock the others go on; then it has its turn."""
    store = RunStore(tmp_path / "runs")
    name = make_proof.seeds[0].run
    held = locked(store.lock_path(name))
    order: list[int] = []

    def release(event: object) -> None:
        if isinstance(event, Outcome):
            order.append(event.spec.seed)
            if event.spec.seed == 2:
                held.__exit__(None, None, None)

    held.__enter__()
    proof = prove(tiny_recipe, stripes, store, [1, 2], options(), Heard(release))

    assert order == [2, 1]
    assert proof.failures == ()


def test_what_stops_every_seed_is_said_once(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """A budget not kept is an error before any process is started."""
    heard = Heard()
    recipe = tiny_recipe.replace(budget=Budget(max_params=10))

    with pytest.raises(BudgetError, match="promises at most 10 parameters"):
        prove(recipe, stripes, RunStore(tmp_path), [1, 2], options(), heard)

    assert [type(event) for event in heard.events] == [Proven]


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ([], "A proof needs at least one seed."),
        ([1, 2, 1], "Seed 1 is named twice; a repeated seed proves nothing."),
    ],
)
def test_seeds_that_prove_nothing_are_refused(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, seeds: list[int], text: str
) -> None:
    """No seeds, or one of them twice, get one line."""
    with pytest.raises(RunError) as caught:
        prove(tiny_recipe, stripes, RunStore(tmp_path), seeds)

    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"target": 99.4}, "`target` is a share above 0 and at most 1, not 99.4."),
        ({"target": 0.0}, "`target` is a share above 0 and at most 1, not 0."),
        ({"stay_epochs": 0}, "`stay_epochs` must be at least 1, not 0."),
        ({"workers": 0}, "`workers` must be at least 1, not 0."),
    ],
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, float], text: str) -> None:
    """Each gets one line with the value and what would be right."""
    with pytest.raises(RunError) as caught:
        ProveOptions(**changes)  # type: ignore[arg-type]

    assert str(caught.value) == text


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_proof_and_its_processes(
    number: signal.Signals, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """SIGINT exits with 130 and one line; processes never outlive the command, epochs do."""
    recipe = tmp_path / "long.json"
    recipe.write_text(tiny_recipe.replace(name="long", epochs=5_000).to_json())
    runs = tmp_path / "runs"
    arguments = ["prove", str(recipe), "--seeds", "2", "--workers", "1", "--engine", "torch"]
    process = subprocess.Popen(
        [sys.executable, "-m", "smidgen", *arguments, "--runs-dir", str(runs)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "epoch 1 of" in line:
                break
        process.send_signal(number)
        rest = process.stderr.read()
        code = process.wait(GUARD_SECONDS)
    finally:
        process.kill()
        process.stderr.close()

    if number == signal.SIGINT:
        assert code == 130
        assert rest.splitlines()[-1] == (
            "error: Stopped with 0 of 2 missing runs finished; the finished epochs of the others "
            "are saved. The same command goes on from there."
        )
    else:
        assert code == -signal.SIGKILL
    folder = next(runs.glob("*.partial"))
    wait_until_free(RunStore(runs).lock_path(RunFolder(folder).name))
    assert RunFolder(folder).checkpoints()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_proof_that_is_killed_again_and_again_ends_the_same(
    tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """Killed after every fourth epoch and asked for again, it ends with the undisturbed runs."""
    path = tmp_path / "tiny.json"
    path.write_text(tiny_recipe.replace(epochs=6).to_json())
    disturbed, calm = RunStore(tmp_path / "disturbed"), RunStore(tmp_path / "calm")

    kills = 0
    while not prove_by_command(path, disturbed, kill_after_epochs=4):
        kills += 1
    assert prove_by_command(path, calm, kill_after_epochs=None)

    assert kills >= 2
    assert hashes(disturbed) == hashes(calm)
    assert len(hashes(calm)) == 3


def prove_by_command(recipe: Path, store: RunStore, kill_after_epochs: int | None) -> bool:
    """Prove three seeds in a process that is killed after so many epochs; whether it finished."""
    arguments = ["--seeds", "3", "--workers", "2", "--engine", "torch", "--runs-dir", store.root]
    command = [sys.executable, "-m", "smidgen", "prove", recipe, *arguments]
    seen = 0
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            seen += "epoch" in line
            if seen == kill_after_epochs:
                process.kill()
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode == 0


def hashes(store: RunStore) -> dict[str, str]:
    """Return the hash of every finished run's weights."""
    return {
        folder.name: folder.record().files["model.safetensors"]
        for folder in store.folders()
        if folder.is_finished
    }


def wait_until_free(lock: Path) -> None:
    """Return once nobody holds the lock; a worker holds it while it lives."""
    deadline = time.monotonic() + GUARD_SECONDS
    while time.monotonic() < deadline:
        try:
            with locked(lock, wait=False):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail("a process outlived its proof")


def test_teachers_are_proven_with_before_their_students(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing teachers are trained first, on all processes, and told of; then once and for all."""
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "cache"))
    teacher = tiny_recipe.replace(name="teacher", epochs=1)
    student = tiny_recipe.replace(
        epochs=1, distillation=Distillation((Teacher(teacher, (3, 4)),), bank_epochs=1)
    )
    store, heard, again = RunStore(tmp_path / "runs"), Heard(), Heard()

    prove(student, stripes, store, [1], options(2), heard)
    prove(student, stripes, store, [1, 2], options(), again)

    assert sorted(heard.made[:2]) == [3, 4]
    assert heard.made[2:] == [1]
    assert [(spec.recipe.name, spec.seed) for spec in heard.planned.teachers] == [
        ("teacher", 3),
        ("teacher", 4),
    ]
    assert (again.made, again.planned.teachers) == ([2], ())
    used = [
        record.teachers
        for folder in store.folders()
        if (record := folder.record()).recipe.distillation is not None
    ]
    assert len(used) == 2
    assert used[0] == used[1]
    assert [each.seed for each in used[0]] == [3, 4]


def test_a_teacher_that_fails_fails_the_proof(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """Without its teacher no student is tried, and the error says which and why."""
    teacher = tiny_recipe.replace(name="teacher", budget=Budget(max_params=10))
    student = tiny_recipe.replace(distillation=Distillation((Teacher(teacher),)))

    with pytest.raises(RunError) as caught:
        prove(student, stripes, RunStore(tmp_path / "runs"), [1], options())

    assert str(caught.value) == (
        "No seed gave a run. Seed 1: The teacher `teacher` with seed 1 gave no run: `teacher` "
        "promises at most 10 parameters "
        "and has 612. Make it smaller or raise `budget.max_params`."
    )


def test_several_recipes_stand_in_one_queue(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """No process waits for the last seed of a recipe; what cannot be trained costs itself alone."""
    heard = Heard()
    claims = [
        Claim(tiny_recipe.replace(epochs=30), stripes, [1]),
        Claim(tiny_recipe.replace(budget=Budget(max_params=10)), stripes, [1]),
        Claim(tiny_recipe.replace(epochs=1), stripes, [1, 2]),
        Claim(tiny_recipe.replace(epochs=1, name="again"), stripes, [2]),
    ]

    results = prove_all(claims, RunStore(tmp_path / "runs"), options(2), heard)

    long, too_large, short, again = results
    assert isinstance(too_large, BudgetError)
    assert isinstance(long, Proof)
    assert isinstance(short, Proof)
    assert isinstance(again, Proof)
    assert [each.seed for each in short.seeds] == [1, 2]
    assert again.seeds == short.seeds[1:]
    assert (short.recipe, again.recipe) == ("tiny", "again")
    assert len(heard.made) == 3
    assert [event.number for event in heard.events if isinstance(event, Proven)] == [1, 2, 3, 0]

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import smidgen.data
from smidgen.cli import targets
from smidgen.data import Dataset
from smidgen.errors import DataMissingError, DownloadError
from smidgen.files import locked
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunStore
from smidgen.training import run, sitting
from smidgen.values import to_plain

Shell = Callable[..., Any]
TORCH = ("--engine", "torch", "--threads", "1")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Return the store that SMIDGEN_RUNS names in every test."""
    return RunStore(tmp_path / "runs")


def test_training_says_what_it_does(shell: Shell, tiny_file: str, store: RunStore) -> None:
    """Progress goes line by line to standard error, the result and the path to standard output."""
    found = shell("train", tiny_file, *TORCH)

    (folder,) = store.folders()
    record = folder.record()
    result = record.result
    assert result is not None
    assert found.code == 0
    first, told, second = found.out.splitlines()
    assert re.fullmatch(
        rf"{100 * result.accuracy:.2f} % on test \(last epoch\): {result.num_errors} errors in "
        r"40 images, 612 parameters, \d+\.\d s of training, \d+\.\d s in all\.",
        first,
    )
    assert told == f"Its page: smidgen report {folder.path}"
    assert second == str(folder.path)
    lines = found.err.splitlines()
    assert lines[0] == (
        "tiny: 612 parameters, 24,758 MACs; torch engine, 1 thread; seed 1, protocol final"
    )
    assert lines[1] == "epoch  train loss  train acc    test acc  errors  seconds"
    assert len(lines) == 5
    for number, (line, epoch) in enumerate(zip(lines[2:], record.epochs, strict=True), start=1):
        words = line.split()
        assert int(words[0]) == number
        assert words[1] == f"{epoch.train_loss:.4f}"
        assert words[2] == f"{100 * epoch.train_accuracy:.2f}"
        assert words[4] == f"{100 * epoch.eval_accuracy:.2f}"
        assert int(words[6]) == epoch.eval_num_errors


KEYS = [
    *("run", "recipe", "seed", "engine", "num_params", "accuracy", "num_errors"),
    *("epochs", "train_seconds", "wall_seconds"),
]


@pytest.mark.parametrize("protocol", ["final", "tune", "origin"])
def test_json_is_the_last_line(
    shell: Shell, tiny_file: str, store: RunStore, protocol: str
) -> None:
    """`--json` prints one line with the last epoch's numbers, in fixed keys, and nothing else."""
    found = shell("train", tiny_file, *TORCH, "--json", "--protocol", protocol, "--seed", "3")

    (folder,) = store.folders()
    record = folder.record()
    (line,) = found.out.splitlines()
    plain = json.loads(line)
    assert list(plain) == KEYS
    assert plain["run"] == str(folder.path)
    assert (plain["recipe"], plain["seed"], plain["engine"]) == ("tiny", 3, "torch")
    assert (plain["num_params"], plain["epochs"]) == (612, 3)
    assert plain["accuracy"] == record.epochs[-1].eval_accuracy
    assert plain["num_errors"] == record.epochs[-1].eval_num_errors
    assert plain["train_seconds"] == round(record.train_seconds, 3)
    assert plain["wall_seconds"] == round(record.wall_seconds, 3)


def test_json_of_an_origin_that_validates(shell: Shell, tiny_file: str, store: RunStore) -> None:
    """Where epochs are validated and the end is tested, accuracy is the last epoch's on test."""
    settings = ["--set", "origin.num_train=90", "--set", "origin.selection=last"]

    found = shell("train", tiny_file, *TORCH, "--json", "--protocol", "origin", *settings)

    (folder,) = store.folders()
    record, plain = folder.record(), json.loads(found.out)
    predictions = folder.predictions()
    errors = int((predictions["logits"].argmax(1) != predictions["labels"]).sum())
    assert len(predictions["labels"]) == 40
    assert plain["num_errors"] == errors
    assert plain["accuracy"] == (40 - errors) / 40
    assert record.epochs[-1].split == "valid"
    assert found.err.splitlines()[1].split()[5] == "valid"


def test_an_origin_selected_on_the_test_set_says_so(
    shell: Shell, tiny_file: str, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best epoch is reported with its selection, and last and mean beside it."""
    evaluate, left = sitting.evaluate, iter([10, 4, 8, 4])

    def scripted(logits: np.ndarray, labels: np.ndarray) -> Any:
        done = evaluate(logits, labels)
        return type(done)(done.loss, next(left), done.num_images)

    monkeypatch.setattr(sitting, "evaluate", scripted)

    found = shell("train", tiny_file, *TORCH, "--protocol", "origin")

    first, second, *_ = found.out.splitlines()
    assert first.startswith("90.00 % on test (best of 3 epochs): 4 errors in 40 images, ")
    assert second == (
        "Epoch 2 was selected on the test set, as the origin does. Last epoch: 80.00 %; "
        "mean of the last five: 81.67 %."
    )
    again = json.loads(shell("train", tiny_file, *TORCH, "--protocol", "origin", "--json").out)
    assert (again["accuracy"], again["num_errors"]) == (0.8, 8)


def test_again_is_already_there(shell: Shell, tiny_file: str) -> None:
    """The same run again is answered at once with the same numbers."""
    first = shell("train", tiny_file, *TORCH)

    again = shell("train", tiny_file, *TORCH)

    said, *rest = again.out.splitlines()
    assert said == "Already there: this very run was finished before."
    assert rest == first.out.splitlines()
    assert (again.code, again.err) == (0, "")


def test_settings_change_the_run(shell: Shell, tiny_file: str, store: RunStore) -> None:
    """`--set` reaches the recipe that is trained and recorded."""
    shell("train", tiny_file, *TORCH, "--set", "epochs=1", "--set", "optimizer.lr=0.5")

    (folder,) = store.folders()
    recipe = folder.record().recipe
    assert (recipe.epochs, recipe.optimizer.lr) == (1, 0.5)


def test_runs_dir_wins(shell: Shell, tiny_file: str, tmp_path: Path, store: RunStore) -> None:
    """The option comes before the environment's folder of runs."""
    found = shell("train", tiny_file, *TORCH, "--runs-dir", str(tmp_path / "mine"))

    assert found.out.splitlines()[-1].startswith(str(tmp_path / "mine"))
    assert store.folders() == []


def test_a_budget_not_kept_ends_with_three(shell: Shell, tiny_file: str, store: RunStore) -> None:
    """More parameters than promised: one line, exit code 3, nothing written."""
    found = shell("train", tiny_file, *TORCH, "--set", "budget.max_params=600")

    assert (found.code, found.out) == (3, "")
    assert found.err == (
        "error: `tiny` promises at most 600 parameters and has 612. "
        "Make it smaller or raise `budget.max_params`.\n"
    )
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["smidgen/quik"], "No recipe is called `smidgen/quik`. Did you mean `smidgen/quick`?"),
        (["nope.json"], "Cannot read `nope.json`: No such file or directory."),
        (
            ["tiny.json", "--engine", "torch", "--device", "cuda"],
            "The device `cuda` needs a GPU that PyTorch can use, and there is none. "
            "Leave `--device` out to train on the CPU.",
        ),
        (
            ["tiny.json", "--engine", "native", "--device", "cuda"],
            "The native engine cannot run this: the native engine runs on the CPU, not on `cuda`. "
            "Use `--engine torch`.",
        ),
        (
            ["tiny.json", *TORCH, "--protocol", "origin", "--set", "origin.num_train=120"],
            "`origin.num_train` 120 leaves nothing to validate on: "
            "`stripes` has 120 training images.",
        ),
    ],
)
def test_errors_are_one_line(
    shell: Shell,
    tiny_file: str,
    store: RunStore,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    text: str,
) -> None:
    """What cannot be trained is said in one line that ends with 1, and leaves no run behind."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    found = shell("train", *arguments)

    assert (found.code, found.out, found.err) == (1, "", f"error: {text}\n")
    assert store.folders() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--set", "lr"], "`--set lr` is not KEY=VALUE, as optimizer.lr=0.05."),
        (["--epochs", "1"], "No such option: --epochs (Possible options: --set epochs=1)"),
        (["--epochs=2"], "No such option: --epochs (Possible options: --set epochs=2)"),
        (["--lr", "--json"], "(Possible options: --set optimizer.lr=VALUE)"),
        (["--batch-size", "8"], "(Possible options: --set batch_size=8)"),
        (["--protocl", "tune"], "No such option: --protocl (Possible options: --protocol)"),
    ],
)
def test_wrong_usage_says_how_to_set(
    shell: Shell, tiny_file: str, arguments: list[str], text: str
) -> None:
    """A setting that is given as an option of its own is shown as `--set` takes it."""
    found = shell("train", tiny_file, *arguments)

    assert found.code == 2
    assert text in found.err


def test_missing_data_is_one_line(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chosen folder without the files: one line that says how to get them."""
    monkeypatch.setenv("SMIDGEN_DATA", str(tmp_path / "empty"))

    found = shell("train", "smidgen/quick", *TORCH)

    assert (found.code, found.out) == (1, "")
    assert found.err.startswith("error: ")
    assert found.err.count("\n") == 1
    assert str(tmp_path / "empty") in found.err


def test_without_network_stripes_are_shown(
    shell: Shell, tiny_file: str, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--or-stripes` a download that fails is said, and the run is shown on drawn images."""
    small = smidgen.data.load_dataset

    def offline(name: str, *arguments: Any, **more: Any) -> Dataset:
        if name == "mnist":
            raise DownloadError("There is no network.")
        return small(name)

    monkeypatch.setattr(smidgen.data, "load_dataset", offline)
    wanted = ["train", tiny_file, *TORCH, "--set", "dataset=mnist", "--set", "batch_size=64"]

    refused, shown = shell(*wanted), shell(*wanted, "--or-stripes", "--json")

    assert (refused.code, refused.err) == (1, "error: There is no network.\n")
    assert shown.code == 0
    assert shown.err.startswith(
        "There is no network.\nShowing a run on the drawn `stripes` instead.\n"
    )
    plain = json.loads(shown.out)
    assert plain["recipe"] == "tiny-on-stripes"
    (folder,) = store.folders()
    recipe = folder.record().recipe
    assert (recipe.dataset, recipe.batch_size) == ("stripes", 32)


def test_a_chosen_folder_is_not_replaced_by_stripes(
    shell: Shell, tiny_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who names a folder wants its images, or an error."""

    def missing(name: str, *arguments: Any, **more: Any) -> Dataset:
        raise DataMissingError("The folder has no files.")

    monkeypatch.setattr(smidgen.data, "load_dataset", missing)

    found = shell("train", tiny_file, *TORCH, "--or-stripes")

    assert (found.code, found.err) == (1, "error: The folder has no files.\n")


def test_a_folder_is_read_as_asked_and_so_again(
    shell: Shell, tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """Training, measuring again and the page see the same images; the page names the options."""
    pictures = tmp_path / "pictures"
    for number, (image, label) in enumerate(
        zip(stripes.train.images, stripes.train.labels, strict=True)
    ):
        place = pictures / f"class {label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - image[0] // 3).save(place / f"{number:03d}.png")
    (tmp_path / "mine.json").write_text(tiny_recipe.replace(dataset="folder").to_json())
    runs = ("--runs-dir", str(tmp_path / "runs"))
    data = ("--data-dir", str(pictures))
    page = tmp_path / "page.html"

    done = shell("train", str(tmp_path / "mine.json"), *TORCH, *data, *runs, "--invert", "no")
    measured = shell("eval", "last", *data, *runs, "--json")
    shown = shell("report", "last", *data, *runs, "-o", str(page))

    (folder,) = RunStore(tmp_path / "runs").folders()
    result = folder.record().result
    assert result is not None
    assert (done.code, measured.code, shown.code) == (0, 0, 0)
    assert folder.record().data.reading == {"invert": "no", "fit": "resize"}
    assert json.loads(measured.out)["num_errors"] == result.num_errors
    assert "data:image/png;base64" in page.read_text()
    assert "--invert no --fit resize" in page.read_text()


def test_reading_is_for_folders(shell: Shell, tiny_file: str) -> None:
    """Other data sets have their images as they are, so the option would do nothing."""
    for command in ("train", "prove"):
        found = shell(command, tiny_file, "--fit", "mnist")
        assert (found.code, found.out) == (2, "")
        told = " ".join(found.err.replace("│", " ").split())
        assert "'--fit': it says how images of `folder` are read; `stripes` has images as" in told


def interrupted(shell: Shell, tiny_file: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train and send SIGTERM from inside once the first epoch is saved."""
    save = sitting.save_checkpoint

    def then_stop(*arguments: Any) -> None:
        save(*arguments)
        os.kill(os.getpid(), 15)

    with monkeypatch.context() as patch:
        patch.setattr(sitting, "save_checkpoint", then_stop)
        return shell("train", tiny_file, *TORCH)


def test_resume_goes_on(
    shell: Shell, tiny_file: str, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted run ends with 143 and a line that works when it is typed."""
    stopped = interrupted(shell, tiny_file, monkeypatch)

    (folder,) = store.folders()
    assert stopped.code == 143
    assert stopped.err.splitlines()[-1] == (
        "error: Stopped after epoch 1, which is saved. "
        f"Continue with `smidgen train --resume {folder.name}`."
    )
    resumed = shell("train", "--resume", folder.name)
    assert resumed.code == 0
    assert [line.split()[0] for line in resumed.err.splitlines()[2:]] == ["1", "2", "3"]
    assert resumed.out.splitlines()[-1] == str(store.root / folder.name)
    again = shell("train", "--resume", "last")
    assert again.out.splitlines()[0] == "Already there: this very run was finished before."
    assert again.out.splitlines()[1:] == resumed.out.splitlines()


def test_a_resumed_torch_run_keeps_its_threads(
    shell: Shell, tiny_file: str, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--threads` may be given again, but not another number: it would change the bits."""
    interrupted(shell, tiny_file, monkeypatch)
    (folder,) = store.folders()

    found = shell("train", "--resume", "last", "--threads", "2")

    assert (found.code, found.err) == (
        1,
        f"error: `{folder.name}` began on the torch engine, whose numbers depend on its threads: "
        "1, not 2. Leave `--threads` out.\n",
    )
    assert shell("train", "--resume", "last", "--threads", "1").code == 0


@pytest.mark.parametrize(
    ("extra", "option"),
    [
        (["tiny.json"], "NAME"),
        (["--seed", "2"], "--seed"),
        (["--set", "epochs=9"], "--set"),
        (["--engine", "torch"], "--engine"),
        (["--or-stripes"], "--or-stripes"),
    ],
)
def test_a_resumed_run_has_its_own_settings(
    shell: Shell, tiny_file: str, extra: list[str], option: str
) -> None:
    """Settings beside `--resume` are refused, not ignored."""
    found = shell("train", "--resume", "last", *extra)

    assert found.code == 2
    assert f"a resumed run has its own settings; leave {option} out." in found.err


def test_resuming_what_is_not_there(shell: Shell, tiny_file: str, store: RunStore) -> None:
    """An unknown run is one line with the nearest name and where was looked."""
    shell("train", tiny_file, *TORCH)
    (folder,) = store.folders()

    found = shell("train", "--resume", f"{folder.name}0")

    assert (found.code, found.out) == (1, "")
    assert found.err == (
        f"error: No run is called `{folder.name}0`. Did you mean `{folder.name}`? "
        f"Runs are looked for in `{store.root}`.\n"
    )


def test_a_full_disk_is_one_line(
    shell: Shell, tiny_file: str, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space left ends with 1 and one line, and the run can be resumed."""
    left = iter(range(6))

    def full(source: Any, target: Any) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    replace = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        found = shell("train", tiny_file, *TORCH)

    (folder,) = store.folders()
    assert (found.code, found.out) == (1, "")
    (line,) = [line for line in found.err.splitlines() if line.startswith("error")]
    assert re.fullmatch(
        r"error: Cannot write `[^`]+`: no space left on the device\. "
        r"Free some space or choose another folder\.",
        line,
    )
    assert shell("train", "--resume", folder.name).code == 0


def test_a_run_in_use_is_one_line(shell: Shell, tiny_file: str, store: RunStore) -> None:
    """A second process that wants the same run is told so and ends with 1."""
    shell("train", tiny_file, *TORCH)
    (folder,) = store.folders()
    folder.path.rename(f"{folder.path}.partial")

    with locked(store.lock_path(folder.name)):
        found = shell("train", tiny_file, *TORCH)

    assert (found.code, found.err) == (
        1,
        f"error: The run `{folder.name}` is in use by another process. Wait for it or stop it.\n",
    )


def test_the_default_recipe_is_quick(
    shell: Shell, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch, tiny_file: str
) -> None:
    """Without a name the catalogue's default recipe is trained."""
    asked: list[str] = []

    def recipe_from(target: str, settings: list[str] | None) -> Recipe:
        asked.append(target)
        return tiny_recipe

    monkeypatch.setattr(targets, "recipe_from", recipe_from)

    assert shell("train", *TORCH).code == 0
    assert asked == ["smidgen/quick"]


def test_numbers_that_are_not_finite_end_with_one(
    shell: Shell, tiny_file: str, store: RunStore
) -> None:
    """Training that breaks names epoch, step, layer and rate in one line."""
    settings = ["--set", "optimizer.lr=1e36", "--set", 'schedule={"kind": "constant"}']

    found = shell("train", tiny_file, *TORCH, *settings)

    assert found.code == 1
    last = found.err.splitlines()[-1]
    assert re.match(
        r"error: (Training met a number that is not finite in epoch 1, step \d of 4, first in "
        r"|The class scores after epoch 1 are not finite)",
        last,
    )
    assert last.endswith("Try a lower `optimizer.lr`.")
    (folder,) = store.folders()
    assert shell("eval", "last").err == (
        f"error: `{folder.name}` diverged in epoch 1 (numbers not finite) and would do so again "
        "if continued. Train with a lower `optimizer.lr`.\n"
    )
    assert run.RESULTS_VERSION >= 1


def test_a_student_and_its_teacher(
    shell: Shell,
    tiny_file: str,
    tiny_recipe: Recipe,
    store: RunStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing teacher is shown being trained, then the student; both runs are there."""
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "cache"))
    teacher = tiny_recipe.replace(name="teacher", epochs=1)
    distillation = {"teachers": [{"recipe": to_plain(teacher)}], "bank_epochs": 1}
    student = ("--set", f"distillation={json.dumps(distillation)}")

    found = shell("train", tiny_file, *student, *TORCH)
    shown = shell("show", tiny_file, *student).out
    page = shell("runs", "show", "tiny").out

    assert found.code == 0
    lines = found.err.splitlines()
    assert lines[0] == "First the teacher `teacher`, seed 1."
    assert [line.split(":")[0] for line in lines if "engine" in line] == ["teacher", "tiny"]
    taught, own = sorted(store.folders(), key=lambda folder: folder.name)
    model = taught.record().files["model.safetensors"]
    assert own.record().teachers[0].model_sha256 == model
    assert f"teacher       {taught.name}, model {model[:8]}\n" in page
    line = "distillation  teacher, seed 1: temperature 2, weight 0.9, bank of 1 epoch\n"
    assert line in shown


def test_teachers_and_the_origin_protocol(
    shell: Shell, tiny_file: str, tiny_recipe: Recipe, store: RunStore
) -> None:
    """An origin's protocol is refused for a student, in one line."""
    distillation = json.dumps({"teachers": [{"recipe": to_plain(tiny_recipe)}]})

    found = shell(
        "train", tiny_file, "--set", f"distillation={distillation}", "--protocol", "origin", *TORCH
    )

    assert found.code == 1
    assert found.err == (
        "error: `tiny` learns from teachers, which no origin had: `--protocol origin` says "
        "nothing of the images that teachers may see. Use `final` or `tune`.\n"
    )
    assert store.folders() == []

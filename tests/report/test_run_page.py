import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smidgen.data import Dataset
from smidgen.errors import ReportError, RunError
from smidgen.evidence.answers import MNIST_SHA256
from smidgen.network.layers import (
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    ReLU,
    Unreached,
)
from smidgen.network.network import Network
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.parts import Budget, Cosine, Plateau
from smidgen.recipes.recipe import About, Recipe
from smidgen.report.network_pictures import first_filters, network_drawing
from smidgen.report.pictures import Pictures
from smidgen.report.probe import probe
from smidgen.report.run_page import run_page
from smidgen.report.run_plots import run_plots
from smidgen.report.run_text import repeat_command, run_text
from smidgen.report.run_view import LABEL_ERROR, MOST_TILES, RunView, mistakes, tiles, view_run
from smidgen.runs.record import ON_TEST, DataUsed, RunRecord
from smidgen.runs.store import RunFolder
from smidgen.runs.tensors import save_tensors
from smidgen.training.sitting import Sitting

from .conftest import HOSTILE, Page

View = Callable[..., RunView]
Reader = Callable[[str], Page]


@pytest.mark.parametrize("protocol", ["final", "tune", "origin"])
def test_a_run_of_every_protocol_has_its_page(
    trained: View, read_page: Reader, protocol: str
) -> None:
    """It is well-formed, loads nothing, and says how it was measured."""
    view = trained(protocol=protocol)
    page = read_page(run_page(view))

    result = view.record.result
    assert result is not None
    assert f"{100 * result.accuracy:.2f} %" in page.text
    assert f"protocol {protocol}" in page.text
    assert (ON_TEST in page.text) == (protocol == "origin")
    assert page.html.count("data:image/png") == result.num_errors
    for word in ("mean of the last 3", f"accuracy on {result.split}", view.record.fingerprint):
        assert word in page.text


def test_hostile_words_are_shown_as_words(
    trained: View, read_page: Reader, hostile_about: About
) -> None:
    """Class names, recipe names and all texts of a recipe stay text, in the page and its plots."""
    view = trained(name=HOSTILE, about=hostile_about)
    data = replace(view.record.data, class_names=tuple(f"{n}{HOSTILE}" for n in range(10)))
    view = replace(view, record=replace(view.record, data=data))

    page = read_page(run_page(view, probe(view, 0)))
    text = run_text(view)

    assert "<script>alert" not in page.html
    assert page.text.count("<script>alert(1)") > 30
    assert "<script" not in text.replace("\\<script", "")


def test_an_unfinished_run_shows_as_far_as_it_went(
    train_tiny: Callable[..., object],
    tmp_path: Path,
    read_page: Reader,
    no_plots: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The epochs come from the newest checkpoint; there are no errors to show yet."""

    def killed(self: Sitting, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sitting, "_finish", killed)
    with pytest.raises(KeyboardInterrupt):
        train_tiny()
    (path,) = (tmp_path / "runs").glob("*.partial")

    view = view_run(RunFolder(path))
    page = read_page(run_page(view))

    assert len(view.record.epochs) == 3
    assert "not finished: 3 of 3 epochs are done" in page.text
    assert f"smidgen train --resume {view.name}" in page.text
    assert 'id="course"' in page.html
    assert 'id="errors"' not in page.html
    assert "not finished" in run_text(view)


def test_without_its_images_a_run_has_a_page_that_says_so(
    make_run: Callable[..., RunFolder], read_page: Reader, no_plots: None, stripes_here: Dataset
) -> None:
    """Numbers stay; pictures are missing with the reason."""
    view = view_run(make_run(wrong=(1, 5)))
    page = read_page(run_page(view))

    assert "are not those of the run" in page.text
    assert "data:image" not in page.html
    assert "#5" in page.text
    assert "No filters" in page.text


def test_damaged_files_cost_their_part_only(
    trained: View,
    train_tiny: Callable[..., object],
    tmp_path: Path,
    read_page: Reader,
    no_plots: None,
) -> None:
    """Without predictions and weights the course, the network and the recipe remain."""
    name = trained().name
    folder = tmp_path / "runs" / name
    (folder / "predictions.safetensors").write_bytes(b"x")
    (folder / "model.safetensors").unlink()

    view = view_run(RunFolder(folder))
    page = read_page(run_page(view))

    assert view.answers is None
    assert "No errors, no calibration:" in page.text
    assert "No filters:" in page.text
    with pytest.raises(ReportError, match="needs trained weights"):
        probe(view, 0)


def _no_images(record: RunRecord) -> RunRecord:
    return replace(record, data=replace(record.data, num_train=0))


def _few_names(record: RunRecord) -> RunRecord:
    return replace(record, data=replace(record.data, class_names=("a",)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_no_images, "no images"),
        (_few_names, "class names that are not as many as the network's"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(
    make_run: Callable[..., RunFolder], change: Callable[[RunRecord], RunRecord], text: str
) -> None:
    """A forged record gives one line, whatever its hash says."""
    folder = make_run()
    folder.save_record(change(folder.record()))

    with pytest.raises(RunError) as raised:
        view_run(folder)

    assert str(raised.value) == (
        f"The record of `{folder.name}` contradicts itself: {text}. Restore it."
    )


@pytest.mark.parametrize(
    "wrong",
    [{"logits": np.zeros((40, 3), "f4"), "labels": np.zeros(40, "i8")}, {"other": np.zeros(3)}],
)
def test_predictions_of_something_else_are_left_out(
    make_run: Callable[..., RunFolder], wrong: dict[str, np.ndarray], stripes_here: Dataset
) -> None:
    """Scores of other classes, or none, are a note and not a crash."""
    folder = make_run()
    save_tensors(folder.path / "predictions.safetensors", wrong)
    folder.save_record(replace(folder.record(), files=folder.hashes()))

    view = view_run(folder)

    assert view.answers is None
    assert view.notes[0].startswith("No errors, no calibration: The stored predictions")


def test_budgets_are_kept_or_not_by_the_last_epoch(
    make_run: Callable[..., RunFolder],
    tiny_recipe: Recipe,
    stripes_here: Dataset,
    read_page: Reader,
    no_plots: None,
) -> None:
    """An accuracy that was reached earlier does not count."""
    recipe = tiny_recipe.replace(budget=Budget(max_params=700, max_epochs=3, target_accuracy=0.96))
    view = view_run(make_run(wrong=(0, 1), errors_before=(1, 0), recipe=recipe))

    assert [(each.what, each.is_kept) for each in view.promises()] == [
        ("parameters", True),
        ("epochs", True),
        ("accuracy", False),
    ]
    page = read_page(run_page(view))
    assert "budget: accuracy" in page.text
    assert "1.00 points below the target" in page.text
    assert "The target of 96 % is not kept" in page.text


def test_a_changed_recipe_is_not_told_as_the_catalogue_tells_it(
    make_run: Callable[..., RunFolder], read_page: Reader, no_plots: None, stripes_here: Dataset
) -> None:
    """The page says what was changed, and nothing that holds of the unchanged one alone."""
    quick = RECIPES["smidgen/quick"]
    told = [quick.about.summary, *filter(None, [quick.about.analysis, quick.about.target])]

    view = view_run(make_run(recipe=quick.replace(epochs=2)))
    page = read_page(run_page(view))
    text = run_text(view)

    assert "Changed from <code>smidgen/quick</code>: epochs 7 -&gt; 2." in page.html
    assert "> Changed from `smidgen/quick`: epochs 7 -> 2." in text
    shown = page.text.split("The recipe in its exchange form")[0]
    assert not [each for each in told if each.replace("`", "") in shown or each in text]
    assert "run · stripes · protocol final" in page.text
    same = view_run(make_run(recipe=quick, seed=2))
    assert not [note for note in same.notes if "Changed" in note]
    assert same.about == quick.about


@pytest.mark.parametrize("name", ["smidgen/quick", "smidgen/quick-on-stripes"])
def test_a_target_meant_for_another_data_set_is_neither_kept_nor_missed(
    make_run: Callable[..., RunFolder],
    read_page: Reader,
    no_plots: None,
    stripes_here: Dataset,
    name: str,
) -> None:
    """A recipe that only took it over says so; one that names its own target is held to it."""
    moved = RECIPES["smidgen/quick"].replace(name=name, dataset="stripes")
    own = moved.replace(budget=Budget(target_accuracy=0.9))

    view = view_run(make_run(wrong=(), recipe=moved))
    page = read_page(run_page(view))

    assert "Its target of 99.4 % is meant for mnist and left out." in page.text
    assert "The target of" not in page.text
    assert "accuracy" not in {promise.what for promise in view.promises()}
    assert view_run(make_run(wrong=(), recipe=own, seed=2)).target == 0.9


def test_a_target_that_was_asked_for_is_no_promise(
    make_run: Callable[..., RunFolder], tiny_recipe: Recipe, stripes_here: Dataset
) -> None:
    """The page holds the run against it; the budget stays the recipe's."""
    recipe = tiny_recipe.replace(budget=Budget(target_accuracy=0.9))

    view = view_run(make_run(wrong=(0, 1), recipe=recipe), target=0.99)

    assert view.target == 0.99
    assert [(each.limit, each.is_kept) for each in view.promises()] == [("at least 90 %", True)]


def test_errors_are_counted_by_pair_and_known_label_errors_marked(
    make_run: Callable[..., RunFolder], read_page: Reader, no_plots: None
) -> None:
    """The most frequent pair comes first; each picture can be picked by its pair."""
    view = view_run(make_run(wrong=(0, 10, 3)))
    view = replace(view, label_errors=frozenset({3, 17}))

    assert [(m.true_name, m.given_name, m.count) for m in mistakes(view)] == [
        ("0", "1", 2),
        ("3", "4", 1),
    ]
    assert [tile.keys for tile in tiles(view)] == [
        "pair-0-1",
        f"pair-3-4 {LABEL_ERROR}",
        "pair-0-1",
    ]
    page = read_page(run_page(view))
    assert "1 of them, marked ★, are among the 2 test images" in page.text
    assert 'value="pair-0-1">0 taken for 1 (2)</option>' in page.html


def test_the_label_errors_of_mnist_are_known_on_its_test_images_alone(
    make_run: Callable[..., RunFolder],
) -> None:
    """They are told by the data's hash."""
    folder = make_run(data_sha256=MNIST_SHA256)

    assert len(view_run(folder).label_errors) == 15
    assert view_run(make_run(seed=2)).label_errors == frozenset()


def test_a_run_without_errors_says_so(
    make_run: Callable[..., RunFolder], read_page: Reader, no_plots: None
) -> None:
    """Nothing is divided by the number of errors."""
    page = read_page(run_page(view_run(make_run(wrong=(), errors_before=(0, 0)))))

    assert "Not one image is taken for something else." in page.text


def test_a_hopeless_run_shows_its_surest_errors_only(
    tiny_view: RunView, read_page: Reader, no_plots: None
) -> None:
    """A page does not grow without bound."""
    view = tiny_view
    assert view.answers is not None
    labels = (np.tile(view.answers.predicted, 12) + 1) % 10
    many = replace(
        view.answers, labels=labels, probabilities=np.tile(view.answers.probabilities, (12, 1))
    )
    view = replace(view, answers=many, pictures=Pictures(None))

    page = read_page(run_page(view))

    assert len(tiles(view)) == MOST_TILES
    assert f"These are the {MOST_TILES} surest of 480." in page.text


def test_sixty_errors_make_a_page_of_less_than_one_and_a_half_megabytes(
    tiny_view: RunView, read_page: Reader
) -> None:
    """Even if the images are noise, which no picture format makes smaller."""
    assert tiny_view.answers is not None
    predicted = np.tile(tiny_view.answers.predicted, 2)[:60]
    shares = np.tile(tiny_view.answers.probabilities, (2, 1))[:60]
    answers = replace(tiny_view.answers, labels=(predicted + 1) % 10, probabilities=shares)
    noise = np.random.default_rng(0).integers(0, 256, (60, 1, 28, 28), np.uint8)

    html = run_page(replace(tiny_view, answers=answers, pictures=Pictures(noise)))

    assert read_page(html).html.count("data:image/png") == 60
    assert len(html.encode()) < 1_500_000


def test_many_classes_get_a_list_in_place_of_a_matrix(
    tiny_view: RunView, read_page: Reader, no_plots: None
) -> None:
    """A hundred rows and columns could not be read."""
    view = tiny_view
    assert view.answers is not None
    wide = np.pad(view.answers.probabilities, ((0, 0), (0, 30)))
    data = DataUsed("d", "5" * 64, tuple(f"class {n}" for n in range(40)), 120, 0, 40)
    view = replace(
        view,
        answers=replace(view.answers, probabilities=wide),
        record=replace(view.record, data=data),
    )

    page = read_page(run_page(view))

    assert 'id="pairs"' in page.html
    assert "Confusion matrix" not in page.html


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": Plateau(divisor=3.0, first_epoch=2)},
        {"schedule": Cosine(), "drop_last": True},
        {"epochs": 1},
        {"batch_size": 1000},
    ],
    ids=["plateau", "drop last", "one epoch", "one step"],
)
def test_rates_are_those_of_the_plans(trained: View, changes: dict[str, object]) -> None:
    """The rate at the start of each epoch is the one that the record noted."""
    view = trained(**changes)
    (rates,) = [plot for plot in run_plots(view) if plot.name == "rates"]
    first = view.record.epochs[0].lr_first
    last = view.record.epochs[-1].lr_last

    assert f"begins at {first:.3g} and ends at {last:.3g}" in rates.description


def test_every_plot_can_be_a_png(tiny_view: RunView) -> None:
    """Plots have distinct names, and each is drawn alone, too."""
    plots = run_plots(tiny_view)

    assert [plot.name for plot in plots] == ["accuracy", "loss", "rates", "calibration", "classes"]
    assert all(plot.png().startswith(b"\x89PNG") for plot in plots)


def test_a_branching_network_with_dead_layers_is_drawn(read_page: Reader) -> None:
    """The drawing takes the page's colors, keeps its size and can be scrolled."""
    branch = (Conv(4, 3, padding=1), ReLU())
    dead = Unreached((1, 28, 28), (Conv(4, 3), BatchNorm()))
    layers = (Branches((branch, branch, branch)), GlobalAvgPool(), Flatten(), Dense(10))
    drawing = network_drawing(Network(layers, unreached=(dead,)))

    assert drawing.is_wide
    assert re.findall(r'="#[0-9a-f]{6}"', str(drawing.svg)) == []
    assert "style" not in str(drawing.svg)
    assert "registered, never runs" in str(drawing.svg)


def test_first_filters_are_pictures_of_the_weights() -> None:
    """Sign is color and size is strength; a network that begins otherwise has none."""
    network = Network((Conv(3, 2), GlobalAvgPool(), Flatten(), Dense(10)))
    weights = {"conv1.weight": np.array([[[[2.0, -1.0], [0.0, 1.0]]]] * 3, np.float32)}
    found = first_filters(network, weights)

    assert found is not None
    assert (found.layer, found.count, found.largest) == ("conv1", 3, 2.0)
    fills = re.findall(r'fill="var\(--(\w+)\)" fill-opacity="([\d.]+)"', str(found.shown[0]))
    assert fills == [("orange", "1.00"), ("blue", "0.50"), ("blue", "0.00"), ("orange", "0.50")]
    assert first_filters(network, {}) is None
    assert first_filters(Network((Flatten(), Dense(10))), {}) is None


def test_one_image_is_followed_through_the_network(
    tiny_view: RunView, read_page: Reader, no_plots: None
) -> None:
    """The probabilities are those of the stored scores; every block has its maps."""
    view = tiny_view
    found = probe(view, 7)
    page = read_page(run_page(view, found))

    assert view.answers is not None
    assert found.ranked[0][1] == pytest.approx(view.answers.confidence[7], abs=1e-5)
    assert [layer.shape for layer in found.layers] == [(6, 13, 13), (8, 6, 6), (8,), (10,)]
    assert 0.0 <= found.largest_drop <= 1.0
    assert found.occlusion_uri != found.uri
    assert "Image 7, step by step" in page.text


@pytest.mark.parametrize("position", [-1, 40])
def test_an_image_that_is_not_there_is_refused(tiny_view: RunView, position: int) -> None:
    """The message says which there are."""
    with pytest.raises(ReportError, match="measured on images 0 to 39"):
        probe(tiny_view, position)


def test_the_command_repeats_the_run_or_names_its_recipe_file(
    trained: View, make_run: Callable[..., RunFolder]
) -> None:
    """A recipe that is not the catalogue's has to be saved first."""
    view = trained(seed=3, protocol="tune")

    assert repeat_command(view) == (
        "smidgen train recipe.json --seed 3 --protocol tune --engine torch --threads 1"
    )
    assert "Save the recipe above" in run_page(view)


def test_the_write_up_tells_target_result_and_analysis(trained: View) -> None:
    """It has the parts that a hand-in has, tables that are whole, and the command."""
    view = trained(about=About(target="Reach | it."), name="a|b")
    text = run_text(view)

    for title in (
        "# a|b, seed 1",
        "## Target",
        "## Result",
        "## Analysis",
        "## Model",
        "## Recipe",
        "## Log",
        "## Mistakes",
        "## Repeat",
    ):
        assert f"\n{title}\n" in f"\n{text}"
    assert "Reach | it." in text
    assert "```sh\nsmidgen train" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1

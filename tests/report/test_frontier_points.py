import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smidgen.evidence.answers import MNIST_SHA256
from smidgen.recipes.catalogue import RECIPES
from smidgen.report.frontier_points import Point, front, frontier_points, published, to_data
from smidgen.runs.store import RunFolder, RunStore

MakeRun = Callable[..., RunFolder]


def test_newcomer_sees_thepublished_proofs_and_every_claim(tmp_path: Path) -> None:
    """An empty store is no empty plot: what is in the catalogue is there, counted by our rule."""
    points = {point.name: point for point in frontier_points(RunStore(tmp_path))}

    assert points["smidgen/quick"].is_proven
    assert points["anchors/697"].grade == "A"
    assert points["anchors/697"].num_macs == 80_576
    assert points["mnist-challenge/conv"].num_params == 8_580
    assert points["anchors/6720"].accuracy == 0.9953
    assert points["anchors/6720"].last == 0.995


def test_every_claim_of_the_catalogue_is_on_the_plot() -> None:
    """Unless another entry with the same network claims the same."""
    listed = {result.recipe for result in published()}
    claims = {
        name: (recipe.about.claim.num_params, recipe.about.claim.best_accuracy)
        for name, recipe in RECIPES.items()
        if recipe.about.claim
    }

    missing = {claim for name, claim in claims.items() if name not in listed}

    assert missing <= {claims[name] for name in listed if name}


def test_published_results_say_where_they_are_from() -> None:
    """Each is an entry of the catalogue, or has a name, a size, an accuracy and a source."""
    for result in published():
        if result.recipe:
            assert RECIPES[result.recipe].about.claim
        else:
            assert result.name
            assert result.num_params
            assert result.accuracy
            assert result.source


def test_packed_proofs_are_those_of_the_results_folder() -> None:
    """`python benchmarks/published.py` was run after the last proof."""
    root = Path(__file__).parents[2]
    packed = json.loads((root / "src/smidgen/report/proven.json").read_bytes())
    proofs = json.loads((root / "docs/results/proofs.json").read_bytes())["proofs"]

    kept = {(row["name"], row["engine"]): row["accuracy"] for row in packed}

    for proof in proofs:
        assert kept[proof["recipe"], proof["engine"]] == proof["accuracy"]["mean"]


def _mnist_run(make_run: MakeRun, seed: int, **changes: object) -> RunFolder:
    return make_run(seed=seed, dataset="mnist", data_sha256=MNIST_SHA256, **changes)


def test_own_runs_become_a_point_from_two_seeds_on(make_run: MakeRun, tmp_path: Path) -> None:
    """With their number, which is too small for the front."""
    _mnist_run(make_run, 1, wrong=(0,))
    store = RunStore(tmp_path / "runs")
    assert "tiny" not in {point.name for point in frontier_points(store)}

    _mnist_run(make_run, 2, wrong=(0, 1, 2))
    (tiny,) = [point for point in frontier_points(store) if point.name == "tiny"]

    assert (tiny.n, tiny.accuracy, tiny.source) == (2, 0.95, "this store")
    assert tiny.is_ours
    assert not tiny.is_proven
    assert tiny not in front(frontier_points(store), "num_params")


def test_runs_on_other_images_are_on_another_plot(make_run: MakeRun, tmp_path: Path) -> None:
    """Also where they are called MNIST; published results are not on it."""
    for seed in (1, 2):
        make_run(seed=seed)
        make_run(seed=seed, name="fake", dataset="mnist")
    store = RunStore(tmp_path / "runs")

    assert "fake" not in {point.name for point in frontier_points(store)}
    assert [point.name for point in frontier_points(store, "stripes")] == ["tiny"]


def test_proof_with_more_seeds_stands_for_its_recipe(make_run: MakeRun, tmp_path: Path) -> None:
    """The native engine's of equals; a recipe is on the plot once."""
    for seed in (1, 2):
        _mnist_run(make_run, seed, engine="torch")
        _mnist_run(make_run, seed, engine="native")
    store = RunStore(tmp_path / "runs")
    assert _engines_of_tiny(store) == ["native"]

    _mnist_run(make_run, 3, engine="torch")

    assert _engines_of_tiny(store) == ["torch"]


def _engines_of_tiny(store: RunStore) -> list[str]:
    return [point.engine for point in frontier_points(store) if point.name == "tiny"]


def _point(name: str, size: int, accuracy: float, **more: Any) -> Point:
    return Point(**{"name": name, "measured": "mean", "num_params": size, "accuracy": accuracy,
                    "n": 20, **more})  # fmt: skip


def test_front_holds_proven_means_alone() -> None:
    """No single run, no few seeds, nothing that a smaller one beats, nothing of unknown cost."""
    points = [
        _point("small", 500, 0.98, num_macs=9),
        _point("worse", 600, 0.97, num_macs=5),
        _point("equal", 700, 0.98),
        _point("large", 900, 0.99, num_macs=7),
        _point("lucky", 400, 0.999, measured="best", grade="B"),
        _point("few", 300, 0.995, n=19),
    ]

    assert [point.name for point in front(points, "num_params")] == ["small", "large"]
    assert [point.name for point in front(points, "num_macs")] == ["worse", "large"]
    assert front(points, "seconds") == []


def test_data_holds_every_point_and_the_fronts(tmp_path: Path) -> None:
    """As JSON, for other plots."""
    points = frontier_points(RunStore(tmp_path))

    data = json.loads(json.dumps(to_data(points, "mnist")))

    assert len(data["points"]) == len(points)
    names = {point.name for point in points}
    assert all(front and names.issuperset(front) for front in data["fronts"].values())
    assert set(data["grades"]) == set("ABCDE")

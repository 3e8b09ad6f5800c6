"""Published results and a store of runs in, points of accuracy against cost out."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any, Literal

from smidgen.errors import ReportError
from smidgen.evidence.answers import MNIST_SHA256
from smidgen.evidence.proof import spread
from smidgen.evidence.select import kinds_of
from smidgen.evidence.wording import CLAIM_SEEDS
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.recipe import Percent, Recipe
from smidgen.runs.listing import finished_rows
from smidgen.runs.rows import RunRow
from smidgen.runs.store import RunFolder, RunStore
from smidgen.values import from_json, to_plain, value

Measured = Literal["mean", "last", "best", "unknown"]
Grade = Literal["A", "B", "C", "D", "E"]
Cost = Literal["num_params", "num_macs", "seconds"]

MEASURED: dict[Measured, str] = {
    "mean": "mean over random seeds, last epoch",
    "last": "one run, last epoch",
    "best": "best epoch or best run, chosen on the test set",
    "unknown": "how is not known",
}
GRADES: dict[Grade, str] = {
    "A": "released weights, measured again on the 10,000 test images",
    "B": "the training log was read",
    "C": "a number in a README, no log seen",
    "D": "a number in a paper or project, seen there",
    "E": "a number quoted from memory that could not be read again",
}
FEWEST_SEEDS = 2
_NETWORK_KINDS = ("conv", "separable_conv", "max_pool", "avg_pool", "global_avg_pool", "dense")


@value(ReportError)
class Published:
    """A result that somebody else published.

    Args:
        grade: How good the evidence is, see `GRADES`.
        measured: How it was measured, see `MEASURED`.
        recipe: The catalogue's entry, which then says the rest; "" for none.
        name: What it is.
        num_params: As its source counts them.
        accuracy: In percent; None for what the recipe's source claims.
        n: Over how many random seeds.
        sd: Of these, in percentage points.
        source: Where it is published.
        note: What one should know about it.
    """

    grade: Grade
    measured: Measured
    recipe: str = ""
    name: str = ""
    num_params: int | None = None
    accuracy: Percent | None = None
    n: int = 1
    sd: float | None = None
    source: str = ""
    note: str = ""


@value(ReportError)
class Point:
    """A network with what it reached and what it costs.

    Args:
        name: A recipe's name, or what it is.
        measured: How, see `MEASURED`.
        num_params: By the counting rule; of networks outside the catalogue as published.
        accuracy: A share in [0, 1].
        grade: Of somebody else's evidence; None for our own runs, which are all there is to see.
        n: Over how many random seeds.
        sd: Of these, a share.
        low: Lower end of the 95 % interval of the mean, a share.
        high: Upper end.
        last: After the last epoch, where `accuracy` is another one's and the log is known.
        num_macs: For one image; None where the network is not known.
        seconds: Median training time of a run on one core.
        epochs: Passes over the training images.
        engine: What did the arithmetic, for our own.
        fingerprint: Of the recipe, for our own.
        network: Its layers in a line.
        source: Where it is published; "this store" or "published proof" for our own.
        note: What one should know about it.
    """

    name: str
    measured: Measured
    num_params: int
    accuracy: float
    grade: Grade | None = None
    n: int = 1
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    last: float | None = None
    num_macs: int | None = None
    seconds: float | None = None
    epochs: int | None = None
    engine: str = ""
    fingerprint: str = ""
    network: str = ""
    source: str = ""
    note: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it was proved by us, here or in the published proofs."""
        return self.grade is None

    @property
    def is_proven(self) -> bool:
        """Whether it is a mean over seeds enough for a claim."""
        return self.measured == "mean" and self.n >= CLAIM_SEEDS

    def cost(self, kind: Cost) -> float | None:
        """Return a cost; None where it is not known."""
        return getattr(self, kind)


def frontier_points(store: RunStore, dataset: str = "mnist") -> tuple[Point, ...]:
    """Return all that is known: ours, from the store and as published, then others' claims.

    Of each of our recipes one point is taken: the proof with the most seeds, the native engine's
    of equals. Published results are of MNIST, and so are left out for another data set.

    Raises:
        ReportError: Packaged data that is damaged.
    """
    here = _from_store(store, dataset)
    if dataset != "mnist":
        return tuple(_best_known(here))
    ours = _best_known([*here, *published_proofs()])
    return (*ours, *(_claimed(each) for each in published()))


def published() -> tuple[Published, ...]:
    """Return the results of others that come with smidgen."""
    return from_json(tuple[Published, ...], _packaged("published.json"), ReportError)


def published_proofs() -> tuple[Point, ...]:
    """Return our own proofs that come with smidgen: means over random seeds on MNIST."""
    return from_json(tuple[Point, ...], _packaged("proven.json"), ReportError)


def _packaged(name: str) -> bytes:
    return files("smidgen.report").joinpath(name).read_bytes()


def front(points: Sequence[Point], cost: Cost) -> list[Point]:
    """Return the proven points that no proven one beats in accuracy at the same cost or less."""
    known = [point for point in points if point.is_proven and point.cost(cost) is not None]
    best: list[Point] = []
    for point in sorted(known, key=lambda point: (point.cost(cost) or 0.0, -point.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def network_line(network: Network) -> str:
    """Return the layers that carry weights, or shrink maps, in one line."""
    rows = trace(network).rows
    return ", ".join(row.text for row in rows if row.kind in _NETWORK_KINDS)


def _proven_point(recipe: Recipe, rows: Sequence[RunRow]) -> Point:
    """Return what runs that differ in nothing but the seed say together."""
    seen = spread([row.accuracy for row in rows])
    interval, first = seen.interval, rows[0]
    return Point(
        name=first.recipe,
        measured="mean",
        num_params=first.num_params,
        accuracy=seen.mean,
        n=seen.n,
        sd=seen.sd,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        num_macs=first.num_macs,
        seconds=spread([row.train_seconds for row in rows]).median,
        epochs=first.epochs,
        engine=first.engine,
        fingerprint=first.fingerprint,
        network=network_line(recipe.network),
        source="this store",
    )


def _from_store(store: RunStore, dataset: str) -> list[Point]:
    rows = [
        row
        for row in finished_rows(store)[0]
        if row.protocol == "final"
        and row.dataset == dataset
        and (dataset != "mnist" or row.data_sha256 == MNIST_SHA256)
    ]
    found = []
    for kind in kinds_of(rows):
        seeds = list({row.seed: row for row in kind}.values())  # a copied run is no second one
        if len(seeds) >= FEWEST_SEEDS:
            recipe = RunFolder(store.root / seeds[0].run).record().recipe
            found.append(_proven_point(recipe, seeds))
    return found


def _best_known(points: Iterable[Point]) -> list[Point]:
    chosen: dict[str, Point] = {}
    for point in points:
        rival = chosen.get(point.fingerprint)
        if rival is None or _weight(point) > _weight(rival):
            chosen[point.fingerprint] = point
    return sorted(chosen.values(), key=lambda point: point.num_params)


def _weight(point: Point) -> tuple[int, bool]:
    return point.n, point.engine == "native"


def _claimed(result: Published) -> Point:
    low = high = None
    if result.sd is not None and result.n >= CLAIM_SEEDS and result.accuracy is not None:
        half = 1.96 * result.sd / math.sqrt(result.n)
        low, high = (result.accuracy - half) / 100.0, (result.accuracy + half) / 100.0
    point = Point(
        name=result.name,
        measured=result.measured,
        num_params=result.num_params or 0,
        accuracy=(result.accuracy or 0.0) / 100.0,
        grade=result.grade,
        n=result.n,
        sd=None if result.sd is None else result.sd / 100.0,
        low=low,
        high=high,
        source=result.source,
        note=result.note,
    )
    return _of_catalogue(point, RECIPES[result.recipe]) if result.recipe else point


def _of_catalogue(point: Point, recipe: Recipe) -> Point:
    claim, totals = recipe.about.claim, trace(recipe.network).totals
    assert claim is not None
    log = claim.test_log if claim.split == "test" else ()
    headline = claim.best_accuracy or 0.0
    return replace(
        point,
        name=recipe.name,
        num_params=totals.num_params,
        num_macs=totals.num_macs,
        accuracy=point.accuracy or headline / 100.0,
        last=log[-1] / 100.0 if log and log[-1] != headline else None,
        epochs=recipe.epochs,
        network=network_line(recipe.network),
        source=recipe.about.source,
    )


def to_data(points: Sequence[Point], dataset: str) -> dict[str, Any]:
    """Return the machine-readable form: every point, and the names on each front."""
    fronts = {
        cost: [point.name for point in front(points, cost)]
        for cost in ("num_params", "num_macs", "seconds")
    }
    return {
        "dataset": dataset,
        "measured": MEASURED,
        "grades": GRADES,
        "points": [to_plain(point) for point in points],
        "fronts": fronts,
    }

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from smidgen.data import Dataset
from smidgen.errors import ClusterError
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import RunSpec
from smidgen.runs.store import RunStore
from smidgen.work import cluster
from smidgen.work.cluster import Cluster, Versions, connected
from smidgen.work.jobs import Job, Outcome, Shared
from smidgen.work.local import Local
from smidgen.work.queue import make_runs


def jobs_of(recipe: Recipe, dataset: Dataset, seeds: range) -> list[Job]:
    """Return runs of a recipe under some seeds, on the torch engine with one thread."""
    made = {"protocol": "final", "engine": "torch", "threads": 1, "data_sha256": dataset.sha256}
    return [Job(RunSpec(recipe, seed, **made)) for seed in seeds]  # type: ignore[arg-type]


def models(outcomes: list[Outcome]) -> dict[int, str]:
    """Return the SHA-256 of each seed's model."""
    assert not [each.reason for each in outcomes if each.run is None]
    runs = {each.spec.seed: each.run for each in outcomes}
    return {seed: run.record.files["model.safetensors"] for seed, run in runs.items() if run}


def names(root: Path) -> list[str]:
    """Return the folders of a store, finished or not."""
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))


@pytest.mark.slow
def test_cluster_gives_the_bits_of_local_processes(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path
) -> None:
    """Runs made by Ray are byte for byte those that processes of this machine make."""
    jobs = jobs_of(tiny_recipe, stripes, range(1, 9))
    images = {stripes.sha256: stripes}
    here = list(make_runs(jobs, Shared(RunStore(tmp_path / "here"), images), workers=2))
    shared = Shared(RunStore(tmp_path / "there"), images)
    there = list(make_runs(jobs, shared, workers=2, place=Cluster))

    assert models(here) == models(there)
    assert names(tmp_path / "here") == names(tmp_path / "there")
    again = list(make_runs(jobs, shared, workers=2, place=Local))
    assert all(each.run is not None and each.run.was_there for each in again)


@contextlib.contextmanager
def nodes(count: int) -> Iterator[Any]:
    """Yield a cluster of nodes on loopback addresses."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes()
    try:
        for number in range(count):
            made.add_node(num_cpus=1, node_ip_address=f"127.0.0.{number + 2}")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.slow
def test_nodes_run_the_drivers_library(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node without a compiler trains with the driver's library, and its record says so."""
    made = {"protocol": "final", "engine": "native", "lanes": 8, "data_sha256": stripes.sha256}
    jobs = [Job(RunSpec(tiny_recipe, seed, **made)) for seed in (1, 2)]  # type: ignore[arg-type]
    images = {stripes.sha256: stripes}
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "driver"))
    here = list(make_runs(jobs, Shared(RunStore(tmp_path / "here"), images), workers=1))
    carried = Cluster(Shared(RunStore(tmp_path / "there"), images), 1)._library(jobs[0].spec)
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "node"))
    monkeypatch.setenv("SMIDGEN_CC", str(tmp_path / "no-compiler"))
    said = list(cluster._work(jobs, [b"", b""], images, Versions.here(), "all", 30.0, carried))
    parcels = [each for each in said if isinstance(each, cluster._Packed) and each.outcome]
    store = RunStore(tmp_path / "there")
    there = [run for each in parcels for run in cluster.unpack(each.content, store)]

    assert models(here) == {
        run.record().seed: run.record().files["model.safetensors"] for run in there
    }
    assert there[0].record().environment.build == here[0].run.record.environment.build  # type: ignore[union-attr]


@pytest.mark.slow
def test_lost_node_costs_no_run(tiny_recipe: Recipe, stripes: Dataset, tmp_path: Path) -> None:
    """When a node is killed in the middle, every run is made once and none is left half."""
    recipe = tiny_recipe.replace(epochs=12)
    jobs = jobs_of(recipe, stripes, range(1, 7))
    shared = Shared(RunStore(tmp_path / "runs"), {stripes.sha256: stripes})
    with nodes(3) as made:
        victim = made.list_all_nodes()[-1]
        outcomes = []
        runs = make_runs(
            jobs,
            shared,
            workers=2,
            place=lambda shared, workers: Cluster(shared, workers, made.address),
        )
        for outcome in runs:
            outcomes.append(outcome)
            if len(outcomes) == 1:
                made.remove_node(victim, allow_graceful=False)
    whole = Shared(RunStore(tmp_path / "whole"), {stripes.sha256: stripes})
    undisturbed = list(make_runs(jobs, whole, workers=1))

    assert models(outcomes) == models(undisturbed)
    assert names(tmp_path / "runs") == names(tmp_path / "whole")


@pytest.mark.slow
def test_killed_driver_goes_on(tmp_path: Path) -> None:
    """A driver killed in the middle leaves no half run; the same command makes what is missing."""
    words = [sys.executable, "-c", _DRIVER, str(tmp_path / "runs")]
    first = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
    assert first.stdout is not None
    assert first.stdout.readline()  # one run is there
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    first.stdout.close()
    there = [name for name in names(tmp_path / "runs") if not name.endswith(".partial")]
    second = subprocess.run(words, capture_output=True, text=True, timeout=300)

    assert there
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-1] == "6 of 6"
    assert len(names(tmp_path / "runs")) == 6


_DRIVER = """
import sys
from pathlib import Path
from smidgen.data import draw_stripes
from smidgen.recipes.catalogue import get_recipe
from smidgen.runs.record import RunSpec
from smidgen.runs.store import RunStore
from smidgen.work.cluster import Cluster
from smidgen.work.jobs import Job, Shared
from smidgen.work.queue import make_runs
data = draw_stripes(num_train=200, num_test=40)
recipe = get_recipe("smidgen/500").replace(dataset="stripes", epochs=3)
made = dict(protocol="final", engine="torch", threads=1, data_sha256=data.sha256)
jobs = [Job(RunSpec(recipe, seed, **made)) for seed in range(1, 7)]
shared = Shared(RunStore(Path(sys.argv[1])), {data.sha256: data})
done = 0
for outcome in make_runs(jobs, shared, workers=2, place=Cluster):
    done += outcome.run is not None
    print(f"{done} of 6", flush=True)
"""


def test_open_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that others can reach is refused before anything is sent."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)

    with (
        pytest.raises(ClusterError, match="can be reached by others, and who reaches it may run"),
        connected("10.0.0.1:6379", 1),
    ):
        pass


@pytest.mark.slow
def test_no_cluster_gets_one_line() -> None:
    """Where there is no cluster the line says how to start one."""
    began = time.monotonic()
    with (
        pytest.raises(ClusterError, match="There is no Ray cluster at `auto`"),
        connected("auto", 1),
    ):
        pass
    assert time.monotonic() - began < 120


def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with another version of smidgen says so, and makes nothing."""
    other = Versions("9.9", 1, "3.11.0")
    said = list(cluster._work([], [], {}, other, "all", 30.0))

    assert len(said) == 1
    assert isinstance(said[0], ClusterError)
    assert "Install the same on every node" in str(said[0])

from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.errors import RunError, UnknownNameError
from smidgen.evidence.select import select_runs
from smidgen.recipes.catalogue import get_recipe
from smidgen.runs.store import RunFolder, RunStore

Make = Callable[..., RunFolder]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Return the store that `make_run` writes into."""
    return RunStore(tmp_path / "runs")


def _seeds(runs: list[RunFolder]) -> list[int]:
    return sorted(run.record().seed for run in runs)


def test_a_recipes_name_stands_for_its_runs(make_run: Make, store: RunStore) -> None:
    """All finished runs of the name and protocol are taken, of other recipes none."""
    for seed in (1, 2):
        make_run(seed)
    make_run(3, protocol="tune")
    make_run(4, name="other")

    assert _seeds(select_runs(store, "tiny")) == [1, 2]
    assert _seeds(select_runs(store, "tiny", "tune")) == [3]


def test_an_engine_behind_the_name_chooses(make_run: Make, store: RunStore) -> None:
    """Runs of both engines are two kinds; `@torch` and `@native` say which."""
    make_run(1)
    make_run(2, engine="native")

    assert _seeds(select_runs(store, "tiny@torch")) == [1]
    assert _seeds(select_runs(store, "tiny@native")) == [2]
    with pytest.raises(RunError) as caught:
        select_runs(store, "tiny")
    assert (
        "`tiny` has 2 kinds of runs: 1 of torch on cpu, threads: 1, stripes, such as `tiny-s1-"
        in (str(caught.value))
    )
    assert str(caught.value).endswith(
        "Say which with `@torch` or `@native`, or name the runs, separated by commas."
    )


def test_runs_are_named_one_by_one(make_run: Make, store: RunStore) -> None:
    """Names, prefixes and paths, separated by commas."""
    first, second, third = (make_run(seed) for seed in (1, 2, 3))

    query = f"{first.name}, tiny-s2,{third.path}"

    assert _seeds(select_runs(store, query)) == [1, 2, 3]
    assert second.name.startswith("tiny-s2")


def test_the_catalogues_recipe_is_meant_where_others_have_its_name(
    make_run: Make, store: RunStore
) -> None:
    """Runs with other settings under a catalogue name are passed over if there are right ones."""
    quick = get_recipe("smidgen/quick")
    make_run(1, name="smidgen/quick")
    right = make_run(2, name="smidgen/quick", recipe=quick, fingerprint=quick.fingerprint())

    assert [run.name for run in select_runs(store, "smidgen/quick")] == [right.name]


def test_what_is_not_there_is_said(make_run: Make, store: RunStore) -> None:
    """A recipe without runs, an unknown name and an unfinished run each get one line."""
    make_run(1)
    unfinished = make_run(2, result=None, finish=False)

    with pytest.raises(
        RunError, match=r"^There are no finished runs of `smidgen/quick` under the "
    ):
        select_runs(store, "smidgen/quick")
    with pytest.raises(RunError, match=r"of `tiny` under the protocol `final` on the native engin"):
        select_runs(store, "tiny@native")
    with pytest.raises(
        UnknownNameError, match=r"^No recipe or run is called `tinny`\. Did you mea"
    ):
        select_runs(store, "tinny")
    with pytest.raises(
        RunError, match=r"is not finished\. Continue it with `smidgen train --resum"
    ):
        select_runs(store, unfinished.name)

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.errors import RunError, UnknownNameError
from smidgen.evidence.select import kinds_of, select_runs, selector_of, split_selector
from smidgen.recipes.catalogue import get_recipe
from smidgen.runs.rows import RunRow, read_row
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
    assert str(caught.value) == (
        "`tiny` has 2 kinds of runs. Say which: `tiny@native` (runs: 1), `tiny@torch` (runs: 1)."
    )


def test_variants_are_chosen_by_what_differs(make_run: Make, store: RunStore) -> None:
    """Data set, fingerprint and engine choose, alone and together; the error says what to type."""
    short, long = "1a2b3c4d" + "0" * 56, "1aff" + "0" * 60
    make_run(1, fingerprint=short)
    make_run(2, fingerprint=long)
    make_run(3, fingerprint=long, engine="native")
    make_run(4, fingerprint=short, dataset="mnist", data_sha256="6" * 64)

    assert _seeds(select_runs(store, "tiny@mnist")) == [4]
    assert _seeds(select_runs(store, "tiny@stripes@1a2b")) == [1]
    assert _seeds(select_runs(store, "tiny@1aff@native")) == [3]
    with pytest.raises(RunError) as caught:
        select_runs(store, "tiny@torch")
    assert str(caught.value) == (
        "`tiny@torch` has 3 kinds of runs. Say which: `tiny@torch@mnist` (runs: 1), "
        "`tiny@torch@1aff0000` (runs: 1), `tiny@torch@stripes@1a2b3c4d` (runs: 1)."
    )
    with pytest.raises(RunError, match=r" fit `@1a2`\. There are: "):
        select_runs(store, "tiny@1a2")  # three digits are too few


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "native"},
        {"fingerprint": "1a2b" + "0" * 60},
        {"dataset": "mnist", "data_sha256": "6" * 64},
        {"data_sha256": "6" * 64},
        {"results_version": 9},
        {"protocol": "tune"},
        {"name": "other"},
    ],
)
def test_a_selector_selects_exactly_the_runs_it_was_made_for(
    make_run: Make, store: RunStore, changes: dict[str, str]
) -> None:
    """Whatever else of the name is in the store; the runs themselves if their kind has more."""
    kinds = [[make_run(seed).name for seed in (1, 2)]]
    kinds += [[make_run(seed, **changes).name for seed in (3, 4)]]

    for names in kinds:
        selector = selector_of(store, names)
        protocol = store.find(names[0]).record().protocol
        assert selector.count("@") >= 1
        assert [run.name for run in select_runs(store, selector, protocol)] == names
        assert selector_of(store, names[:1]) == names[0]


def test_variants_of_a_catalogue_recipe_need_their_fingerprint(
    make_run: Make, store: RunStore
) -> None:
    """The bare name means the catalogue's settings, so other settings are named by theirs."""
    quick = get_recipe("smidgen/quick")
    other = make_run(1, name="smidgen/quick", fingerprint="1a2b3c4d" + "0" * 56)
    right = make_run(1, name="smidgen/quick", recipe=quick, fingerprint=quick.fingerprint())

    assert selector_of(store, [other.name]) == "smidgen/quick@torch@1a2b3c4d"
    assert selector_of(store, [right.name]) == "smidgen/quick@torch"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a", ("a", [])),
        ("a@torch@mnist", ("a", ["torch", "mnist"])),
        ("a@b@torch", ("a@b", ["torch"])),
        ("c@torch", ("c@torch", [])),
    ],
)
def test_a_name_ends_where_the_longest_known_one_does(
    query: str, expected: tuple[str, list[str]]
) -> None:
    """A recipe's own name may hold an @; what begins with no name is left whole."""
    assert split_selector(query, {"a", "a@b"}) == expected


def test_known_names_come_newest_first(make_run: Make, store: RunStore) -> None:
    """A name that is near none is answered with what was made last."""
    names = [make_run(seed, name=name).name for seed, name in ((1, "old"), (2, "new"))]

    with pytest.raises(UnknownNameError) as caught:
        select_runs(store, "xyz")

    assert f"Known: `new`, `old`, `{names[1]}`, `{names[0]}`." in str(caught.value)


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
    with pytest.raises(RunError) as caught:
        select_runs(store, "tiny@native")
    assert str(caught.value) == (
        "No finished runs of `tiny` under the protocol `final` fit `@native`. There are: "
        "`tiny@torch@stripes` (runs: 1)."
    )
    with pytest.raises(
        UnknownNameError, match=r"^No recipe or run is called `tinny`\. Did you mea"
    ):
        select_runs(store, "tinny")
    with pytest.raises(
        RunError, match=r"is not finished\. Continue it with `smidgen train --resum"
    ):
        select_runs(store, unfinished.name)


def test_unknown_lanes_go_with_the_only_known_ones(make_run: Callable[..., RunFolder]) -> None:
    """Runs from before lanes were kept are one kind with those of 8 lanes, until 16 are there."""

    def native(seed: int, lanes: int | None) -> RunRow:
        run = make_run(seed, engine="native")
        record = run.record()
        used = replace(record.environment, lanes=lanes)
        run.save_record(replace(record, environment=used))
        return read_row(run.path)

    old, eight, sixteen = native(1, None), native(2, 8), native(3, 16)

    assert kinds_of([old, eight]) == [[old, eight]]
    assert len(kinds_of([old, eight, sixteen])) == 3

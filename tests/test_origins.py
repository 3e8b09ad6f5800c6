import json
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from smidgen.recipes.catalogue import get_recipe

ROOT = Path(__file__).parent.parent
LEDGER = json.loads((ROOT / "docs" / "origins.json").read_text(encoding="utf-8"))
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "origins_page.py"))


def test_page_is_what_the_ledger_gives() -> None:
    """`docs/origins.md` is up to date with statements and evidence."""
    text = (ROOT / "docs" / "origins.md").read_text(encoding="utf-8")

    assert text == SCRIPT["page"](LEDGER["statements"]), "run `python scripts/origins_page.py`"


def test_every_statement_of_the_sources_has_a_row() -> None:
    """As many rows as the list of sources counts statements, section by section."""
    rows = Counter((row["origin"], row["where"]) for row in LEDGER["statements"])
    sources = {(o, w): n for o, places in LEDGER["sources"].items() for w, n in places.items()}

    assert rows == sources
    assert set(LEDGER["sources"]) == set(SCRIPT["TITLES"])


@pytest.mark.parametrize("row", LEDGER["statements"], ids=lambda row: row["id"])
def test_rows_can_be_tried(row: dict[str, Any]) -> None:
    """Each row names recipes that there are, and gets one of the known verdicts."""
    test = row["test"]
    if "recipe" in test:
        assert get_recipe(test["recipe"])
    word, what, command = SCRIPT["verdict"](test)

    assert word.removesuffix(" as a mean") in SCRIPT["VERDICTS"]
    assert what or command


def test_ids_are_unique() -> None:
    """No two statements share an id."""
    ids = [row["id"] for row in LEDGER["statements"]]

    assert len(ids) == len(set(ids))

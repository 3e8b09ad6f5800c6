from smidgen.cli.tables import table
from smidgen.evidence.wording import percent


def test_columns_are_aligned() -> None:
    """The first columns stand left and the rest right; numbers have separators, None a dash."""
    found = table(["name", "count"], [["a", 1234567], ["longer", None], ["b", True], ["c", 0.5]])

    assert found.splitlines() == [
        "name        count",
        "------  ---------",
        "a       1,234,567",
        "longer          -",
        "b             yes",
        "c             0.5",
    ]


def test_an_empty_table_is_its_header() -> None:
    """A table without rows has its titles alone."""
    assert table(["a", "bc"], []) == "a  bc\n-  --"


def test_shares_become_percentages() -> None:
    """Percentages have two decimals."""
    assert [percent(x) for x in (0.0, 0.9942, 0.99425, 1.0)] == [
        "0.00 %",
        "99.42 %",
        "99.42 %",
        "100.00 %",
    ]

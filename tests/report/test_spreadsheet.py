import builtins
import io
import re
from typing import Any

import pytest
from openpyxl import load_workbook

from smidgen.errors import NetworkError
from smidgen.network.layers import Branches, Conv, Dense, Flatten, GlobalAvgPool, MaxPool, ReLU
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import RECIPES
from smidgen.report.spreadsheet import workbook

CHAIN = ["smidgen/quick", "mnist-99-4", "era-s7/7", "anchors/1936"]
JOINED = ["mnist-challenge/inception", "era-s7/as-told"]


def _sheets(content: bytes) -> tuple[Any, Any]:
    """Return the workbook with formulas, and with the values beside them."""
    return load_workbook(io.BytesIO(content)), load_workbook(io.BytesIO(content), data_only=True)


def _calculated(sheet: Any) -> dict[str, float | str | None]:
    """Calculate a sheet from its formulas alone, as a spreadsheet program does."""
    functions = {"MIN": min, "MAX": max, "INT": int, "SUM": sum}
    values: dict[str, Any] = {}
    for row in sheet.iter_rows():
        for cell in row:
            text = cell.value
            if cell.data_type == "f":
                text = re.sub(r"([A-Z])(\d+):\1(\d+)", _listed, text[1:].replace("$", ""))
                text = re.sub(r"\b([A-Z]\d+)\b", r"values['\1']", text)
                values[cell.coordinate] = eval(text, {**functions, "values": values})
            else:
                values[cell.coordinate] = text
    return values


def _listed(match: re.Match[str]) -> str:
    letter, first, last = match.groups()
    return "[" + ",".join(f"{letter}{n}" for n in range(int(first), int(last) + 1)) + "]"


@pytest.mark.parametrize("name", CHAIN + JOINED)
def test_cached_values_are_what_the_formulas_give(name: str):
    """Every formula's value, calculated from the sheet alone, is the one written beside it."""
    formulas, cached = _sheets(workbook(RECIPES[name].network, name))

    num_formulas = 0
    for sheet in formulas:
        for place, value in _calculated(sheet).items():
            if sheet[place].data_type == "f":
                num_formulas += 1
                assert cached[sheet.title][place].value == pytest.approx(value), place
    assert num_formulas > 5 * len(trace(RECIPES[name].network).rows)


@pytest.mark.parametrize("name", CHAIN + JOINED)
def test_receptive_fields_are_the_tables(name: str):
    """The sheet holds what the trace says, row by row, the smallest and largest over paths."""
    network = RECIPES[name].network
    sheet = _sheets(workbook(network, name))[1]["Receptive field"]
    columns = {cell.value: cell.column - 1 for cell in sheet[4]}
    ends = [" min", " max"] if name in JOINED else ["", ""]

    for line, row in enumerate(trace(network).rows, start=6):
        cells = [cell.value for cell in sheet[line]]
        assert cells[:2] == [row.path, row.text]
        for quantity, span in {
            "jump": row.reach.jump,
            "receptive field": row.reach.receptive_field,
            "start": row.reach.start,
            "padding": row.reach.padding,
        }.items():
            wanted = span if name in JOINED else (span[1], span[1])
            assert tuple(cells[columns[quantity + end]] for end in ends) == wanted, row.path


def test_a_changed_kernel_moves_what_follows():
    """The formulas live: another kernel in the first row gives the fields of another network."""
    before = Network((Conv(4, 3), MaxPool(2), Conv(4, 3), GlobalAvgPool(), Flatten(), Dense(10)))
    after = Network((Conv(4, 7), MaxPool(2), Conv(4, 3), GlobalAvgPool(), Flatten(), Dense(10)))
    sheet = _sheets(workbook(before, "net"))[0]["Receptive field"]

    sheet["D6"] = 7

    values = _calculated(sheet)
    assert [values[f"J{line}"] for line in (6, 7, 8)] == [
        row.reach.receptive_field[0] for row in trace(after).rows[:3]
    ]
    assert values["H8"] == trace(after).rows[2].output_shape[1]


def test_oblong_networks_have_a_sheet_for_each_axis():
    """Where rows and columns differ, each has its own sheet with its own numbers."""
    network = Network((Conv(4, (1, 5)), ReLU(), Flatten(), Dense(10)))

    sheets = _sheets(workbook(network, "net"))[1]

    assert sheets.sheetnames == [
        "Layers",
        "Receptive field (rows)",
        "Receptive field (columns)",
        "Remarks",
    ]
    assert sheets["Receptive field (rows)"]["J6"].value == 1
    assert sheets["Receptive field (columns)"]["J6"].value == 5


def test_shares_and_sums_are_live():
    """Shares are formulas on the budget's cell, totals are sums of the rows."""
    network = RECIPES["mnist-99-4"].network
    formulas, cached = _sheets(workbook(network, "net", max_params=20_000))
    sheet, values = formulas["Layers"], cached["Layers"]

    assert values["C2"].value == 20_000
    assert (sheet["E5"].value, values["E5"].value) == ("=D5/$C$2", pytest.approx(0.004))
    assert (sheet["D23"].value, values["D23"].value) == ("=SUM(D5:D22)", 15_578)
    assert values["G23"].value == 517_568


@pytest.mark.parametrize("name", ["=cmd()", "+1", "@SUM(A1)", "{=1}", "http://example.org", "42"])
def test_text_stays_text(name: str):
    """A name that looks like a formula, a number or an address is a string all the same."""
    formulas = _sheets(workbook(RECIPES["smidgen/quick"].network, name))[0]

    cell = formulas["Layers"]["A1"]
    assert (cell.data_type, cell.value, cell.hyperlink) == ("s", name, None)
    title = formulas["Receptive field"]["A1"]
    assert title.data_type == "s"


def test_joins_read_several_rows():
    """A concatenation names the layers it reads, and takes the extremes of their fields."""
    branches = Branches(((Conv(2, 1),), (Conv(2, 3, padding=1),)))
    network = Network((branches, GlobalAvgPool(), Flatten(), Dense(10)))
    sheet = _sheets(workbook(network, "net"))[0]["Receptive field"]

    assert sheet["C8"].value == "0.0.0, 0.1.0"
    assert (sheet["K8"].value, sheet["L8"].value) == ("=MIN(K6,K7)", "=MAX(L6,L7)")


def test_missing_writer_is_one_clear_line(monkeypatch: pytest.MonkeyPatch):
    """Without XlsxWriter the message says what to install."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("xlsxwriter"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(NetworkError) as caught:
        workbook(RECIPES["smidgen/quick"].network, "net")

    assert str(caught.value) == (
        "A spreadsheet needs XlsxWriter. Install it with `pip install XlsxWriter`."
    )

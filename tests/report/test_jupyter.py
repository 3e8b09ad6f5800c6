from collections.abc import Callable
from importlib import import_module
from typing import Any

from smidgen.data import Dataset
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import get_recipe
from smidgen.report import jupyter
from smidgen.runs.store import RunFolder


class Formatter:
    """What IPython offers for one kind of display."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Callable[[Any], str]] = {}

    def for_type_by_name(self, module: str, name: str, show: Callable[[Any], str]) -> None:
        """Remember what shows a class."""
        self.known[module, name] = show


class Shell:
    """What a notebook's kernel offers."""

    def __init__(self) -> None:
        self.html = Formatter()
        self.display_formatter = self
        self.formatters = {"text/html": self.html}


def test_shown_classes_exist() -> None:
    """Every class that shall be shown is where its name says."""
    shell = Shell()
    jupyter.register(shell)

    assert shell.html.known == jupyter.SHOWN
    for module, name in jupyter.SHOWN:
        assert isinstance(getattr(import_module(module), name), type)


def test_network_is_drawn() -> None:
    """A network is its drawing with its counts."""
    html = jupyter.network_html(get_recipe("smidgen/500").network)

    assert "<svg" in html
    assert "490 parameters" in html


def test_trace_is_a_table() -> None:
    """The layer table has a row per operation and one of totals."""
    table = trace(get_recipe("smidgen/quick").network)
    html = jupyter.trace_html(table)

    assert html.count("<tr>") == len(table.rows) + 2
    assert "9,402" in html


def test_record_shows_its_epochs(make_run: Callable[..., RunFolder]) -> None:
    """A run is told by its result, a curve and a row per epoch; names are escaped."""
    record = make_run(name="<b>tiny").record()
    html = jupyter.record_html(record)

    assert "97.50 % on test" in html
    assert html.count("<tr>") == len(record.epochs) + 1
    assert "errors after each epoch: 9 at first, 1 at last" in html
    assert "<b>tiny" not in html.replace("&lt;b&gt;tiny", "")


def test_dataset_says_what_it_is(stripes: Dataset) -> None:
    """A data set shows sizes and classes."""
    html = jupyter.dataset_html(stripes)

    assert "1x28x28" in html
    assert "120" in html

"""Pages as a strict reader reads them, and runs whose words try to break out of them."""

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from smidgen.data import Dataset
from smidgen.recipes.recipe import About, Recipe
from smidgen.report.figures import Plot
from smidgen.report.run_view import RunView, view_run
from smidgen.runs.store import RunStore
from smidgen.training.run import Run, TrainOptions, train

HOSTILE = "<script>alert(1)</script>\"'&$x$ `y`"
_VOID = {"meta", "link", "br", "img", "input", "hr", "path", "rect", "use", "circle", "line"}
_ADDRESSES = {"src", "href", "action", "poster", "srcset", "data", "xlink:href"}
_REFERRING = {"aria-labelledby", "for", "data-search", "data-pick", "data-target", "data-shows"}


class Page(HTMLParser):
    """What is on a page: `problems` lists all that a page of ours must not have."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.problems: list[str] = []
        self.ids: list[str] = []
        self.referred: list[str] = []
        self.headings: list[int] = []
        self.scripts = 0
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        self.problems += [f"two of id {i}" for i in set(self.ids) if self.ids.count(i) > 1]
        self.problems += [f"no id {i}" for i in set(self.referred) - set(self.ids)]
        for before, after in zip([0, *self.headings], self.headings, strict=False):
            if after > before + 1:
                self.problems.append(f"h{after} after h{before}")
        self.problems += [f"{tag} stays open" for tag in self.open]

    @property
    def text(self) -> str:
        """Everything a reader can read, in order."""
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that must be closed."""
        if tag not in _VOID:
            self.open.append(tag)
        self._look(tag, dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that closes itself."""
        self._look(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        """Check that the last open element is closed."""
        if tag in _VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        """Keep what is to be read."""
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def _look(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.scripts += tag == "script"
        if tag in ("link", "iframe", "object", "embed", "base", "form"):
            self.problems.append(f"<{tag}>")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img" and not attributes.get("alt"):
            self.problems.append("an image without words")
        for key, text in attributes.items():
            self._look_at(tag, key, text or "")

    def _look_at(self, tag: str, key: str, text: str) -> None:
        if key == "style" or key.startswith("on"):
            self.problems.append(f"<{tag} {key}>")
        if key == "id":
            self.ids.append(text)
        if key in _REFERRING:
            self.referred += text.split()
        if key not in _ADDRESSES:
            return
        if text.startswith("#"):
            self.referred.append(text[1:])
        elif not text.startswith("data:image/png;base64,") and not text.endswith(".html"):
            self.problems.append(f"<{tag} {key}={text[:40]}>")


@pytest.fixture(scope="session")
def read_page() -> Callable[[str], Page]:
    """Return a function that reads a page and fails if it has what no page of ours may have."""

    def read(html: str) -> Page:
        page = Page(html)
        assert page.problems == []
        assert page.scripts == 1
        assert "default-src &#39;none&#39;" in html
        return page

    return read


@pytest.fixture
def stripes_here(stripes: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Let the small drawn set be the `stripes` that reports find on this machine."""
    monkeypatch.setattr(
        "smidgen.report.pictures.load_dataset", lambda name, folder, **more: stripes
    )
    return stripes


@pytest.fixture(scope="session")
def tiny_view(
    tiny_recipe: Recipe, stripes: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> RunView:
    """Return the view of a run of the tiny recipe, trained once for all tests."""
    store = RunStore(tmp_path_factory.mktemp("view") / "runs")
    run = train(tiny_recipe, stripes, store, 1, TrainOptions(engine="torch", threads=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smidgen.report.pictures.load_dataset", lambda name, folder, **more: stripes)
        return view_run(run.folder)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no plots, which takes most of the time a page takes."""
    monkeypatch.setattr(Plot, "_svg", lambda plot, form, width, height: Markup("<svg></svg>"))


@pytest.fixture
def trained(train_tiny: Callable[..., Run], stripes_here: Dataset) -> Callable[..., RunView]:
    """Return a function that trains the tiny recipe, changed as asked, and views the run."""

    def made(**changes: object) -> RunView:
        return view_run(train_tiny(**changes).folder)

    return made


@pytest.fixture
def hostile_about() -> About:
    """Return texts of a recipe that try to be HTML."""
    return About(
        summary=HOSTILE, source=HOSTILE, target=HOSTILE, analysis=HOSTILE, notes=(HOSTILE,)
    )

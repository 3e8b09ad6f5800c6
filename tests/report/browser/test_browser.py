import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Look = dict[str, Any]

SMALLEST_TEXT_PIXELS = 9.0
SMALLEST_PRINTED_TEXT_PIXELS = 6.5  # 1/96 inch: 5 points, a footnote's index


def test_nothing_goes_out_and_nothing_goes_wrong(looks: list[Look]) -> None:
    """Pages ask for no file, break no rule of their policy, and leave the console empty."""
    for look in looks:
        assert (look["name"], look["requests"]) == (look["name"], [])
        assert (look["name"], look["violations"]) == (look["name"], [])
        assert (look["name"], look["console"]) == (look["name"], [])


def test_axe_finds_no_barrier(looks: list[Look]) -> None:
    """axe-core has no serious or critical finding, at either width, light or dark."""
    found = [
        f"{name}, {view['view']}: {finding['rule']} at {finding['where']}: {finding['why']}"
        for name, view in _views(looks)
        for finding in view["axe"]
        if finding["impact"] in ("serious", "critical")
    ]

    assert found == []


def test_pages_fit_phones_and_desktops(looks: list[Look]) -> None:
    """Nothing is wider than the window, and the text of plots stays large enough to read."""
    for name, view in _views(looks):
        where, layout = f"{name}, {view['view']}", view["layout"]
        assert layout["scrollWidth"] <= layout["width"], where
        assert layout["beyond"] == [], where
        assert layout["brokenImages"] == 0, where
        assert (layout["smallestPlotText"] or 99) >= SMALLEST_TEXT_PIXELS, where


def test_every_plot_is_shown_once(looks: list[Look]) -> None:
    """Each plot that no toggle hides has one of its two widths on show."""
    for name, view in _views(looks):
        content = view["content"]
        assert content["plotsShown"] == content["plots"] - content["toggledAway"], name


def test_dark_pages_are_dark(looks: list[Look]) -> None:
    """The reader's system decides whether the page is light or dark."""
    for name, view in _views(looks):
        content = view["content"]
        is_dark = _brightness(content["background"]) < _brightness(content["color"])
        assert is_dark == view["view"].endswith("dark"), name


def test_pages_work_without_scripts(looks: list[Look]) -> None:
    """Without scripts everything is there, marks say what they are, and no dead tool is shown."""
    for look in looks:
        plain, name = look["plain"], look["name"]
        scripted = next(view["content"] for _, view in _views([look]) if "360" in view["view"])
        assert plain["letters"] >= scripted["letters"] > 500, name
        assert plain["plotsShown"] == plain["plots"], name
        assert plain["itemsShown"] == plain["items"] == scripted["items"], name
        assert plain["nativeTips"] == plain["marks"] == scripted["marks"], name
        assert plain["toolsShown"] == 0, name


def test_pages_print_well(looks: list[Look]) -> None:
    """On paper: dark ink from a dark screen too, unfolded, no tools, nothing beyond the edge."""
    for look in looks:
        name, content, layout = look["name"], look["print"]["content"], look["print"]["layout"]
        assert look["print"]["bytes"] > 10_000, name
        assert _brightness(content["background"]) > _brightness(content["color"]), name
        assert content["toolsShown"] == content["navigationShown"] == 0, name
        assert content["foldedParts"] == 0, name
        assert layout["scrollWidth"] <= layout["width"], name
        assert (layout["smallestPlotText"] or 99) >= SMALLEST_PRINTED_TEXT_PIXELS, name


def test_the_keyboard_leads_through(looks: list[Look]) -> None:
    """Tabulator goes first to the link past the head; where it is can always be seen."""
    for look in looks:
        name, used = look["name"], look["used"]
        assert used["stops"][0]["name"] == "a Skip to the content", name
        assert [stop for stop in used["stops"] if not stop["outlined"]] == [], name
        assert [stop for stop in used["stops"] if not stop["inView"]] == [], name
        assert used["skip"] == "main", name
        assert used["unfold"]["left"] == 0, name


def test_tables_sort(looks: list[Look]) -> None:
    """A press on a column's title sorts by it, Enter the other way; the title says which way."""
    sorts = [(look["name"], sort) for look in looks for sort in look["used"]["sort"]]

    assert len({name for name, _ in sorts}) >= 2
    for name, sort in sorts:
        states = (sort["byMouse"], sort["byKeyboard"])
        assert {state["sort"] for state in states} == {"ascending", "descending"}, (name, sort)
        for state in states:
            assert state["othersSorted"] == 0, (name, sort)
            numbers = [_number(text) for text in state["values"]]
            if None not in numbers:
                down = state["sort"] == "descending"
                assert numbers == sorted(numbers, reverse=down), (name, sort)
        assert states[0]["values"] == states[1]["values"][::-1], (name, sort)


def test_search_finds(looks: list[Look]) -> None:
    """A field leaves what holds the words, says how many that is, and gives all back."""
    searches = [(look["name"], each) for look in looks for each in look["used"]["search"]]

    assert searches
    for name, search in searches:
        found, total = search["found"], search["found"]["total"]
        assert found["texts"], name
        assert all(search["word"] in text for text in found["texts"]), name
        assert f"{len(found['texts'])} of {total} shown" in found["said"], name
        assert search["none"]["texts"] == [], name
        assert len(search["all"]["texts"]) == total, name


def test_menus_and_links_pick(looks: list[Look]) -> None:
    """A menu, or a link to one of its entries, leaves what belongs to the entry."""
    picks = [(look["name"], each) for look in looks for each in look["used"]["pick"]]
    links = [look["used"]["pickByLink"] for look in looks if look["used"]["pickByLink"]]

    assert picks
    for name, pick in picks:
        fitting = [keys for keys in pick["keys"] if pick["key"] in keys]
        assert pick["keys"], name
        assert len(pick["keys"]) == (len(fitting) if pick["key"] else pick["total"]), name
    assert links
    for link in links:
        assert link["value"] == link["key"]
        assert link["keys"]
        assert all(link["key"] in keys for keys in link["keys"])


def test_toggles_show_one(looks: list[Look]) -> None:
    """Each button shows its part alone and is the one that is pressed, by mouse and keyboard."""
    toggles = [each for look in looks for each in look["used"]["toggle"]]

    assert {toggle["how"] for toggle in toggles} == {"mouse", "keyboard"}
    for toggle in toggles:
        assert toggle["shown"] == toggle["pressed"] == [toggle["wanted"]]


def test_marks_say_what_they_are(looks: list[Look]) -> None:
    """The pointer on a mark, or a tap, shows its text in the window; Escape and leaving end it."""
    hovers = [(look["name"], each) for look in looks for each in look["used"]["hover"]]

    assert len({name for name, _ in hovers}) >= 3
    for name, hover in hovers:
        assert hover["on"] is not None, name
        assert hover["on"]["text"].strip(), name
        assert hover["on"]["inside"], name
        assert hover["tapped"]["text"] == hover["on"]["text"], name
        assert hover["off"] == [None, None], name
    assert any("\n" in hover["on"]["text"] for _, hover in hovers)


def test_hostile_names_are_text(looks: list[Look]) -> None:
    """What looks like HTML in the name of a class or a recipe is shown and does nothing."""
    hostile = next(look for look in looks if look["name"] == "hostile")

    assert hostile["plain"]["injected"] == 0
    assert "<script>alert(1)</script>" in hostile["plain"]["text"]


def test_what_is_wrong_is_seen(looks_at_wrong: Look) -> None:
    """A page made wrong on purpose is found out in every way: the tests above can fail."""
    phone = looks_at_wrong["views"][2]

    assert looks_at_wrong["requests"]
    assert looks_at_wrong["violations"]
    assert any("broken on purpose" in line for line in looks_at_wrong["console"])
    assert "image-alt" in {finding["rule"] for finding in phone["axe"]}
    assert "color-contrast" in {finding["rule"] for finding in phone["axe"]}
    assert phone["layout"]["scrollWidth"] > phone["layout"]["width"]
    assert phone["layout"]["beyond"]
    assert phone["layout"]["brokenImages"] == 1
    assert phone["layout"]["smallestPlotText"] < SMALLEST_TEXT_PIXELS
    assert not all(stop["outlined"] for stop in looks_at_wrong["used"]["stops"])


def test_lock_file_names_no_host() -> None:
    """What the browser tests need is pinned by version and hash, wherever it is taken from."""
    folder = Path(__file__).parent
    text = (folder / "package-lock.json").read_text()

    assert "resolved" not in text
    assert text.count('"integrity": "sha512-') == 2


def _views(looks: list[Look]) -> Iterator[tuple[str, Look]]:
    for look in looks:
        for view in look["views"]:
            yield look["name"], view


def _brightness(color: str) -> int:
    return sum(int(part) for part in re.findall(r"\d+", color)[:3])


def _number(text: str) -> float | None:
    try:
        return float(re.sub(r"[,\s%]", "", text))
    except ValueError:
        return None

import dataclasses
import inspect
from typing import Annotated, Literal

import pytest
from pydantic import Field

from smidgen.errors import RecipeError, RunError
from smidgen.values import complete, from_json, from_plain, json_schema, to_json, to_plain, value


@value(RecipeError)
class Round:
    """A shape with a radius."""

    radius: Annotated[float, Field(gt=0.0)]
    kind: Literal["round"] = "round"


@value(RecipeError)
class Group:
    """Shapes within a shape; its tag is also the name of its field."""

    group: tuple["Shape", ...] = ()
    kind: Literal["group"] = "group"


Shape = Annotated[Round | Group, Field(discriminator="kind")]


@value(RecipeError)
class Drawing:
    """A title and some shapes."""

    title: str
    shapes: tuple[Shape, ...] = ()
    frame: Round | None = None
    size: int | tuple[int, int] = 1


def test_values_are_frozen():
    """A value cannot be changed after it is made."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Round(1.0).radius = 2.0  # type: ignore[misc]


def test_signature_stays_visible():
    """Editors and help still see the fields of a value."""
    assert list(inspect.signature(Round).parameters) == ["radius", "kind"]


def test_whole_numbers_stand_for_decimals():
    """A whole number given where a decimal belongs is the same value, in Python and in JSON."""
    assert isinstance(Round(2).radius, float)
    assert Round(2) == Round(2.0)
    assert to_json(Round(2)) == to_json(Round(2.0))
    assert from_json(Round, '{"radius": 2}', RecipeError) == Round(2.0)


def test_round_trip():
    """A value comes back equal from its JSON and from its plain form, defaults written out."""
    drawing = Drawing("a", (Round(1.5), Group((Group(), Round(0.1)))), frame=Round(3.0))

    assert from_json(Drawing, to_json(drawing), RecipeError) == drawing
    assert from_plain(Drawing, to_plain(drawing), RecipeError) == drawing
    assert to_plain(drawing)["size"] == 1


def test_schema_forbids_unknown_keys():
    """The JSON Schema says itself that no other key is allowed."""
    assert json_schema(Round)["additionalProperties"] is False
    assert json_schema(Round)["required"] == ["radius"]


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        ({}, "`title` is missing."),
        ({"title": 7}, "`title`: input should be a valid string, not 7."),
        ({"titel": "a"}, "unknown key `titel`. Did you mean `title`?"),
        (
            {"title": "a", "colour": 1},
            "unknown key `colour`. Known: `title`, `shapes`, `frame`, `size`.",
        ),
        (
            {"title": "a", "shapes": [{"kind": "round", "radius": 1, "radios": 1}]},
            "unknown key `shapes.0.radios`. Did you mean `radius`?",
        ),
        (
            {"title": "a", "shapes": [{"kind": "round", "radius": 1, "size": 1}]},
            "unknown key `shapes.0.size`. Known: `radius`, `kind`.",
        ),
        (
            {"title": "a", "shapes": [{"kind": "group", "group": [{"kind": "round"}]}]},
            "`shapes.0.group.0.radius` is missing.",
        ),
        (
            {"title": "a", "shapes": [{"kind": "rond", "radius": 1}]},
            "`shapes.0`: unknown kind `rond`. Did you mean `round`?",
        ),
        (
            {"title": "a", "shapes": [{"kind": "polygon"}]},
            "`shapes.0`: unknown kind `polygon`. Known: round, group.",
        ),
        ({"title": "a", "shapes": [{}]}, "`shapes.0`: `kind` is missing."),
        (
            {"title": "a", "frame": {"radius": -1}},
            "`frame.radius`: input should be greater than 0, not -1.",
        ),
        (
            {"title": "a", "frame": {"radius": 1, "radis": 1}},
            "unknown key `frame.radis`. Did you mean `radius`?",
        ),
        ({"title": "a", "size": "big"}, "`size`: input should be a valid integer, not 'big'."),
        ([], "input should be an object."),
    ],
)
def test_complaints(plain: object, text: str):
    """Each complaint is one line: the path, what stands there, the nearest or the known keys."""
    with pytest.raises(RecipeError) as caught:
        from_plain(Drawing, plain, RecipeError)

    assert str(caught.value) == text


def test_complaint_names_the_file():
    """Where the text comes from stands in front, and the caller chooses the error."""
    with pytest.raises(RunError) as caught:
        from_json(Round, "{", RunError, where="runs/a/record.json")

    assert str(caught.value).startswith("runs/a/record.json: not valid JSON: ")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_are_finite(number: str):
    """A number that is none is refused."""
    with pytest.raises(RecipeError, match="`radius`: input should be a finite number"):
        from_json(Round, f'{{"radius": {number}}}', RecipeError)


def test_constructor_complains_in_one_line():
    """The constructor says the same as the reader, with the name of the class."""
    with pytest.raises(RecipeError) as caught:
        Round(-1.0)
    with pytest.raises(RecipeError) as misspelt:
        Round(radios=1.0)  # type: ignore[call-arg]

    assert str(caught.value) == "`Round`: `radius`: input should be greater than 0, not -1.0."
    assert str(misspelt.value) == "`Round`: unknown key `radios`. Did you mean `radius`?"
    assert caught.value.__cause__ is None


def test_inner_error_passes_through():
    """A part that refuses itself is heard as it is, not wrapped by the whole."""

    @value(RunError)
    class Whole:
        """A value with a part."""

        part: Round

    with pytest.raises(RecipeError, match=r"^`Round`: "):
        Whole(Round(0.0))


@value(RecipeError)
class Branch:
    """A value that holds leaves, which come after it, and others like itself."""

    leaves: tuple["Leaf", ...] = ()
    branches: tuple["Branch", ...] = ()


@value(RecipeError)
class Leaf:
    """What a branch holds."""

    size: int


complete(Branch)


def test_a_value_of_later_values_is_complete() -> None:
    """It is read back equal, complains in one line as others do, and keeps its signature."""
    tree = Branch((Leaf(1),), (Branch((Leaf(2),)),))

    assert from_json(Branch, to_json(tree), RecipeError) == tree
    assert list(inspect.signature(Branch).parameters) == ["leaves", "branches"]
    with pytest.raises(RecipeError) as caught:
        Branch(leaves=3)  # type: ignore[arg-type]
    assert str(caught.value) == "`Branch`: `leaves`: input should be a valid tuple, not 3."
    with pytest.raises(RecipeError) as caught:
        from_json(Branch, '{"branches": [{"leaves": [{"siz": 1}]}]}', RecipeError)
    assert str(caught.value) == "unknown key `branches.0.leaves.0.siz`. Did you mean `size`?"


def test_the_schema_of_a_value_that_holds_itself_shows_its_keys() -> None:
    """Keys stand at the top, where editors look for them, and not behind a reference alone."""
    schema = json_schema(Branch)

    assert list(schema["properties"]) == ["leaves", "branches"]
    assert schema["additionalProperties"] is False

import json

import pytest

from smidgen.errors import RecipeError, SmidgenError
from smidgen.network.layers import Conv, Dense, Flatten, GlobalAvgPool
from smidgen.network.network import Network
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.parts import Budget
from smidgen.recipes.recipe import About, Recipe

QUICK, TEACHER = RECIPES["smidgen/quick"], RECIPES["smidgen/teacher-25k"]
STUDENT = QUICK.replace(distillation=Distillation((Teacher(TEACHER, (1, 2)),)))


@pytest.mark.parametrize(
    "other",
    [
        Distillation((Teacher(TEACHER, (1, 3)),)),
        Distillation((Teacher(TEACHER, (1, 2)),), temperature=3.0),
        Distillation((Teacher(TEACHER, (1, 2)),), weight=0.5),
        Distillation((Teacher(TEACHER, (1, 2)),), bank_epochs=4),
        Distillation((Teacher(TEACHER.replace(epochs=14), (1, 2)),)),
        None,
    ],
)
def test_fingerprint_sees_who_teaches_and_how(other: Distillation | None) -> None:
    """Another seed, setting or recipe of a teacher makes it another training."""
    assert QUICK.replace(distillation=other).fingerprint() != STUDENT.fingerprint()


def test_fingerprint_ignores_what_a_teacher_is_called() -> None:
    """A teacher's name, story and promises change nothing."""
    renamed = TEACHER.replace(name="x", about=About(summary="y"), budget=Budget(max_epochs=99))
    other = QUICK.replace(distillation=Distillation((Teacher(renamed, (1, 2)),)))

    assert other.fingerprint() == STUDENT.fingerprint()


def test_a_name_stands_for_a_teacher() -> None:
    """Where a recipe is read, a teacher may be a name of the catalogue; it is written in full."""
    text = json.dumps({"teachers": [{"recipe": TEACHER.name, "seeds": [1, 2]}]})

    read = QUICK.with_setting("distillation", text)

    assert read == STUDENT
    assert TEACHER.network.to_json(indent=None)[1:40] in read.to_json(indent=None)
    assert Recipe.from_json(read.to_json()) == STUDENT


def test_a_teacher_may_have_teachers() -> None:
    """Students may teach in turn, as deep as one likes."""
    chain = QUICK.replace(distillation=Distillation((Teacher(STUDENT),)))

    assert Recipe.from_json(chain.to_json()) == chain
    assert chain.fingerprint() != STUDENT.fingerprint()


def test_a_setting_of_a_teacher() -> None:
    """A setting inside a teacher's recipe is changed by its path."""
    changed = STUDENT.with_setting("distillation.teachers.0.recipe.epochs", "3")

    assert changed.distillation is not None
    assert changed.distillation.teachers[0].recipe == TEACHER.replace(epochs=3)


def test_runs_are_listed_in_order() -> None:
    """Every recipe and seed that teaches is named once, in the order written."""
    taught = Distillation((Teacher(TEACHER, (4, 2)), Teacher(QUICK)))

    assert [(r.name, seed) for r, seed in taught.runs()] == [
        ("smidgen/teacher-25k", 4),
        ("smidgen/teacher-25k", 2),
        ("smidgen/quick", 1),
    ]
    assert [str(teacher) for teacher in taught.teachers] == [
        "smidgen/teacher-25k, seeds 4, 2",
        "smidgen/quick, seed 1",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"teachers": [{"recipe": "smidgen/teacher-26k"}]},
            "No recipe is called `smidgen/teacher-26k`. Did you mean `smidgen/teacher-25k`?",
        ),
        (
            {"teachers": [{"recipe": "smidgen/quick", "sedes": [1]}]},
            "unknown key `distillation.teachers.0.sedes`. Did you mean `seeds`?",
        ),
        (
            {"teachers": [{"recipe": 3}]},
            "`distillation.teachers.0.recipe`: input should be an object, not 3.",
        ),
        (
            {"teachers": [{"recipe": {"nam": "x"}}]},
            "unknown key `distillation.teachers.0.recipe.nam`. Did you mean `name`?",
        ),
        (
            {"teachers": []},
            "`distillation.teachers`: tuple should have at least 1 item after validation, not 0.",
        ),
        (
            {"teachers": [{"recipe": "smidgen/quick", "seeds": [2, 2]}]},
            "`distillation`: `smidgen/quick`, seed 2, teaches twice.",
        ),
        (
            {"teachers": [{"recipe": "smidgen/quick"}, {"recipe": "smidgen/quick"}]},
            "`distillation`: `smidgen/quick`, seed 1, teaches twice.",
        ),
        (
            {"teachers": [{"recipe": "smidgen/quick"}], "weight": 0},
            "`distillation.weight`: input should be greater than 0, not 0.",
        ),
        (
            {"teachers": [{"recipe": "smidgen/quick"}], "temperature": 0},
            "`distillation.temperature`: input should be greater than 0, not 0.",
        ),
    ],
)
def test_what_makes_no_sense(settings: dict[str, object], message: str) -> None:
    """Each wrong distillation is one line that says what is wrong."""
    with pytest.raises(SmidgenError) as caught:
        QUICK.with_setting("distillation", json.dumps(settings))

    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"dataset": "stripes"},
            "The teacher `smidgen/quick` has the `dataset` mnist and its student stripes. "
            "A teacher sees and names what its student does; choose another.",
        ),
        (
            {
                "network": Network(
                    (Conv(4, 3), GlobalAvgPool(), Flatten(), Dense(10)), input_shape=(3, 28, 28)
                )
            },
            "The teacher `smidgen/quick` has the `network.input_shape` (1, 28, 28) and its "
            "student (3, 28, 28). A teacher sees and names what its student does; choose another.",
        ),
        (
            {"network": Network((Conv(4, 3), GlobalAvgPool(), Flatten(), Dense(9)), num_classes=9)},
            "The teacher `smidgen/quick` has the `network.num_classes` 10 and its student 9. "
            "A teacher sees and names what its student does; choose another.",
        ),
    ],
)
def test_a_teacher_sees_what_its_student_sees(change: dict[str, object], message: str) -> None:
    """A teacher of other images or classes is refused."""
    with pytest.raises(RecipeError) as caught:
        QUICK.replace(**change, distillation=Distillation((Teacher(QUICK),)))

    assert str(caught.value) == message

"""Distillation: trained networks whose answers, beside the labels, a smaller one learns from."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag

from smidgen.errors import RecipeError
from smidgen.recipes.parts import NonNegativeInt, PositiveFloat, PositiveInt
from smidgen.values import value

if TYPE_CHECKING:
    from smidgen.recipes.recipe import Recipe

    RecipeInFull = Recipe
else:

    def _of_catalogue(name: str) -> Any:
        from smidgen.recipes.catalogue import get_recipe

        return get_recipe(name)

    RecipeInFull = Annotated[
        Annotated["Recipe", Tag("in_full")]
        | Annotated[str, AfterValidator(_of_catalogue), Tag("by_name")],
        Discriminator(lambda given: "by_name" if isinstance(given, str) else "in_full"),
    ]
    """A recipe; where one is read, its name in the catalogue will do."""


@value(RecipeError)
class Teacher:
    """One recipe, trained once with each of some seeds; several seeds make an ensemble.

    The recipe is held in full, so a student's recipe says everything about its teachers and no
    recipe can teach itself. Where one is read, a name of the catalogue stands for it.

    Raises:
        UnknownNameError: A name that is not in the catalogue.
    """

    recipe: RecipeInFull
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (1,)

    def __str__(self) -> str:
        word = "seeds" if len(self.seeds) > 1 else "seed"
        return f"{self.recipe.name}, {word} {', '.join(map(str, self.seeds))}"


@value(RecipeError)
class Distillation:
    """A share of the loss pulls the class scores towards those of teachers.

    The loss is (1 - weight) * L + weight * T^2 * KL(q || p), where L is the recipe's `loss` on
    the labels, T the `temperature`, p = softmax(scores / T), and q the mean over the teachers
    of softmax(their scores / T), for the very images, changed in the very way, that the
    student sees. Teachers are trained under the student's protocol.

    Args:
        teachers: Who teaches.
        temperature: Above 1 the classes that are wrong, but alike, say more.
        weight: The teachers' share of the loss, in (0, 1]; the labels have the rest.
        bank_epochs: None draws an epoch's changes of the images from the run's seed, as
            without teachers, so all teachers answer anew in every epoch. A number draws that
            many epochs' changes, the same for every seed, in turn: the answers are kept
            between epochs and between runs.

    Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015.
    """

    teachers: Annotated[tuple[Teacher, ...], Field(min_length=1)]
    temperature: PositiveFloat = 2.0
    weight: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    bank_epochs: PositiveInt | None = None

    def __post_init__(self) -> None:
        runs = [(recipe.fingerprint(), seed) for recipe, seed in self.runs()]
        twice = [run for number, run in enumerate(runs) if run in runs[:number]]
        if twice:
            recipe, seed = self.runs()[runs.index(twice[0])]
            raise RecipeError(f"`distillation`: `{recipe.name}`, seed {seed}, teaches twice.")

    def runs(self) -> "list[tuple[Recipe, int]]":
        """Return recipe and seed of every run that teaches."""
        return [(teacher.recipe, seed) for teacher in self.teachers for seed in teacher.seeds]

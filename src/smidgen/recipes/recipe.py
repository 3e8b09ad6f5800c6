"""`Recipe`: everything that decides a run except the random seed and the protocol."""

import dataclasses
import json
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import Field

from smidgen.errors import RecipeError, nearest
from smidgen.network.network import Network
from smidgen.recipes.augmentation import Augmentation
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.parts import (
    Budget,
    Constant,
    Loss,
    NonNegativeInt,
    Normalization,
    Optimizer,
    OriginProtocol,
    PositiveInt,
    Schedule,
    WeightAveraging,
)
from smidgen.values import (
    canonical_digest,
    complete,
    from_json,
    from_plain,
    to_json,
    to_plain,
    value,
)

FORM = 2
"""Version of the canonical form under which recipes and runs are known."""

Percent = Annotated[float, Field(ge=0.0, le=100.0)]


@value(RecipeError)
class Claim:
    """What the recipe's source says it reached; accuracies in percent as printed there.

    Args:
        num_params: The parameter count that the source states, or None if it states none.
        best_accuracy: The headline accuracy.
        best_epoch: The epoch of the headline, from 1.
        test_log: Accuracy on the source's evaluation split after each epoch.
        train_log: Running training accuracy of each epoch.
        seconds_per_epoch: (lowest, highest) as logged.
        split: On which split `test_log` was measured.
    """

    num_params: PositiveInt | None = None
    best_accuracy: Percent | None = None
    best_epoch: PositiveInt | None = None
    test_log: tuple[Percent, ...] = ()
    train_log: tuple[Percent, ...] = ()
    seconds_per_epoch: tuple[float, float] | None = None
    split: str = "test"


@value(RecipeError)
class About:
    """Where a recipe comes from.

    Args:
        summary: What it is, in one sentence.
        source: Repository, file, commit, or paper.
        claim: What the source says it reached.
        target: The source's aim for this step.
        analysis: What is learned from this step.
        notes: Where the source's text and code disagree, and what we do about it.
    """

    summary: str = ""
    source: str = ""
    claim: Claim | None = None
    target: str = ""
    analysis: str = ""
    notes: tuple[str, ...] = ()


@value(RecipeError)
class Recipe:
    """What to train and how.

    Args:
        name: What people call it; not part of its identity.
        network: The model.
        dataset: A name that `smidgen.data` knows.
        normalization: Mean and standard deviation by split.
        augmentation: Random changes to training images.
        optimizer: The update rule and its learning rate.
        schedule: How the learning rate moves.
        loss: What is minimized.
        batch_size: Images per step.
        drop_last: Whether an epoch's last, smaller batch is left out.
        epochs: Passes over the training images.
        clean_epochs: How many of the last epochs go without augmentation (all, if more).
        averaging: Evaluate a moving average of the weights instead of the weights.
        distillation: Trained networks to learn from, beside the labels.
        origin: How the origin measured itself.
        budget: What the recipe promises to keep.
        about: Where it comes from; not part of its identity.

    Raises:
        RecipeError: Parts that contradict each other.
    """

    NOT_IDENTITY: ClassVar = ("name", "about", "budget")

    name: str
    network: Network
    optimizer: Optimizer
    epochs: PositiveInt
    batch_size: PositiveInt
    dataset: str = "mnist"
    schedule: Schedule = Constant()
    loss: Loss = Loss()
    normalization: Normalization = Normalization()
    augmentation: Augmentation = Augmentation()
    clean_epochs: NonNegativeInt = 0
    drop_last: bool = False
    averaging: WeightAveraging | None = None
    distillation: Distillation | None = None
    origin: OriginProtocol = OriginProtocol()
    budget: Budget = Budget()
    about: About = About()

    def __post_init__(self) -> None:
        if self.loss.name == "nll" and self.network.output != "log_softmax":
            raise RecipeError(
                "`loss.name` `nll` needs `network.output` `log_softmax`, "
                f"not `{self.network.output}`; use `cross_entropy`."
            )
        for teacher in self.distillation.teachers if self.distillation else ():
            self._check_teacher(teacher.recipe)

    def _check_teacher(self, teacher: "Recipe") -> None:
        for what, theirs, own in (
            ("`dataset`", teacher.dataset, self.dataset),
            ("`network.input_shape`", teacher.network.input_shape, self.network.input_shape),
            ("`network.num_classes`", teacher.network.num_classes, self.network.num_classes),
        ):
            if theirs != own:
                raise RecipeError(
                    f"The teacher `{teacher.name}` has the {what} {theirs} and its student "
                    f"{own}. A teacher sees and names what its student does; choose another."
                )

    def replace(self, **changes: Any) -> "Recipe":
        """Return a copy with some fields changed; raises RecipeError as the constructor does."""
        return dataclasses.replace(self, **changes)

    def for_network(self, name: str, network: Network) -> "Recipe":
        """Return these settings for another network; nothing that is said of the old one stays.

        Raises:
            RecipeError: As the constructor does.
        """
        loss = self.loss
        if loss.name == "nll" and network.output != "log_softmax":
            loss = dataclasses.replace(loss, name="cross_entropy")  # on these scores the same
        about = About(summary=f"The network of `{name}` with the settings of `{self.name}`.")
        return self.replace(
            name=name,
            network=network,
            loss=loss,
            origin=OriginProtocol(),
            budget=Budget(),
            about=about,
        )

    def with_setting(self, path: str, text: str) -> "Recipe":
        """Return a copy with one setting changed, as `--set optimizer.lr=0.05` does.

        Args:
            path: Keys joined by dots; positions in lists are numbers.
            text: The new value as JSON; what is not JSON is taken as a string.

        Raises:
            RecipeError: No such key (with the nearest), or a value that does not fit.
        """
        plain = to_plain(self)
        _set(plain, path, _parse(text))
        return from_plain(Recipe, plain, RecipeError, f"`--set {path}={text}`")

    def fingerprint(self) -> str:
        """Return 64 hexadecimal digits over what is not as declared, but `NOT_IDENTITY`.

        Teachers count by what they are, not by their names.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return canonical_digest(self, FORM)

    def to_json(self, indent: int | None = 2) -> str:
        """Return the exchange form; `Recipe.from_json` gives back an equal recipe."""
        return to_json(self, indent)

    @staticmethod
    def from_json(text: str | bytes, where: str = "") -> "Recipe":
        """Read a recipe, or the object with a `recipe` that `smidgen show --json` prints.

        Raises:
            RecipeError: With the path of what is wrong and the nearest key.
        """
        plain = _plain(text)
        shown = None if "network" in plain else plain.get("recipe")
        if isinstance(shown, dict):
            where = f"{where}, in `recipe`" if where else "recipe"
            return from_plain(Recipe, shown, RecipeError, where)
        if "layers" in plain and "network" not in plain:
            raise RecipeError(
                f"{where or 'This'} is a network, not a recipe. Put it under `network` in the "
                "recipe that `smidgen show smidgen/quick --json` prints, or try it at once with "
                "`smidgen ablate smidgen/quick --network FILE.json`."
            )
        return from_json(Recipe, text, RecipeError, where)


complete(Teacher, Distillation, Recipe, Recipe=Recipe)  # a teacher's recipe is a recipe


def _plain(text: str | bytes) -> dict[str, Any]:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        return {}  # reading it as a recipe says what is wrong
    return plain if isinstance(plain, dict) else {}


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _set(plain: Any, path: str, new: Any) -> None:
    keys = path.split(".")
    for key in keys[:-1]:
        plain = plain[_key(plain, key, path)]
        if not isinstance(plain, dict | list):
            raise RecipeError(
                f"`--set {path}`: `{key}` is {json.dumps(plain)}, not a group of settings; give "
                f"`{key}` a whole new value, in JSON."
            )
    last: Any = keys[-1] if isinstance(plain, dict) else _key(plain, keys[-1], path)
    plain[last] = new  # an unknown key is refused when the recipe is read back


def _key(plain: dict[str, Any] | list[Any], key: str, path: str) -> Any:
    if isinstance(plain, list):
        if key.isdigit() and int(key) < len(plain):
            return int(key)
        raise RecipeError(f"`--set {path}`: the list has positions 0 to {len(plain) - 1}.")
    if key not in plain:
        near = nearest(key, plain)
        advice = f" Did you mean `{near}`?" if near else f" Known: {', '.join(plain)}."
        raise RecipeError(f"`--set {path}`: there is no `{key}`.{advice}")
    return key

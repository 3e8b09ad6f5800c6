import dataclasses
import functools
import json

import pytest

from smidgen.errors import NetworkError, RecipeError
from smidgen.network.layers import Conv, Dense, Flatten, GlobalAvgPool
from smidgen.network.network import Network
from smidgen.recipes.augmentation import (
    Augmentation,
    Elastic,
    Erasing,
    Jitter,
    Rotation,
    Scaling,
    Transform,
)
from smidgen.recipes.distillation import Distillation, Teacher
from smidgen.recipes.parts import (
    SGD,
    Adam,
    Budget,
    Cosine,
    Loss,
    Normalization,
    OneCycle,
    OriginProtocol,
    WeightAveraging,
    reaches,
    within,
)
from smidgen.recipes.recipe import About, Claim, Recipe

NETWORK = Network(layers=(Conv(4, 3), GlobalAvgPool(), Flatten(), Dense(10)))

BASE = Recipe(
    name="base",
    network=NETWORK,
    optimizer=SGD(lr=0.1, momentum=0.9),
    epochs=3,
    batch_size=64,
    augmentation=Augmentation(transforms=(Rotation(5.0),)),
)

IDENTITY_FREE = {
    "name": "other",
    "about": About(summary="Another.", claim=Claim(best_accuracy=99.0)),
    "budget": Budget(max_params=100),
}

IDENTITY = {
    "network": Network(layers=(Conv(5, 3), GlobalAvgPool(), Flatten(), Dense(10))),
    "optimizer": SGD(lr=0.2, momentum=0.9),
    "epochs": 4,
    "batch_size": 65,
    "dataset": "kmnist",
    "schedule": Cosine(),
    "loss": Loss(label_smoothing=0.1),
    "normalization": Normalization(eval_mean=0.5),
    "augmentation": Augmentation(transforms=(Rotation(6.0),)),
    "clean_epochs": 1,
    "drop_last": True,
    "averaging": WeightAveraging(decay=0.9),
    "distillation": Distillation((Teacher(BASE),)),
    "origin": OriginProtocol(num_train=100),
}


@pytest.mark.parametrize("field", IDENTITY_FREE)
def test_fingerprint_ignores_what_does_not_train(field: str):
    """Name, story and budget can change without making it another training."""
    assert BASE.replace(**{field: IDENTITY_FREE[field]}).fingerprint() == BASE.fingerprint()


@pytest.mark.parametrize("field", IDENTITY)
def test_fingerprint_sees_what_trains(field: str):
    """Any other change makes it another training."""
    assert BASE.replace(**{field: IDENTITY[field]}).fingerprint() != BASE.fingerprint()


def test_fingerprint_is_decided_for_every_field():
    """No field of a recipe is left out of the two tables above."""
    fields = {field.name for field in dataclasses.fields(BASE)}  # type: ignore[arg-type]

    assert fields == set(IDENTITY) | set(IDENTITY_FREE)


def test_fingerprint_form():
    """It is 64 hexadecimal digits and survives the exchange form."""
    fingerprint = BASE.fingerprint()

    assert len(bytes.fromhex(fingerprint)) == 32
    assert Recipe.from_json(BASE.to_json()).fingerprint() == fingerprint


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("optimizer.lr", "0.05", BASE.replace(optimizer=SGD(lr=0.05, momentum=0.9))),
        ("optimizer.lr", "1", BASE.replace(optimizer=SGD(lr=1.0, momentum=0.9))),
        ("optimizer.nesterov", "true", BASE.replace(optimizer=SGD(0.1, 0.9, nesterov=True))),
        ("optimizer", '{"kind": "adam", "lr": 0.01}', BASE.replace(optimizer=Adam(lr=0.01))),
        ("epochs", "7", BASE.replace(epochs=7)),
        ("dataset", "stripes", BASE.replace(dataset="stripes")),
        ("schedule", '{"kind": "cosine"}', BASE.replace(schedule=Cosine())),
        ("schedule", '{"kind": "one_cycle"}', BASE.replace(schedule=OneCycle())),
        (
            "augmentation.transforms.0.degrees",
            "9",
            BASE.replace(augmentation=Augmentation(transforms=(Rotation(9.0),))),
        ),
        ("augmentation.transforms", "[]", BASE.replace(augmentation=Augmentation())),
        ("averaging", '{"decay": 0.9}', BASE.replace(averaging=WeightAveraging(0.9))),
        ("network.layers.0.out_channels", "5", BASE.replace(network=IDENTITY["network"])),
        ("budget.max_params", "100", BASE.replace(budget=Budget(max_params=100))),
        ("name", "mine", BASE.replace(name="mine")),
    ],
)
def test_setting(path: str, text: str, expected: Recipe):
    """One setting is changed by its path, and nothing else is."""
    assert BASE.with_setting(path, text) == expected


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (
            "optimizer.momentun",
            "0.8",
            "`--set optimizer.momentun=0.8`: unknown key `optimizer.momentun`. "
            "Did you mean `momentum`?",
        ),
        (
            "optimizer.learning_rate",
            "0.8",
            "`--set optimizer.learning_rate=0.8`: unknown key `optimizer.learning_rate`. "
            "Known: `lr`, `momentum`, `nesterov`, `weight_decay`, `kind`.",
        ),
        (
            "optimiser.lr",
            "0.1",
            "`--set optimiser.lr`: there is no `optimiser`. Did you mean `optimizer`?",
        ),
        ("epoch", "3", "`--set epoch=3`: unknown key `epoch`. Did you mean `epochs`?"),
        (
            "epochs",
            "many",
            "`--set epochs=many`: `epochs`: input should be a valid integer, not 'many'.",
        ),
        ("epochs", "0", "`--set epochs=0`: `epochs`: input should be greater than 0, not 0."),
        (
            "epochs.a",
            "1",
            "`--set epochs.a`: `epochs` is 3, not a group of settings; give `epochs` a whole new "
            "value, in JSON.",
        ),
        (
            "averaging.decay",
            "0.9",
            "`--set averaging.decay`: `averaging` is null, not a group of settings; give "
            "`averaging` a whole new value, in JSON.",
        ),
        (
            "network.layers.9.out_channels",
            "1",
            "`--set network.layers.9.out_channels`: the list has positions 0 to 3.",
        ),
        (
            "network.layers.first",
            "1",
            "`--set network.layers.first`: the list has positions 0 to 3.",
        ),
        (
            "schedule.kind",
            "cosin",
            "`--set schedule.kind=cosin`: `schedule`: unknown kind `cosin`. Did you mean `cosine`?",
        ),
        (
            "augmentation.transforms.0.degrees",
            "181",
            "`--set augmentation.transforms.0.degrees=181`: `augmentation.transforms.0.degrees`: "
            "input should be less than or equal to 180, not 181.",
        ),
        (
            "loss.name",
            "nll",
            "`loss.name` `nll` needs `network.output` `log_softmax`, not `logits`; use "
            "`cross_entropy`.",
        ),
    ],
)
def test_wrong_setting(path: str, text: str, message: str):
    """A setting that makes no sense is answered in one line: the path, and what would be right."""
    with pytest.raises(RecipeError) as caught:
        BASE.with_setting(path, text)

    assert str(caught.value) == message


def test_setting_that_breaks_the_network():
    """A setting can break the network; the message is the network's own."""
    with pytest.raises(NetworkError, match=r"^Layer 0, `Conv\(4, 40\)`, on input 1x28x28: "):
        BASE.with_setting("network.layers.0.kernel_size", "40")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "mine.json: `name` is missing."),
        (
            BASE.network.to_json(),
            "mine.json is a network, not a recipe. Put it under `network` in the recipe that "
            "`smidgen show smidgen/quick --json` prints, or try it at once with `smidgen ablate "
            "smidgen/quick --network FILE.json`.",
        ),
        ("nothing", "mine.json: not valid JSON: expected ident at line 1 column 2."),
        (
            BASE.to_json().replace('"batch_size"', '"batchsize"'),
            "mine.json: unknown key `batchsize`. Did you mean `batch_size`?",
        ),
    ],
)
def test_unreadable_recipe(text: str, message: str):
    """A recipe's file that cannot be read is named, with what is wrong in it."""
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json(text, where="mine.json")

    assert str(caught.value) == message


def test_replace_checks_like_the_constructor():
    """A derived recipe is checked as a new one is."""
    with pytest.raises(RecipeError, match="`epochs`: input should be greater than 0, not 0"):
        BASE.replace(epochs=0)


def test_nesterov_needs_momentum():
    """Nesterov's form of SGD without momentum is refused, as PyTorch does."""
    with pytest.raises(RecipeError) as caught:
        SGD(lr=0.1, nesterov=True)

    assert str(caught.value) == "`optimizer.nesterov` needs a `momentum` above 0."


def test_scaling_needs_an_order():
    """A range of scales has its smaller end first."""
    with pytest.raises(RecipeError) as caught:
        Scaling(1.1, 0.9)

    assert str(caught.value) == "`Scaling`: `smallest` 1.1 is above `largest` 0.9."


@pytest.mark.parametrize(
    ("kind", "transform"),
    [
        ("Jitter", Jitter(brightness=0.1)),
        ("Erasing", Erasing(probability=0.1)),
        ("Elastic", Elastic(pixels=1.0)),
    ],
)
def test_some_transforms_stand_once(kind: str, transform: Transform):
    """Jitter, erasing and elastic bending are drawn once per image."""
    with pytest.raises(RecipeError) as caught:
        Augmentation(transforms=(transform, Rotation(1.0), transform))

    assert str(caught.value) == f"`augmentation.transforms`: more than one `{kind}`."


def test_geometry_may_stand_twice():
    """Two rotations are two rotations: the map composes them."""
    assert len(Augmentation(transforms=(Rotation(6.0), Rotation(7.0))).transforms) == 2


def test_limits_are_kept_when_just_reached() -> None:
    """At most means equal too; an accuracy that is equal but for rounding is reached."""
    assert within(10, 10)
    assert not within(11, 10)
    assert reaches(1 - 7 / 10000, 99.93 / 100)
    assert not reaches(0.9992, 0.9993)
    assert Budget(max_params=9, max_epochs=5).broken(10, 5) == [("parameters", 10, 9)]


@pytest.mark.parametrize(
    "layers",
    [
        [{"kind": "repeat", "block": [{"kind": "relu"}], "times": 10**9}],
        functools.reduce(
            lambda block, _: [{"kind": "repeat", "block": block, "times": 2}],
            range(30),
            [{"kind": "relu"}],
        ),
    ],
    ids=["a billion times", "thirty times twice"],
)
def test_a_small_file_cannot_ask_for_a_billion_layers(layers: list[object]) -> None:
    """Repeats, and repeats within repeats, are refused after ten thousand operations."""
    plain = json.loads(BASE.to_json())
    plain["network"]["layers"][0:0] = layers

    with pytest.raises(NetworkError) as caught:
        Recipe.from_json(json.dumps(plain))

    assert "more than 10,000 operations" in str(caught.value)

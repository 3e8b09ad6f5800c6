"""What the language of recipes leaves out: the defaults, and what becomes of a new field."""

import dataclasses
import json
import typing
from collections.abc import Callable
from typing import Any

import pytest

from smidgen.network.layers import Conv, ReLU
from smidgen.network.network import Network
from smidgen.recipes.augmentation import Rotation
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.parts import Loss
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import RunChoices, RunSpec
from smidgen.values import NO_DEFAULT, canonical, default_of

DEFAULTS = {
    "Adam": "lr, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.0, kind='adam'",
    "AdamW": "lr, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.01, kind='adamw'",
    "Augmentation": (
        "transforms=(), interpolation='bilinear', fill=0.0, position='before_normalization'"
    ),
    "AvgPool": "kernel_size, stride=None, padding=0, kind='avg_pool'",
    "BatchNorm": (
        "eps=1e-05, momentum=0.1, scale=True, shift=True, running_variance='unbiased', "
        "kind='batch_norm'"
    ),
    "Branches": "branches, kind='branches'",
    "Constant": "kind='constant'",
    "Conv": (
        "out_channels, kernel_size, stride=1, padding=0, groups=1, bias=False, dilation=1, "
        "kind='conv'"
    ),
    "Cosine": "final_lr=0.0, warmup_fraction=0.0, every='step', kind='cosine'",
    "Dense": "out_features, bias=True, kind='dense'",
    "Distillation": "teachers, temperature=2.0, weight=0.9, bank_epochs=None",
    "Dropout": "rate, kind='dropout'",
    "Dropout2d": "rate, kind='dropout_2d'",
    "Elastic": "pixels, kind='elastic'",
    "Erasing": (
        "probability, smallest_area=0.02, largest_area=0.33, smallest_aspect=0.3, "
        "largest_aspect=3.3, level=0.0, position='after_normalization', kind='erasing'"
    ),
    "Flatten": "kind='flatten'",
    "GlobalAvgPool": "kind='global_avg_pool'",
    "GlobalMaxPool": "kind='global_max_pool'",
    "GroupNorm": "groups, eps=1e-05, affine=True, kind='group_norm'",
    "Jitter": "brightness=0.0, contrast=0.0, kind='jitter'",
    "LeakyReLU": "slope=0.01, kind='leaky_relu'",
    "Linear": "final_lr=0.0, warmup_fraction=0.0, every='step', kind='linear'",
    "Loss": "name='cross_entropy', label_smoothing=0.0",
    "MaxPool": "kernel_size, stride=None, padding=0, kind='max_pool'",
    "Multiply": "factor, kind='multiply'",
    "Network": (
        "layers, input_shape=(1, 28, 28), num_classes=10, output='logits', init='torch', "
        "unreached=()"
    ),
    "Normalization": "train_mean=0.0, train_std=1.0, eval_mean=0.0, eval_std=1.0",
    "OneCycle": (
        "warmup_fraction=0.3, start_divisor=25.0, final_divisor=10000.0, anneal='cosine', "
        "momentum=(0.85, 0.95), every='step', kind='one_cycle'"
    ),
    "OriginProtocol": "num_train=None, selection='best_on_test'",
    "PReLU": "shared=False, kind='prelu'",
    "Plateau": (
        "divisor, window_epochs=2, min_gain=0.01, cooldown_epochs=2, first_epoch=4, "
        "min_lr=0.0, kind='plateau'"
    ),
    "ReLU": "kind='relu'",
    "Recipe": (
        "network, optimizer, epochs, batch_size, dataset='mnist', "
        "schedule=Constant(kind='constant'), loss=Loss(name='cross_entropy', "
        "label_smoothing=0.0), normalization=Normalization(train_mean=0.0, train_std=1.0, "
        "eval_mean=0.0, eval_std=1.0), augmentation=Augmentation(transforms=(), "
        "interpolation='bilinear', fill=0.0, position='before_normalization'), "
        "clean_epochs=0, drop_last=False, averaging=None, distillation=None, "
        "origin=OriginProtocol(num_train=None, selection='best_on_test')"
    ),
    "Repeat": "block, times, kind='repeat'",
    "Residual": "body, shortcut=(), kind='residual'",
    "ResizedCrop": "smallest_area, largest_aspect=1.3333333333333333, kind='resized_crop'",
    "Rotation": "degrees, kind='rotation'",
    "SGD": "lr, momentum=0.0, nesterov=False, weight_decay=0.0, kind='sgd'",
    "SampleNorm": "eps=0.001, kind='sample_norm'",
    "Scaling": "smallest, largest, kind='scaling'",
    "SeparableConv": (
        "out_channels, kernel_size, stride=1, padding=0, bias=True, depthwise_bias=False, "
        "kind='separable_conv'"
    ),
    "Shear": "degrees, kind='shear'",
    "StepDecay": "step_epochs, gamma, kind='step'",
    "Teacher": "recipe, seeds=(1,)",
    "Translation": "pixels, whole_pixels=False, kind='translation'",
    "Unreached": "input_shape, layers",
    "WeightAveraging": "decay, warmup=True",
    "RunSpec": (
        "protocol, engine, data_sha256, device='cpu', threads=None, lanes=None, "
        "results_version, recipe, seed"
    ),
}
"""Every field of every value that decides a run, with its default.

A default that is changed here changes what stored runs and published proofs are of: raise the
form of the language (`smidgen.recipes.recipe.FORM`) and teach `smidgen.runs.first_form` the old
one, or leave the default alone. A field that is new and has a default is just written down here.
"""


def values_of(cls: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Collect the values that a value is made of, but what says nothing of the run."""
    if cls.__name__ in found:
        return found
    found[cls.__name__] = cls
    hints = typing.get_type_hints(cls, localns={"Recipe": Recipe})
    for item in dataclasses.fields(cls):
        if item.name not in getattr(cls, "NOT_IDENTITY", ()) or cls is RunSpec:
            collect(hints[item.name], found)
    return found


def collect(hint: Any, found: dict[str, Any]) -> None:
    """Collect the values that an annotation names."""
    if dataclasses.is_dataclass(hint):
        values_of(hint, found)
    for part in typing.get_args(hint):
        collect(part, found)


def written(cls: Any) -> str:
    """Return the fields of a value with their defaults, as in `DEFAULTS`."""
    texts = []
    for item in dataclasses.fields(cls):
        if cls is Recipe and item.name in Recipe.NOT_IDENTITY:
            continue
        default = default_of(item)
        texts.append(item.name if default is NO_DEFAULT else f"{item.name}={default!r}")
    return ", ".join(texts)


def test_every_default_is_pinned() -> None:
    """No layer, part of a recipe or choice of a run has another field or default than is known."""
    found = values_of(RunSpec, {})

    assert {name: written(cls) for name, cls in found.items()} == DEFAULTS


@pytest.mark.parametrize("cls", [Conv, ReLU, Network, Rotation, Loss, Recipe, RunSpec])
def test_a_new_field_changes_no_identity(
    cls: type, add_field: Callable[[type], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field with a default is in nothing's fingerprint and identity until it is used."""
    before = [(spec.recipe.fingerprint(), spec.identity) for spec in specs()]

    added = add_field(cls)

    assert [(spec.recipe.fingerprint(), spec.identity) for spec in specs()] == before
    monkeypatch.setattr(cls, added, 2)
    changed = [spec.identity for spec in specs()]
    assert changed != [identity for _, identity in before]


def specs() -> list[RunSpec]:
    """Return a run of every recipe of the catalogue, of new values that remember nothing."""
    return [
        RunSpec(recipe.replace(), 1, protocol="final", engine="native", data_sha256="ab", lanes=8)
        for recipe in RECIPES.values()
    ]


def test_canonical_form_has_what_differs_and_the_tags() -> None:
    """Of a recipe stay what was chosen and which members of unions; its name does not."""
    quick = RECIPES["smidgen/quick"].replace(epochs=9)

    plain = canonical(quick)

    assert plain["epochs"] == 9
    assert plain["optimizer"]["kind"] == quick.optimizer.kind
    assert not {"name", "about", "budget", "drop_last"} & plain.keys()
    assert json.loads(json.dumps(plain)) == plain


def test_choices_of_a_run_are_all_in_its_kind() -> None:
    """What a spec says beside recipe and seed, its kind says too."""
    spec = specs()[0]

    for item in dataclasses.fields(RunChoices):
        assert getattr(spec.kind, item.name) == getattr(spec, item.name)

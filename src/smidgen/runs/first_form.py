"""Fingerprints and identities as they were before defaults were left out: to recognise old runs.

Until version 0.1 of the language a fingerprint wrote out every field with its value, so that a
new field with a default would have made every stored run another one. Records from then are
known by having no `form`; what they were called then is found here again, from the fields that
there were then.
"""

import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import Any

from smidgen.recipes.recipe import Recipe
from smidgen.values import default_of, to_plain

_FIELDS = {
    "Recipe": (
        "network optimizer epochs batch_size dataset schedule loss normalization "
        "augmentation clean_epochs drop_last averaging distillation origin"
    ),
    "Network": "layers input_shape num_classes output init unreached",
    "Adam": "lr beta1 beta2 eps weight_decay kind",
    "AdamW": "lr beta1 beta2 eps weight_decay kind",
    "Augmentation": "transforms interpolation fill position",
    "AvgPool": "kernel_size stride padding kind",
    "BatchNorm": "eps momentum scale shift running_variance kind",
    "Branches": "branches kind",
    "Constant": "kind",
    "Conv": "out_channels kernel_size stride padding groups bias kind",
    "Cosine": "final_lr warmup_fraction every kind",
    "Dense": "out_features bias kind",
    "Distillation": "teachers temperature weight bank_epochs",
    "Dropout": "rate kind",
    "Elastic": "pixels kind",
    "Erasing": (
        "probability smallest_area largest_area smallest_aspect largest_aspect level position kind"
    ),
    "Flatten": "kind",
    "GlobalAvgPool": "kind",
    "GlobalMaxPool": "kind",
    "Jitter": "brightness contrast kind",
    "LeakyReLU": "slope kind",
    "Linear": "final_lr warmup_fraction every kind",
    "Loss": "name label_smoothing",
    "MaxPool": "kernel_size stride padding kind",
    "Multiply": "factor kind",
    "Normalization": "train_mean train_std eval_mean eval_std",
    "OneCycle": "warmup_fraction start_divisor final_divisor anneal momentum every kind",
    "OriginProtocol": "num_train selection",
    "PReLU": "kind",
    "Plateau": "divisor window_epochs min_gain cooldown_epochs first_epoch min_lr kind",
    "ReLU": "kind",
    "Repeat": "block times kind",
    "Residual": "body shortcut kind",
    "ResizedCrop": "smallest_area largest_aspect kind",
    "Rotation": "degrees kind",
    "SGD": "lr momentum nesterov weight_decay kind",
    "SampleNorm": "eps kind",
    "Scaling": "smallest largest kind",
    "SeparableConv": "out_channels kernel_size stride padding bias depthwise_bias kind",
    "Shear": "degrees kind",
    "StepDecay": "step_epochs gamma kind",
    "Teacher": "recipe seeds",
    "Translation": "pixels whole_pixels kind",
    "Unreached": "input_shape layers",
    "WeightAveraging": "decay warmup",
}
"""What each value was made of; frozen: fields and layers that came later do not belong here."""


class _LaterError(Exception):
    """Something that could not be said then."""


def first_fingerprint(recipe: Recipe) -> str | None:
    """Return the fingerprint that a recipe had in the first form; None if it had none.

    That is so where it uses a layer, or a field with another value than its default, that came
    later.
    """
    try:
        plain = _then(recipe, to_plain(recipe))
        if recipe.distillation is None:
            del plain["distillation"]
        else:
            written = plain["distillation"]["teachers"]
            for each, teacher in zip(written, recipe.distillation.teachers, strict=True):
                each["recipe"] = first_fingerprint(teacher.recipe)
    except _LaterError:
        return None
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def first_identity(fingerprint: str, seed: int, **choices: object) -> str:
    """Return the identity that a run had in the first form.

    Args:
        fingerprint: Its recipe's, of the first form.
        seed: Its random seed.
        choices: `protocol`, `engine`, `device`, `threads`, `data` and `results_version`.
    """
    parts = {"recipe": fingerprint, "seed": seed, **choices}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _then(value: Any, plain: Any) -> Any:
    """Return the plain form of a value without what came later."""
    if isinstance(value, tuple):
        return [_then(each, written) for each, written in zip(value, plain, strict=True)]
    if not is_dataclass(value):
        return plain
    if type(value).__name__ not in _FIELDS:
        raise _LaterError
    known = _FIELDS[type(value).__name__].split()
    for item in fields(value):
        later = item.name not in known and item.name not in getattr(value, "NOT_IDENTITY", ())
        if later and getattr(value, item.name) != default_of(item):
            raise _LaterError
    return {name: _then(getattr(value, name), plain[name]) for name in known}

"""Two recipes in, what the second changes in words out."""

from collections import Counter
from typing import Any

from smidgen.network.shapes import show_shape
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.recipe import Recipe
from smidgen.values import to_plain

_ASIDE = ("name", "about", "budget", "network", "origin")
_WORDS = {
    "optimizer.lr": "learning rate",
    "optimizer.kind": "optimizer",
    "optimizer.momentum": "momentum",
    "optimizer.weight_decay": "weight decay",
    "schedule.kind": "schedule",
    "batch_size": "batch size",
    "clean_epochs": "clean last epochs",
    "loss.label_smoothing": "label smoothing",
    "loss.name": "loss",
    "dataset": "data set",
}
_MOST_LAYERS = 5
"""Beyond so many kinds of changed layers a list of them says less than their number."""


def known_as(recipe: Recipe) -> Recipe | None:
    """Return the catalogue's recipe of this name, or of the name without `-on-` a data set."""
    return RECIPES.get(recipe.name) or RECIPES.get(
        recipe.name.removesuffix(f"-on-{recipe.dataset}")
    )


def is_of_catalogue(recipe: Recipe) -> bool:
    """Return whether a recipe is the catalogue's of its name, so that the name stands for it."""
    known = RECIPES.get(recipe.name)
    return known is not None and known.fingerprint() == recipe.fingerprint()


def changes(before: Recipe, after: Recipe) -> tuple[str, ...]:
    """Return what the second recipe changes, one phrase each; empty if nothing that counts."""
    found = _network_changes(before, after)
    old, new = _settings(before), _settings(after)
    for group in dict.fromkeys([*old, *new]):
        found += _group_changes(group, old.get(group), new.get(group))
    return tuple(found)


def _network_changes(before: Recipe, after: Recipe) -> list[str]:
    if before.network == after.network:
        return []
    old, new = trace(before.network), trace(after.network)
    found = []
    sizes = (old.totals.num_params, new.totals.num_params)
    if sizes[0] != sizes[1]:
        found.append(f"parameters {sizes[0]:,} -> {sizes[1]:,}")
    had = Counter(row.text for row in old.rows)
    has = Counter(row.text for row in new.rows)
    found += _layers("adds", has - had)
    found += _layers("drops", had - has)
    if before.network.layers != after.network.layers and not found:
        found.append("wires the same layers in another way")
    shapes = [show_shape(side.network.input_shape) for side in (before, after)]
    if shapes[0] != shapes[1]:
        found.append(f"images {shapes[0]} -> {shapes[1]}")
    if before.network.output != after.network.output:
        found.append(f"output {before.network.output} -> {after.network.output}")
    if before.network.init != after.network.init:
        found.append(f"initial weights as in {before.network.init} -> {after.network.init}")
    return found


def _layers(verb: str, counted: "Counter[str]") -> list[str]:
    if not counted:
        return []
    if len(counted) > _MOST_LAYERS:
        return [f"{verb} {counted.total()} layers of {len(counted)} kinds"]
    listed = [text if count == 1 else f"{count} x {text}" for text, count in counted.items()]
    return [f"{verb} {', '.join(listed)}"]


def _settings(recipe: Recipe) -> dict[str, Any]:
    plain = {name: part for name, part in to_plain(recipe).items() if name not in _ASIDE}
    if recipe.distillation is not None:  # a teacher is named, not told in full
        teachers = recipe.distillation.teachers
        plain["distillation"]["teachers"] = "; ".join(str(teacher) for teacher in teachers)
    return plain


def _group_changes(group: str, old: Any, new: Any) -> list[str]:
    """Name each setting that differs; a group of another kind is named by its kind alone."""
    if old == new:
        return []
    word = _WORDS.get(group, group.replace("_", " "))
    if group == "augmentation":
        return _augmentation(old, new)
    if not isinstance(old, dict) or not isinstance(new, dict):
        if isinstance(old, dict) or isinstance(new, dict):
            return [f"{word} {'off' if new is None else 'on'}"]
        return [f"{word} {_said(old)} -> {_said(new)}"]
    found = []
    if old.get("kind") != new.get("kind"):
        word = _WORDS.get(f"{group}.kind", f"{group} kind")
        found.append(f"{word} {old.get('kind')} -> {new.get('kind')}")
    for key in old.keys() & new.keys() - {"kind"}:
        if old[key] != new[key]:
            path = f"{group}.{key}"
            found.append(f"{_WORDS.get(path, path)} {_said(old[key])} -> {_said(new[key])}")
    return sorted(found)


def _augmentation(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    had, has = (Counter(map(_transform, side["transforms"])) for side in (old, new))
    found = [f"adds {text}" for text in (has - had).elements()]
    found += [f"drops {text}" for text in (had - has).elements()]
    return found or ["augments in another way (order, interpolation, fill or position)"]


def _transform(plain: dict[str, Any]) -> str:
    numbers = [f"{key} {_said(number)}" for key, number in plain.items() if key != "kind"]
    return f"{plain['kind']} ({', '.join(numbers)})" if numbers else str(plain["kind"])


def _said(thing: Any) -> str:
    if thing is None:
        return "none"
    if isinstance(thing, bool):
        return "on" if thing else "off"
    return f"{thing:g}" if isinstance(thing, float) else str(thing)

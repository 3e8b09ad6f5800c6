"""What a person writes for "the recipe, but with this" in, variants of the recipe out.

    [NAME: ]KEY=VALUE[; KEY=VALUE]...              for `--set`
    [NAME: ]TARGET[; KEY=VALUE]...                 for `--network` and `--recipe`

A value is JSON, which needs commas, so semicolons join settings; those inside of JSON strings
do not count. A name ends with a colon and a space, which neither a key nor `FILE.py:Class` has.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.cli.options import recipe_from, with_settings

if TYPE_CHECKING:
    from smidgen.evidence.ablate import Variant
    from smidgen.recipes.recipe import Recipe

_NAME = re.compile(r'\s*([^=;"]*?\S):\s+(.*)', re.DOTALL)
_JOINT = re.compile(r';(?=(?:[^"]*"[^"]*")*[^"]*$)')


def read_variants(
    base: "Recipe",
    source: bytes,
    settings: list[str],
    networks: list[str],
    recipes: list[str],
    runs_dir: Path | None,
) -> "list[Variant]":
    """Return the variants of the options, those of `--set` first.

    Args:
        base: What they change.
        source: The Python file that the base's network was read from, if it was.
        settings: Of `--set`.
        networks: Of `--network`.
        recipes: Of `--recipe`.
        runs_dir: Where runs are, whose networks may be named.

    Raises:
        RecipeError: A setting that makes no sense.
        NetworkError: A file without a network.
        UnknownNameError: A name of nothing.
    """
    from smidgen.evidence.ablate import Variant

    found = []
    for text in settings:
        name, parts = _split(text)
        found.append(Variant(name, with_settings(base, parts), source))
    for text in networks:
        name, (target, *more) = _split(text)
        changed, read = _for_network(base, target, runs_dir)
        found.append(Variant(name, with_settings(changed, more), read))
    for text in recipes:
        name, (target, *more) = _split(text)
        found.append(Variant(name, recipe_from(target, more)))
    return found


def _split(text: str) -> tuple[str, list[str]]:
    """Return a variant's name, which may be its text, and what is between its semicolons."""
    named = _NAME.fullmatch(text)
    parts = [_tidy(part) for part in _JOINT.split(named[2] if named else text)]
    return (named[1] if named else "; ".join(parts)), parts


def _tidy(setting: str) -> str:
    key, equals, value = setting.partition("=")
    return f"{key.strip()}{equals}{value.strip()}"


def _for_network(base: "Recipe", target: str, runs_dir: Path | None) -> "tuple[Recipe, bytes]":
    """Return the base with another network, and the Python file it was read from."""
    from smidgen.cli.inspected import find
    from smidgen.cli.targets import shown_name
    from smidgen.errors import NetworkError
    from smidgen.reading.python_file import Limits

    found = find(target, base.network.input_shape, Limits(), runs_dir)
    if found.network is None:
        obstacle = found.watched.obstacle if found.watched else ""
        raise NetworkError(f"`{target}` cannot be trained here: {obstacle}")
    changed = base.for_network(shown_name(found, target), found.network)
    # it is still the base's experiment: measured alike, and within the base's limits
    return changed.replace(origin=base.origin, budget=base.budget), found.source

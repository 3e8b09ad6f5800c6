"""What a word on the command line stands for: the one place that says.

    smidgen/quick, quick            a recipe of the catalogue; a short name that only one has
    mine.json                       a recipe, a network or a ladder in a JSON file
    net.py:Net, net.py:Net(8)       a model in a Python file, which is run
    last, NAME, PATH                a run, by its name, a unique prefix or its folder
    NAME@native, RUN,RUN            several runs; see `select_runs`

Variants of a recipe are words, too:

    [NAME: ]KEY=VALUE[; KEY=VALUE]...              for `--set`
    [NAME: ]TARGET[; KEY=VALUE]...                 for `--network` and `--recipe`

A value is JSON, which needs commas, so semicolons join settings; those inside of JSON strings
do not count. A name ends with a colon and a space, which neither a key nor `FILE.py:Class` has.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from smidgen.cli.options import store_at
from smidgen.errors import NetworkError, RecipeError, UnknownNameError
from smidgen.network.network import Network
from smidgen.network.review import Remark, review
from smidgen.network.trace import trace
from smidgen.places import is_python_target, split_target
from smidgen.reading.python_file import Limits as FileLimits
from smidgen.reading.python_file import read_python_file
from smidgen.reading.watched import Watched
from smidgen.recipes.catalogue import LADDERS, RECIPES, get_recipe
from smidgen.recipes.recipe import Recipe
from smidgen.values import from_json, to_plain

if TYPE_CHECKING:
    from smidgen.evidence.ablation import Variant
    from smidgen.runs.record import Protocol
    from smidgen.runs.store import RunFolder, RunStore

DEFAULT_RECIPE = "smidgen/quick"
"""What `train` trains without a name, and whose settings train a model that has none."""


def full_name(word: str) -> str:
    """Return the recipe that a short name stands for, if only one ends so; else the word itself."""
    if word in RECIPES:
        return word
    ends = Counter(name.rpartition("/")[2] for name in RECIPES)
    if ends[word] != 1:
        return word
    return next(name for name in RECIPES if name.rpartition("/")[2] == word)


def recipe_from(target: str, settings: list[str] | None = None) -> Recipe:
    """Return the recipe that a catalogue name or a JSON file stands for, with changes applied.

    Raises:
        UnknownNameError: Neither a catalogue name nor a file.
        RecipeError: A file or a change that makes no sense.
    """
    if target.endswith(".json"):
        recipe = Recipe.from_json(_read(target, RecipeError), f"`{target}`")
    elif target == "last":
        raise RecipeError(
            "`last` is a run, not a recipe. `smidgen inspect last` shows its network, `smidgen "
            "runs show last` how it went, `smidgen train --resume last` goes on with it."
        )
    else:
        recipe = get_recipe(full_name(target))
    return with_settings(recipe, settings)


def with_settings(recipe: Recipe, settings: list[str] | None) -> Recipe:
    """Return a recipe with the changes of `--set` applied.

    Raises:
        typer.BadParameter: A change that is not KEY=VALUE.
        RecipeError: One that makes no sense.
    """
    for setting in settings or []:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"`--set {setting}` is not KEY=VALUE, as optimizer.lr=0.05.")
        recipe = recipe.with_setting(key, text)
    return recipe


@dataclass(frozen=True, slots=True)
class Trainable:
    """What can be trained: a recipe, and the Python file its network was read from, if it was."""

    recipe: Recipe
    source: bytes = b""


def trainable(
    target: str,
    settings: list[str] | None = None,
    like: str | None = None,
    store: "RunStore | None" = None,
) -> Trainable:
    """Return what a word stands for, ready to be trained.

    A Python file and a network's JSON file have no settings: those of `like`, else of
    `smidgen/quick`, train them.

    Args:
        target: The word.
        settings: Of `--set`.
        like: Of `--like`.
        store: Where runs may be named, which stand for their recipes; None to name none.

    Raises:
        NetworkError: A file that gives no model, or none that can be trained.
        typer.BadParameter: `like` for what has settings of its own.
        SmidgenError: As `recipe_from` for `target`, `like` and `settings`.
    """
    if is_python_target(target) or _holds_network(target):
        settled = recipe_from(like or DEFAULT_RECIPE)
        found = find_model(target, settled.network.input_shape)
        return Trainable(with_settings(recipe_like(found, target, settled), settings), found.source)
    if like is not None:
        raise typer.BadParameter(
            f"it says how to train a FILE.py:Class; `{target}` has settings of its own.",
            param_hint="'--like'",
        )
    if store is not None and not target.endswith(".json") and full_name(target) not in RECIPES:
        found = find_model(target, runs_dir=store.root)
        if found.recipe is not None:
            return Trainable(with_settings(found.recipe, settings))
    return Trainable(recipe_from(target, settings))


def _holds_network(target: str) -> bool:
    """Whether a JSON file holds a network alone; what cannot be read is for others to say."""
    plain = _plain_json(target)
    return isinstance(plain, dict) and "layers" in plain and "network" not in plain


def holds_ladder(target: str) -> bool:
    """Whether a word is a JSON file that holds no recipe: a ladder, or what cannot be read."""
    plain = _plain_json(target)
    return target.endswith(".json") and not (isinstance(plain, dict) and "network" in plain)


def _plain_json(target: str) -> object:
    try:
        return json.loads(Path(target).read_bytes()) if target.endswith(".json") else None
    except (OSError, ValueError):
        return None


def _read(target: str, kind: type[NetworkError] | type[RecipeError]) -> bytes:
    try:
        return Path(target).read_bytes()
    except OSError as error:
        raise kind(f"Cannot read `{target}`: {error.strerror}.") from error


@dataclass(frozen=True, slots=True)
class Model:
    """A model and where it comes from.

    Args:
        name: What it is called.
        origin: `recipe`, `run`, `file` or `python`.
        network: The value; None where a module could not be turned into one.
        watched: Then, what watching the module run says.
        notes: What a person should know about how it was read.
        source_sha256: Of a Python file's bytes, else "".
        weights_sha256: Of the weights that the module was made with, else "".
        recipe: What trains it, where a recipe or a run was named.
        source: A Python file's bytes, else empty.
    """

    name: str
    origin: str
    network: Network | None
    watched: Watched | None = None
    notes: tuple[str, ...] = ()
    source_sha256: str = ""
    weights_sha256: str = ""
    recipe: Recipe | None = None
    source: bytes = b""

    def remarks(self) -> tuple[Remark, ...]:
        """Return what a teacher would remark; nothing on what is no network."""
        return () if self.network is None else review(self.network)

    def to_plain(self, max_params: int | None) -> dict[str, Any]:
        """Return the stable machine-readable form, described in docs/inspect.md."""
        plain: dict[str, Any] = {
            "name": self.name,
            "origin": self.origin,
            "max_params": max_params,
            "totals": None,
            "layers": [],
            "remarks": [remark.to_plain() for remark in self.remarks()],
            "notes": list(self.notes),
            "watched": self.watched.to_plain() if self.watched else None,
            "network": None,
            "source_sha256": self.source_sha256 or None,
            "weights_sha256": self.weights_sha256 or None,
        }
        if self.network is not None:
            traced = trace(self.network)
            plain["totals"] = traced.totals.to_plain()
            plain["layers"] = [row.to_plain() for row in traced.rows]
            plain["network"] = to_plain(self.network)
        return plain


def find_model(
    target: str,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    limits: FileLimits | None = None,
    runs_dir: Path | None = None,
) -> Model:
    """Return the model that a word stands for.

    Args:
        target: The word.
        input_shape: Channels, height and width of the images that a Python file's model takes.
        limits: On what the file may take.
        runs_dir: Where runs are; None for the usual place.

    Raises:
        NetworkError: A file that cannot be read as a model.
        UnknownNameError: Neither a recipe nor a run.
    """
    if is_python_target(target):
        model = read_python_file(target, input_shape, limits or FileLimits())
        return Model(
            model.name,
            "python",
            model.network,
            model.watched,
            model.notes,
            model.source_sha256,
            model.weights_sha256,
            source=model.source,
        )
    if target.endswith(".json"):
        return _from_json_file(target)
    return _named(target, runs_dir)


def _from_json_file(target: str) -> Model:
    text = _read(target, NetworkError)
    try:
        keys = json.loads(text)
    except ValueError as problem:
        raise NetworkError(f"`{target}` is no valid JSON: {problem}.") from problem
    if isinstance(keys, dict) and ("network" in keys or "recipe" in keys):
        recipe = Recipe.from_json(text, f"`{target}`")
        return Model(recipe.name, "file", recipe.network, recipe=recipe)
    network = from_json(Network, text, NetworkError, f"`{target}`")
    return Model(Path(target).stem, "file", network)


def _named(target: str, runs_dir: Path | None) -> Model:
    if target in RECIPES:
        return _of_catalogue(target)
    store = store_at(runs_dir)
    try:
        folder = store.find(target)
    except UnknownNameError:
        if full_name(target) in RECIPES:
            return _of_catalogue(full_name(target))
        names = [*RECIPES, *(found.name for found in store.folders())]
        hint = "A file of your own is FILE.py:Class or FILE.json."
        raise UnknownNameError("recipe or run", target, names, hint) from None
    recipe = folder.record().recipe
    return Model(folder.name, "run", recipe.network, recipe=recipe)


def _of_catalogue(name: str) -> Model:
    recipe = RECIPES[name]
    return Model(name, "recipe", recipe.network, recipe=recipe)


def recipe_like(found: Model, target: str, settled: Recipe) -> Recipe:
    """Return the settings of a recipe for a model that has none of its own.

    Raises:
        NetworkError: The model could not be turned into a network.
    """
    return settled.for_network(shown_name(found, target), network_of(found, target))


def network_of(found: Model, target: str) -> Network:
    """Return the network of a model; raises NetworkError if it could not be turned into one."""
    if found.network is None:
        obstacle = found.watched.obstacle if found.watched else ""
        raise NetworkError(f"`{target}` cannot be trained here: {obstacle}")
    return found.network


def shown_name(found: Model, target: str) -> str:
    """Return what a model is called: `net.py:Net(8)` for a Python file, else its own name."""
    if not is_python_target(target):
        return found.name
    file, call = split_target(target)
    return f"{Path(file).name}:{call or found.name}"


def find_run(target: str, store: "RunStore", others: tuple[str, ...]) -> "RunFolder | None":
    """Return the run of this name; None for a recipe's name and for several runs.

    Args:
        target: The word.
        store: Where runs are.
        others: What the word might stand for besides, to be suggested.

    Raises:
        UnknownNameError: It stands for nothing.
    """
    from smidgen.evidence.select import split_selector
    from smidgen.runs.listing import finished_rows

    with_runs = [row.recipe for row in reversed(finished_rows(store)[0])]  # newest first
    names = dict.fromkeys([*with_runs, *RECIPES])
    if is_python_target(target) or target.endswith(".json"):
        return None
    if split_selector(target, names)[0] in names or "," in target:
        return None
    try:
        return store.find(target)
    except UnknownNameError as error:
        if full_name(target) in RECIPES:
            return None
        folders = [folder.name for folder in reversed(store.folders())]
        known = dict.fromkeys([*with_runs, *folders, *others, *LADDERS, *names])
        hint = f"Runs are looked for in `{store.root}`."
        raise UnknownNameError("run, recipe or ladder", target, known, hint) from error


def find_runs(
    target: str, store: "RunStore", protocol: "Protocol", like: str | None = None
) -> "list[RunFolder]":
    """Return the finished runs that a word stands for, which differ only in the seed.

    Of a JSON file or a Python file, the runs of what it would train.

    Raises:
        RunError: There are none, or of several kinds.
        UnknownNameError: It stands for nothing.
    """
    from smidgen.errors import RunError
    from smidgen.evidence.select import runs_of, select_runs
    from smidgen.runs.listing import finished_rows

    if not (target.endswith(".json") or is_python_target(target)):
        known = {row.recipe for row in finished_rows(store)[0]}
        return select_runs(store, target if target in known else full_name(target), protocol)
    recipe = trainable(target, like=like).recipe
    runs = runs_of(store, recipe, protocol)
    if not runs:
        raise RunError(
            f"There are no finished runs of `{target}` under the protocol `{protocol}` in "
            f"`{store.root}`. `smidgen prove {target}` makes some."
        )
    return runs


_NAME = re.compile(r'\s*([^=;"]*?\S):\s+(.*)', re.DOTALL)
_JOINT = re.compile(r';(?=(?:[^"]*"[^"]*")*[^"]*$)')


def read_variants(
    base: Recipe,
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
    from smidgen.evidence.ablation import Variant

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


def _for_network(base: Recipe, target: str, runs_dir: Path | None) -> tuple[Recipe, bytes]:
    """Return the base with another network, and the Python file it was read from."""
    found = find_model(target, base.network.input_shape, runs_dir=runs_dir)
    changed = base.for_network(shown_name(found, target), network_of(found, target))
    # it is still the base's experiment: measured alike, and within the base's limits
    return changed.replace(origin=base.origin, budget=base.budget), found.source

"""What `smidgen inspect` found: from a target to a network, and from a network to a page."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.cli.options import store_at
from smidgen.cli.tables import table
from smidgen.cli.totals import totals_table
from smidgen.errors import NetworkError, UnknownNameError
from smidgen.network.network import Network
from smidgen.network.review import Remark, review
from smidgen.network.shapes import show_shape
from smidgen.network.trace import trace
from smidgen.places import is_python_target
from smidgen.reading.python_file import Limits, read_python_file
from smidgen.reading.watched import Watched
from smidgen.recipes.recipe import Recipe
from smidgen.values import from_json, to_plain


@dataclass(frozen=True, slots=True)
class Inspected:
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


def find(
    target: str, input_shape: tuple[int, int, int], limits: Limits, runs_dir: Path | None
) -> Inspected:
    """Return the model that a target stands for.

    Raises:
        NetworkError: A file that cannot be read as a model.
        UnknownNameError: Neither a recipe nor a run.
    """
    if is_python_target(target):
        model = read_python_file(target, input_shape, limits)
        return Inspected(
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


def page(found: Inspected, max_params: int | None) -> str:
    """Return what `inspect` prints for people."""
    parts = [found.name]
    if found.network is not None:
        parts += [_layers(found.network, max_params), totals_table(trace(found.network).totals)]
    if found.watched is not None:
        parts += [f"No network: {found.watched.obstacle}", _calls(found.watched, max_params)]
        parts += [_watched_totals(found.watched)]
    if max_params is not None:
        parts.append(_budget(found, max_params))
    remarks = [f"{r.path or 'output'}  {r.rule}: {r.text}" for r in found.remarks()]
    if remarks:
        parts.append("\n".join(["Remarks", *remarks]))
    if found.notes:
        parts.append("\n".join(["Notes", *found.notes]))
    return "\n\n".join(parts)


def _from_json_file(target: str) -> Inspected:
    path = Path(target)
    try:
        text = path.read_bytes()
        keys = json.loads(text)
    except OSError as problem:
        raise NetworkError(f"Cannot read `{target}`: {problem.strerror}.") from problem
    except ValueError as problem:
        raise NetworkError(f"`{target}` is no valid JSON: {problem}.") from problem
    if isinstance(keys, dict) and ("network" in keys or "recipe" in keys):
        recipe = Recipe.from_json(text, f"`{target}`")
        return Inspected(recipe.name, "file", recipe.network, recipe=recipe)
    network = from_json(Network, text, NetworkError, f"`{target}`")
    return Inspected(path.stem, "file", network)


def _named(target: str, runs_dir: Path | None) -> Inspected:
    from smidgen.recipes.catalogue import RECIPES

    if target in RECIPES:
        recipe = RECIPES[target]
        return Inspected(target, "recipe", recipe.network, recipe=recipe)
    store = store_at(runs_dir)
    try:
        folder = store.find(target)
    except UnknownNameError:
        names = [*RECIPES, *(found.name for found in store.folders())]
        hint = "A file of your own is FILE.py:Class or FILE.json."
        raise UnknownNameError("recipe or run", target, names, hint) from None
    recipe = folder.record().recipe
    return Inspected(folder.name, "run", recipe.network, recipe=recipe)


def _layers(network: Network, max_params: int | None) -> str:
    traced = trace(network)
    whole = max_params or traced.totals.num_params or 1
    share = "share" if max_params is None else f"of {max_params:,}"
    header = ["#", "layer", "output", "params", share, "MACs", "activations", "RF", "jump"]
    rows = [
        [
            row.path,
            row.text + (" (shared)" if row.is_shared else ""),
            show_shape(row.output_shape),
            row.num_params,
            _share(row.num_params, whole),
            row.num_macs,
            row.num_activations,
            _span(row.reach.receptive_field),
            _span(row.reach.jump),
        ]
        for row in traced.rows
    ]
    return table(header, rows, left=2)


def _calls(watched: Watched, max_params: int | None) -> str:
    whole = max_params or watched.num_params or 1
    share = "share" if max_params is None else f"of {max_params:,}"
    header = ["module", "kind", "output", "params", share, "frozen", "MACs", "RF seen"]
    rows = [
        [
            row.path or "(itself)",
            row.kind + (" (again)" if row.is_shared else ""),
            show_shape(row.output_shape),
            row.num_params,
            _share(row.num_params, whole),
            row.num_frozen,
            row.num_macs,
            None if row.receptive_field is None else _span(row.receptive_field),
        ]
        for row in watched.rows
    ]
    return table(header, rows, left=2)


def _watched_totals(watched: Watched) -> str:
    dead = f" ({', '.join(watched.dead[:4])}{', ...' if len(watched.dead) > 4 else ''})"
    rows = [
        ["parameters (trainable, reached, shared once)", watched.num_params],
        ["frozen (reached, requires_grad is False)", watched.num_frozen],
        [f"dead (registered, never reached){dead if watched.dead else ''}", watched.num_dead],
        ["buffers (running statistics)", watched.num_buffers],
        ["loose (used, of no layer: plain lists, other tensors)", watched.num_loose],
        ["MACs (multiply-accumulates, one image)", watched.num_macs],
    ]
    return table(["total", ""], rows)


def _budget(found: Inspected, max_params: int) -> str:
    if found.network is not None:
        num_params = trace(found.network).totals.num_params
    else:
        num_params = found.watched.num_params if found.watched else 0
    left = max_params - num_params
    verdict = f"{left:,} left" if left >= 0 else f"{-left:,} too many"
    return f"Budget: {num_params:,} of {max_params:,} parameters, {verdict}."


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if part else ""


def _span(span: tuple[float, float]) -> str:
    low, high = (f"{x:g}" for x in sorted(span))
    return low if low == high else f"{low}-{high}"

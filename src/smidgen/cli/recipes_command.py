"""`smidgen recipes`, `show` and `schema`: what there is, and what is in it."""

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli.options import AsJson, Like, MaxFlash, MaxRam, RunsDir, Setting, store_at
from smidgen.cli.tables import table, totals_table
from smidgen.evidence.wording import span_text

if TYPE_CHECKING:
    from smidgen.recipes.recipe import Recipe


def recipes(as_json: AsJson = False) -> None:
    """List the catalogue: every recipe with its size, length, claim and our proven mean.

    *claim* is what its source says, *proven* the mean over random seeds of our published proof,
    after the last epoch, with its 95 % interval.

    For example:

        smidgen recipes
    """
    from smidgen.network.trace import trace
    from smidgen.recipes.catalogue import RECIPES
    from smidgen.report.frontier_points import published_proofs

    proofs = {(point.name, point.fingerprint): point for point in published_proofs()}
    rows = []
    for name, recipe in RECIPES.items():
        proof = proofs.get((name, recipe.fingerprint()))
        totals = trace(recipe.network).totals
        claim = recipe.about.claim
        rows.append(
            {
                "name": name,
                "num_params": totals.num_params,
                "num_macs": totals.num_macs,
                "receptive_field": totals.receptive_field,
                "epochs": recipe.epochs,
                "claimed_percent": claim.best_accuracy if claim else None,
                "proven": proof.accuracy if proof else None,
                "low": proof.low if proof else None,
                "high": proof.high if proof else None,
                "seeds": proof.n if proof else None,
                "summary": recipe.about.summary,
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    header = ["recipe", "params", "MACs", "RF", "epochs", "claim %", "proven %", "interval"]
    shown = [
        [
            *list(row.values())[:5],
            _percent(row["claimed_percent"], 1.0),
            _percent(row["proven"], 100.0),
            None if row["low"] is None else _span_of(row["low"], row["high"]),
        ]
        for row in rows
    ]
    print(table(header, shown))


def _span_of(low: float, high: float) -> str:
    return f"{100 * low:.2f}-{100 * min(high, 1.0):.2f}"


def _percent(given: float | None, factor: float) -> str | None:
    return None if given is None else f"{factor * given:.2f}"


def show(
    target: Annotated[
        str, typer.Argument(metavar="NAME", help="A recipe, a run, a JSON file, or FILE.py:Class.")
    ],
    like: Like = None,
    settings: Setting = None,
    runs_dir: RunsDir = None,
    max_flash: MaxFlash = None,
    max_ram: MaxRam = None,
    as_json: AsJson = False,
) -> None:
    """Show a recipe: its layers with shapes, counts and receptive fields, and its story.

    For example:

        smidgen show era-s7/7

        smidgen show smidgen/quick --set network.layers.0.out_channels=12

        smidgen show eva4-s5/5 --json
    """
    from smidgen.cli.targets import trainable

    recipe = trainable(target, settings, like, store_at(runs_dir)).recipe
    print(json.dumps(_plain(recipe)) if as_json else _page(recipe))
    if max_flash is not None or max_ram is not None:
        from smidgen.cli.export_command import keep
        from smidgen.ship.artifacts import foreseen, weight_plain

        weight = weight_plain(*foreseen(recipe.network, recipe.normalization.eval_mean))
        if not as_json:
            how = "by gcc" if weight["is_measured"] else "estimated"
            print(
                f"\non a Cortex-M0 ({how}): {weight['flash_bytes']:,} bytes of flash, "
                f"{weight['ram_bytes']:,} of RAM"
            )
        keep(weight, max_flash, max_ram)


def schema() -> None:
    """Print the JSON Schema of a recipe, for editors and validators.

    For example:

        smidgen schema > recipe.schema.json
    """
    from smidgen.recipes.recipe import Recipe
    from smidgen.values import json_schema

    print(json.dumps(json_schema(Recipe), indent=2))


def _plain(recipe: "Recipe") -> dict[str, Any]:
    from smidgen.network.trace import trace
    from smidgen.values import to_plain

    traced = trace(recipe.network)
    return {
        "name": recipe.name,
        "fingerprint": recipe.fingerprint(),
        "totals": traced.totals.to_plain(),
        "layers": [row.to_plain() for row in traced.rows],
        "recipe": to_plain(recipe),
    }


def _page(recipe: "Recipe") -> str:
    from smidgen.network.shapes import show_shape
    from smidgen.network.trace import trace

    traced = trace(recipe.network)
    header = ["#", "layer", "output", "params", "MACs", "RF", "jump", "start", "padding"]
    rows = [
        [
            row.path,
            row.text + (" (shared)" if row.is_shared else ""),
            show_shape(row.output_shape),
            row.num_params,
            row.num_macs,
            span_text(row.reach.receptive_field),
            span_text(row.reach.jump),
            span_text(row.reach.start),
            span_text(row.reach.padding),
        ]
        for row in traced.rows
    ]
    parts = [_heading(recipe), table(header, rows, left=2), totals_table(traced.totals)]
    return "\n\n".join([*parts, _settings(recipe), *_story(recipe)])


def _heading(recipe: "Recipe") -> str:
    about = recipe.about
    lines = [recipe.name, about.summary, f"Source: {about.source}" if about.source else ""]
    return "\n".join(line for line in lines if line)


def _settings(recipe: "Recipe") -> str:
    shape = "x".join(str(size) for size in recipe.network.input_shape)
    changes, smoothing = recipe.augmentation, recipe.loss.label_smoothing
    num_clean = min(recipe.clean_epochs, recipe.epochs)
    lines = [
        f"data          {recipe.dataset}, images of {shape}",
        f"optimizer     {_brief(recipe.optimizer)}",
        f"schedule      {_brief(recipe.schedule)}",
        f"batch, epochs {recipe.batch_size}, {recipe.epochs}"
        + (f" (the last {num_clean} clean)" if num_clean else ""),
        f"augmentation  {_brief(changes) if changes.transforms else 'none'}",
        f"normalization {_brief(recipe.normalization)}",
        f"loss          {recipe.loss.name}"
        + (f", label smoothing {smoothing}" if smoothing else ""),
    ]
    taught = recipe.distillation
    if taught is not None:
        teachers = "; ".join(str(teacher) for teacher in taught.teachers)
        length = taught.bank_epochs
        bank = f", bank of {length} epoch{'s' if length > 1 else ''}" if length else ""
        lines.append(
            f"distillation  {teachers}: temperature {taught.temperature:g}, "
            f"weight {taught.weight:g}{bank}"
        )
    if recipe.averaging is not None:
        lines.append(f"averaging     {_brief(recipe.averaging)}")
    return "\n".join(lines)


def _brief(thing: object) -> str:
    """Return a value as one would write it: names of fields, without kinds and defaults."""
    if isinstance(thing, tuple):
        return f"[{', '.join(_brief(each) for each in thing)}]"
    if not dataclasses.is_dataclass(thing):
        return repr(thing)
    shown = [
        f"{item.name}={_brief(given)}"
        for item in dataclasses.fields(thing)
        if item.name != "kind" and (given := getattr(thing, item.name)) != item.default
    ]
    return f"{type(thing).__name__}({', '.join(shown)})"


def _story(recipe: "Recipe") -> list[str]:
    about, claim = recipe.about, recipe.about.claim
    parts = []
    if about.target:
        parts.append(f"Target    {about.target}")
    if claim is not None:
        parts.append(f"Result    {_claimed(recipe)}")
    if about.analysis:
        parts.append(f"Analysis  {about.analysis}")
    parts.extend(f"Note      {note}" for note in about.notes)
    return ["\n".join(parts)] if parts else []


def _claimed(recipe: "Recipe") -> str:
    claim = recipe.about.claim
    assert claim is not None
    text = "the source claims"
    if claim.best_accuracy is not None:
        text += f" {claim.best_accuracy:.2f} %"
    if claim.best_epoch is not None:
        text += f" at epoch {claim.best_epoch}"
    if claim.num_params is not None:
        text += f" with {claim.num_params:,} parameters"
    if claim.test_log:
        tail = claim.test_log[-5:]
        text += (
            f"; its log on {claim.split} ends at {claim.test_log[-1]:.2f} %, "
            f"mean of the last {len(tail)}: {sum(tail) / len(tail):.2f} %"
        )
    return text

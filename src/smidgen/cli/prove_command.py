"""`smidgen prove`: many seeds of one recipe, and what they say together."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import (
    AsJson,
    DataDir,
    Device,
    EngineOption,
    FitOption,
    InvertOption,
    LanesOption,
    Like,
    On,
    ProtocolOption,
    RunsDir,
    Setting,
    Workers,
    lanes_of,
    load_named,
    place_of,
    share_of,
    store_at,
)
from smidgen.cli.report_command import Wanted
from smidgen.cli.tables import table
from smidgen.evidence.wording import can_stay, failures_line, percent, proof_heading, proof_rows

if TYPE_CHECKING:
    from smidgen.evidence.proof import Proof
    from smidgen.runs.store import RunStore


def prove(
    recipe_name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A recipe, a JSON file, or FILE.py:Class."),
    ],
    like: Like = None,
    settings: Setting = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many: 20 means seeds 1 to 20.")] = 20,
    target: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", help="Accuracy to reach, as 99.4 (else the recipe's)."),
    ] = None,
    stay: Annotated[
        int, typer.Option(min=1, help="How many last epochs at the target mean it stays there.")
    ] = 5,
    protocol: ProtocolOption = "final",
    engine: EngineOption = "auto",
    lanes: LanesOption = None,
    device: Device = "cpu",
    workers: Workers = None,
    on: On = "local",
    data_dir: DataDir = None,
    invert: InvertOption = "auto",
    fit: FitOption = "resize",
    runs_dir: RunsDir = None,
    as_json: AsJson = False,
    opens: Annotated[
        bool, typer.Option("--open", help="Write the proof's page and open it in a browser.")
    ] = False,
) -> None:
    """Train a recipe with many seeds and state what they say: mean, spread, share at the target.

    Seeds that were trained before are not trained again; a stopped proof goes on where it was.

    For example:

        smidgen prove smidgen/quick

        smidgen prove eva4-s5/5 --seeds 20 --target 99.4 --stay 5

        smidgen prove net.py:Net --like eva4-s5/5
    """
    from smidgen.cli.live import RunsBoard, shown
    from smidgen.cli.targets import trainable
    from smidgen.errors import RunError
    from smidgen.evidence.limits import void_target
    from smidgen.evidence.prove import ProveOptions
    from smidgen.evidence.prove import prove as run_seeds
    from smidgen.training.events import Note

    place = place_of(on, runs_dir)
    if opens:
        from smidgen.cli.report_command import require_for_pages

        require_for_pages()
    share = None if target is None else share_of(target, "--target")
    wanted = trainable(recipe_name, settings, like)
    recipe = wanted.recipe
    dataset = load_named(recipe.dataset, data_dir, invert, fit)
    options = ProveOptions(
        *(protocol, engine, device, workers, share, stay, wanted.source, place),
        lanes_of(on, lanes, engine),
    )
    store = store_at(runs_dir)
    void = "" if target is not None else void_target(recipe)
    with shown(RunsBoard(workers)) as on_event:
        if void:
            on_event(Note(void))
        proof = run_seeds(recipe, dataset, store, range(1, seeds + 1), options, on_event)
    print(json.dumps(proof.to_plain()) if as_json else page(proof))
    if opens:
        from smidgen.cli.report_command import write_proof_page

        write_proof_page(proof, store, Wanted(data_dir, target=share, stay=stay))
    elif not as_json:
        print(f"\n{page_command(proof, store, runs_dir, target)}")
    if proof.failures:
        raise RunError(
            f"{len(proof.failures)} of {seeds} seeds gave no run. {failures_line(proof.failures)}"
        )


def page_command(
    proof: "Proof", store: "RunStore", runs_dir: Path | None, target: float | None
) -> str:
    """Say which command makes the page of a proof: of its runs, and no others."""
    from smidgen.evidence.select import selector_of

    selector = selector_of(store, [seed.run for seed in proof.seeds])
    words = ["smidgen", "report", selector]
    if proof.protocol != "final":
        words += ["--protocol", proof.protocol]
    if target is not None:
        words += ["--target", f"{target:g}"]
    if runs_dir is not None:
        words += ["--runs-dir", str(runs_dir)]
    return f"Its page: {shlex.join(words)}"


def page(proof: "Proof") -> str:
    """Return a proof as people read it."""
    rows = proof_rows(proof)
    width = max(len(key) for key, _ in rows)
    lines = [f"{key:<{width}}  {text}" for key, text in rows]
    return "\n".join([*proof_heading(proof), "", _seeds(proof), "", *lines])


def _seeds(proof: "Proof") -> str:
    header = ["seed", "accuracy", "errors", "at target from", "stays", "seconds"]
    rows = [
        [
            str(each.seed),
            percent(each.accuracy),
            each.num_errors,
            None if each.first_epoch is None else f"epoch {each.first_epoch}",
            each.stays,
            f"{each.train_seconds:.1f}",
        ]
        for each in proof.seeds
    ]
    if proof.target is None:
        header, rows = header[:3] + header[5:], [row[:3] + row[5:] for row in rows]
    elif not can_stay(proof):
        header, rows = header[:4] + header[5:], [row[:4] + row[5:] for row in rows]
    return table(header, rows, left=0)

"""`smidgen runs`: what was trained here."""

import json
import sys
from typing import Annotated

import typer

from smidgen.cli.options import RunsDir, store_at
from smidgen.cli.tables import percent, table

app = typer.Typer(help="List the runs made here.", invoke_without_command=True)


@app.callback()
def runs(
    runs_dir: RunsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """List the runs made here, oldest first; unfinished ones can be resumed.

    For example:

        smidgen runs
    """
    from smidgen.errors import RunError

    store = store_at(runs_dir)
    rows = []
    for folder in store.folders():
        try:
            record = folder.record()
        except RunError as error:  # one damaged record must not hide the others
            print(f"warning: {error}", file=sys.stderr)
            continue
        result = record.result
        rows.append(
            {
                "run": folder.name,
                "recipe": record.recipe.name,
                "seed": record.seed,
                "protocol": record.protocol,
                "engine": record.environment.engine,
                "num_params": record.num_params,
                "split": result.split if result else None,
                "accuracy": result.accuracy if result else None,
                "num_errors": result.num_errors if result else None,
                "train_seconds": round(record.train_seconds, 1) if result else None,
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        print(f"No runs in `{store.root}` yet. `smidgen train` makes one.")
        return
    shown = [
        [
            *list(row.values())[:6],
            row["split"] or "unfinished",
            None if row["accuracy"] is None else percent(row["accuracy"]),
            row["num_errors"],
            row["train_seconds"],
        ]
        for row in rows
    ]
    header = ["run", "recipe", "seed", "protocol", "engine", "params", "split", "accuracy"]
    print(table([*header, "errors", "seconds"], shown, left=2))

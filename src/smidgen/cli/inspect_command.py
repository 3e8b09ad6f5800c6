"""`smidgen inspect`: the size, shape and reach of any model, and what a teacher would remark."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import AsJson, RunsDir
from smidgen.cli.tables import table, totals_table
from smidgen.evidence.wording import span_text

if TYPE_CHECKING:
    from smidgen.cli.targets import Model
    from smidgen.network.network import Network
    from smidgen.reading.watched import Watched


def inspect(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A recipe, a run, a JSON file, or FILE.py:Class, as net.py:Net or net.py:Net(8).",
        ),
    ],
    input_shape: Annotated[
        str, typer.Option("--input", metavar="CxHxW", help="Images that a FILE.py:Class takes.")
    ] = "1x28x28",
    max_params: Annotated[
        int | None, typer.Option(min=1, help="A budget; shares are counted against it.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Write a diagram.")] = None,
    xlsx: Annotated[
        Path | None, typer.Option(help="Write a spreadsheet with live formulas.")
    ] = None,
    as_json: AsJson = False,
    time_limit: Annotated[
        float, typer.Option(min=1.0, help="Seconds a Python file may take.")
    ] = 60.0,
    memory_limit: Annotated[
        float, typer.Option(min=0.25, help="GiB of memory a Python file may take.")
    ] = 2.0,
    runs_dir: RunsDir = None,
) -> None:
    """Show layers, counts, receptive fields and remarks of any model.

    FILE.py:Class RUNS THAT FILE, with your rights: it is kept from hanging and from eating the
    memory, not from doing harm. Inspect only files you would also run.

    For example:

        smidgen inspect smidgen/quick --max-params 10000

        smidgen inspect "net.py:Net(8)" --svg net.svg --xlsx net.xlsx

        smidgen inspect last --json
    """
    from smidgen.cli.targets import find_model
    from smidgen.reading.python_file import Limits

    limits = Limits(time_limit, round(memory_limit * 2**30))
    found = find_model(target, _shape(input_shape), limits, runs_dir)
    _write_files(found, svg, xlsx, max_params)
    print(json.dumps(found.to_plain(max_params)) if as_json else page(found, max_params))


def _shape(text: str) -> tuple[int, int, int]:
    sizes = text.split("x")
    if len(sizes) != 3 or not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise typer.BadParameter(
            f"`{text}` is not channels x height x width, as 1x28x28.", param_hint="'--input'"
        )
    channels, height, width = (int(size) for size in sizes)
    return channels, height, width


def _write_files(
    found: "Model", svg: Path | None, xlsx: Path | None, max_params: int | None
) -> None:
    from smidgen.errors import NetworkError
    from smidgen.files import write_atomically

    if svg is None and xlsx is None:
        return
    if found.network is None:
        obstacle = found.watched.obstacle if found.watched else ""
        raise NetworkError(
            f"`{found.name}` cannot be drawn or tabulated layer by layer: {obstacle}"
        )
    contents: dict[Path, bytes] = {}  # all are made before the first is written
    if svg is not None:
        from smidgen.report.diagram import diagram

        contents[svg] = diagram(found.network, found.name).encode()
    if xlsx is not None:
        from smidgen.report.spreadsheet import workbook

        contents[xlsx] = workbook(found.network, found.name, max_params)
    for path, content in contents.items():
        write_atomically(path, content)
        print(f"Wrote {path}", file=sys.stderr)


def page(found: "Model", max_params: int | None) -> str:
    """Return what `inspect` prints for people."""
    from smidgen.network.trace import trace

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


def _layers(network: "Network", max_params: int | None) -> str:
    from smidgen.network.shapes import show_shape
    from smidgen.network.trace import trace

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
            span_text(row.reach.receptive_field),
            span_text(row.reach.jump),
        ]
        for row in traced.rows
    ]
    return table(header, rows, left=2)


def _calls(watched: "Watched", max_params: int | None) -> str:
    from smidgen.network.shapes import show_shape

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
            None if row.receptive_field is None else span_text(row.receptive_field),
        ]
        for row in watched.rows
    ]
    return table(header, rows, left=2)


def _watched_totals(watched: "Watched") -> str:
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


def _budget(found: "Model", max_params: int) -> str:
    from smidgen.network.trace import trace

    if found.network is not None:
        num_params = trace(found.network).totals.num_params
    else:
        num_params = found.watched.num_params if found.watched else 0
    left = max_params - num_params
    verdict = f"{left:,} left" if left >= 0 else f"{-left:,} too many"
    return f"Budget: {num_params:,} of {max_params:,} parameters, {verdict}."


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if part else ""

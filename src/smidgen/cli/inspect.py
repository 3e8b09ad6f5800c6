"""`smidgen inspect`: the size, shape and reach of any model, and what a teacher would remark."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import RunsDir

if TYPE_CHECKING:
    from smidgen.cli.inspected import Inspected


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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
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
    from smidgen.cli.inspected import find, page
    from smidgen.reading.python_file import Limits

    limits = Limits(time_limit, round(memory_limit * 2**30))
    found = find(target, _shape(input_shape), limits, runs_dir)
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
    found: "Inspected", svg: Path | None, xlsx: Path | None, max_params: int | None
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

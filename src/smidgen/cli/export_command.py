"""`smidgen export`: a trained network for another machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smidgen.cli.options import DataDir, MaxFlash, MaxRam, RunsDir, store_at
from smidgen.cli.tables import table
from smidgen.evidence.wording import percent

if TYPE_CHECKING:
    from smidgen.ship.artifacts import Exported, Prepared

RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A path, a name, a unique prefix, or `last`.")
]
_NEXT = {
    "c": '#include "{file}" and call {name}_classify(image, scores)',
    "arduino": "in the Arduino IDE: Sketch, Include Library, Add .ZIP Library, {file}",
    "onnx": "python -c \"import onnxruntime; onnxruntime.InferenceSession('{file}')\"",
    "js": 'import {{ classify }} from "./{file}"',
    "wasm": "write an image at image(), call classify(), read scores()",
    "python": "python {file}",
}


def export(
    run: RunName,
    to: Annotated[
        Literal["c", "arduino", "onnx", "js", "wasm", "python", "project"],
        typer.Option("--to", help="For which machine or language."),
    ] = "c",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Where to write.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="What all names begin with, as `digit` (else the recipe's name).")
    ] = "",
    floats: Annotated[
        bool, typer.Option("--float", help="For onnx: floats instead of integers.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="For C: laid out for speed, not for little flash.")
    ] = False,
    calibrate: Annotated[
        int, typer.Option(min=1, metavar="N", help="Training images that decide the scales.")
    ] = 1000,
    max_flash: MaxFlash = None,
    max_ram: MaxRam = None,
    check: Annotated[
        bool, typer.Option("--check", help="Run every runtime at hand and compare all scores.")
    ] = False,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Print a finished run as C, Arduino library, ONNX, JavaScript, WebAssembly or Python.

    `--to project` takes a recipe or a ladder instead and writes a plain PyTorch project of it:
    models, training, tests, notebooks, and a table of steps, without smidgen.

    All of them compute the same integers. Exits with 3 where a budget is not kept.

    For example:

        smidgen export last --to c --max-flash 2048 --max-ram 2048

        smidgen export last --to js -o site/ --check

        smidgen export assignment7 --to project -o my-project
    """
    import json

    from smidgen.files import write_atomically
    from smidgen.ship.artifacts import prepare, print_as
    from smidgen.training.use import find_trained

    if to == "project":
        _write_project(run, output)
        return
    folder = find_trained(store_at(runs_dir), run, lambda text: print(text, file=sys.stderr))
    prepared = prepare(folder, name=name, calibrate=calibrate, data_dir=data_dir)
    made = print_as(prepared, to, floats=floats, fast=fast)
    target = output or Path()
    target.mkdir(parents=True, exist_ok=True)
    for file_name, content in made.files.items():
        write_atomically(target / file_name, content)
    if as_json:
        print(json.dumps(made.manifest))
    else:
        print(_summary(prepared, made, target, to))
    if check:
        _check(prepared, fast)
    keep(made.manifest["cortex_m0"], max_flash, max_ram)


def _write_project(target: str, output: Path | None) -> None:
    """Write a recipe, a ladder or somebody's own model as a plain project; never over files."""
    from smidgen.cli.targets import trainable
    from smidgen.errors import ReportError
    from smidgen.extras import is_installed
    from smidgen.files import write_atomically
    from smidgen.recipes.catalogue import LADDERS
    from smidgen.recipes.ladder import Rung, read_ladder
    from smidgen.ship.project import project_files

    if output is None:
        raise typer.BadParameter("name the project's folder, as -o my-project.", param_hint="'-o'")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise ReportError(f"`{output}` is there and not empty. Choose another folder.")
    is_ladder = target in LADDERS or _is_ladder_file(target)
    rungs = read_ladder(target) if is_ladder else (Rung(trainable(target, None, None).recipe),)
    made = {name: text.encode() for name, text in project_files(rungs, target).items()}
    if is_installed("xlsxwriter"):
        from smidgen.report.spreadsheet import workbook

        for number, rung in enumerate(rungs, 1):
            sheet = workbook(rung.recipe.network, rung.recipe.name)
            made[f"RF Calculations {number}.xlsx"] = sheet
    for name, content in made.items():
        write_atomically(output / name, content)
    print(f"{len(rungs)} steps, {len(made)} files in {output}.")
    print(f"Next: cd {output} && pip install -r requirements.txt && python train.py && pytest")


def _is_ladder_file(target: str) -> bool:
    """Whether a JSON file holds a list of steps, not one recipe."""
    path = Path(target)
    return path.suffix == ".json" and path.is_file() and path.read_bytes().lstrip()[:1] == b"["


def _summary(prepared: "Prepared", made: "Exported", target: Path, to: str) -> str:
    manifest = made.manifest
    count, weight = manifest["num_test_images"], manifest["cortex_m0"]
    how = "" if weight["is_measured"] else ", estimated: no arm-none-eabi-gcc here"
    files = ", ".join(str(target / name) for name in made.files)
    first = next(iter(made.files))
    rows = [
        ["network", f"{prepared.source['recipe']}, seed {prepared.source['seed']}"],
        ["float", _errors(manifest["float_errors"], count)],
        ["integers", _errors(manifest["integer_errors"], count)],
        ["flash", f"{weight['flash_bytes']:,} bytes on a Cortex-M0, code and tables{how}"],
        [
            "RAM",
            f"{weight['ram_bytes']:,} bytes: {weight['arena_bytes']:,} static and "
            f"{weight['stack_bytes']:,} of stack; the image is yours",
        ],
        ["MACs", f"{manifest['num_macs']:,} (no board measured)"],
        ["written", files],
        ["next", _NEXT[to].format(file=first, name=prepared.name)],
    ]
    return "\n".join(f"{title:<10}{text}" for title, text in rows)


def _errors(num_errors: int, count: int) -> str:
    return f"{percent(1 - num_errors / count)}: {num_errors:,} errors in {count:,} test images"


def _check(prepared: "Prepared", fast: bool) -> None:
    """Run all runtimes and print what differs.

    Raises:
        ShipError: A score differs.
    """
    from smidgen.errors import ShipError
    from smidgen.ship.runtimes import compare_all

    found = list(compare_all(prepared.network, prepared.test.images, fast))
    rows = [
        [c.runtime, c.num_images or None, c.num_different, c.note or "all scores compared"]
        for c in found
    ]
    print(table(["runtime", "images", "different", "note"], rows))
    different = [c.runtime for c in found if c.num_different]
    if different:
        raise ShipError(f"Scores differ in {', '.join(different)}. This is a bug; report it.")


def keep(weight: dict[str, int | bool], max_flash: int | None, max_ram: int | None) -> None:
    """Raise BudgetError where flash or RAM are over what was allowed.

    Args:
        weight: As `weight_plain` gives.
        max_flash: Most bytes of flash, if any.
        max_ram: Most bytes of RAM, if any.
    """
    from smidgen.errors import BudgetError

    over = [
        f"{what} is {weight[key]:,} bytes, {weight[key] - most:,} over the {most:,} of {option}"
        for what, key, option, most in (
            ("flash", "flash_bytes", "--max-flash", max_flash),
            ("RAM", "ram_bytes", "--max-ram", max_ram),
        )
        if most is not None and weight[key] > most
    ]
    if over:
        text = "; ".join(over)
        raise BudgetError(f"{text[:1].upper()}{text[1:]}. Choose a smaller recipe.")

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from openpyxl import load_workbook
from typer.testing import CliRunner

from smidgen.cli.inspect_command import inspect
from smidgen.errors import NetworkError, SmidgenError, UnknownNameError
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.reading.python_file import FileModel
from smidgen.reading.watched import Watched
from smidgen.recipes.catalogue import RECIPES
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder

STUDENTS = Path(__file__).parent.parent / "reading" / "students.py"
app = typer.Typer()
app.command()(inspect)


def run(*arguments: object) -> Any:
    """Run the command; deliberate errors come back as `exception`."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def plain(*arguments: object) -> dict[str, Any]:
    """Run the command with `--json` and return its object."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def test_page_of_a_recipe():
    """The page has the layers, the totals with their rules, the budget and the remarks."""
    lines = run("mnist-99-4", "--max-params", 20_000).stdout.splitlines()

    assert lines[0] == "mnist-99-4"
    assert lines[2].split() == [
        *("#", "layer", "output", "params", "of", "20,000", "MACs", "activations", "RF", "jump")
    ]
    assert lines[8].split() == [
        *("4", "Conv(16,", "3,", "padding=1,", "bias=True)", "16x14x14", "1,168", "5.8", "%"),
        *("225,792", "3,136", "8", "2"),
    ]
    assert lines[21].split() == [
        "17",
        "Dense(10)",
        "10",
        "330",
        "1.6",
        "%",
        "320",
        "10",
        "38",
        "24",
    ]
    page = "\n".join(" ".join(line.split()) for line in lines)
    for total in (
        "parameters (trainable, reached, shared once) 15,578",
        "dead (registered, never reached) 0",
        "buffers (running statistics) 112",
        "Keras total (parameters + buffers) 15,690",
        "folded (batch norms merged) 15,466",
        "MACs (multiply-accumulates, one image) 517,568",
        "as torchinfo counts (mult-adds, biases and norms too) 528,698",
        "as fvcore counts (norms and global means too) 539,520",
        "as torch's flop counter counts (two per MAC) 1,035,136",
        "receptive field (pixels) 38",
        "Budget: 15,578 of 20,000 parameters, 4,422 left.",
        "0 bias-before-norm: The bias of `conv1` is subtracted again",
    ):
        assert total in page


def test_budget_that_is_not_kept_is_said():
    """Over the budget, the page says by how much; the exit code stays 0."""
    result = run("smidgen/quick", "--max-params", 7_000)

    assert "Budget: 9,402 of 7,000 parameters, 2,402 too many." in result.stdout
    assert result.exit_code == 0


def test_json_of_a_recipe():
    """The machine-readable form holds the trace, the remarks and the network itself."""
    found = plain("era-s7/7", "--max-params", 8_900)

    network = RECIPES["era-s7/7"].network
    traced = trace(network)
    assert list(found) == [
        *("name", "origin", "max_params", "totals", "layers", "remarks", "notes", "watched"),
        *("network", "source_sha256", "weights_sha256"),
    ]
    assert (found["name"], found["origin"], found["max_params"]) == ("era-s7/7", "recipe", 8_900)
    assert found["totals"] == traced.totals.to_plain()
    assert found["layers"] == [row.to_plain() for row in traced.rows]
    assert found["remarks"][-1]["rule"] == "dead-block"
    assert Network.from_json(json.dumps(found["network"])) == network
    assert (found["watched"], found["source_sha256"]) == (None, None)


def test_json_files_may_hold_a_recipe_or_a_network(tmp_path: Path):
    """Both exchange forms are targets."""
    recipe = RECIPES["eva4-s5/5"]
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    (tmp_path / "mine.json").write_text(recipe.network.to_json())

    as_recipe, as_network = plain(tmp_path / "recipe.json"), plain(tmp_path / "mine.json")

    assert (as_recipe["name"], as_network["name"]) == ("eva4-s5/5", "mine")
    assert as_recipe["network"] == as_network["network"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Cannot read `{}`: No such file or directory."),
        ("{", "`{}` is no valid JSON: Expecting property name enclosed in double quotes"),
        ('{"layers": []}', "`{}`: `layers`: tuple should have at least 1 item"),
        ('{"network": {}}', "`{}`: `name` is missing."),
        ("[1]", "`{}`: input should be an object."),
    ],
)
def test_broken_json_files_are_one_line(content: str | None, message: str, tmp_path: Path):
    """What is wrong with a file is said in one line."""
    path = tmp_path / "net.json"
    if content is not None:
        path.write_text(content)

    error = run(path).exception

    assert isinstance(error, SmidgenError)
    assert message.format(path) in str(error)
    assert "\n" not in str(error)


def test_runs_are_targets(make_run: Callable[..., RunFolder], tiny_recipe: Recipe):
    """A run stands for its recipe's network, by name, prefix or `last`."""
    folder = make_run(seed=3)

    for query in (folder.name, "tiny-s3", "last", folder.path):
        found = plain(query)
        assert (found["name"], found["origin"]) == (folder.name, "run")
        assert found["totals"] == trace(tiny_recipe.network).totals.to_plain()


def test_unknown_names_carry_the_nearest():
    """A typo is answered with the recipe that was meant, and with the other forms."""
    error = run("smidgen/quik").exception

    assert isinstance(error, UnknownNameError)
    assert str(error) == (
        "No recipe or run is called `smidgen/quik`. Did you mean `smidgen/quick`? "
        "A file of your own is FILE.py:Class or FILE.json."
    )


def test_python_file_that_becomes_a_network(tmp_path: Path):
    """A student's class is shown layer by layer, with its dead block, hashes and files."""
    svg, xlsx = tmp_path / "net.svg", tmp_path / "net.xlsx"

    found = plain(f"{STUDENTS}:DeadBlock", "--svg", svg, "--xlsx", xlsx)

    assert (found["name"], found["origin"]) == ("DeadBlock", "python")
    assert found["totals"]["num_params"] == 144 + 32 + 160
    assert found["totals"]["num_dead"] == 2_336
    assert [remark["rule"] for remark in found["remarks"]][-1] == "dead-block"
    assert found["notes"] == [
        "`block2` is registered and never used.",
        "`spare` is registered and never used.",
    ]
    assert len(found["source_sha256"]) == len(found["weights_sha256"]) == 64
    assert svg.read_text().startswith("<svg")
    assert load_workbook(xlsx).sheetnames == ["Layers", "Receptive field", "Remarks"]


def test_files_written_are_named_beside_the_page(tmp_path: Path):
    """On standard error, so that `--json` stays one object; a new folder is no surprise then."""
    svg, xlsx = tmp_path / "new" / "net.svg", tmp_path / "net.xlsx"

    result = run("smidgen/quick", "--svg", svg, "--xlsx", xlsx)

    assert result.stderr == f"Wrote {svg}\nWrote {xlsx}\n"
    assert svg.exists()


def test_python_file_that_does_not(tmp_path: Path):
    """A module beyond our layers is counted, told what stopped it, and cannot be drawn."""
    path = tmp_path / "gated.py"
    path.write_text(
        "import torch\n"
        "class Gated(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = torch.nn.Conv2d(3, 4, 3)\n"
        "        self.fc = torch.nn.Linear(4, 10)\n"
        "        self.spare = torch.nn.Linear(2, 2)\n"
        "    def forward(self, x):\n"
        "        return self.fc(self.conv(x).sigmoid().mean((2, 3)))\n"
    )

    result = run(f"{path}:Gated", "--input", "3x8x9", "--max-params", 150)

    page = "\n".join(" ".join(line.split()) for line in result.stdout.splitlines())
    for line in (
        "No network: `sigmoid` at gated.py:9 has no counterpart among the layers of a network.",
        "conv Conv2d 4x6x7 112 74.7 % 0 4,536 3",
        "parameters (trainable, reached, shared once) 162",
        "dead (registered, never reached) (spare.weight, spare.bias) 6",
        "Budget: 162 of 150 parameters, 12 too many.",
    ):
        assert line in page


def test_what_is_no_network_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A picture or a sheet of a watched module is refused with what stopped the reading."""
    watched = Watched((), 0, 0, 0, 0, 0, (), "`gate` has no counterpart.")
    model = FileModel("Gated", None, {}, "", watched, (), "", "")
    monkeypatch.setattr("smidgen.cli.targets.read_python_file", lambda *arguments: model)

    for option in ("--svg", "--xlsx"):
        error = run("net.py:Gated", option, tmp_path / "out").exception
        assert str(error) == (
            "`Gated` cannot be drawn or tabulated layer by layer: `gate` has no counterpart."
        )
    assert list(tmp_path.iterdir()) == []


def test_limits_reach_the_child(tmp_path: Path):
    """The options for time and memory are the child's limits."""
    endless, hoard = tmp_path / "endless.py", tmp_path / "hoard.py"
    net = "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        {}\n"
    endless.write_text(net.format("while True: pass"))
    hoard.write_text(net.format("x = [bytearray(2**26) for _ in range(99)]"))

    assert "did not end within 1 s." in str(run(endless, "--time-limit", 1).exception)
    assert "more than 0.5 GiB" in str(run(hoard, "--memory-limit", 0.5).exception)


@pytest.mark.parametrize("text", ["28x28", "1x28x0", "axbxc", "1x28x28x1", ""])
def test_wrong_shapes_are_wrong_usage(text: str):
    """`--input` is channels, height and width."""
    assert run("smidgen/quick", "--input", text).exit_code == 2


def test_files_are_made_before_any_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where one of two files cannot be made, neither is there."""

    def broken(*arguments: object) -> bytes:
        raise NetworkError("no")

    monkeypatch.setattr("smidgen.report.spreadsheet.workbook", broken)

    run("smidgen/quick", "--svg", tmp_path / "a.svg", "--xlsx", tmp_path / "a.xlsx")

    assert list(tmp_path.iterdir()) == []


def test_file_in_the_way_is_one_line(tmp_path: Path):
    """A picture that cannot be written is a storage error."""
    (tmp_path / "taken").write_text("")

    error = run("smidgen/quick", "--svg", tmp_path / "taken" / "a.svg").exception

    assert isinstance(error, SmidgenError)
    assert "a file stands where a folder should be" in str(error)


@pytest.mark.parametrize(
    "arguments",
    [["smidgen/quick"], ["era-s7/7", "--json"], ["--help"], ["smidgen/quick", "--svg", "a.svg"]],
)
def test_names_need_no_torch(arguments: list[str], tmp_path: Path):
    """Inspecting a recipe and asking for help never import torch."""
    code = (
        "import sys, typer\n"
        "from smidgen.cli.inspect_command import inspect\n"
        "app = typer.Typer(); app.command()(inspect)\n"
        "try: app()\n"
        "finally: assert 'torch' not in sys.modules\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_help_warns_that_the_file_is_run():
    """Nobody inspects a stranger's file without having been told."""
    assert "RUNS THAT FILE" in run("--help").stdout

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from smidgen.cli import report_command as command
from smidgen.data import Dataset
from smidgen.runs.store import RunFolder
from smidgen.training.run import Run

from .conftest import Shell


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, stripes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with the small drawn set as `stripes`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "smidgen.report.pictures.load_dataset", lambda name, folder, **more: stripes
    )


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the addresses that a browser was asked to open."""
    addresses: list[str] = []
    monkeypatch.setattr(command.webbrowser, "open", lambda a: not addresses.append(a))
    return addresses


def test_a_run_becomes_one_file_in_this_folder(
    shell: Shell, train_tiny: Callable[..., Run], opened: list[str]
) -> None:
    """Its path and size are printed, and it opens only on demand."""
    name = train_tiny().folder.name

    found = shell("report", "last")

    page = Path(f"report-{name}.html")
    assert (found.code, found.err) == (0, "")
    assert found.out == f"Wrote {page} ({page.stat().st_size / 1000:,.0f} kB)\n"
    assert opened == []
    assert shell("report", "last", "--open", "-o", "p q.html").out.startswith("Wrote p q.html (")
    assert opened == [Path("p q.html").resolve().as_uri()]


def test_text_and_plot_are_written_without_the_page(
    shell: Shell, train_tiny: Callable[..., Run], tmp_path: Path
) -> None:
    """`-o` asks for the page as well."""
    train_tiny()
    both = ("--md", "new/a.md", "--png", "loss", "b.png")

    assert shell("report", "last", *both).out == "Wrote b.png\nWrote new/a.md\n"
    assert Path("b.png").read_bytes().startswith(b"\x89PNG")
    assert Path("new/a.md").read_text().startswith("# tiny, seed 1\n")
    assert not list(tmp_path.glob("*.html"))
    assert "Wrote c.html" in shell("report", "last", *both, "-o", "c.html").out


def test_recipes_ladders_and_pairs_have_pages(shell: Shell, train_tiny: Callable[..., Run]) -> None:
    """What a name stands for decides the page."""
    for seed in (1, 2):
        train_tiny(seed=seed)
        train_tiny(seed=seed, name="other", epochs=2)

    assert shell("report", "tiny").out.startswith("Wrote report-tiny.html")
    assert "tiny: 2 seeds" in Path("report-tiny.html").read_text()
    assert shell("report", "tiny", "other").out.startswith("Wrote report-tiny-or-other.html")
    assert shell("report", "eva4-s5").out.startswith("Wrote report-eva4-s5.html")
    assert shell("report", "frontier", "--target", "99").out.startswith(
        "Wrote report-frontier.html"
    )
    assert "99 % as a proven mean takes" in Path("report-frontier.html").read_text()
    assert shell("report", "tiny", "--png", "seeds", "c.png").code == 0


def test_what_cannot_be_shown_is_one_line(
    shell: Shell, make_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    """Exit code 1, the reason and what would be right; nothing is written."""
    name = make_run().name
    (tmp_path / "folder").mkdir()
    cases = {
        ("nope",): "No run, recipe or ladder is called `nope`. Known: ",
        ("tinny",): "No run, recipe or ladder is called `tinny`. Did you mean `tiny`?",
        (name, "--png", "acuracy", "x.png"): "No figure is called `acuracy`. Did you mean "
        "`accuracy`?",
        (name, "-o", "folder"): "`folder` is a folder. Name a file in it.",
        (name, "--image", "3"): "`--image` needs trained weights.",
        ("eva4-s5", "--md", "x.md"): "`--md` writes up a run, and `eva4-s5` is none.",
        ("missing.json",): "Cannot read `missing.json`: No such file or directory.",
    }
    before = set(tmp_path.rglob("*"))

    for arguments, text in cases.items():
        found = shell("report", *arguments)
        assert (found.code, found.out) == (1, ""), arguments
        assert found.err.startswith(f"error: {text}"), found.err
        assert found.err.count("\n") == 1
    assert {path for path in tmp_path.rglob("*") if ".identities" not in str(path)} <= before


def test_a_damaged_record_is_one_line(shell: Shell, make_run: Callable[..., RunFolder]) -> None:
    """A record that was edited is refused by its hash."""
    folder = make_run()
    record = folder.path / "record.json"
    record.write_text(record.read_text().replace('"seed": 1', '"seed": 2'))

    found = shell("report", folder.name)

    assert (found.code, found.out) == (1, "")
    assert "its content does not match its SHA-256" in found.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a", "b", "c"),
        ("a", "--site", "s"),
        ("--site", "s", "--md", "x"),
        ("a", "--image", "-1"),
        ("a", "--target", "0.994"),
        ("--site", "s", "--target", "99"),
    ],
)
def test_wrong_usage(shell: Shell, arguments: tuple[str, ...]) -> None:
    """Exit code 2 for what could mean nothing."""
    assert shell("report", *arguments).code == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("tiny", "other", "--target", "90"), "'--target': it says nothing of two recipes;"),
        (("tiny", "other", "--image", "3"), "'--image': it says nothing of two recipes;"),
        (("era-s7", "--target", "90"), "'--target': it says nothing of a ladder;"),
        (("frontier", "--image", "3"), "'--image': it says nothing of the frontier;"),
        (("tiny", "--image", "3"), "'--image': it says nothing of several runs;"),
        (("frontier", "--json", "--target", "99"), "'--target': it says nothing of the points,"),
    ],
)
def test_an_option_that_would_change_nothing_is_wrong_usage(
    shell: Shell, make_run: Callable[..., RunFolder], arguments: tuple[str, ...], told: str
) -> None:
    """It is refused by name, and nothing is written."""
    make_run()
    make_run(name="other")

    found = shell("report", *arguments)

    assert (found.code, found.out) == (2, "")
    assert told in " ".join(found.err.replace("│", " ").split())
    assert not list(Path().glob("*.html"))


def test_a_run_is_shown_against_the_target_asked_for(
    shell: Shell, make_run: Callable[..., RunFolder]
) -> None:
    """Its page and its write-up tell how the last epoch stands to it."""
    name = make_run(wrong=range(4)).name

    shell("report", name, "--target", "95", "-o", "p.html", "--md", "p.md")

    page = Path("p.html").read_text()
    assert "5.00 points below the target" in page
    assert "The target of 95 % is not kept." in page
    assert "The target of 95 % is not kept." in Path("p.md").read_text()


def test_a_missing_extra_is_one_line(
    shell: Shell, make_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to install."""
    monkeypatch.setattr("smidgen.extras.find_spec", lambda name: None)

    found = shell("report", make_run().name)

    assert (found.code, found.err) == (
        1,
        "error: Reports need matplotlib and jinja2. "
        "Install what is missing with `pip install matplotlib jinja2`.\n",
    )


def test_no_browser_is_no_error(
    shell: Shell, make_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is there; a line says to open it."""
    monkeypatch.setattr(command.webbrowser, "open", lambda address: False)

    found = shell("report", make_run().name, "-o", "p.html", "--open")

    assert (found.code, found.err) == (0, "No browser was found; open p.html in one.\n")


def test_a_run_is_reported_without_torch(train_tiny: Callable[..., Run]) -> None:
    """Everything but `--image` comes from stored numbers."""
    folder = train_tiny().folder
    code = (
        "import sys; sys.argv = ['smidgen', 'report', sys.argv[1], '-o', 'p.html', '--md', 'p.md', "
        "'--png', 'classes', 'p.png']\n"
        "from smidgen.cli import main\n"
        "main()\n"
        "sys.exit('torch' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(folder.path)],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert Path("p.html").stat().st_size > 50_000


def test_training_names_the_command_of_its_page_or_makes_it(
    shell: Shell, tiny_file: str, opened: list[str]
) -> None:
    """The command works as printed; `--report` writes the page, `--open` opens it as well."""
    first = shell("train", tiny_file, "--engine", "torch")
    told, path = first.out.splitlines()[-2:]
    assert told == f"Its page: smidgen report {path}"
    assert shell(*told.split()[3:]).out.startswith(f"Wrote report-{Path(path).name}.html")

    assert (
        shell("train", tiny_file, "--engine", "torch", "--report")
        .out.splitlines()[-1]
        .startswith("Wrote ")
    )
    assert opened == []
    assert shell("train", tiny_file, "--engine", "torch", "--open").code == 0
    assert len(opened) == 1
    assert shell("train", tiny_file, "--json", "--report").code == 2


def test_proving_names_the_command_of_its_page_or_opens_it(
    shell: Shell, tiny_file: str, opened: list[str]
) -> None:
    """The command works as printed."""
    options = (tiny_file, "--seeds", "2", "--engine", "torch", "--workers", "1", "--target", "50")
    told = shell("prove", *options).out.splitlines()[-1]

    assert told == "Its page: smidgen report tiny@torch --target 50"
    assert shell(*told.split()[3:]).out.startswith("Wrote report-tiny-torch.html")
    assert shell("prove", *options, "--open").out.splitlines()[-1].startswith("Wrote report-tiny.")
    assert len(opened) == 1

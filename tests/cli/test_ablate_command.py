import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smidgen.data import Dataset
from smidgen.recipes.recipe import Recipe
from smidgen.runs.store import RunFolder
from smidgen.work.inline import Inline
from smidgen.work.jobs import Job, Outcome

Shell = Callable[..., Any]
Make = Callable[..., RunFolder]
SEEDS = range(1, 9)


@pytest.fixture
def ablate(
    shell: Shell, tiny_file: str, tiny_recipe: Recipe, stripes: Dataset, make_run: Make
) -> Shell:
    """Return a function that runs `ablate` on eight seeds of runs that are there.

    They are those of the base, of batch size 24 (five images less wrong) and of 48 (as many).
    """

    def runs(recipe: Recipe, wrong: Callable[[int], int]) -> None:
        for seed in SEEDS:
            make_run(
                seed,
                wrong=range(wrong(seed)),
                protocol="tune",
                data_sha256=stripes.sha256,
                recipe=recipe,
                fingerprint=recipe.fingerprint(),
            )

    runs(tiny_recipe, lambda seed: 9 + seed % 2)
    runs(tiny_recipe.replace(batch_size=24), lambda seed: 4 + (seed < 3))
    runs(tiny_recipe.replace(batch_size=48), lambda seed: 9 + (seed < 3))

    def run(*arguments: str) -> Any:
        return shell("ablate", tiny_file, "--engine", "torch", "--seeds", "8", *arguments)

    return run


def lines_by_start(text: str) -> dict[str, str]:
    """Return the lines of a text by their first words, without runs of spaces."""
    return {line.split("  ")[0]: re.sub("  +", "  ", line) for line in text.splitlines()}


def test_a_table_is_printed(ablate: Shell) -> None:
    """A row for the base and each variant, what they change, and how to read it."""
    found = ablate("--set", "batch_size=24", "--set", "larger: batch_size=48")
    lines = found.out.splitlines()
    starts = lines_by_start(found.out)

    assert found.code == 0
    assert lines[0] == "tiny and 2 variants"
    assert lines[1] == "Random seeds 1 to 8 on stripes, protocol tune, torch engine;"
    assert lines[2].endswith("after the last epoch. The test images were not looked at.")
    assert starts["base"].split("  ")[3:] == ["8", "76.25 %", "0.4000", "4.5"]
    assert "  89.38 %  +13.125  +11.647 to +14.603  " in starts["batch_size=24"]
    assert starts["batch_size=24"].endswith("  better by accuracy")
    assert "cannot tell, needs about " in starts["larger"]
    assert (
        "Verdicts are corrected for the 4 comparisons of this table: they ask for a sign-flip test "
        "that holds by Holm's method and a BCa bootstrap interval without 0."
    ) in lines
    assert "larger: batch size 32 -> 48" in lines
    assert found.err.splitlines() == [
        "24 of 24 runs are there already",
        "base: 76.25 %, loss 0.4000",
        "batch_size=24: 89.38 % (+13.125 points), loss 0.4000 (+0.0000)",
        "larger: 76.88 % (+0.625 points), loss 0.4000 (+0.0000)",
    ]


def test_the_same_is_written_as_markdown(ablate: Shell, tmp_path: Path) -> None:
    """A file with the table, the remarks, the machine and the command; JSON beside it."""
    file = tmp_path / "table.md"

    found = ablate("--set", "a|b: batch_size=24", "--md", str(file), "--json")
    lines = file.read_text().splitlines()
    plain = json.loads(found.out)

    assert lines[0] == "# Ablation of `tiny`"
    assert lines[4].startswith("| variant | params | MACs | n | accuracy | points | ")
    assert lines[5] == "| --- |" + " --: |" * 10 + " --- |"
    assert lines[6].startswith("| base | ")
    assert lines[7].startswith("| a\\|b | ")
    assert lines[7].endswith(" | better by accuracy |")
    assert "- a\\|b: batch size 32 -> 24" in lines
    assert "Made on a chip with smidgen 0:" in lines
    assert lines[-1] == (
        "    smidgen ablate tiny.json --set 'a|b: batch_size=24' --seeds 8 --engine torch"
    )
    assert plain["variants"][0]["accuracy"]["verdict"] == "better"
    assert plain["num_comparisons"] == 2
    assert len(plain["base"]["measured"]["accuracies"]) == 8


def test_a_file_that_cannot_be_written_costs_no_table(ablate: Shell, tmp_path: Path) -> None:
    """What was found is printed before the error."""
    (tmp_path / "file").write_text("")

    found = ablate("--set", "batch_size=24", "--md", str(tmp_path / "file" / "table.md"))

    assert (found.code, found.out.splitlines()[0]) == (1, "tiny and 1 variant")
    assert found.err.splitlines()[-1].startswith("error: Cannot write ")


def test_a_variant_that_cannot_be_trained_is_a_row_and_an_error(ablate: Shell) -> None:
    """The others are printed; the exit code is 1, and the line names the first that failed."""
    found = ablate("--base", "budget.max_epochs=3", "--set", "epochs=4", "--set", "batch_size=24")
    starts = lines_by_start(found.out)

    reason = (
        "`tiny` promises at most 3 epochs and has 4. Make it smaller or raise `budget.max_epochs`."
    )
    assert found.code == 1
    assert starts["epochs=4"].endswith("  failed")
    assert starts["batch_size=24"].endswith("  better by accuracy")
    assert f"epochs=4: {reason}" in found.out.splitlines()
    assert found.err.splitlines()[-1] == (
        "error: 1 of 2 variants could not be judged: `epochs=4`. The table's remarks say why."
    )


def test_divergence_is_told_once(
    shell: Shell, tiny_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress and error only say that seeds diverged; the remark under the table says how."""
    reason = "Training met a number that is not finite in epoch 1."

    class Stage(Inline):
        """Plays training that diverges."""

        def _make(self, job: Job, tell: object) -> Outcome:
            if job.spec.recipe.optimizer.lr > 1.0:
                return Outcome(job.spec, None, reason, diverged=True)
            return super()._make(job, lambda event: None)

    monkeypatch.setattr("smidgen.cli.ablate_command.place_of", lambda on, runs_dir: Stage)
    base = ("ablate", tiny_file, "--engine", "torch", "--seeds", "2", "--workers", "1")

    found = shell(*base, "--set", "bad: optimizer.lr=1e30")

    assert found.code == 1
    assert (found.out + found.err).count(reason) == 1
    assert f"bad: No seed gave a run. Seeds 1, 2 diverged, seed 1 so: {reason}" in found.out
    assert found.err.splitlines()[-4:] == [
        "bad, seed 1 failed: training diverged",
        "bad, seed 2 failed: as bad, seed 1 did",
        "bad: training diverged",
        "error: 1 of 1 variants could not be judged: `bad`. The table's remarks say why.",
    ]


def test_too_few_seeds_are_said_before_training(ablate: Shell) -> None:
    """The first line warns, and the table repeats it."""
    found = ablate("--seeds", "2", "--set", "batch_size=24", "--set", "batch_size=48")

    warning = "2 seeds cannot call anything better or worse: 4 comparisons need at least 8 seeds."
    assert found.err.splitlines()[0] == warning
    assert warning in found.out.splitlines()
    assert "cannot tell, needs about 8 seeds" in found.out


def test_one_seed_is_no_sample(ablate: Shell) -> None:
    """There are differences without intervals."""
    starts = lines_by_start(ablate("--seeds", "1", "--set", "batch_size=24").out)

    assert starts["batch_size=24"].endswith("  cannot tell from one seed")
    assert starts["Random seeds 1 on stripes, protocol tune, torch engine;"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "name at least one variant: --set KEY=VALUE, --network or --recipe."),
        (["--set", "epochs=2", "--protocol", "final"], 2, "No such option: --protocol"),
        (["--set", "optimizr.lr=1"], 1, "there is no `optimizr`. Did you mean `optimizer`?"),
        (["--set", "epochs"], 2, "`--set epochs` is not KEY=VALUE, as optimizer.lr=0.05."),
        (["--set", "epochs=3"], 1, "error: The variant `epochs=3` changes nothing that counts"),
        (
            ["--set", "epochs=2", "--set", "a: epochs = 2"],
            1,
            "error: The variants `epochs=2` and `a` are the same. Leave one out.",
        ),
        (["--network", "no.json"], 1, "error: Cannot read `no.json`: No such file or directory."),
        (["--recipe", "smidgen/quik"], 1, "Did you mean `smidgen/quick`?"),
    ],
)
def test_what_makes_no_table_is_refused(
    shell: Shell, tiny_file: str, arguments: list[str], code: int, text: str
) -> None:
    """One line each, before anything is trained."""
    found = shell("ablate", tiny_file, *arguments)

    assert found.code == code
    assert text in " ".join(found.err.replace("│", " ").split())
    assert not Path("runs").exists()

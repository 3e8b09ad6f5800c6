"""`smidgen ladder`: Target, Result and Analysis of every step, claimed and measured."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import AsJson, DataDir, On, RunsDir, place_of, store_at
from smidgen.cli.tables import table
from smidgen.evidence.wording import claimed_line, markdown_table, percent, reached_line

if TYPE_CHECKING:
    from smidgen.evidence.ladders import Reached, ToldStep

_HEADER = ("step", "recipe", "params", "epochs", "claimed", "ours", "sd", "n", "protocol")


def ladder(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A ladder, a FILE.json, or `new` to start a file."),
    ],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE.json RECIPE...]", help="After `new`: the file, its steps."),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Train what has no runs yet.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="With --run: 5 means seeds 1 to 5.")] = 1,
    on: On = "local",
    as_markdown: Annotated[bool, typer.Option("--md", help="Print Markdown.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
) -> None:
    """Tell a ladder: what each step aims at, what its source claims, and what our runs say.

    The analysis is computed from the finished runs in the store. One seed can show no more than
    noise, so differences are weighed from several on.

    For example:

        smidgen ladder era-s7

        smidgen ladder eva4-s5 --run --seeds 5 --md

        smidgen ladder new mine.json era-s7/1 my-step.json && smidgen ladder mine.json
    """
    if name == "new":
        _new(more or [])
        return
    if more:
        raise typer.BadParameter(f"`{more[0]}`: one ladder at a time.", param_hint="'NAME'")
    if as_markdown and as_json:
        raise typer.BadParameter("not together with --json.", param_hint="'--md'")
    from smidgen.evidence.ladders import tell
    from smidgen.recipes.ladder import read_ladder

    rungs, store = read_ladder(name), store_at(runs_dir)
    if run:
        place = place_of(on, runs_dir)
        from smidgen.cli.measuring import train_seeds
        from smidgen.errors import SmidgenError

        wanted = [(rung.recipe, b"") for rung in rungs]
        for result in train_seeds(wanted, None, 5, seeds, store, data_dir, place=place):
            if isinstance(result, SmidgenError):
                raise result
    steps = tell(rungs, store)
    if as_json:
        print(json.dumps({"ladder": name, "steps": [step.to_plain() for step in steps]}))
    else:
        print(markdown(name, steps) if as_markdown else page(name, steps))


def _new(given: list[str]) -> None:
    """Write a ladder whose texts wait to be filled in; never over a file that is there."""
    from smidgen.errors import RecipeError
    from smidgen.files import write_atomically
    from smidgen.recipes.ladder import Step, read_steps
    from smidgen.values import to_plain

    if len(given) < 2 or not given[0].endswith(".json"):
        raise typer.BadParameter(
            "it takes a file and recipes: `smidgen ladder new mine.json era-s7/1 era-s7/2`.",
            param_hint="'new'",
        )
    path = Path(given[0])
    if path.exists():
        raise RecipeError(f"`{path}` is there already. Choose another name or edit it.")
    rungs = read_steps([Step(name) for name in given[1:]], path.parent)
    steps = [
        Step(name, target=rung.recipe.about.target)
        for name, rung in zip(given[1:], rungs, strict=True)
    ]
    text = json.dumps([to_plain(step) for step in steps], indent=2, ensure_ascii=False)
    write_atomically(path, f"{text}\n".encode())
    print(f"Wrote `{path}` with {len(steps)} steps. `smidgen ladder {path}` tells it.")


def page(name: str, steps: "list[ToldStep]") -> str:
    """Return a ladder as people read it in a terminal."""
    parts = [name, table(_HEADER, _rows(steps), left=2)]
    for number, step in enumerate(steps, start=1):
        lines = [f"{number}  {step.recipe.name}"]
        lines += [f"   {title:<9} {text}" for title, text in _story(step)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def markdown(name: str, steps: "list[ToldStep]") -> str:
    """Return a ladder as a page: the table, then a section per step."""
    left = {0, 1, len(_HEADER) - 1}
    parts = [f"# {name}", markdown_table(_HEADER, _rows(steps), left)]
    for number, step in enumerate(steps, start=1):
        parts.append(f"## Step {number}: {step.recipe.name}")
        sections: dict[str, list[str]] = {}
        for title, text in _story(step):
            sections.setdefault(title, []).append(text)
        parts += [
            f"**{title}**: {texts[0]}"
            if len(texts) == 1
            else "\n".join([f"**{title}**", "", *(f"- {text}" for text in texts)])
            for title, texts in sections.items()
        ]
    return "\n\n".join(parts)


def _rows(steps: "list[ToldStep]") -> list[list[object]]:
    rows: list[list[object]] = []
    for number, step in enumerate(steps, start=1):
        claim = step.recipe.about.claim
        best = claim.best_accuracy if claim else None
        head: list[object] = [
            str(number),
            step.recipe.name,
            step.num_params,
            step.recipe.epochs,
            None if best is None else f"{best:.2f} %",
        ]
        ours = [_ours(each) for each in step.reached] or [[None] * 4]
        rows.append([*head, *ours[0]])
        rows += [["", "", "", "", "", *each] for each in ours[1:]]
    return rows


def _ours(reached: "Reached") -> list[object]:
    sd = None if reached.sd is None else f"{100 * reached.sd:.3f}"
    return [percent(reached.mean), sd, reached.n, reached.protocol]


def _story(step: "ToldStep") -> list[tuple[str, str]]:
    """Return the texts of a step, each under its title; a title may come several times."""
    about = step.recipe.about
    story = [("Target", about.target)] if about.target else []
    if about.claim is not None and about.claim.best_accuracy is not None:
        story.append(("Result", claimed_line(step)))
    if step.result:
        story.append(("Result", f"noted: {step.result}"))
    story += [("Result", f"ours: {reached_line(each)}") for each in step.reached]
    if not step.reached:
        story.append(("Result", "ours: no runs here; `--run` makes some"))
    if about.analysis:
        story.append(("Analysis", f"told: {about.analysis}"))
    story += [("Analysis", text) for text in step.analysis]
    return story

"""The table of commands."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from smidgen.cli import (
    ablate_command,
    check_command,
    cloud_command,
    compare_command,
    data_command,
    export_command,
    grade_command,
    inspect_command,
    ladder_command,
    profile_command,
    prove_command,
    recipes_command,
    report_command,
    runs_command,
    search_command,
    train_command,
    use_command,
)
from smidgen.cli.options import SettingCommand

GROUPS = {
    "Look": ("recipes", "show", "inspect", "schema", "data"),
    "Train": ("train", "search", "profile"),
    "Prove": ("prove", "compare", "ablate", "ladder", "check", "grade"),
    "Use and ship": ("eval", "predict", "report", "export"),
    "Keep": ("runs", "cloud"),
}
"""Under which title the help lists which command; what stands in none comes last."""


class GroupedCommands(TyperGroup):
    """The commands, listed by what they are for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of the help."""
        listed = [name for names in GROUPS.values() for name in names if name in self.commands]
        return [*listed, *(name for name in self.commands if name not in listed)]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands under their titles, each with the first sentence of its help."""
        names = self.list_commands(ctx)
        width = max(len(name) for name in names)
        for title, members in {**GROUPS, "Further": tuple(names)}.items():
            chosen = [name for name in members if name in names]
            names = [name for name in names if name not in chosen]
            rows = [(name, self.commands[name].get_short_help_str(limit=200)) for name in chosen]
            if rows:
                with formatter.section(title):
                    formatter.write_dl([(f"{name:<{width}}", text) for name, text in rows])


app = typer.Typer(
    name="smidgen",
    invoke_without_command=True,
    cls=GroupedCommands,
    # plain help: typer's boxes import rich's Markdown, half of the time that `--help` takes
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    pretty_exceptions_enable=False,
    help="Image classifiers with just a smidgen of parameters: design, train, prove, ship.",
    epilog="Start with `smidgen recipes`, `smidgen show smidgen/quick`, `smidgen train`.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from smidgen import __version__

        print(f"smidgen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


for name, command in (
    ("recipes", recipes_command.recipes),
    ("inspect", inspect_command.inspect),
    ("schema", recipes_command.schema),
    ("compare", compare_command.compare),
    ("ablate", ablate_command.ablate),
    ("check", check_command.check),
    ("grade", grade_command.grade),
    ("ladder", ladder_command.ladder),
    ("search", search_command.search),
    ("report", report_command.report),
    ("eval", use_command.evaluate),
    ("predict", use_command.predict),
    ("export", export_command.export),
):
    app.command(name)(command)
for name, command in (
    ("show", recipes_command.show),
    ("train", train_command.train),
    ("profile", profile_command.profile),
    ("prove", prove_command.prove),
):
    app.command(name, cls=SettingCommand)(command)
app.add_typer(data_command.app, name="data")
app.add_typer(runs_command.app, name="runs")
app.add_typer(cloud_command.app, name="cloud")

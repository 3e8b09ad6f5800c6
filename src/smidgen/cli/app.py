"""The table of commands."""

from typing import Annotated

import typer

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

app = typer.Typer(
    name="smidgen",
    no_args_is_help=True,
    add_completion=False,
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
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


app.command("recipes")(recipes_command.recipes)
app.command("show", cls=SettingCommand)(recipes_command.show)
app.command("inspect")(inspect_command.inspect)
app.command("schema")(recipes_command.schema)
app.add_typer(data_command.app, name="data")
app.command("train", cls=SettingCommand)(train_command.train)
app.command("profile", cls=SettingCommand)(profile_command.profile)
app.command("prove", cls=SettingCommand)(prove_command.prove)
app.command("compare")(compare_command.compare)
app.command("ablate")(ablate_command.ablate)
app.command("check")(check_command.check)
app.command("grade")(grade_command.grade)
app.command("ladder")(ladder_command.ladder)
app.command("search")(search_command.search)
app.command("report")(report_command.report)
app.command("eval")(use_command.evaluate)
app.command("predict")(use_command.predict)
app.command("export")(export_command.export)
app.add_typer(runs_command.app, name="runs")
app.add_typer(cloud_command.app, name="cloud")

"""The table of commands."""

from typing import Annotated

import typer

from smidgen.cli import (
    ablate,
    catalogue,
    check,
    cloud_command,
    compare,
    data,
    grade,
    inspect,
    ladder,
    models,
    profile,
    prove,
    report,
    runs,
    search,
    training,
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


app.command("recipes")(catalogue.recipes)
app.command("show", cls=SettingCommand)(catalogue.show)
app.command("inspect")(inspect.inspect)
app.command("schema")(catalogue.schema)
app.add_typer(data.app, name="data")
app.command("train", cls=SettingCommand)(training.train)
app.command("profile", cls=SettingCommand)(profile.profile)
app.command("prove", cls=SettingCommand)(prove.prove)
app.command("compare")(compare.compare)
app.command("ablate")(ablate.ablate)
app.command("check")(check.check)
app.command("grade")(grade.grade)
app.command("ladder")(ladder.ladder)
app.command("search")(search.search)
app.command("report")(report.report)
app.command("eval")(models.evaluate)
app.command("predict")(models.predict)
app.add_typer(runs.app, name="runs")
app.add_typer(cloud_command.app, name="cloud")

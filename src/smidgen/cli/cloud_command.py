"""`smidgen cloud`: train or prove on a rented EC2 machine, under a cap, with an end."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import DataDir, Like, RunsDir, Setting, store_at

if TYPE_CHECKING:
    from smidgen.cloud.ec2 import Cloud
    from smidgen.cloud.rental import CloudJob, Notes, Work
    from smidgen.recipes.recipe import Recipe

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train or prove on a rented EC2 machine, under a cap in dollars, with an end.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A recipe, JSON file, FILE.py:Class.")]
MaxDollars = Annotated[
    float, typer.Option("--max-dollars", help="The most that all of it may cost.")
]
Minutes = Annotated[int, typer.Option("--minutes", min=1, help="The most that the work may take.")]
Region = Annotated[str, typer.Option("--region", help="AWS region (else your AWS settings').")]
Bucket = Annotated[
    str, typer.Option("--bucket", help="S3 bucket for input and results (else one is made).")
]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="Acceptable machine types; the cheapest wins.")
]
Image = Annotated[str, typer.Option("--image", help="Machine image (else Amazon Linux 2023).")]
Subnet = Annotated[str, typer.Option("--subnet", help="Subnet (else the default network).")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show request, script and arithmetic; needs no account.")
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Return after the launch; `cloud fetch` brings the runs.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job, part of its name, or `last`.")]


@app.command()
def train(
    name: Name,
    max_dollars: MaxDollars,
    minutes: Minutes = 30,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 1,
    settings: Setting = None,
    like: Like = None,
    region: Region = "",
    bucket: Bucket = "",
    types: Types = None,
    image: Image = "",
    subnet: Subnet = "",
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
    dry_run: DryRun = False,
    detach: Detach = False,
    yes: Yes = False,
) -> None:
    """Train one run on a rented machine and bring it home.

    For example:

        smidgen cloud train smidgen/quick --max-dollars 0.05 --minutes 10 --dry-run
    """
    _check_cap(max_dollars, minutes)
    recipe = _recipe(name, settings, like)
    work = _work(recipe, "train", ("--seed", str(seed)), data_dir)
    place = (region, bucket, tuple(types or ()), image, subnet)
    _begin(_job(work, max_dollars, minutes, place), work, runs_dir, (dry_run, detach, yes))


@app.command()
def prove(
    name: Name,
    max_dollars: MaxDollars,
    minutes: Minutes = 60,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 1 to this number.")] = 20,
    settings: Setting = None,
    like: Like = None,
    region: Region = "",
    bucket: Bucket = "",
    types: Types = None,
    image: Image = "",
    subnet: Subnet = "",
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
    dry_run: DryRun = False,
    detach: Detach = False,
    yes: Yes = False,
) -> None:
    """Train many seeds on a rented machine; `smidgen prove` here then states the proof.

    For example:

        smidgen cloud prove smidgen/10k --seeds 20 --max-dollars 0.50 --minutes 60
    """
    _check_cap(max_dollars, minutes)
    recipe = _recipe(name, settings, like)
    work = _work(recipe, "prove", ("--seeds", str(seeds)), data_dir)
    place = (region, bucket, tuple(types or ()), image, subnet)
    _begin(_job(work, max_dollars, minutes, place), work, runs_dir, (dry_run, detach, yes))


@app.command("list")
def list_jobs(region: Region = "", runs_dir: RunsDir = None) -> None:
    """List jobs and living machines; end what is past its time."""
    notes = _notes(runs_dir)
    for job in notes.all():
        print(f"{job.name}  {job.state}  {job.title}  {job.outcome}".rstrip())
    cloud = _cloud(runs_dir, region)
    cloud.sweep()
    machines = cloud.machines()
    for machine, name, state in machines:
        print(f"{machine}  {state}  of {name}")
    if not machines:
        print(f"No machine of smidgen's lives in {cloud.region}.")


@app.command()
def fetch(
    job: JobName = "last",
    wait: Annotated[bool, typer.Option(help="Wait for the end; else take what is there.")] = True,
    runs_dir: RunsDir = None,
) -> None:
    """Bring a job's runs home, and go on with it where the driver was interrupted."""
    found = _notes(runs_dir).find(job)
    _follow(_cloud(runs_dir, found.region), found, wait)


@app.command()
def stop(job: JobName = "last", runs_dir: RunsDir = None) -> None:
    """End a job's machines now; what they gave back before stays fetchable."""
    found = _notes(runs_dir).find(job)
    _cloud(runs_dir, found.region).stop(found)
    print(f"`{found.name}` is stopped.")


@app.command()
def sweep(region: Region = "", runs_dir: RunsDir = None) -> None:
    """End every machine of smidgen's in the account that is past its end."""
    ended = _cloud(runs_dir, region).sweep()
    print(f"{len(ended)} machine{'' if len(ended) == 1 else 's'} ended.")


@app.command()
def policy() -> None:
    """Print the least IAM policy that these commands need."""
    from smidgen.cloud.ec2 import policy as least

    print(json.dumps(least(), indent=2))


def _check_cap(dollars: float, minutes: int) -> None:
    from smidgen.cloud.rental import price_cap

    price_cap(dollars, minutes)  # refuses what makes no sense before anything else is done


def _recipe(name: str, settings: list[str] | None, like: str | None) -> "Recipe":
    from smidgen.cli.targets import trainable

    return trainable(name, settings, like).recipe


def _work(
    recipe: "Recipe", command: str, options: tuple[str, ...], data_dir: Path | None
) -> "Work":
    from smidgen.cloud.bundle import data_files
    from smidgen.cloud.rental import Work

    words = (command, "recipe.json", *options, "--runs-dir", "runs", "--engine", "native")
    title = f"{command} {recipe.name}"
    return Work(title, words, recipe.to_json(), data_files(recipe.dataset, data_dir))


def _job(
    work: "Work", dollars: float, minutes: int, place: tuple[str, str, tuple[str, ...], str, str]
) -> "CloudJob":
    from smidgen.cloud.ec2 import INSTANCE_TYPES
    from smidgen.cloud.rental import CloudJob, new_name

    region, bucket, types, image, subnet = place
    return CloudJob(
        name=new_name(work.title),
        title=work.title,
        region=region,
        bucket=bucket,
        instance_types=types or INSTANCE_TYPES,
        max_dollars=dollars,
        minutes=minutes,
        command=work.command,
        image=image,
        subnet=subnet,
    )


def _begin(
    job: "CloudJob", work: "Work", runs_dir: Path | None, how: tuple[bool, bool, bool]
) -> None:
    from smidgen.cloud.bundle import pack_input
    from smidgen.cloud.ec2 import preview
    from smidgen.cloud.rental import arithmetic

    dry_run, detach, yes = how
    content = pack_input(work)
    if dry_run:
        print(preview(job, content))
        return
    cloud = _cloud(runs_dir, job.region)
    print(f"{job.title} in {cloud.region}, input {len(content) / 1e6:.1f} MB.", file=sys.stderr)
    print(arithmetic(job.max_dollars, job.minutes), file=sys.stderr)
    if not yes:
        typer.confirm("Launch?", abort=True, err=True)
    job = cloud.submit(job, content)
    if detach:
        print(f"Launched. `smidgen cloud fetch {job.name}` brings the runs home.")
        return
    _follow(cloud, job, wait=True)


def _follow(cloud: "Cloud", job: "CloudJob", wait: bool) -> None:
    job, runs = cloud.follow(job, wait)
    for run in runs:
        print(run.path)
    if job.state == "running":
        print(f"`{job.name}` is still at work; its machine ends by itself.", file=sys.stderr)
    else:
        print(
            f"{job.title}: {job.outcome}; it cost at most {job.spent_dollars:.4f} dollars.",
            file=sys.stderr,
        )


def _notes(runs_dir: Path | None) -> "Notes":
    from smidgen.cloud.rental import Notes

    return Notes(store_at(runs_dir).root / ".cloud")


def _cloud(runs_dir: Path | None, region: str) -> "Cloud":
    from smidgen.cloud.ec2 import Cloud

    return Cloud(
        _notes(runs_dir), store_at(runs_dir), region, lambda line: print(line, file=sys.stderr)
    )

"""`smidgen data`: fetch, measure and look at data sets."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smidgen.cli.options import AsJson, DataDir, FitOption, InvertOption, load_named

if TYPE_CHECKING:
    from smidgen.data import DatasetStats

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Fetch, measure and look at data sets."
)

Name = Annotated[
    str,
    typer.Argument(help="mnist, fashion-mnist, kmnist, qmnist, stripes or folder."),
]


@app.command()
def fetch(
    name: Name,
    source: Annotated[
        str | None,
        typer.Option("--from", help="Folder, zip file or address to take it from."),
    ] = None,
) -> None:
    """Put a data set's verified files into the cache and print where they are.

    For example:

        smidgen data fetch mnist

        smidgen data fetch mnist --from ~/Downloads/mnist.zip
    """
    from smidgen.cli.live import data_progress
    from smidgen.data import fetch_dataset

    with data_progress("bytes") as progress:
        folder = fetch_dataset(name, source=source, progress=progress)
    print(folder)


@app.command()
def stats(
    name: Name,
    data_dir: DataDir = None,
    invert: InvertOption = "auto",
    fit: FitOption = "resize",
    as_json: AsJson = False,
) -> None:
    """Print counts per class, mean, standard deviation and range of the pixels.

    For example:

        smidgen data stats mnist --json
    """
    from smidgen.data import dataset_stats

    found = dataset_stats(load_named(name, data_dir, invert, fit))
    print(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else _table(found))


@app.command()
def check(
    name: Name,
    data_dir: DataDir = None,
    invert: InvertOption = "auto",
    fit: FitOption = "resize",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look for copies across train and test and under two labels, and for empty pictures.

    Copies have the same pixels, whatever their files; those nearly alike are looked for as well.

    For example:

        smidgen data check folder --data-dir animals
    """
    import warnings

    from smidgen.data.doubts import find_doubts, listed
    from smidgen.errors import DataWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # what they say is printed below, and more
        dataset = load_named(name, data_dir, invert, fit)
    doubts = find_doubts(dataset, near=True)
    plain = json.dumps(doubts.to_dict(dataset), ensure_ascii=False)
    print(plain if as_json else "\n".join(listed(dataset, doubts)))


@app.command()
def samples(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")] = Path(
        "samples.png"
    ),
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Show training images as this recipe augments them."),
    ] = None,
    count: Annotated[int, typer.Option("--count", help="How many images.")] = 100,
    split: Annotated[
        Literal["train", "test"], typer.Option("--split", help="Which images.")
    ] = "train",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another one draws others.")] = 1,
    data_dir: DataDir = None,
    invert: InvertOption = "auto",
    fit: FitOption = "resize",
) -> None:
    """Draw a labelled grid of images and print the file's path.

    For example:

        smidgen data samples mnist -o samples.png

        smidgen data samples mnist --recipe smidgen/quick -o augmented.png
    """
    from smidgen.data import samples_grid, samples_of
    from smidgen.files import write_atomically

    if recipe is not None and split != "train":
        raise typer.BadParameter("only training images are augmented.", param_hint="'--split'")
    if output.suffix.lower() != ".png":
        raise typer.BadParameter(
            f"`{output}` does not end in .png, the one format it is written in.",
            param_hint="'--output'",
        )
    if recipe is not None:
        from smidgen.recipes.catalogue import get_recipe

        get_recipe(recipe)  # a wrong name is told before images are read
    dataset = load_named(name, data_dir, invert, fit)
    if recipe is None:
        part = dataset.train if split == "train" else dataset.test
        images, labels = samples_of(part, dataset.num_classes, count, seed)
    else:
        from smidgen.training.use import augmented_samples

        images, labels = augmented_samples(recipe, dataset, count, seed)
    png = io.BytesIO()
    samples_grid(images, labels, dataset.class_names).save(png, "PNG", optimize=True)
    write_atomically(output, png.getvalue())
    print(output)


def _table(stats: "DatasetStats") -> str:
    shape = "x".join(str(side) for side in stats.image_shape)
    rows = [(stats.name, "train", "test")]
    rows += [("images", f"{stats.train.num_images:,}", f"{stats.test.num_images:,}")]
    for label in ("mean", "std", "minimum", "maximum"):
        train, test = (getattr(part, label) for part in (stats.train, stats.test))
        rows.append((label, f"{train:.4f}", f"{test:.4f}"))
    counts = zip(stats.class_names, stats.train.class_counts, stats.test.class_counts, strict=True)
    rows += [(f"class {name}", f"{train:,}", f"{test:,}") for name, train, test in counts]
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:<{width}}  {row[1]:>9}  {row[2]:>9}" for row in rows]
    note = f"Pixels are shares of 255; images are {shape}; sha256 {stats.sha256}"
    return "\n".join([*lines, "", note])

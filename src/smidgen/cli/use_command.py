"""`smidgen eval` and `smidgen predict`: what a trained model says."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from smidgen.choices import Fit, Invert
from smidgen.cli.options import AsJson, DataDir, RunName, RunsDir, store_at
from smidgen.cli.tables import table
from smidgen.evidence.wording import percent

InvertAs = Annotated[
    Invert | None,
    typer.Option("--invert", help="Whether images are dark on light (else as in training)."),
]
FitAs = Annotated[
    Fit | None,
    typer.Option(
        "--fit",
        help="Scale to the network's size, or crop and center like MNIST (else as in training).",
    ),
]


def evaluate(
    run: RunName,
    images: Annotated[
        Path | None, typer.Option(help="A folder of images, one sub-folder per class.")
    ] = None,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
    invert: InvertAs = None,
    fit: FitAs = None,
    as_json: AsJson = False,
) -> None:
    """Measure a finished run: on its own test images, or on a folder of yours.

    For example:

        smidgen eval last

        smidgen eval smidgen-quick --images my-digits/
    """
    from smidgen.training.use import evaluate_on_folder, evaluate_on_test, find_trained

    folder = find_trained(store_at(runs_dir), run, _note)
    if images is not None:
        done = evaluate_on_folder(folder, images, invert, fit)
    else:
        done = evaluate_on_test(folder, data_dir, invert, fit)
    if as_json:
        print(
            json.dumps(
                {
                    "run": folder.name,
                    "accuracy": done.accuracy,
                    "num_errors": done.num_errors,
                    "num_images": done.num_images,
                    "loss": done.loss,
                }
            )
        )
        return
    print(
        f"{percent(done.accuracy)}: {done.num_errors:,} errors in {done.num_images:,} images, "
        f"mean cross-entropy {done.loss:.4f}"
    )


def predict(
    run: RunName,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="PNG, JPEG or BMP files, or a folder of them."),
    ],
    runs_dir: RunsDir = None,
    invert: InvertAs = None,
    fit: FitAs = None,
    as_json: AsJson = False,
) -> None:
    """Say what is on each image, with the model's probability.

    For example:

        smidgen predict last seven.png

        smidgen predict last photo.jpg --fit mnist
    """
    from smidgen.training.use import find_trained, predict_images

    folder = find_trained(store_at(runs_dir), run, _note)
    found = predict_images(folder, images, invert, fit)
    if as_json:
        print(json.dumps([prediction.to_plain() for prediction in found]))
        return
    rows = [[str(p.path), p.class_name, percent(p.probability), p.second()] for p in found]
    print(table(["image", "class", "probability", "next"], rows, left=2))


def _note(text: str) -> None:
    print(text, file=sys.stderr)

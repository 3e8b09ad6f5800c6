"""Recipes in, a plain PyTorch project out: what one would hand in, without smidgen.

Models, training, augmentation, tests, notebooks and a table of steps, as files by name. They
need torch, numpy, tqdm and matplotlib, no torchvision and none of our code.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files

from smidgen.data.specs import find_spec
from smidgen.errors import ReportError
from smidgen.network.trace import trace
from smidgen.recipes.augmentation import (
    Elastic,
    Erasing,
    Jitter,
    ResizedCrop,
    Rotation,
    Scaling,
    Shear,
    Translation,
)
from smidgen.recipes.ladder import Rung
from smidgen.recipes.parts import SGD, Constant, Cosine, Linear, OneCycle, Plateau, StepDecay
from smidgen.recipes.recipe import Recipe
from smidgen.ship.torch_source import torch_source
from smidgen.values import to_plain

REQUIREMENTS = "torch>=2.6\nnumpy>=1.26\ntqdm>=4.66\nmatplotlib>=3.9\npytest>=8\n"
_TAIL = '''

def loss(scores, labels):
    """Return the mean loss of a batch."""
    return {scores}


SETTINGS = {settings}


def make_optimizer(model):
    """Return what updates the model."""
    return {optimizer}


def make_scheduler(optimizer, epochs, steps_per_epoch):
    """Return what moves the learning rate, or None."""
'''
_STEPS = {
    Rotation: "rotation",
    Translation: "translation",
    Scaling: "scaling",
    Shear: "shear",
    ResizedCrop: "resized_crop",
}


def project_files(rungs: Sequence[Rung], title: str) -> dict[str, str]:
    """Return the project's text files by name, folders with `/`.

    Args:
        rungs: The steps, in order; model files are numbered from 1.
        title: Of the project.

    Raises:
        ReportError: A recipe that plain PyTorch cannot follow; names what and why.
        NetworkError: A layer that PyTorch has no module for.
    """
    numbers = [str(number) for number in range(1, len(rungs) + 1)]
    made = {"requirements.txt": REQUIREMENTS, "README.md": _readme(rungs, title)}
    counts = []
    for number, rung in zip(numbers, rungs, strict=True):
        recipe = rung.recipe
        _check(recipe)
        totals = trace(recipe.network).totals
        counts.append(f'"{number}": {totals.num_registered}')
        made[f"model_{number}.py"] = _model(recipe)
        made[f"notebooks/step_{number}.ipynb"] = _notebook(number, rung)
    made["data.py"] = _filled("data.py.txt", **_mnist())
    made["augment.py"] = _filled("augment.py.txt")
    made["train.py"] = _filled(
        "train.py.txt", MODELS=", ".join(f'"{n}"' for n in numbers) + ("," * (len(numbers) == 1))
    )
    made["tests/test_models.py"] = _filled("test_models.py.txt", COUNTS=", ".join(counts))
    return made


def _check(recipe: Recipe) -> None:
    """Refuse what the project's few files cannot do, by name."""
    unsayable = {
        "dataset": recipe.dataset != "mnist",
        "averaging": recipe.averaging is not None,
        "distillation": recipe.distillation is not None,
        "drop_last": recipe.drop_last,
        "schedule": isinstance(recipe.schedule, Plateau) and recipe.schedule.divisor != 1,
        "augmentation": any(isinstance(t, Elastic) for t in recipe.augmentation.transforms),
    }
    for name, is_so in unsayable.items():
        if is_so:
            raise ReportError(
                f"`{recipe.name}`: a plain project cannot follow its `{name}` "
                f"({getattr(recipe, name)!r}). `--set` another one, or export the trained run."
            )


def _model(recipe: Recipe) -> str:
    lines = [f"{recipe.name}: {recipe.about.summary}".rstrip(": ")]
    source = torch_source(recipe.network, doc="\n    ".join(lines))
    smoothing = recipe.loss.label_smoothing
    scores = "F.nll_loss(scores, labels)"
    if recipe.network.output == "softmax":
        scores = "F.nll_loss(scores.clamp_min(1e-12).log(), labels)"
    elif recipe.network.output == "logits" or smoothing:
        scores = f"F.cross_entropy(scores, labels, label_smoothing={smoothing!r})"
    tail = _TAIL.format(
        scores=scores, settings=_settings(recipe), optimizer=_optimizer(recipe)
    ) + _scheduler(recipe)
    body = source.split("from torch import nn\n", 1)[1].lstrip("\n")
    used = "\nimport augment\n" if "augment." in tail else ""
    return f'"""Step of the ladder: {recipe.name}."""\n\n{_imports()}{used}\n\n{body}{tail}'


def _imports() -> str:
    return "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"


def _settings(recipe: Recipe) -> str:
    normalization = to_plain(recipe.normalization)
    changes = recipe.augmentation
    erasing = next((t for t in changes.transforms if isinstance(t, Erasing)), None)
    jitter = next((t for t in changes.transforms if isinstance(t, Jitter)), None)
    steps = [
        f"(augment.{_STEPS[type(t)]}, {_arguments(t)})"
        for t in changes.transforms
        if type(t) in _STEPS
    ]
    lines = [
        f'    "epochs": {recipe.epochs},',
        f'    "clean_epochs": {recipe.clean_epochs},',
        f'    "batch_size": {recipe.batch_size},',
        f'    "output": "{recipe.network.output}",',
        '    "loss": loss,',
        f'    "every_step": {_moves_each_step(recipe)},',
        *(f'    "{key}": {number!r},' for key, number in normalization.items()),
    ]
    erase_after = erasing is not None and erasing.position == "after_normalization"
    lines.append(f'    "erase_after": {erase_after},')
    if not changes.transforms:
        return "{\n" + "\n".join([*lines, '    "augmentation": None,']) + "\n}"
    erase = None
    if erasing is not None:
        erase = {
            "probability": erasing.probability,
            "level": erasing.level,
            "area": (erasing.smallest_area, erasing.largest_area),
            "aspect": (erasing.smallest_aspect, erasing.largest_aspect),
        }
    jitters = None if jitter is None else _arguments(jitter)
    lines += [
        '    "augmentation": {',
        '        "steps": [',
        *(f"            {step}," for step in steps),
        "        ],",
        f'        "interpolation": "{changes.interpolation}",',
        f'        "fill": {changes.fill!r},',
        f'        "position": "{changes.position}",',
        f'        "jitter": {jitters},',
        f'        "erasing": {_literal(erase, 8)},',
        "    },",
    ]
    return "{\n" + "\n".join(lines) + "\n}"


def _arguments(transform: object) -> str:
    plain = {key: given for key, given in to_plain(transform).items() if key != "kind"}
    return _literal(plain)


def _literal(given: object, column: int | None = None) -> str:
    """Return a dictionary as Python source, in lines below each other if a column is given."""
    if not isinstance(given, dict):
        return repr(given)
    pairs = [f'"{key}": {number!r}' for key, number in given.items()]
    if column is None:
        return "{" + ", ".join(pairs) + "}"
    space = " " * column
    return "{\n" + "".join(f"{space}    {pair},\n" for pair in pairs) + space + "}"


def _moves_each_step(recipe: Recipe) -> bool:
    return getattr(recipe.schedule, "every", "epoch") == "step"


def _optimizer(recipe: Recipe) -> str:
    o = recipe.optimizer
    if isinstance(o, SGD):
        words = [f"lr={o.lr!r}", f"momentum={o.momentum!r}"]
        words += [f"nesterov={o.nesterov}"] if o.nesterov else []
        words += [f"weight_decay={o.weight_decay!r}"] if o.weight_decay else []
        return f"torch.optim.SGD(model.parameters(), {', '.join(words)})"
    name = type(o).__name__
    return (
        f"torch.optim.{name}(\n        model.parameters(),\n        lr={o.lr!r},\n"
        f"        betas=({o.beta1!r}, {o.beta2!r}),\n        eps={o.eps!r},\n"
        f"        weight_decay={o.weight_decay!r},\n    )"
    )


def _scheduler(recipe: Recipe) -> str:
    schedule, lr = recipe.schedule, recipe.optimizer.lr
    total = "epochs * steps_per_epoch" if _moves_each_step(recipe) else "epochs"
    match schedule:
        case Constant():
            return "    return None\n"
        case Plateau():
            return "    return None  # the rule divides by 1: it never changes anything\n"
        case StepDecay():
            return (
                "    return torch.optim.lr_scheduler.StepLR("
                f"optimizer, step_size={schedule.step_epochs}, gamma={schedule.gamma!r})\n"
            )
        case OneCycle():
            momentum = schedule.momentum
            cycled = (
                "cycle_momentum=False"
                if momentum is None
                else f"base_momentum={momentum[0]!r},\n        max_momentum={momentum[1]!r}"
            )
            return (
                "    return torch.optim.lr_scheduler.OneCycleLR(\n"
                f"        optimizer,\n        max_lr={lr!r},\n        total_steps={total},\n"
                f"        pct_start={schedule.warmup_fraction!r},\n"
                f"        div_factor={schedule.start_divisor!r},\n"
                f"        final_div_factor={schedule.final_divisor!r},\n"
                f'        anneal_strategy="{schedule.anneal.replace("cosine", "cos")}",\n'
                f"        {cycled},\n"
                "    )\n"
            )
        case Cosine() | Linear():
            warm, end = schedule.warmup_fraction, schedule.final_lr / lr
            down = (
                "0.5 * (1 + math.cos(math.pi * share))"
                if isinstance(schedule, Cosine)
                else "1 - share"
            )
            math = "    import math\n\n" if isinstance(schedule, Cosine) else ""
            return (
                f"{math}    total = {total}\n\n"
                "    def factor(step):\n"
                f"        warm = {warm!r} * total\n"
                "        if step < warm:\n"
                "            return step / warm\n"
                "        share = min(1.0, (step - warm) / max(1.0, total - warm))\n"
                f"        return {end!r} + (1 - {end!r}) * ({down})\n\n"
                "    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)\n"
            )


def _readme(rungs: Sequence[Rung], title: str) -> str:
    lines = [
        f"# {title}",
        "",
        "MNIST with few parameters, step by step. Plain PyTorch: `model_1.py` ... are the steps,",
        "`train.py` trains any of them, `tests/` holds what each must keep.",
        "",
        "```sh",
        "pip install -r requirements.txt",
        "python train.py --model 1            # --epochs, --seed, --data, --device",
        "pytest",
        "```",
        "",
        "| step | parameters | receptive field | epochs | batch | target | result | analysis |",
        "| --: | --: | --: | --: | --: | --- | --- | --- |",
    ]
    for number, rung in enumerate(rungs, 1):
        recipe = rung.recipe
        totals = trace(recipe.network).totals
        words = [recipe.about.target, _result(rung), recipe.about.analysis]
        cells = [number, f"{totals.num_params:,}", totals.receptive_field, recipe.epochs]
        cells += [recipe.batch_size, *(_cell(word) for word in words)]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    lines += ["", "Notebooks, to open on Colab once the project has an address:", ""]
    for number in range(1, len(rungs) + 1):
        lines.append(
            f"- [step {number}](https://colab.research.google.com/github/YOUR_NAME/YOUR_PROJECT/"
            f"blob/main/notebooks/step_{number}.ipynb)"
        )
    return "\n".join([*lines, ""])


def _result(rung: Rung) -> str:
    if rung.result:
        return rung.result
    claim = rung.recipe.about.claim
    if claim is None or claim.best_accuracy is None:
        return ""
    at = f" after epoch {claim.best_epoch}" if claim.best_epoch else ""
    return f"best {claim.best_accuracy:.2f} %{at}, as its source says"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


_NOTEBOOK_CELLS = (
    """import os
import sys

if os.path.basename(os.getcwd()) == "notebooks":
    os.chdir("..")
sys.path.insert(0, os.getcwd())

from matplotlib import pyplot as plt

import data
import model_@N@ as step
import train""",
    """net = step.Net()
print(net)
print(f"{sum(p.numel() for p in net.parameters()):,} parameters")""",
    """images, labels, *_ = data.load("data")
changed = train.prepare(images[:16], step.SETTINGS, training=True)
figure, rows = plt.subplots(2, 16, figsize=(16, 2.4))
for i in range(16):
    for axes, picture in zip(rows[:, i], (images[i, 0], changed[i, 0])):
        axes.imshow(picture, cmap="gray")
        axes.axis("off")
    rows[0, i].set_title(int(labels[i]))""",
    """log = train.train("@N@", seed=1)""",
    """epochs = [row["epoch"] for row in log]
plt.plot(epochs, [row["train"] for row in log], label="train (running)")
plt.plot(epochs, [row["test"] for row in log], label="test")
plt.xlabel("epoch")
plt.ylabel("accuracy, %")
plt.legend()""",
)
"""The code of a step's notebook; @N@ is its number."""


def _notebook(number: str, rung: Rung) -> str:
    recipe = rung.recipe
    totals = trace(recipe.network).totals
    about = [
        f"# Step {number}: {recipe.name}",
        f"**Target.** {recipe.about.target or 'Yours to say.'}",
        f"**Result.** {_result(rung) or 'Run the cells below.'}",
        f"**Analysis.** {recipe.about.analysis or 'Yours to write.'}",
        f"{totals.num_params:,} parameters, receptive field {totals.receptive_field} pixels.",
    ]
    cells = [_cell_of("markdown", "\n\n".join(about))]
    cells += [_cell_of("code", text.replace("@N@", number)) for text in _NOTEBOOK_CELLS]
    book = {
        "cells": cells,
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def _cell_of(kind: str, text: str) -> dict[str, object]:
    cell: dict[str, object] = {
        "cell_type": kind,
        "id": hashlib.sha256(text.encode()).hexdigest()[:8],
        "metadata": {},
        "source": text.splitlines(keepends=True),
    }
    if kind == "code":
        cell.update(execution_count=None, outputs=[])
    return cell


def _mnist() -> dict[str, str]:
    spec = find_spec("mnist")
    listed = (spec.train_images, spec.train_labels, spec.test_images, spec.test_labels)
    return {
        "FILES": "\n".join(f'    "{file.name}": "{file.sha256}",' for file in listed),
        "MIRRORS": "\n".join(f'    "{mirror.rstrip("/")}/",' for mirror in spec.mirrors),
    }


def _filled(name: str, **words: str) -> str:
    text = (files("smidgen.ship") / "project_files" / name).read_text(encoding="utf-8")
    for word, filling in words.items():
        text = text.replace(f"@{word}@", filling)
    return text

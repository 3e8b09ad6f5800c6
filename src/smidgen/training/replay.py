"""When training meets NaN or infinity: name where it began and keep the batch for a rerun."""

import json
from pathlib import Path

from smidgen.data.dataset import Split
from smidgen.engines.contract import Engine, EpochPlan
from smidgen.errors import NonFiniteError, RunError
from smidgen.recipes.recipe import Recipe
from smidgen.runs.record import RunRecord
from smidgen.runs.store import RunFolder
from smidgen.runs.tensors import load_tensors, save_tensors

REPLAY = "replay.safetensors"


def write_replay(
    folder: RunFolder,
    record: RunRecord,
    engine: Engine,
    train: Split,
    plan: EpochPlan,
    error: NonFiniteError,
) -> NonFiniteError:
    """Rerun the batch in torch, write what a rerun needs, and return the error to raise.

    The file holds the batch as the network saw it, its labels, its teachers' targets if there
    are any, and the engine's state from before the step (on CUDA: from before the epoch).
    """
    from smidgen.engines.torch_diagnosis import diagnose_batch
    from smidgen.engines.torch_engine import TorchEngine

    oracle = TorchEngine(record.recipe.network, record.recipe, train.images, train.labels)
    images = oracle.batch(plan, error.step)
    labels = train.labels[plan.order[plan.rows(error.step)]]
    state = engine.state()
    dropout = (plan.dropout_key, error.step)
    targets = None if plan.targets is None else plan.targets[plan.rows(error.step)]
    culprit = diagnose_batch(record.recipe, state, images, labels, dropout, targets)
    path = folder.path / REPLAY
    tensors = {f"state/{name}": array for name, array in state.items()}
    metadata = {
        "recipe": record.recipe.to_json(indent=None),
        "epoch": str(plan.epoch),
        "dropout": json.dumps(dropout),
        "culprit": culprit,
    }
    tensors |= {"images": images, "labels": labels}
    if targets is not None:
        tensors["targets"] = targets
    save_tensors(path, tensors, metadata)
    return NonFiniteError(
        f"Training met a number that is not finite in epoch {plan.epoch}, step "
        f"{error.step + 1} of {plan.num_steps}, first in {culprit} (learning rate "
        f"{plan.lr[error.step]:g}). The weights from before it and the batch are in `{path}`. "
        "Try a lower `optimizer.lr`.",
        error.step,
    )


def replay(path: Path) -> str:
    """Run the batch of a replay file again and return what is non-finite first.

    Raises:
        RunError: The file is missing, damaged or no replay file.
    """
    from smidgen.engines.torch_diagnosis import diagnose_batch

    tensors, metadata = load_tensors(path)
    if "culprit" not in metadata:
        raise RunError(f"`{path}` is no replay file.")
    recipe = Recipe.from_json(metadata["recipe"], f"`{path}`")
    state = {
        name.removeprefix("state/"): array
        for name, array in tensors.items()
        if name.startswith("state/")
    }
    key, step = json.loads(metadata["dropout"])
    images, labels, targets = tensors["images"], tensors["labels"], tensors.get("targets")
    return diagnose_batch(recipe, state, images, labels, (key, step), targets)

"""Teachers at work: the class probabilities that their student's loss reads, epoch by epoch.

Answers on images that every epoch's plan changes anew are found anew. Answers on images that
many plans share (clean ones, and those of a bank) are kept in the cache folder, one file for
each teacher and each way of changing the images:

    CACHE/teachers/KEY.safetensors   float32 class scores of all training images, in their order

KEY is a hash over the teacher's weights, the images, the changes, and what computes.
"""

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from smidgen.data.dataset import Split
from smidgen.engines.choose import make_engine
from smidgen.engines.contract import Engine, EpochPlan
from smidgen.errors import RunError, StorageError
from smidgen.files import locked
from smidgen.places import cache_folder
from smidgen.runs.record import RESULTS_VERSION, RunRecord
from smidgen.runs.store import RunFolder
from smidgen.runs.tensors import load_tensors, save_tensors
from smidgen.training.plan import shared_images
from smidgen.values import to_plain

_ROWS = 10_000
"""Images between two looks at whether to stop: a second, with torch and a large teacher."""
_MOST_BYTES = 512 * 2**20
"""Of targets in memory, and of shared targets kept there: 200 epochs of MNIST."""
_KEPT_SECONDS = 30 * 86_400.0
"""Files of shared answers that nobody has read for so long are removed."""

ShouldStop = Callable[[], bool]


class _StoppedError(Exception):
    """Somebody asked to stop while teachers were answering."""


class Teachers:
    """The teachers of one run.

    Args:
        record: The student's, with the runs that teach it.
        train: The images that the student trains on.
        folder: Where the student's unfinished run stands; its teachers' stand beside it.

    Raises:
        RunError: A teacher's weights are missing or damaged.
    """

    def __init__(self, record: RunRecord, train: Split, folder: Path) -> None:
        assert record.recipe.distillation is not None
        self._recipe, self._distillation = record.recipe, record.recipe.distillation
        self._shape = (len(train), record.recipe.network.num_classes)
        self._folder = folder
        self._engines = [
            _engine(record, train, RunFolder(folder.parent / used.run)) for used in record.teachers
        ]
        self._sources = [_source(record, used.model_sha256) for used in record.teachers]
        self._shared: dict[str, np.ndarray] = {}

    def targets(self, plan: EpochPlan, should_stop: ShouldStop) -> np.ndarray | None:
        """Return float32 (N, classes), the mean over teachers of their softened probabilities.

        Row i belongs to the i-th image of the plan, changed as the plan says. None if told to
        stop, which is asked between parts of the images.
        """
        shared = shared_images(self._recipe, plan.epoch, self._shape[0])
        targets = self._room(len(plan.order))
        try:
            if shared is None:
                self._fill(targets, plan, should_stop)
            else:
                of_all = self._on_shared(shared, should_stop)
                np.take(of_all, plan.order, axis=0, out=targets, mode="clip")
        except _StoppedError:
            return None
        return targets

    def _fill(self, targets: np.ndarray, plan: EpochPlan, should_stop: ShouldStop) -> None:
        for engine in self._engines:
            for rows, scores in _answers(engine, plan, should_stop):
                self._mix(targets[rows], scores)

    def _on_shared(self, plan: EpochPlan, should_stop: ShouldStop) -> np.ndarray:
        key = _digest(plan)
        if key in self._shared:
            return self._shared[key]
        targets = self._room(self._shape[0])
        for engine, source in zip(self._engines, self._sources, strict=True):
            whole = hashlib.sha256(f"{source} {key}".encode()).hexdigest()
            self._mix(targets, _kept_answers(whole, engine, plan, should_stop))
        if (len(self._shared) + 1) * targets.nbytes <= _MOST_BYTES:
            self._shared[key] = targets
        return targets

    def _mix(self, targets: np.ndarray, scores: np.ndarray) -> None:
        """Add one teacher's share to the mean."""
        softened = scores.astype(np.float64) / self._distillation.temperature
        shares = np.exp(softened - softened.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True) * len(self._engines)
        targets += shares.astype(np.float32)

    def _room(self, num_images: int) -> np.ndarray:
        """Return zeros, in a nameless file that goes away by itself where they are many."""
        shape = (num_images, self._shape[1])
        if 4 * num_images * self._shape[1] <= _MOST_BYTES:
            return np.zeros(shape, np.float32)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            return np.memmap(file, np.float32, "w+", shape=shape)


def _engine(record: RunRecord, train: Split, teacher: RunFolder) -> Engine:
    used = record.environment
    engine = make_engine(
        used.engine,
        teacher.record().recipe.replace(averaging=None),  # the averaged weights are its model
        train.images,
        train.labels,
        seed=1,
        threads=used.threads,
        device=used.device,
    )
    engine.load_state(engine.state() | teacher.model())
    return engine


def _source(record: RunRecord, model_sha256: str) -> str:
    """Return a hash over all that decides a teacher's answers but how the images are changed."""
    computer = to_plain(record.environment)
    if record.environment.engine == "native":
        del computer["threads"]  # its bits do not depend on them
    parts = [RESULTS_VERSION, model_sha256, record.data.sha256, record.protocol, computer]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _digest(plan: EpochPlan) -> str:
    geometry, erasing = plan.geometry, plan.erasing
    digest = hashlib.sha256()
    if geometry is not None:
        digest.update(f"{geometry.interpolation} {geometry.fill!r}".encode())
    if erasing is not None:
        digest.update(f"{erasing.level!r}".encode())
    arrays = {
        "affine": geometry and geometry.affine,
        "elastic": geometry and geometry.elastic,
        "jitter": plan.jitter,
        "boxes": erasing and erasing.boxes,
    }
    for name, array in arrays.items():
        if array is not None:
            digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def _answers(
    engine: Engine, plan: EpochPlan, should_stop: ShouldStop
) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(plan.order), _ROWS):
        if should_stop():
            raise _StoppedError
        rows = slice(start, min(start + _ROWS, len(plan.order)))
        yield rows, engine.planned_logits(plan.picked(rows))


def _all_answers(engine: Engine, plan: EpochPlan, should_stop: ShouldStop) -> np.ndarray:
    return np.concatenate([scores for _, scores in _answers(engine, plan, should_stop)])


def _kept_answers(key: str, engine: Engine, plan: EpochPlan, should_stop: ShouldStop) -> np.ndarray:
    """Return answers from the cache; where they are not, find them and put them there."""
    scores = None
    with contextlib.suppress(StorageError):  # a cache that cannot be written costs only time
        path = cache_folder() / "teachers" / f"{key}.safetensors"
        # of several processes that want the same answers, one finds them
        with locked(path.with_name(f".{key}.lock"), remove=True):
            scores = _read(path)
            if scores is not None:
                return scores
            scores = _all_answers(engine, plan, should_stop)
            save_tensors(path, {"scores": scores})
            _sweep(path.parent)
    return _all_answers(engine, plan, should_stop) if scores is None else scores


def _read(path: Path) -> np.ndarray | None:
    try:
        tensors, _ = load_tensors(path)
    except RunError:  # not there, or damaged
        return None
    with contextlib.suppress(OSError):
        path.touch()
    return tensors["scores"]


def _sweep(folder: Path) -> None:
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - entry.stat().st_mtime > _KEPT_SECONDS:
                entry.unlink()

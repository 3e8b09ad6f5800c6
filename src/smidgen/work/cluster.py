"""`Cluster`: runs made on the nodes of a Ray cluster, or of one that is started here to try it.

A node gets the images once, by Ray's object store, and jobs in chunks of about a minute. It trains
in a scratch folder, streams what happens, mirrors the newest checkpoint every half minute, and
sends the finished folder as a parcel, which is held against its record before it stands in the
store by one rename. So the driver's store looks at every moment as if the run had happened here,
and a run whose node is lost goes on elsewhere from the mirror. Retries are ours; Ray's are off.

Ray listens on every interface whatever address it is given, and whoever reaches it may run code:
any address that is not loopback is refused without token mode (CVE-2023-48022, CVE-2025-62593).
"""

import contextlib
import logging
import os
import platform
import queue
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from smidgen.choices import Keep
from smidgen.data.dataset import Dataset
from smidgen.engines.native.build import CarriedLibrary, carry_library, place_library
from smidgen.engines.native.codegen import generate
from smidgen.errors import ClusterError, EngineError, InUseError, RunError
from smidgen.extras import require
from smidgen.files import locked, make_folder
from smidgen.runs.parcel import pack, unpack
from smidgen.runs.record import RESULTS_VERSION, RunSpec
from smidgen.runs.store import RunFolder, RunStore, run_name
from smidgen.training.events import Began, EpochDone, Note
from smidgen.training.run import Run
from smidgen.work.jobs import (
    MOST_RETRIES,
    Busy,
    Job,
    Outcome,
    RunEvent,
    Shared,
    Source,
    run_one,
)

CHUNK_SECONDS = 60.0
"""Runs of about this much time travel as one task: Ray's own cost per task then vanishes."""
MOST_IN_CHUNK = 64
MIRROR_SECONDS = 30.0
_POLL_SECONDS = 0.2
_LEAST_RAY = (2, 54)
"""Older ones delete jobs for anybody who asks (CVE-2026-27482)."""
LOG_FILE = ".ray.log"
_SCRATCH = "smidgen-node-"
_LOOPBACK = ("127.", "localhost", "[::1]", "::1")


@dataclass(frozen=True, slots=True)
class Versions:
    """What must be equal on driver and nodes."""

    smidgen: str
    results: int
    python: str

    @staticmethod
    def here() -> "Versions":
        """Return those of this process."""
        return Versions(version("smidgen"), RESULTS_VERSION, platform.python_version())


@dataclass(frozen=True, slots=True)
class _Packed:
    """A run's folder as bytes: finished, or as far as it has got."""

    content: bytes
    outcome: Outcome | None = None


@dataclass(slots=True)
class _Task:
    """A chunk of jobs that a node works on, and what it says."""

    jobs: deque[Job]
    answers: Any
    began: float = field(default_factory=time.monotonic)
    locks: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


class Cluster:
    """Makes runs on a Ray cluster, each on one core.

    Args:
        shared: What the runs have in common.
        workers: How many at once at most; Ray starts no more than the cluster has cores.
        address: `local` starts a cluster here; `auto` joins the one this machine belongs to;
            else HOST:PORT of its head.
        keep: What of finished runs comes home.
    """

    def __init__(
        self, shared: Shared, workers: int, address: str = "local", keep: Keep = "all"
    ) -> None:
        self._shared, self._workers, self._address, self._keep = shared, workers, address, keep
        self._again: deque[Job] = deque()
        self._mirrors: dict[str, bytes] = {}
        self._losses: Counter[str] = Counter()
        self._seconds_per_run = 0.0
        self._tasks: list[_Task] = []
        self._libraries: dict[tuple[str, int], CarriedLibrary] = {}

    def run(
        self,
        source: Source,
        on_event: Callable[[RunEvent], None],
        should_stop: Callable[[], bool],
    ) -> Iterator[Outcome]:
        """Make what a source gives; as `Executor.run`.

        Raises:
            ClusterError: No cluster, one that is open to anybody, or other versions there.
        """
        with _quiet(self._shared.store.root), connected(self._address, self._workers) as ray:
            images = ray.put(dict(self._shared.datasets))
            remote = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(_work)
            try:
                self._fill(remote, images, source, should_stop)
                while self._tasks and not should_stop():
                    yield from self._hear_all(ray, on_event)
                    self._fill(remote, images, source, should_stop)
            finally:
                self._end(ray)

    def _fill(self, remote: Any, images: Any, source: Source, stop: Callable[[], bool]) -> None:
        while len(self._tasks) < self._workers and not stop():
            locks = contextlib.ExitStack()
            jobs = self._chunk(source, locks)
            if not jobs:
                return
            store = self._shared.store
            partials = [_partial(job, store, self._mirrors) for job in jobs]
            answers = remote.remote(
                *(list(jobs), partials, images, Versions.here(), self._keep, MIRROR_SECONDS),
                self._library(jobs[0].spec),
            )
            self._tasks.append(_Task(deque(jobs), answers, locks=locks))

    def _library(self, spec: RunSpec) -> "CarriedLibrary | None":
        """Return the compiled program that nodes run: they need no compiler, and get equal bits."""
        if spec.engine != "native" or spec.lanes is None:
            return None
        network = spec.recipe.network
        key = (network.to_json(), spec.lanes)
        if key not in self._libraries:
            source = generate(network, spec.lanes).source
            self._libraries[key] = carry_library(source, spec.lanes)
        return self._libraries[key]

    def _chunk(self, source: Source, locks: contextlib.ExitStack) -> list[Job]:
        """Take jobs for about a minute of one core; of one recipe, so that their times agree."""
        wanted = 1
        if self._seconds_per_run:
            wanted = max(1, min(MOST_IN_CHUNK, round(CHUNK_SECONDS / self._seconds_per_run)))
        jobs: list[Job] = []
        while len(jobs) < wanted:
            job = self._again.popleft() if self._again else source()
            if job is None:
                break
            if jobs and job.spec.kind != jobs[0].spec.kind:
                self._again.appendleft(job)
                break
            name = run_name(job.spec.recipe.name, job.spec.seed, job.spec.identity)
            try:
                path = self._shared.store.lock_path(name)
                locks.enter_context(locked(path, wait=False, remove=True))
            except InUseError:
                self._again.append(job)  # another process makes it just now
                time.sleep(_POLL_SECONDS)
                continue
            jobs.append(job)
        return jobs

    def _hear_all(self, ray: Any, on_event: Callable[[RunEvent], None]) -> Iterator[Outcome]:
        """Wait a moment for what nodes say, and yield the runs that ended."""
        ready, _ = ray.wait([task.answers for task in self._tasks], timeout=_POLL_SECONDS)
        for task in [t for t in self._tasks if t.answers in ready]:
            yield from self._hear(ray, task, on_event)

    def _hear(
        self, ray: Any, task: _Task, on_event: Callable[[RunEvent], None]
    ) -> Iterator[Outcome]:
        try:
            said = ray.get(next(task.answers))
        except StopIteration:
            self._close(task)
            return
        except ray.exceptions.RayError as error:
            yield from self._lose(task, str(error).strip().splitlines()[0], on_event)
            return
        job = task.jobs[0] if task.jobs else None
        if isinstance(said, ClusterError):
            raise said
        assert job is not None
        match said:
            case _Packed(content, None):
                self._mirrors[job.spec.identity] = content
                unpack(content, self._shared.store)
            case _Packed(content, outcome) if outcome is not None:
                (folder,) = unpack(content, self._shared.store)
                self._finish(task, job)
                yield Outcome(job.spec, Run(folder, folder.record()))
            case Outcome() as outcome:
                self._finish(task, job)
                yield outcome
            case event:
                on_event(RunEvent(job.spec, event))

    def _finish(self, task: _Task, job: Job) -> None:
        task.jobs.popleft()
        self._mirrors.pop(job.spec.identity, None)
        now = time.monotonic()
        self._seconds_per_run = now - task.began
        task.began = now

    def _lose(
        self, task: _Task, reason: str, on_event: Callable[[RunEvent], None]
    ) -> Iterator[Outcome]:
        """Go on without a lost node: the run it was at counts a loss, the others just wait."""
        self._close(task)
        if not task.jobs:  # all of its runs had come home before
            return
        lost, *waiting = task.jobs
        self._again.extend(waiting)
        self._losses[lost.spec.identity] += 1
        if self._losses[lost.spec.identity] <= MOST_RETRIES:
            self._again.append(lost)
            on_event(RunEvent(lost.spec, Note(f"its node was lost: {reason} It is tried again.")))
            return
        yield Outcome(lost.spec, reason=f"its node was lost {MOST_RETRIES + 1} times: {reason}")

    def _close(self, task: _Task) -> None:
        self._tasks.remove(task)
        task.locks.close()

    def _end(self, ray: Any) -> None:
        for task in list(self._tasks):
            with contextlib.suppress(Exception):  # it may be over, or its node gone
                ray.cancel(task.answers, force=True)
            self._close(task)


@contextlib.contextmanager
def connected(address: str, workers: int) -> Iterator[Any]:
    """Yield Ray, joined to a cluster, or to one of so many cores that is started here.

    Raises:
        ClusterError: There is none, it is open to anybody, or its versions are others.
    """
    require("A cluster needs", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    given = None if address in ("local", "auto") else address.split(":")[0]
    if given is not None and not given.startswith(_LOOPBACK):
        _require_token(address)
    import ray

    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < _LEAST_RAY:
        raise ClusterError(
            f"Ray {ray.__version__} is too old: it lets anybody stop jobs. "
            "`pip install 'ray>=2.54'` brings a newer one."
        )
    own: dict[str, Any] = {"address": address}
    if address == "local":
        # any other address than 127.0.0.1 of loopback keeps it, 127.0.0.1 is rewritten
        own = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(**own, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ClusterError(
            f"There is no Ray cluster at `{address}`. `ray start --head` starts one, "
            "`--on ray:local` tries it on this machine alone."
        ) from error
    except RuntimeError as error:
        raise ClusterError(f"Ray cannot be joined at `{address}`: {_first(error)}") from error
    try:
        host = str(ray.get_runtime_context().gcs_address).rsplit(":", 1)[0]
        if address != "local" and not host.startswith(_LOOPBACK):
            _require_token(host)
        yield ray
    finally:
        ray.shutdown()


def _require_token(address: str) -> None:
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise ClusterError(
            f"The Ray cluster at `{address}` can be reached by others, and who reaches it may run "
            "code. Start it with `RAY_AUTH_MODE=token`, and set the same here (docs/scale.md)."
        )


def _first(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextlib.contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    """Send what Ray's own code writes to standard error into a log; our own lines still show."""
    try:
        ours = os.dup(2)
    except OSError:  # it is closed: nothing can be torn
        yield
        return
    make_folder(folder)
    before = sys.stderr
    with open(folder / LOG_FILE, "ab") as log, os.fdopen(ours, "w", buffering=1) as terminal:
        sys.stderr = terminal
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr = before
            terminal.flush()
            os.dup2(terminal.fileno(), 2)


def _partial(job: Job, store: RunStore, mirrors: dict[str, bytes]) -> bytes:
    """Return how far a run has got, as a parcel; empty for one that has not begun."""
    spec = job.spec
    if spec.identity in mirrors:
        return mirrors[spec.identity]
    folder = store.partial(run_name(spec.recipe.name, spec.seed, spec.identity))
    with contextlib.suppress(RunError):
        return pack(folder)
    return b""


def _work(
    jobs: list[Job],
    partials: list[bytes],
    datasets: dict[str, Dataset],
    versions: Versions,
    keep: Keep,
    mirror_seconds: float,
    library: "CarriedLibrary | None" = None,
) -> Iterator[Any]:
    """Make runs on a node, one after the other, and yield what happens."""
    os.environ["OMP_NUM_THREADS"] = "1"
    here = Versions.here()
    if here != versions:
        yield ClusterError(
            f"A node has smidgen {here.smidgen} (results version {here.results}, Python "
            f"{here.python}), the driver {versions.smidgen} ({versions.results}, "
            f"{versions.python}). Install the same on every node."
        )
        return
    if library is not None:
        try:
            place_library(library)
        except EngineError as error:
            yield ClusterError(f"A node cannot run what the driver compiled: {error}")
            return
    for leftover in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        _sweep(leftover)
    with tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{os.getpid()}-") as scratch:
        shared = Shared(RunStore(Path(scratch)), datasets)
        for job, partial in zip(jobs, partials, strict=True):
            if partial:
                unpack(partial, shared.store)
            yield from _make(job, shared, keep, mirror_seconds)


def _make(job: Job, shared: Shared, keep: Keep, mirror_seconds: float) -> Iterator[Any]:
    """Make one run in a thread of its own, so that what it tells can be yielded meanwhile."""
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    mirrored = time.monotonic()
    name = run_name(job.spec.recipe.name, job.spec.seed, job.spec.identity)

    def tell(event: Began | EpochDone | Note) -> None:
        nonlocal mirrored
        told.put(event)
        if isinstance(event, EpochDone) and time.monotonic() - mirrored > mirror_seconds:
            told.put(_Packed(pack(shared.store.partial(name))))
            mirrored = time.monotonic()

    def make() -> None:
        outcome = run_one(job, shared, tell)
        if isinstance(outcome, Busy):
            outcome = Outcome(job.spec, reason="it is being made elsewhere on its node")
        if outcome.run is None:
            told.put(outcome)
            return
        folder: RunFolder = outcome.run.folder
        content = pack(folder, keep)
        shutil.rmtree(folder.path)
        told.put(_Packed(content, Outcome(job.spec)))

    threading.Thread(target=make, daemon=True).start()
    while True:
        event = told.get()
        yield event
        if isinstance(event, Outcome) or (isinstance(event, _Packed) and event.outcome):
            return


def _sweep(folder: Path) -> None:
    """Remove the scratch folder of a process that is gone."""
    owner = folder.name.removeprefix(_SCRATCH).split("-")[0]
    with contextlib.suppress(OSError):
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc").exists():
            shutil.rmtree(folder)

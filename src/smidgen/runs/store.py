"""Run folders: the truth about what was trained, copyable file by file.

    runs/NAME/            a finished run
      record.json         the record; its `files` holds the SHA-256 of the others
      model.safetensors   the network's tensors
      predictions.safetensors   float32 logits and labels of the evaluated split
      checkpoint-0008.safetensors   the last two epochs' full state
      best.safetensors    that of the best epoch, where an origin selects it
      source.py           the Python file that the network was read from, if it was
    runs/NAME.partial/    the same run before it is finished; the rename is the last step
    runs/.NAME.lock       held by the process that works on it
    runs/.index.sqlite    a cache over the finished runs (`smidgen.runs.index`)

NAME is the recipe's name, the seed and eight digits of the run's identity.
"""

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from smidgen.errors import RunError, UnknownNameError
from smidgen.files import locked, sha256_of, storage_errors, sync_folder, write_atomically
from smidgen.runs.index import RunIndex
from smidgen.runs.record import RunRecord
from smidgen.runs.tensors import Metadata, Tensors, load_tensors, save_tensors

PARTIAL = ".partial"
SOURCE_FILE = "source.py"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)\.safetensors")
_KEPT_CHECKPOINTS = 2
_SHORT = 8
_REMOVED = ".removed-"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run's folder, finished or not."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name, without the mark of an unfinished one."""
        return self.path.name.removesuffix(PARTIAL)

    @property
    def is_finished(self) -> bool:
        """Whether the run has its result."""
        return not self.path.name.endswith(PARTIAL)

    def record(self) -> RunRecord:
        """Read the record; raises RunError if it is missing or damaged."""
        return RunRecord.read(self.path / "record.json")

    def model(self) -> Tensors:
        """Read the trained tensors; raises RunError if they are missing or damaged."""
        return self.tensors("model.safetensors")

    def predictions(self) -> Tensors:
        """Read `logits` float32 (N, classes) and `labels` int64 (N,) of the evaluated split."""
        return self.tensors("predictions.safetensors")

    def tensors(self, file_name: str) -> Tensors:
        """Read a tensor file of a finished run.

        Raises:
            RunError: The file is missing, damaged, or not the one that the record names.
        """
        path = self.path / file_name
        tensors, _ = load_tensors(path)
        if self.record().files.get(file_name) != sha256_of(path):
            raise RunError(f"`{path}` is not the file of this run: its record has another SHA-256.")
        return tensors

    def damage(self, error: RunError) -> str:
        """Return what reading it said, in a line with the run's name and what to do."""
        said = str(error).partition(" Restore it")[0]  # the run as a whole has more ways out
        return (
            f"The run `{self.name}` is damaged: {said} "
            f"Restore it, or remove it with `smidgen runs rm {self.name}`."
        )

    def save_record(self, record: RunRecord) -> None:
        """Write `record.json`."""
        write_atomically(self.path / "record.json", record.to_json().encode())

    def save_source(self, source: bytes) -> None:
        """Write the Python file that the network was read from."""
        write_atomically(self.path / SOURCE_FILE, source)

    def save_checkpoint(self, epoch: int, state: Tensors, metadata: Metadata) -> None:
        """Write the state after an epoch, and keep only the one before it."""
        save_tensors(self._checkpoint(epoch), state, metadata)
        self.drop_checkpoints_before(epoch)

    def drop_checkpoints_before(self, epoch: int) -> None:
        """Keep the state after an epoch, the one before it, and any later ones."""
        with storage_errors(self.path):
            for other in self.checkpoints():
                if other <= epoch - _KEPT_CHECKPOINTS:
                    self._checkpoint(other).unlink(missing_ok=True)

    def load_checkpoint(self, epoch: int) -> tuple[Tensors, Metadata]:
        """Read the state after an epoch; raises RunError if it is missing or damaged."""
        return load_tensors(self._checkpoint(epoch))

    def checkpoints(self) -> list[int]:
        """Return the epochs with a checkpoint, oldest first."""
        found = (_CHECKPOINT.fullmatch(entry.name) for entry in self.path.glob("checkpoint-*"))
        return sorted(int(match[1]) for match in found if match)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every safetensors file in the folder, and of the source."""
        files = [*self.path.glob("*.safetensors"), *self.path.glob(SOURCE_FILE)]
        return {path.name: sha256_of(path) for path in sorted(files)}

    def _checkpoint(self, epoch: int) -> Path:
        return self.path / f"checkpoint-{epoch:04d}.safetensors"


@dataclass(frozen=True, slots=True)
class RunStore:
    """A folder of runs."""

    root: Path

    def folders(self) -> list[RunFolder]:
        """Return every run, finished or not, oldest first by the time of its last write.

        Raises:
            RunError: The root is there and is no folder.
        """
        if not self.root.is_dir():
            if self.root.exists():
                raise RunError(f"`{self.root}` is a file, not a folder of runs. Name a folder.")
            return []
        written = []
        for entry in self.root.iterdir():
            with contextlib.suppress(FileNotFoundError):  # a run that is just being finished
                if not entry.name.startswith(".") and (entry / "record.json").is_file():
                    # a folder's time is that of the last file written into it
                    written.append((entry.stat().st_mtime_ns, entry.name))
        return [RunFolder(self.root / name) for _, name in sorted(written)]

    def finished(self, identity: str) -> RunFolder | None:
        """Return the finished run of this identity, whatever its recipe's name, if there is one.

        Runs with a damaged record are passed over.
        """
        for path in sorted(self.root.glob(f"*-{identity[:_SHORT]}")):
            with contextlib.suppress(RunError):
                record = RunRecord.read(path / "record.json")
                if record.identity == identity and record.result is not None:
                    return RunFolder(path)
        return None

    def partial(self, name: str) -> RunFolder:
        """Return where the unfinished run of this name stands, whether it exists or not."""
        return RunFolder(self.root / f"{name}{PARTIAL}")

    def lock_path(self, name: str) -> Path:
        """Return the file whose lock the one process holds that works on this run."""
        return self.root / f".{name}.lock"

    def find(self, query: str) -> RunFolder:
        """Return the run that a path, a name, a unique prefix or `last` stands for.

        Raises:
            UnknownNameError: There is none.
            RunError: A prefix fits several runs; or `last`, and there are no runs.
        """
        path = Path(query)
        if (path / "record.json").is_file():
            return RunFolder(path.resolve())
        folders = self.folders()
        if query == "last":
            if not folders:
                raise RunError(
                    f"There are no runs in `{self.root}` yet; `smidgen train` makes one."
                )
            return folders[-1]
        fitting = (
            [f for f in folders if f.path.name == query]
            or [f for f in folders if f.name == query]
            or [f for f in folders if f.name.startswith(query)]
        )
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            names = [f.name for f in reversed(folders)]
            raise UnknownNameError("run", query, names, f"Runs are looked for in `{self.root}`.")
        listed = ", ".join(f"`{f.name}`" for f in fitting[:4])
        raise RunError(f"`{query}` fits {len(fitting)} runs: {listed}. Write more of the name.")

    def check_free(self, folder: RunFolder) -> None:
        """Refuse to begin a run whose final name is taken.

        Raises:
            RunError: Something stands there that is not the unfinished run itself.
        """
        target = self.root / folder.name
        if not target.exists() or target.resolve() == folder.path.resolve():
            return
        there = RunFolder(target)
        if not (target / "record.json").is_file():
            raise RunError(f"`{target}` is in the way: it has no `record.json`. Move it.")
        try:
            there.record()
        except RunError as error:
            raise RunError(there.damage(error)) from error
        raise RunError(f"`{target}` is in the way: it holds another run. Move it.")

    def finish(self, folder: RunFolder, record: RunRecord | None = None) -> RunFolder:
        """Give an unfinished run its final name, durably, index it, and return it there."""
        target = self.root / folder.name
        with storage_errors(target):
            os.replace(folder.path, target)
            sync_folder(self.root)
        self.index.add(folder.name, record)
        return RunFolder(target)

    @property
    def index(self) -> RunIndex:
        """What lists finished runs without reading every record."""
        return RunIndex(self.root)

    def remove(self, folder: RunFolder) -> None:
        """Delete a run, finished or not; a kill leaves all of it or nothing that is listed.

        Raises:
            InUseError: A process is training it.
            StorageError: It cannot be deleted.
        """
        root = folder.path.parent
        lock = RunStore(root).lock_path(folder.name)
        with (
            locked(lock, wait=False, owner=f"The run `{folder.name}`", remove=True),
            storage_errors(folder.path),
        ):
            doomed = root / f"{_REMOVED}{folder.path.name}"
            if doomed.exists():
                shutil.rmtree(doomed)
            os.replace(folder.path, doomed)
            sync_folder(root)
            for leftover in root.glob(f"{_REMOVED}*"):  # of a removal that was killed, too
                shutil.rmtree(leftover, ignore_errors=leftover != doomed)


def run_name(recipe_name: str, seed: int, identity: str) -> str:
    """Return a run's folder name: the recipe's name made safe, the seed, part of the identity."""
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", recipe_name).strip("-.")[:80] or "recipe"
    return f"{slug}-s{seed}-{identity[:_SHORT]}"

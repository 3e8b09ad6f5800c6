"""Run folders: the truth about what was trained, copyable file by file.

    runs/NAME/            a finished run
      record.json         the record; its `files` holds the SHA-256 of the others
      model.safetensors   the network's tensors
      predictions.safetensors   float32 logits and labels of the evaluated split
      checkpoint-0008.safetensors   the last two epochs' full state (and `best-...`)
    runs/NAME.partial/    the same run before it is finished; the rename is the last step

NAME is the recipe's name, the seed and eight digits of the run's identity.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smidgen.errors import RunError, UnknownNameError
from smidgen.files import sha256_of, storage_errors, sync_folder, write_atomically
from smidgen.runs.record import RunRecord
from smidgen.runs.tensors import Metadata, Tensors, load_tensors, save_tensors

PARTIAL = ".partial"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)\.safetensors")
_KEPT_CHECKPOINTS = 2


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
        """Read any of the folder's tensor files; raises RunError if missing or damaged."""
        return load_tensors(self.path / file_name)[0]

    def save_record(self, record: RunRecord) -> None:
        """Write `record.json`."""
        write_atomically(self.path / "record.json", record.to_json().encode())

    def save_checkpoint(self, epoch: int, state: Tensors, metadata: Metadata) -> None:
        """Write the state after an epoch, then drop all but the newest two."""
        save_tensors(self.path / f"checkpoint-{epoch:04d}.safetensors", state, metadata)
        for old in self.checkpoints()[:-_KEPT_CHECKPOINTS]:
            (self.path / f"checkpoint-{old:04d}.safetensors").unlink(missing_ok=True)

    def load_checkpoint(self, epoch: int) -> tuple[Tensors, Metadata]:
        """Read the state after an epoch; raises RunError if it is missing or damaged."""
        return load_tensors(self.path / f"checkpoint-{epoch:04d}.safetensors")

    def checkpoints(self) -> list[int]:
        """Return the epochs with a checkpoint, oldest first."""
        found = (_CHECKPOINT.fullmatch(entry.name) for entry in self.path.glob("checkpoint-*"))
        return sorted(int(match[1]) for match in found if match)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every safetensors file in the folder."""
        return {p.name: sha256_of(p) for p in sorted(self.path.glob("*.safetensors"))}


@dataclass(frozen=True, slots=True)
class RunStore:
    """A folder of runs."""

    root: Path

    def folders(self) -> list[RunFolder]:
        """Return every run, finished or not, oldest first by the time of its last write."""
        if not self.root.is_dir():
            return []
        found = [RunFolder(entry) for entry in self._entries()]
        return sorted(found, key=lambda f: ((f.path / "record.json").stat().st_mtime_ns, f.name))

    def finished(self, name: str) -> RunFolder | None:
        """Return the finished run of this name, if there is one."""
        folder = RunFolder(self.root / name)
        return folder if (folder.path / "record.json").is_file() else None

    def partial(self, name: str) -> RunFolder:
        """Return where the unfinished run of this name stands, whether it exists or not."""
        return RunFolder(self.root / f"{name}{PARTIAL}")

    def find(self, query: str) -> RunFolder:
        """Return the run that a path, a name, a unique prefix or `last` stands for.

        Raises:
            UnknownNameError: There is none.
            RunError: A prefix fits several runs.
        """
        path = Path(query)
        if (path / "record.json").is_file():
            return RunFolder(path.resolve())
        folders = self.folders()
        if query == "last" and folders:
            return folders[-1]
        exact = [f for f in folders if query in (f.name, f.path.name)]
        fitting = exact or [f for f in folders if f.name.startswith(query)]
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            names = [f.name for f in folders]
            raise UnknownNameError("run", query, names, f"Runs are looked for in `{self.root}`.")
        listed = ", ".join(f"`{f.name}`" for f in fitting[:4])
        raise RunError(f"`{query}` fits {len(fitting)} runs: {listed}. Write more of the name.")

    def finish(self, folder: RunFolder) -> RunFolder:
        """Give an unfinished run its final name, durably, and return it there."""
        target = self.root / folder.name
        with storage_errors(target):
            os.replace(folder.path, target)
            sync_folder(self.root)
        return RunFolder(target)

    def _entries(self) -> Iterator[Path]:
        for entry in self.root.iterdir():
            if not entry.name.startswith(".") and (entry / "record.json").is_file():
                yield entry


def run_name(recipe_name: str, seed: int, identity: str) -> str:
    """Return a run's folder name: the recipe's name made safe, the seed, part of the identity."""
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", recipe_name).strip("-.") or "recipe"
    return f"{slug}-s{seed}-{identity[:8]}"

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
    runs/.identities/     a link for each run, called by its identity

NAME is the recipe's name, the seed and eight digits of the run's identity. The folders are the
truth. Links that are missing, because runs were copied in or are older than links, are made when a
run is looked for and not found; all of them may be deleted.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from smidgen.errors import RunError, UnknownNameError
from smidgen.files import locked, sha256_of, storage_errors, sync_folder, write_atomically
from smidgen.runs.record import RunRecord, RunSpec
from smidgen.runs.rows import read_row
from smidgen.runs.tensors import Metadata, Tensors, load_tensors, save_tensors

PARTIAL = ".partial"
SOURCE_FILE = "source.py"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)\.safetensors")
_KEPT_CHECKPOINTS = 2
_SHORT = 8
_REMOVED = ".removed-"
_IDENTITIES = ".identities"


@dataclass(frozen=True)
class RunFolder:
    """A handle on one run's folder, finished or not; it reads the record once."""

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
        """Return the record as it was when first asked for, or written by this handle.

        Raises:
            RunError: It is missing or damaged.
        """
        if "record" not in self._read:
            self._read["record"] = RunRecord.read(self.path / "record.json")
        return self._read["record"]

    @cached_property
    def _read(self) -> dict[str, RunRecord]:
        return {}

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
        self._read["record"] = record

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


@dataclass(frozen=True)
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

    def finished(self, spec: RunSpec) -> RunFolder | None:
        """Return the finished run of this spec, whatever its recipe's name, if there is one.

        A run of the native engine whose record does not tell its lanes will do. The record is not
        read: it may be damaged.
        """
        specs = [spec] if spec.lanes is None else [spec, replace(spec, lanes=None)]
        identities = [each.identity for each in specs]
        for identity in identities:
            link = f"{self.root}/{_IDENTITIES}/{identity}"
            if os.path.exists(f"{link}/record.json"):
                return RunFolder(self.root / os.readlink(link).rpartition("/")[2])
        names = [name for each in identities if (name := self._unlinked.get(each))]
        names.append(run_name(spec.recipe.name, spec.seed, spec.identity))
        there = (name for name in names if os.path.exists(f"{self.root}/{name}/record.json"))
        found = next(there, None)
        return None if found is None else RunFolder(self.root / found)

    def partial(self, name: str) -> RunFolder:
        """Return where the unfinished run of this name stands, whether it exists or not."""
        return RunFolder(self.root / f"{name}{PARTIAL}")

    def unfinished(self, spec: RunSpec) -> RunFolder:
        """Return where the unfinished run of this spec stands, or will stand."""
        usual = self.partial(run_name(spec.recipe.name, spec.seed, spec.identity))
        if usual.path.exists() or spec.identity not in self._unlinked:
            return usual
        other = self.partial(self._unlinked[spec.identity])  # under another name, or older
        return other if other.path.exists() else usual

    def link(self) -> None:
        """Make the links of identities anew, from the folders alone."""
        shutil.rmtree(self.root / _IDENTITIES, ignore_errors=True)
        vars(self).pop("_unlinked", None)
        self._unlinked  # noqa: B018  # finds and makes them

    @cached_property
    def _unlinked(self) -> dict[str, str]:
        """Names, by identity, of runs that had no link when this was first asked; now they do.

        Unfinished runs are among them, and have none.
        """
        if not self.root.is_dir():
            return {}
        found: dict[str, str] = {}
        linked = self._linked_names()
        for entry in os.listdir(self.root):
            name = entry.removesuffix(PARTIAL)
            if entry.startswith(".") or entry in linked:
                continue
            with contextlib.suppress(RunError, OSError):
                if name != entry:
                    found[RunRecord.read(self.root / entry / "record.json").identity] = name
                    continue
                identity = read_row(self.root / entry).identity
                found[identity] = name
                self._make_link(identity, name)
        return found

    @contextlib.contextmanager
    def claim(self, spec: RunSpec, folder: RunFolder | None = None) -> Iterator[RunFolder]:
        """Give the finished run of a spec, or else where to make it, which then is nobody else's.

        Args:
            spec: What makes the run.
            folder: Where the unfinished run stands, if that is known.

        Raises:
            InUseError: Another process is making it.
            RunError: Its final name is taken.
        """
        there = self.finished(spec)
        if there is not None:
            yield there
            return
        folder = folder or self.unfinished(spec)
        owner = f"The run `{folder.name}`"
        with locked(self.lock_path(folder.name), wait=False, owner=owner, remove=True):
            there = self.finished(spec)  # another process may have finished it just now
            if there is None:
                self.check_free(folder)
            yield there or folder

    def _linked_names(self) -> set[str]:
        folder = self.root / _IDENTITIES
        with contextlib.suppress(OSError):
            return {os.readlink(f"{folder}/{e}").rpartition("/")[2] for e in os.listdir(folder)}
        return set()

    def _link(self, identity: str) -> Path:
        return self.root / _IDENTITIES / identity

    def _make_link(self, identity: str, name: str) -> None:
        """Link an identity to a finished run; without it the run is found more slowly."""
        link = self._link(identity)
        with contextlib.suppress(OSError):
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(Path("..") / name)

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

    def finish(
        self, folder: RunFolder, record: RunRecord | None = None, name: str = ""
    ) -> RunFolder:
        """Give an unfinished run its final name, durably, and return it there.

        Args:
            folder: Where it stands.
            record: Its finished record, where that is at hand.
            name: The final name, if it is not the folder's own.
        """
        target = self.root / (name or folder.name)
        with storage_errors(target):
            os.replace(folder.path, target)
            sync_folder(self.root)
        finished = RunFolder(target)
        with contextlib.suppress(RunError):
            if record is not None:
                finished._read["record"] = record
            self._make_link(finished.record().identity, finished.name)
        return finished

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
    return f"{slug(recipe_name)}-s{seed}-{identity[:_SHORT]}"


def slug(text: str, most: int = 80) -> str:
    """Return a name made safe for a file: letters, digits, points and dashes between them."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:most] or "recipe"

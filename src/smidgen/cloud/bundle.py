"""What a rented machine gets: this very package, the recipe, the data, as one packed file.

The machine installs the same versions of the core's libraries as are installed here, so that
plans are drawn by the same NumPy; torch is not among them.
"""

import gzip
import io
import re
import shlex
import tarfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from smidgen.cloud.rental import BOOT_MINUTES, GRACE_MINUTES, CloudJob, Work
from smidgen.data import load_dataset
from smidgen.data.specs import DRAWN_NAME, FOLDER_NAME, find_spec
from smidgen.data.verified import chosen_folder, dataset_folder, locate_all
from smidgen.errors import CloudError

PACKAGES = "python3.11 python3.11-pip gcc"
"""What the machine adds to its image: the interpreter and a compiler, about half a minute."""

MOST_USER_DATA_BYTES = 16_384
_LEFT_OUT = {"__pycache__"}


def pack_input(work: Work) -> bytes:
    """Return the gzipped tar that a machine unpacks: package, requirements, recipe, data.

    Raises:
        CloudError: A file of the data set cannot be read.
    """
    root = Path(__file__).parent.parent
    entries: list[tuple[str, bytes]] = [
        ("requirements.txt", "\n".join(requirements()).encode() + b"\n"),
        ("recipe.json", work.recipe_json.encode()),
    ]
    for path in sorted(root.rglob("*")):
        if path.is_file() and not _LEFT_OUT & set(path.parts):
            entries.append((f"package/smidgen/{path.relative_to(root)}", path.read_bytes()))
    for name, path in work.data_files:
        try:
            entries.append((f"data/{name}", path.read_bytes()))
        except OSError as error:
            raise CloudError(f"Cannot read `{path}`: {error.strerror}.") from error
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def data_files(name: str, data_dir: Path | None) -> tuple[tuple[str, Path], ...]:
    """Return the files of a data set by the names they shall have on the machine.

    Args:
        name: A published data set, `stripes` (drawn: no files) or `folder`.
        data_dir: As `load_dataset` takes it.

    Raises:
        UnknownNameError: No data set is called so.
        DataError: It is not here; the machine gets data from here, not from a mirror.
    """
    if name == DRAWN_NAME:
        return ()
    if name == FOLDER_NAME:
        raise CloudError(
            "A folder of images is not sent to a rented machine. Train it here; it is small."
        )
    load_dataset(name, data_dir)  # fetches what is missing, verifies what is there
    spec = find_spec(name)
    chosen = chosen_folder(data_dir)
    places = locate_all(spec, chosen[0] if chosen else dataset_folder(spec))
    return tuple((path.name, path) for path in places.values())


def requirements() -> list[str]:
    """Return the core's dependencies, with theirs, pinned as they are installed here.

    Raises:
        CloudError: smidgen is not installed, so nothing says what it needs.
    """
    seen: dict[str, str] = {}
    queue = ["smidgen"]
    while queue:
        name = queue.pop()
        try:
            wanted = requires(name) or []
        except PackageNotFoundError:
            if name != "smidgen":
                continue
            raise CloudError(
                "smidgen is not installed, so what it needs is not known. `pip install .` in its "
                "folder does it."
            ) from None
        for requirement in wanted:
            other = re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")
            if "extra ==" in requirement or other in seen or other == "torch":
                continue
            try:
                seen[other] = version(other)
            except PackageNotFoundError:
                continue  # for another platform
            queue.append(other)
    return [f"{name}=={pinned}" for name, pinned in sorted(seen.items())]


def user_data(job: CloudJob, urls: dict[str, str]) -> str:
    """Return the script that a machine of this job runs at its start.

    Args:
        job: The job; the work takes its `minutes_left`.
        urls: Presigned addresses: `input` to get, `previous` to get if there are results to go on
            from; `results`, `log` and `end` to put.

    Raises:
        CloudError: It is longer than EC2 allows.
    """
    template = (Path(__file__).parent / "machine.sh").read_text(encoding="utf-8")
    shutdown = job.minutes_left + GRACE_MINUTES - BOOT_MINUTES
    words = {
        "JOB": job.name,
        "SHUTDOWN_MINUTES": str(shutdown),
        "WORK_SECONDS": str(job.minutes_left * 60),
        "INPUT_SHA256": job.input_sha256,
        "PREVIOUS_SHA256": job.results_sha256,
        "PREVIOUS_URL": "",
        "PACKAGES": PACKAGES,
        "COMMAND": " ".join(shlex.quote(word) for word in job.command),
        **{f"{what.upper()}_URL": url for what, url in urls.items()},
    }
    for word, text in words.items():
        template = template.replace(f"@{word}@", text)
    if len(template.encode()) > MOST_USER_DATA_BYTES:
        raise CloudError(
            f"The machine's script has {len(template.encode()):,} bytes; EC2 takes "
            f"{MOST_USER_DATA_BYTES:,}. Temporary credentials make long addresses; use a key."
        )
    return template

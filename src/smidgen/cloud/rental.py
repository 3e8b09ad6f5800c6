"""What to do on a rented machine, for how long, for how much: the job, its cap and its note.

The note is written before every act that costs money, so that a driver killed at any moment
finds its machine again.
"""

import math
import re
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from smidgen.errors import CloudError
from smidgen.files import write_atomically
from smidgen.values import from_json, to_json, value

GRACE_MINUTES = 5
"""Beside the work: starting, installing, giving back. Paid for, so part of the cap."""

BOOT_MINUTES = 2
"""Of the grace: what passes before the machine's script can set its own end."""

BESIDES_DOLLARS_PER_HOUR = 0.006
"""A public address (0.005) and 8 GB of disk, rounded up; EC2's price list, us-east-1, 2026."""

LEAST_PRICE = 0.001
"""EC2 refuses a lower cap (dollars an hour)."""

NOTE_FILE = "job.json"
MOST_MINUTES = 7 * 24 * 60 - GRACE_MINUTES
"""A presigned address lives for a week at most."""

State = Literal["planned", "launching", "running", "ended"]


def price_cap(dollars: float, minutes: int) -> float:
    """Return the highest price per hour at which the whole time cannot cost more than `dollars`.

    Whatever the price does below the cap: (cap + what is paid beside it) x (minutes + grace)
    is at most `dollars`. Rounded down to a hundredth of a cent.

    Args:
        dollars: The most that the job may cost.
        minutes: The most that the work may take.

    Raises:
        CloudError: The time is out of range, or the money buys less than EC2 takes bids for.
    """
    if not 1 <= minutes <= MOST_MINUTES:
        raise CloudError(f"`--minutes {minutes}` is out of range: 1 to {MOST_MINUTES:,}.")
    if not math.isfinite(dollars) or dollars <= 0:
        raise CloudError(f"`--max-dollars {dollars:g}` buys nothing. Give more than 0.")
    hours = (minutes + GRACE_MINUTES) / 60
    cap = math.floor((dollars / hours - BESIDES_DOLLARS_PER_HOUR) * 10_000) / 10_000
    if cap < LEAST_PRICE:
        least = math.ceil((LEAST_PRICE + BESIDES_DOLLARS_PER_HOUR) * hours * 10_000) / 10_000
        raise CloudError(
            f"{dollars:g} dollars for {minutes} + {GRACE_MINUTES} minutes leave {cap:.4f} an hour "
            f"for the machine; EC2 takes no bid under {LEAST_PRICE}. Give at least "
            f"`--max-dollars {least:g}`, or fewer `--minutes`."
        )
    return cap


def arithmetic(dollars: float, minutes: int) -> str:
    """Say how the cap comes about, for people."""
    cap = price_cap(dollars, minutes)
    total = minutes + GRACE_MINUTES
    most = (cap + BESIDES_DOLLARS_PER_HOUR) * total / 60
    return (
        f"{dollars:g} dollars / ({minutes} + {GRACE_MINUTES} minutes) - "
        f"{BESIDES_DOLLARS_PER_HOUR} for address and disk = {cap:.4f} dollars an hour at most; "
        f"{total} minutes at that price cost {most:.4f}."
    )


@dataclass(frozen=True, slots=True)
class Work:
    """What a machine shall do.

    Args:
        title: For people, such as `train smidgen/quick`.
        command: Words for `python -m smidgen`, run beside the input's files.
        recipe_json: The recipe, which stands there as `recipe.json`.
        data_files: Names in the data folder, and where they are here.
    """

    title: str
    command: tuple[str, ...]
    recipe_json: str
    data_files: tuple[tuple[str, Path], ...] = ()


@value(CloudError)
class CloudJob:
    """A job's note: everything that is needed to find, follow and end it.

    Args:
        name: Of the job; also the key of its objects and the tag of its machines.
        title: For people.
        region: AWS region.
        bucket: Where input and results lie.
        instance_types: Acceptable machine types, cheapest wins.
        max_dollars: The most that all of it may cost.
        minutes: The most that the work may take, all machines together.
        command: Words for `python -m smidgen`.
        input_sha256: Of the packed input.
        image: The machine image; empty: the newest public one.
        subnet: Where the machine stands; empty: the default network.
        state: `planned`, `launching` (a machine may exist), `running`, `ended`.
        attempt: Machines that were asked for, from 1; 0 before the first.
        instance: The machine's name, once known.
        zone: Where it runs.
        max_price: Its price cap, dollars an hour.
        launched: Unix time of the last launch.
        ends: Unix time after which no machine of this job may live.
        spent_dollars: Upper bound of what earlier machines cost.
        spent_minutes: Time that earlier machines took.
        is_charged: Whether the last machine's time is in what was spent.
        results_sha256: Of the results that a further machine goes on from; empty: none.
        outcome: How it ended, in a sentence; empty before.
    """

    name: str
    title: str
    region: str
    bucket: str
    instance_types: tuple[str, ...]
    max_dollars: float
    minutes: int
    command: tuple[str, ...]
    input_sha256: str = ""
    image: str = ""
    subnet: str = ""
    state: State = "planned"
    attempt: int = 0
    instance: str = ""
    zone: str = ""
    max_price: float = 0.0
    launched: float = 0.0
    ends: float = 0.0
    spent_dollars: float = 0.0
    spent_minutes: float = 0.0
    is_charged: bool = False
    results_sha256: str = ""
    outcome: str = ""

    def key(self, what: str) -> str:
        """Return where an object of this job lies in the bucket."""
        return f"smidgen/{self.name}/{what}"

    @property
    def dollars_left(self) -> float:
        """What a further machine may cost."""
        return self.max_dollars - self.spent_dollars

    @property
    def minutes_left(self) -> int:
        """What a further machine may take."""
        return math.floor(self.minutes - self.spent_minutes)

    def replace(self, **changes: object) -> "CloudJob":
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def after(self, seconds: float) -> "CloudJob":
        """Return the job with a machine's life charged, at its cap: never less than the bill."""
        minutes = max(1.0, seconds / 60)  # EC2 bills a minute at least
        price = self.max_price + BESIDES_DOLLARS_PER_HOUR
        return self.replace(
            spent_minutes=self.spent_minutes + minutes,
            spent_dollars=self.spent_dollars + price * minutes / 60,
        )


def new_name(title: str) -> str:
    """Return a name for a job that no other has."""
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40]
    return f"{slug}-{time.strftime('%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class Notes:
    """The folder with a note per job, `.cloud` in the folder of runs."""

    root: Path

    def save(self, job: CloudJob) -> CloudJob:
        """Write a job's note durably, and return the job."""
        write_atomically(self.root / job.name / NOTE_FILE, to_json(job).encode())
        return job

    def all(self) -> list[CloudJob]:
        """Return every job, oldest first; raises CloudError for a damaged note."""
        jobs = [self._read(path) for path in self.root.glob(f"*/{NOTE_FILE}")]
        return sorted(jobs, key=lambda job: (job.launched, job.name))

    def find(self, query: str) -> CloudJob:
        """Return the job of a name, a unique part of it, or `last`.

        Raises:
            CloudError: None or several fit.
        """
        jobs = self.all()
        if query == "last" and jobs:
            return jobs[-1]
        fitting = [j for j in jobs if j.name == query] or [j for j in jobs if query in j.name]
        if len(fitting) == 1:
            return fitting[0]
        known = ", ".join(f"`{job.name}`" for job in (fitting or jobs)[-4:]) or "none"
        what = f"fits {len(fitting)} jobs" if fitting else "is no job"
        raise CloudError(f"`{query}` {what} in `{self.root}`. Known: {known}.")

    def _read(self, path: Path) -> CloudJob:
        try:
            return from_json(CloudJob, path.read_bytes(), CloudError, f"`{path}`")
        except OSError as error:
            raise CloudError(f"Cannot read `{path}`: {error.strerror}.") from error

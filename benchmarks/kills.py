"""Kill `prove`, `search`, `ablate` and `grade` at random moments; nothing may be lost or doubled.

    python benchmarks/kills.py --kills 30 --out docs/results/kills.json

Each command is run once undisturbed. Then, again and again in a fresh folder, its parent, one of
its workers or both get SIGKILL at a random moment; a command whose parent died is given again. In
the end the folder of runs must hold what the undisturbed one holds: the same names, the same
weights byte for byte, no run twice, nothing unfinished, no lock; and no process may be left. A
search has one worker, for with several the order in which runs end decides what is proposed next.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from smidgen.files import write_atomically
from smidgen.recipes.catalogue import get_recipe
from smidgen.recipes.parts import Budget
from smidgen.runs.store import RunStore

VICTIMS = ("parent", "worker", "both")
MARK = "SMIDGEN_KILLS"
_GONE_SECONDS = 30.0
_NETWORK = """\
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
"""


def commands(folder: Path) -> dict[str, list[str]]:
    """Write what the commands read; return their arguments, but for where the runs are."""
    quick = get_recipe("smidgen/quick")
    recipe = quick.replace(name="tiny", dataset="stripes", epochs=5, budget=Budget())
    (folder / "tiny.json").write_text(recipe.to_json())
    (folder / "work").mkdir(exist_ok=True)
    (folder / "work" / "ann.py").write_text(_NETWORK)
    tiny, native = str(folder / "tiny.json"), ["--engine", "native"]
    two = ["--workers", "2"]
    sizes = ["--max-params", "9000", "--min-params", "100", "--epochs", "4", "--candidates", "3"]
    return {
        "prove": ["prove", tiny, "--seeds", "4", *two, *native],
        "ablate": ["ablate", tiny, "--set", "batch_size=24", "--seeds", "2", *two, *native],
        "search": ["search", "--start", tiny, *sizes, "--seeds", "1", "--workers", "1", *native],
        "grade": ["grade", str(folder / "work"), "--prove", "3", "--like", tiny],
    }


def start(arguments: list[str], place: Path) -> "subprocess.Popen[bytes]":
    """Start a command whose runs, and study, are in a folder."""
    more = ["--study", str(place / "study")] if arguments[0] == "search" else []
    command = [
        sys.executable,
        "-m",
        "smidgen",
        *arguments,
        "--runs-dir",
        str(place / "runs"),
        *more,
    ]
    place.mkdir(exist_ok=True)
    with open(place / "log", "ab") as log:
        environment = {**os.environ, MARK: str(place)}
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=place, env=environment)


def workers(parent: int) -> list[int]:
    """Return the processes of a command that train."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        lines = {number: Path(f"/proc/{number}/cmdline").read_bytes() for number in children}
    except OSError:
        return []
    return [int(number) for number, line in lines.items() if b"spawn_main" in line]


def left_over(place: Path) -> list[int]:
    """Return processes that still live of all that were started for a folder."""
    mark, found = f"{MARK}={place}".encode(), []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                if mark in (each / "environ").read_bytes().split(b"\0"):
                    found.append(int(each.name))
            except OSError:
                continue
    return found


def holds(place: Path) -> dict[str, str]:
    """Return all names in the folder of runs, with the hash of the weights where there are some."""
    store = RunStore(place / "runs")
    found = {entry.name: "" for entry in store.root.iterdir()}
    for folder in store.folders():
        if folder.is_finished:
            found[folder.name] = folder.record().files["model.safetensors"]
    return found


def strike(process: "subprocess.Popen[bytes]", victim: str, chance: random.Random) -> str:
    """Kill what is to be killed; return what was."""
    trained = workers(process.pid)
    struck = []
    if victim != "parent" and trained:
        os.kill(chance.choice(trained), signal.SIGKILL)
        struck.append("worker")
    if victim != "worker":
        process.kill()
        struck.append("parent")
    return " and ".join(struck) or "nothing"


def trial(
    arguments: list[str], place: Path, victim: str, seconds: float, chance: random.Random
) -> dict[str, Any]:
    """Disturb a command once and let it end; return what was done and what is left."""
    process, delay = start(arguments, place), chance.uniform(0.0, seconds)
    time.sleep(delay)
    if victim == "worker":  # of which there are none at first
        while process.poll() is None and not workers(process.pid):
            time.sleep(0.01)
    struck = strike(process, victim, chance) if process.poll() is None else "nothing"
    code = process.wait()
    for _ in range(3):
        if code in (0, 3):
            break
        code = start(arguments, place).wait()
    deadline = time.monotonic() + _GONE_SECONDS
    while left_over(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    return {"victim": victim, "struck": struck, "after_seconds": round(delay, 2), "code": code}


def campaign(kills: int, folder: Path, only: list[str], seed: int) -> dict[str, Any]:
    """Return what became of so many kills of each kind, by command."""
    os.environ.setdefault("SMIDGEN_CACHE", str(folder / "cache"))
    chance, result = random.Random(seed), {}
    for name, arguments in commands(folder).items():
        if only and name not in only:
            continue
        start(arguments, folder / f"{name}-warm").wait()  # compiles
        begun = time.monotonic()
        code = start(arguments, folder / f"{name}-calm").wait()
        seconds = time.monotonic() - begun
        calm, trials = holds(folder / f"{name}-calm"), []
        for victim in VICTIMS:
            for number in range(kills):
                place = folder / f"{name}-{victim}-{number}"
                done = trial(arguments, place, victim, seconds, chance)
                done["same"] = holds(place) == calm and done["code"] == code
                done["left_over"] = len(left_over(place))
                trials.append(done)
                print(name, done, file=sys.stderr, flush=True)
        result[name] = {
            "runs": sum(bool(model) for model in calm.values()),
            "trials": len(trials),
            "struck": sum(done["struck"] != "nothing" for done in trials),
            "same": sum(done["same"] for done in trials),
            "left_over": sum(done["left_over"] for done in trials),
            "details": trials,
        }
    return result


def main() -> None:
    """Run the campaign; exit code 1 if anything was lost, doubled or left over."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=30, help="of each kind, for each command")
    parser.add_argument("--only", nargs="*", default=[], help="commands; all if left out")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--out", type=Path, help="write the result here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = campaign(given.kills, Path(folder), given.only, given.seed)
    if given.out:
        words = ["python", "benchmarks/kills.py", *sys.argv[1:]]
        plain = {"command": " ".join(words), "commands": result}
        write_atomically(given.out, (json.dumps(plain, indent=2) + "\n").encode())
    for name, one in result.items():
        print(f"{name}: {one['same']} of {one['trials']} the same, {one['left_over']} left over")
    if any(one["same"] < one["trials"] or one["left_over"] for one in result.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()

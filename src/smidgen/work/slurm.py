"""A command in, a SLURM array script out: the tasks of an array share the work through the store.

Every task runs the very same command. A run that another task is making is locked, so each task
takes the next free one; a task that is killed leaves finished epochs, and a later one goes on
from there. All that is needed is a folder that every node sees and whose file locks work, which
the script checks first.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from smidgen.errors import ClusterError

_SCRIPT = """#!/bin/bash
#SBATCH --job-name=smidgen
#SBATCH --array=1-{tasks}
#SBATCH --cpus-per-task={cores}
#SBATCH --time={minutes}
#SBATCH --signal=B:TERM@60
#SBATCH --output={runs}/slurm-%A_%a.log
# Submit it with `sbatch`; the same script again goes on with what is missing.
set -eu
cd {folder}
{activate}mkdir -p {runs}
flock -w 30 {runs}/.slurm-check true \\
  || {{ echo "Locks do not work in {runs}: choose a folder on another file system."; exit 1; }}
sleep $((SLURM_ARRAY_TASK_ID % 7))  # so that they do not all look for the first run at once
{command} --workers {cores} &
worker=$!
trap 'kill -TERM $worker' TERM  # a minute before the end: finished epochs are saved
wait $worker
"""


def array_script(
    words: Sequence[str],
    runs_dir: Path,
    *,
    tasks: int = 8,
    cores: int = 4,
    minutes: int = 120,
    environment: Path | None = None,
) -> str:
    """Return a script for `sbatch` that runs a command in every task of an array.

    Args:
        words: The command, such as `smidgen prove smidgen/quick --seeds 100`.
        runs_dir: The store, on a file system that all nodes share.
        tasks: How many tasks share the work.
        cores: Of each task; so many runs at once.
        minutes: After which SLURM ends a task.
        environment: A virtual environment to activate, if any.

    Raises:
        ClusterError: A number out of range.
    """
    for name, number in (("tasks", tasks), ("cores", cores), ("minutes", minutes)):
        if number < 1:
            raise ClusterError(f"`{name}` is {number}; it must be at least 1.")
    activate = f". {shlex.quote(str(environment / 'bin' / 'activate'))}\n" if environment else ""
    return _SCRIPT.format(
        tasks=tasks,
        cores=cores,
        minutes=minutes,
        runs=shlex.quote(str(runs_dir.absolute())),
        folder=shlex.quote(str(Path.cwd())),
        activate=activate,
        command=shlex.join(words),
    )

"""The search on disk: an Optuna journal to which every proposal, promotion and run adds one line.

    STUDY/journal.log   what was proposed and what came of it; the truth about the search
    STUDY/.lock         held by the process that searches

A line is written whole or, where a process died in its middle, dropped when the journal is opened
again. So whatever moment a search is killed at, what it knew is known.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import RunError, SearchError
from smidgen.files import storage_errors, write_atomically
from smidgen.recipes.recipe import Recipe
from smidgen.search.ledger import Candidate, Measured
from smidgen.values import from_plain, to_plain

if TYPE_CHECKING:
    import optuna

    from smidgen.search.proposals import Proposal

JOURNAL_FILE = "journal.log"
_STUDY = "search"
_OPTIONS = "options"


class Journal:
    """The journal of one search; the caller holds the study's lock.

    Args:
        folder: Where it stands, or will stand.
        num_objectives: The loss and what should be small beside it.
        decisive: What a continued search must repeat, as plain data.
        former: What an earlier version of smidgen wrote for some of it, that means the same.

    Raises:
        SearchError: Optuna is missing, the journal is damaged, or it is that of another search.
        StorageError: It cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        num_objectives: int,
        decisive: dict[str, Any],
        former: Mapping[str, Any] | None = None,
    ) -> None:
        optuna = import_optuna()
        self._folder = folder
        self._path = folder / JOURNAL_FILE
        with storage_errors(self._path):
            self._repair()
        try:
            backend = optuna.storages.journal.JournalFileBackend(str(self._path))
            storage = optuna.storages.JournalStorage(backend)
            is_new = not storage.get_all_studies()
        except (ValueError, LookupError, AssertionError, TypeError) as error:
            raise self._damaged(f"Optuna says: {error}") from error
        if is_new and self._path.stat().st_size:
            raise self._damaged("it does not begin with a study")
        if is_new:
            with storage_errors(self._path):
                optuna.create_study(
                    storage=storage, study_name=_STUDY, directions=["minimize"] * num_objectives
                )
        self._study = optuna.load_study(storage=storage, study_name=_STUDY)
        self._check_options(decisive, former or {})

    @property
    def trials(self) -> "list[optuna.trial.FrozenTrial]":
        """What Optuna knows of every candidate, in the order of their numbers."""
        return self._study.get_trials(deepcopy=False)

    @property
    def num_refused(self) -> int:
        """Networks and settings that were drawn and not tried: too large, or known already."""
        return sum(trial.user_attrs.get("refused", 0) for trial in self.trials)

    def candidates(self) -> list[Candidate]:
        """Return what the journal says of every candidate."""
        attributes = self._study.user_attrs
        try:
            found = [_candidate(trial.number, trial.user_attrs) for trial in self.trials]
            for key, said in attributes.items():
                kind, *where = key.split("/")
                if kind == "rung":
                    found[int(where[0])].rung = said
                elif kind == "run":
                    number, epochs, seed = map(int, where)
                    _take_up(found[number], (epochs, seed), said)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise self._damaged(f"it lacks {error}") from error
        return found

    def add(self, proposal: "Proposal") -> None:
        """Write down a candidate before anything of it is trained."""
        optuna = import_optuna()
        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=proposal.params,
            distributions=proposal.distributions,
            user_attrs={
                "recipe": to_plain(proposal.recipe),
                "num_params": proposal.num_params,
                "num_macs": proposal.num_macs,
                "refused": proposal.num_refused,
                "parent": proposal.parent,
            },
        )
        with storage_errors(self._path):
            self._study.add_trial(trial)

    def promote(self, number: int, rung: int) -> None:
        """Write down that a candidate was let to a further step."""
        self._set(f"rung/{number}", rung)

    def record(self, number: int, run: tuple[int, int], measured: Measured) -> None:
        """Write down what a run reached."""
        said = {name: getattr(measured, name) for name in Measured.__slots__}
        self._set(f"run/{number}/{run[0]}/{run[1]}", said)

    def record_failure(self, number: int, run: tuple[int, int], reason: str) -> None:
        """Write down that a training diverged."""
        self._set(f"run/{number}/{run[0]}/{run[1]}", {"failure": reason})

    def tell(self, number: int, values: list[float] | None) -> None:
        """Tell Optuna how a candidate's first step ended, unless it knows; None if it diverged."""
        optuna = import_optuna()
        trial = self.trials[number]
        if trial.state.is_finished():
            return
        state = optuna.trial.TrialState.FAIL if values is None else None
        with storage_errors(self._path):
            self._study.tell(number, values, state=state)

    def _set(self, key: str, said: Any) -> None:
        with storage_errors(self._path):
            self._study.set_user_attr(key, said)

    def _repair(self) -> None:
        """Drop a line that was cut short, and Optuna's lock, for the study's lock is ours."""
        self._path.with_name(f"{JOURNAL_FILE}.lock").unlink(missing_ok=True)
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                is_entry = isinstance(json.loads(line), dict)
            except ValueError:
                is_entry = False
            if not is_entry:
                raise self._damaged(f"line {number} is no entry")
        if not self._path.exists() or whole != content:
            write_atomically(self._path, whole)

    def _check_options(self, decisive: dict[str, Any], former: Mapping[str, Any]) -> None:
        known = self._study.user_attrs.get(_OPTIONS)
        if known is None:
            if self.trials:
                raise self._damaged("it does not say what was asked for")
            self._set(_OPTIONS, decisive)
            return
        for name in (*decisive, *known):
            if known.get(name) not in (decisive.get(name), former.get(name, decisive.get(name))):
                raise SearchError(
                    f"`{self._folder}` is a search with `{name}` {_show(known.get(name))}, not "
                    f"{_show(decisive.get(name))}. Continue it with its own options, or begin "
                    "another with another `--study`."
                )

    def _damaged(self, what: str) -> SearchError:
        return SearchError(
            f"`{self._path}` is damaged: {what}. Restore it, or begin another search with another "
            "`--study`."
        )


def import_optuna() -> Any:
    """Return the module `optuna`, quiet.

    Raises:
        SearchError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise SearchError("A search needs Optuna. Install it with `pip install optuna`.") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _candidate(number: int, said: dict[str, Any]) -> Candidate:
    try:
        recipe = from_plain(Recipe, said["recipe"], RunError)
    except RunError as error:
        raise ValueError(f"a recipe that can be read: {error}") from error
    return Candidate(number, recipe, said["num_params"], said["num_macs"])


def _take_up(candidate: Candidate, run: tuple[int, int], said: dict[str, Any]) -> None:
    if "failure" in said:
        candidate.failure = said["failure"]
    else:
        candidate.measured[run] = Measured(**said)


def _show(setting: object) -> str:
    if isinstance(setting, str) and len(setting) == 64:  # a hash
        return f"{setting[:8]}..."
    is_number = isinstance(setting, int) and not isinstance(setting, bool)
    return f"{setting:,}" if is_number else f"{setting}"

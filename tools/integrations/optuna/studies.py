"""Where studies are kept: one journal file each under `.mlops/optuna`, or a shared database.

One file per study, so that a damaged one costs one study and opening one does not read the others.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from tools.core.errors import FinalError, FixableError, NoDataError, RetryableError
from tools.core.names import RULE, is_name

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

SUFFIX = ".journal"
# Of a study that `search` made: what it searches, and the record of each of its trials. A trial without a record was
# interrupted: it is run again, and counts for nothing.
FINGERPRINT = "fingerprint"
RECORD = "record"

Direction = Literal["minimize", "maximize"]


class StudyStore:
    """Opens and lists studies.

    Args:
        folder: of the journal files.
        url: of a database that is used instead; None for journal files.
    """

    def __init__(self, folder: Path, url: str | None) -> None:
        self._folder = folder
        self._url = url

    @property
    def where(self) -> str:
        """Where studies are searched, without credentials."""
        return "the database of OPTUNA_STORAGE" if self._url else str(self._folder)

    def names(self) -> list[str]:
        """Names of all studies, sorted."""
        import optuna

        if self._url:
            return sorted(optuna.get_all_study_names(self._storage("")))
        return sorted(path.name.removesuffix(SUFFIX) for path in self._folder.glob(f"*{SUFFIX}"))

    def open(self, name: str) -> "Study":
        """An existing study.

        Raises:
            NoDataError: no such study; names those that exist.
            FinalError: its journal is damaged.
        """
        import optuna

        check_name(name)
        names = self.names()
        if name not in names:
            known = ", ".join(names[:20]) or "none"
            raise NoDataError(f"no study {name!r}; studies: {known}", tried=self.where)
        with _readable(name):
            return optuna.load_study(study_name=name, storage=self._storage(name), sampler=_sampler(0))

    def create(self, name: str, direction: Direction) -> "Study":
        """The study of that name; made when it does not exist.

        Raises:
            FixableError: it exists with the other direction.
        """
        import optuna

        check_name(name)
        with _readable(name):
            study = optuna.create_study(
                study_name=name,
                storage=self._storage(name),
                direction=direction,
                load_if_exists=True,
                sampler=_sampler(0),
            )
        if direction_of(study) != direction:
            raise FixableError(f"study {name!r} exists and is to {direction_of(study)}, not {direction}")
        return study

    @contextlib.contextmanager
    def held(self, name: str) -> Generator[None]:
        """The study for one search alone: a second one would close the first one's running trial as interrupted.

        The lock ends with its process, however that ends. It holds between the processes that share this folder; in a
        database that several machines share, a study belongs to one of them by its name.

        Raises:
            RetryableError: another search holds it.
        """
        check_name(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{name}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RetryableError(
                    f"another search works on study {name!r}; wait until it ends, or use another study name"
                ) from error
            yield

    def _storage(self, name: str) -> "BaseStorage":
        if self._url:
            from optuna.storages import RDBStorage

            return RDBStorage(self._url)
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        path = self._folder / f"{name}{SUFFIX}"
        _cut_half_written_line(path)
        with _readable(name):
            return JournalStorage(JournalFileBackend(str(path)))


@contextlib.contextmanager
def _readable(name: str) -> Generator[None]:
    try:
        yield
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise FinalError(
            f"the journal of study {name!r} is damaged ({type(error).__name__}); move its file away or use another "
            "study name"
        ) from error


def check_name(name: str) -> str:
    """A valid study name.

    Raises:
        FixableError: it could not be a file name.
    """
    if not is_name(name):
        raise FixableError(f"invalid study name {name!r}; valid: {RULE}")
    return name


def _cut_half_written_line(path: Path) -> None:
    """Drop what a killed process left of its last line: the next line would otherwise be appended to it."""
    from optuna.storages.journal import JournalFileSymlinkLock

    if _ends_whole(path):
        return
    lock = JournalFileSymlinkLock(str(path))  # the one that writers take: it may be half written only just now
    lock.acquire()
    try:
        if not _ends_whole(path):
            with path.open("r+b") as handle:
                handle.truncate(path.read_bytes().rfind(b"\n") + 1)
    finally:
        lock.release()


def _ends_whole(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        return True
    with path.open("rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read() == b"\n"


def _sampler(seed: int) -> Any:
    """TPE over a space that depends on the family (`group`: parameters that occur together are sampled jointly)."""
    import warnings

    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # group is still called experimental
        return TPESampler(seed=seed, multivariate=True, group=True)


def sampler_of_trial(seed: int, number: int, name: str = "tpe") -> Any:
    """The sampler of one trial: "tpe", or "evolution" (`AgingEvolutionSampler`).

    A fresh one per trial, seeded by its number: what a trial suggests then depends on the seed and the finished
    trials alone, and a search that was interrupted goes on exactly as if it had not been.
    """
    import numpy as np

    if name == "evolution":
        from tools.integrations.optuna.evolution import AgingEvolutionSampler

        return AgingEvolutionSampler(seed=seed)

    return _sampler(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))


def direction_of(study: "Study") -> Direction:
    """The study's direction by name."""
    return cast(Direction, study.direction.name.lower())


def finished(study: "Study") -> "list[FrozenTrial]":
    """Completed and failed trials in the order they were started; interrupted trials of a search left out."""
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    return [trial for trial in done if RECORD in trial.user_attrs or FINGERPRINT not in study.user_attrs]


def best_of(study: "Study") -> "FrozenTrial | None":
    """The best completed trial that keeps to the constraints; where none does, the one nearest to them. The earlier of
    equals; None when none has completed."""
    done = [trial for trial in finished(study) if trial.value is not None]
    sign = 1.0 if direction_of(study) == "maximize" else -1.0
    return max(done, key=lambda t: (-_violation(t), sign * float(t.value or 0.0), -t.number), default=None)


def is_feasible(trial: "FrozenTrial") -> bool:
    """Whether a trial keeps to its constraints."""
    return _violation(trial) <= 0


def _violation(trial: "FrozenTrial") -> float:
    return sum(max(0.0, share) for share in trial.constraints.values())
